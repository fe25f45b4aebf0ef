//! Functions that the host of an engine gives to programs, which call them as they call kernel functions.

use std::sync::Arc;

use bpf_object::Btf;

/// What the host adds to the kernel's functions: what a kernel module is to a kernel.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Host {
    /// The functions. One of these comes before the kernel's of the same name.
    pub functions: Arc<[HostFunction]>,
    /// The structures that their pointers point to, where the kernel has none of the name: split from the kernel's types, if
    /// [`Env`](crate::Env) has those.
    pub types: Option<Arc<Btf>>,
}

impl Host {
    /// Functions, and the structures they are about.
    #[must_use]
    pub fn new(functions: impl Into<Arc<[HostFunction]>>, types: Option<Arc<Btf>>) -> Self {
        Self { functions: functions.into(), types }
    }

    /// The function with this name.
    pub(crate) fn function(&self, name: &str) -> Option<&HostFunction> {
        self.functions.iter().find(|f| f.name == name)
    }
}

/// A function of the host. Programs of every type may call it, from everywhere a kernel function without flags may be
/// called; the pointers it is given are valid, and NULL only where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFunction {
    /// Its name.
    pub name: &'static str,
    /// Its parameters, one for each register: at most five.
    pub params: Vec<HostParam>,
    /// What it returns.
    pub result: HostResult,
    /// It only takes the place of a kernel function: where the kernel's types describe that one, its rules count.
    pub stands_in: bool,
}

/// A parameter of a [`HostFunction`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostParam {
    /// A number.
    Number,
    /// The program's context.
    Context,
    /// Memory of so many bytes, which the function may read and write.
    Memory {
        /// Its size.
        bytes: u32,
        /// Whether it may be NULL.
        nullable: bool,
    },
    /// Memory which the function may read and write, with its size in the next parameter, a [`HostParam::Size`].
    Buffer {
        /// Whether it may be NULL.
        nullable: bool,
    },
    /// The size of the memory that the parameter before points to.
    Size,
    /// A NUL-terminated string in a read-only map.
    Text,
    /// A pointer into the arena, or a number that is used as one.
    Arena,
    /// A pointer to a structure of the kernel or of the host.
    Object {
        /// The structure's name.
        name: &'static str,
        /// Whether it may be NULL.
        nullable: bool,
        /// Whether the function gives back the reference that the program holds (`KF_RELEASE`).
        released: bool,
    },
}

/// What a [`HostFunction`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostResult {
    /// Nothing.
    Nothing,
    /// A number of so many bytes.
    Number {
        /// Its size.
        bytes: u32,
    },
    /// A pointer into the arena.
    Arena,
    /// A pointer to a structure of the kernel or of the host.
    Object {
        /// The structure's name.
        name: &'static str,
        /// Whether it may be NULL (`KF_RET_NULL`).
        nullable: bool,
        /// Whether it is a reference that the program has to give back (`KF_ACQUIRE`).
        acquired: bool,
    },
}
