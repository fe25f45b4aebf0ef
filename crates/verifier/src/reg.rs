//! What is known of one register.

use crate::origin::Origin;
use crate::reason::TypeName;
use crate::scalar::Scalar;

/// What kind of value a register holds. The names are the kernel's (`enum bpf_reg_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegType {
    /// Nothing was written to it.
    #[doc(alias = "NOT_INIT")]
    NotInit,
    /// A number, or something the program may not use as a pointer.
    #[doc(alias = "SCALAR_VALUE")]
    Scalar,
    /// The context.
    #[doc(alias = "PTR_TO_CTX")]
    PtrToCtx,
    /// An address in the stack of a frame of this call chain.
    #[doc(alias = "PTR_TO_STACK")]
    PtrToStack { frame: u8 },
    /// A map itself: for helpers, and to read its structure.
    #[doc(alias = "CONST_PTR_TO_MAP")]
    ConstPtrToMap { map: u32 },
    /// A value of a map.
    #[doc(alias = "PTR_TO_MAP_VALUE")]
    PtrToMapValue { map: u32 },
    /// Any 32-bit number, used as an offset into the arena.
    #[doc(alias = "PTR_TO_ARENA")]
    PtrToArena,
    /// Memory of a known size.
    #[doc(alias = "PTR_TO_MEM")]
    PtrToMem { size: u32, read_only: bool },
    /// A subprogram, for helpers that call back.
    #[doc(alias = "PTR_TO_FUNC")]
    PtrToFunc { subprog: u32 },
}

impl RegType {
    /// As the kernel's log names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotInit => "?",
            Self::Scalar => "scalar",
            Self::PtrToCtx => "ctx",
            Self::PtrToStack { .. } => "fp",
            Self::ConstPtrToMap { .. } => "map_ptr",
            Self::PtrToMapValue { .. } => "map_value",
            Self::PtrToArena => "arena",
            Self::PtrToMem { read_only: false, .. } => "mem",
            Self::PtrToMem { read_only: true, .. } => "rdonly_mem",
            Self::PtrToFunc { .. } => "func",
        }
    }

    pub(crate) fn is_pointer(self) -> bool {
        !matches!(self, Self::NotInit | Self::Scalar)
    }
}

/// One register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegState {
    pub(crate) kind: RegType,
    /// The pointer may be NULL; only comparing it is allowed.
    pub(crate) maybe_null: bool,
    /// Numbers with the same id (not 0) differ by the difference of their offsets; pointers are NULL together.
    pub(crate) id: u32,
    /// The reference (not 0) without which the pointer is dead.
    pub(crate) ref_id: u32,
    /// Constant part of a pointer's offset; for a number, what was added since it was linked with others.
    pub(crate) offset: i32,
    /// The number; for a pointer the variable part of its offset.
    pub(crate) scalar: Scalar,
    /// What the value was made of.
    pub(crate) origin: Origin,
}

impl RegState {
    /// Never written.
    pub(crate) const NOT_INIT: Self = Self {
        kind: RegType::NotInit,
        maybe_null: false,
        id: 0,
        ref_id: 0,
        offset: 0,
        scalar: Scalar::UNKNOWN,
        origin: Origin::NONE,
    };

    pub(crate) fn number(scalar: Scalar, origin: Origin) -> Self {
        Self { kind: RegType::Scalar, scalar, origin, ..Self::NOT_INIT }
    }

    /// A pointer with offset 0.
    pub(crate) fn pointer(kind: RegType, origin: Origin) -> Self {
        Self { kind, scalar: Scalar::ZERO, origin, ..Self::NOT_INIT }
    }

    /// An arena pointer: nothing but its kind is ever known.
    pub(crate) fn arena(origin: Origin) -> Self {
        Self { kind: RegType::PtrToArena, scalar: Scalar::UNKNOWN, origin, ..Self::NOT_INIT }
    }

    pub(crate) fn is_scalar(&self) -> bool {
        self.kind == RegType::Scalar
    }

    pub(crate) fn is_pointer(&self) -> bool {
        self.kind.is_pointer()
    }

    pub(crate) fn is_arena(&self) -> bool {
        self.kind == RegType::PtrToArena
    }

    /// The number 0.
    pub(crate) fn is_null(&self) -> bool {
        self.is_scalar() && self.scalar.is_zero()
    }

    pub(crate) fn type_name(&self) -> TypeName {
        TypeName { base: self.kind.name(), maybe_null: self.maybe_null }
    }
}
