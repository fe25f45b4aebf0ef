//! Parameters and results of kernel functions, with what their names and types mean to the verifier.

use std::borrow::Cow;

use bpf_object::TypeId;

/// What a kfunc takes and gives.
#[derive(Clone, Debug)]
pub(crate) struct Prototype {
    pub(crate) args: Cow<'static, [Arg]>,
    pub(crate) ret: Ret,
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// `__ign`: nobody looks.
    Ignored,
    /// `__prog`: filled in by the kernel.
    Program,
    /// A number.
    Number {
        /// `__k`: must be known.
        constant: bool,
        /// It is the size of the memory the parameter before points to.
        size: Option<SizeKind>,
        /// `rdonly_buf_size`, `rdwr_buf_size`: the size of the memory returned; whether that may be written.
        result_size: Option<bool>,
    },
    Pointer(Pointer),
    /// A pointer into the arena, or a number that is used as one.
    Arena,
    /// Neither a number nor a pointer: the kind of its type.
    Other(&'static str),
}

/// How a size is bound to the memory before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeKind {
    /// `__sz`.
    Any,
    /// `__szk`: must be known.
    Constant,
}

/// A parameter that is a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) role: Role,
    /// `__nullable`.
    pub(crate) nullable: bool,
    /// `__uninit`: written, not read.
    pub(crate) uninit: bool,
    /// `__opt`: may be NULL although a size follows.
    pub(crate) optional: bool,
    pub(crate) target: Target,
}

/// What a pointer parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The program's context.
    Ctx,
    /// `__alloc`: an object of the program's.
    Alloc,
    /// `__refcounted_kptr`: an object with a reference count.
    RefcountedKptr,
    Dynptr,
    Iter(IterRole),
    ListHead,
    ListNode,
    RbRoot,
    RbNode,
    /// `__str`: a constant string in a read-only map.
    ConstString,
    /// `__map`: a map itself.
    Map,
    Wq,
    TaskWork,
    /// `__irq_flag`: where the state of interrupts is kept.
    IrqFlag,
    ResSpinLock,
    /// A structure of the kernel, a function or memory, as the register says.
    Plain,
}

/// An iterator parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IterRole {
    /// Of this kind: a row of [`super::ITERS`].
    Kind(u8),
    /// Not an iterator's structure.
    Unknown,
}

/// What a pointer parameter points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The type, if the kernel's BTF is known.
    pub(crate) ty: TypeId,
    pub(crate) memory: Memory,
    /// A struct or union.
    pub(crate) structure: bool,
    /// A function.
    pub(crate) function: bool,
}

/// Memory as a parameter may point to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Numbers, so many bytes.
    Numbers(u32),
    /// `void`.
    Void,
    /// A structure with more than numbers.
    Struct,
    /// Something else.
    Other,
}

/// What a kfunc leaves in `R0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ret {
    /// Nothing: `R0` becomes unreadable.
    Void,
    /// A number of so many bytes.
    Number(u32),
    /// `void *`: a number to the verifier, unless the function is special.
    VoidPointer,
    /// A pointer to a structure.
    Struct(TypeId),
    /// A pointer to memory of this size, if its type has one.
    Memory { ty: TypeId, size: Option<u32> },
    /// Neither a number nor a pointer.
    Other,
}

impl Arg {
    /// Any number.
    pub(crate) const NUMBER: Self = Self::Number { constant: false, size: None, result_size: None };
    /// The size of what the parameter before points to.
    pub(crate) const SIZE: Self =
        Self::Number { constant: false, size: Some(SizeKind::Any), result_size: None };

    /// A pointer for this purpose, of no known type.
    pub(crate) const fn pointer(role: Role, memory: Memory) -> Self {
        let target = Target { ty: TypeId::VOID, memory, structure: false, function: false };
        Self::Pointer(Pointer { role, nullable: false, uninit: false, optional: false, target })
    }
}
