//! What helpers want in their arguments and leave in `R0`. The names are the kernel's (`enum bpf_arg_type`,
//! `enum bpf_return_type`).

use crate::state::stack::DynptrKind;

/// What a helper wants in one register; registers a row does not name may hold anything, even nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arg {
    pub(crate) kind: ArgKind,
    pub(crate) flags: ArgFlags,
}

/// The kind of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgKind {
    /// Any initialised register.
    #[doc(alias = "ARG_ANYTHING")]
    Anything,
    #[doc(alias = "ARG_CONST_MAP_PTR")]
    ConstMap,
    /// As many bytes as the map's key has.
    #[doc(alias = "ARG_PTR_TO_MAP_KEY")]
    MapKey,
    /// As many bytes as the map's value has.
    #[doc(alias = "ARG_PTR_TO_MAP_VALUE")]
    MapValue,
    /// As many bytes as the next argument says.
    #[doc(alias = "ARG_PTR_TO_MEM")]
    Mem,
    /// So many bytes.
    #[doc(alias = "ARG_PTR_TO_FIXED_SIZE_MEM")]
    FixedMem(u32),
    /// The size of the argument before, above 0.
    #[doc(alias = "ARG_CONST_SIZE")]
    Size,
    #[doc(alias = "ARG_CONST_SIZE_OR_ZERO")]
    SizeOrZero,
    /// A constant: the size of the memory the helper returns.
    #[doc(alias = "ARG_CONST_ALLOC_SIZE_OR_ZERO")]
    AllocSize,
    #[doc(alias = "ARG_PTR_TO_CTX")]
    Ctx,
    #[doc(alias = "ARG_PTR_TO_SPIN_LOCK")]
    SpinLock,
    /// One of the socket structures programs see.
    #[doc(alias = "ARG_PTR_TO_SOCK_COMMON")]
    SockCommon,
    #[doc(alias = "ARG_PTR_TO_SOCKET")]
    Socket,
    /// One of them, or the kernel's `struct sock_common` or what begins with it.
    #[doc(alias = "ARG_PTR_TO_BTF_ID_SOCK_COMMON")]
    BtfSockCommon,
    /// This structure of the kernel.
    #[doc(alias = "ARG_PTR_TO_BTF_ID")]
    BtfId(&'static str),
    #[doc(alias = "ARG_PTR_TO_PERCPU_BTF_ID")]
    PercpuBtfId,
    /// A record reserved in a ring buffer.
    #[doc(alias = "ARG_PTR_TO_RINGBUF_MEM")]
    RingbufMem,
    /// A static subprogram.
    #[doc(alias = "ARG_PTR_TO_FUNC")]
    Func,
    #[doc(alias = "ARG_PTR_TO_STACK")]
    Stack,
    /// A string in a read-only map of one value.
    #[doc(alias = "ARG_PTR_TO_CONST_STR")]
    ConstString,
    #[doc(alias = "ARG_PTR_TO_TIMER")]
    Timer,
    /// A field that holds a kptr.
    #[doc(alias = "ARG_KPTR_XCHG_DEST")]
    KptrDest,
    /// What is put there.
    Kptr,
    /// A dynptr, of this kind if there is one.
    #[doc(alias = "ARG_PTR_TO_DYNPTR")]
    Dynptr(Option<DynptrKind>),
}

/// What modifies an argument, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArgFlags(u8);

impl ArgFlags {
    pub(crate) const NONE: Self = Self(0);
    /// NULL will do.
    #[doc(alias = "PTR_MAYBE_NULL")]
    pub(crate) const OR_NULL: Self = Self(1);
    /// The helper only reads.
    #[doc(alias = "MEM_RDONLY")]
    pub(crate) const RDONLY: Self = Self(1 << 1);
    /// The helper writes.
    #[doc(alias = "MEM_WRITE")]
    pub(crate) const WRITE: Self = Self(1 << 2);
    /// The helper does not read.
    #[doc(alias = "MEM_UNINIT")]
    pub(crate) const UNINIT: Self = Self(1 << 3);
    /// The reference is given up.
    #[doc(alias = "OBJ_RELEASE")]
    pub(crate) const RELEASE: Self = Self(1 << 4);
    /// The address is a multiple of the size.
    #[doc(alias = "MEM_ALIGNED")]
    pub(crate) const ALIGNED: Self = Self(1 << 5);

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Arg {
    const fn new(kind: ArgKind) -> Self {
        Self { kind, flags: ArgFlags::NONE }
    }

    const fn with(self, flags: ArgFlags) -> Self {
        Self { flags: self.flags.with(flags), ..self }
    }

    pub(crate) const fn has(self, flags: ArgFlags) -> bool {
        self.flags.has(flags)
    }
}

/// What a helper leaves in `R0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ret {
    #[doc(alias = "RET_INTEGER")]
    Integer,
    #[doc(alias = "RET_VOID")]
    Void,
    /// A value of the map given as an argument.
    #[doc(alias = "RET_PTR_TO_MAP_VALUE")]
    MapValue { or_null: bool },
    /// A full socket, or NULL.
    #[doc(alias = "RET_PTR_TO_SOCKET_OR_NULL")]
    SocketOrNull,
    #[doc(alias = "RET_PTR_TO_SOCK_COMMON_OR_NULL")]
    SockCommonOrNull,
    #[doc(alias = "RET_PTR_TO_TCP_SOCK_OR_NULL")]
    TcpSockOrNull,
    /// A record in a ring buffer, or NULL.
    #[doc(alias = "RET_PTR_TO_RINGBUF_MEM_OR_NULL")]
    RingbufMemOrNull,
    /// A part of a dynptr, or NULL.
    #[doc(alias = "RET_PTR_TO_DYNPTR_MEM_OR_NULL")]
    DynptrMemOrNull,
    /// What the per-CPU pointer given as an argument points to on one CPU.
    #[doc(alias = "RET_PTR_TO_MEM_OR_BTF_ID")]
    Percpu { or_null: bool },
    /// This structure of the kernel.
    #[doc(alias = "RET_PTR_TO_BTF_ID")]
    BtfId { name: &'static str, or_null: bool, trusted: bool },
    /// What the kptr field held.
    KptrOrNull,
}

/// Arguments as the table's rows name them.
pub(crate) mod short {
    use super::{Arg, ArgFlags as F, ArgKind as K, DynptrKind, Ret};

    const LOCAL: Option<DynptrKind> = Some(DynptrKind::Local);
    const RINGBUF: Option<DynptrKind> = Some(DynptrKind::Ringbuf);

    pub(crate) const ANY: Arg = Arg::new(K::Anything);
    pub(crate) const MAP: Arg = Arg::new(K::ConstMap);
    pub(crate) const KEY: Arg = Arg::new(K::MapKey);
    pub(crate) const VALUE: Arg = Arg::new(K::MapValue);
    pub(crate) const VALUE_OR_NULL: Arg = VALUE.with(F::OR_NULL);
    pub(crate) const VALUE_OUT: Arg = VALUE.with(F::UNINIT).with(F::WRITE);
    const MEM: Arg = Arg::new(K::Mem);
    pub(crate) const IN: Arg = MEM.with(F::RDONLY);
    pub(crate) const IN_OR_NULL: Arg = IN.with(F::OR_NULL);
    pub(crate) const OUT: Arg = MEM.with(F::UNINIT).with(F::WRITE);
    pub(crate) const IN_OUT: Arg = MEM.with(F::WRITE);
    pub(crate) const IN_OUT_OR_NULL: Arg = IN_OUT.with(F::OR_NULL);
    pub(crate) const SIZE: Arg = Arg::new(K::Size);
    pub(crate) const SIZE_OR_ZERO: Arg = Arg::new(K::SizeOrZero);
    pub(crate) const ALLOC_SIZE: Arg = Arg::new(K::AllocSize);
    pub(crate) const CTX: Arg = Arg::new(K::Ctx);
    pub(crate) const CTX_OR_NULL: Arg = CTX.with(F::OR_NULL);
    pub(crate) const LOCK: Arg = Arg::new(K::SpinLock);
    pub(crate) const SOCK_COMMON: Arg = Arg::new(K::SockCommon);
    pub(crate) const SOCKET_OR_NULL: Arg = Arg::new(K::Socket).with(F::OR_NULL);
    pub(crate) const SK: Arg = Arg::new(K::BtfSockCommon);
    pub(crate) const SK_OR_NULL: Arg = SK.with(F::OR_NULL);
    pub(crate) const SK_RELEASE: Arg = SK.with(F::RELEASE);
    pub(crate) const PERCPU: Arg = Arg::new(K::PercpuBtfId);
    pub(crate) const RECORD_RELEASE: Arg = Arg::new(K::RingbufMem).with(F::RELEASE);
    pub(crate) const FUNC: Arg = Arg::new(K::Func);
    pub(crate) const STACK_OR_NULL: Arg = Arg::new(K::Stack).with(F::OR_NULL);
    pub(crate) const STRING: Arg = Arg::new(K::ConstString);
    pub(crate) const TIMER: Arg = Arg::new(K::Timer);
    pub(crate) const KPTR_DEST: Arg = Arg::new(K::KptrDest);
    pub(crate) const KPTR_RELEASE: Arg = Arg::new(K::Kptr).with(F::OR_NULL).with(F::RELEASE);
    pub(crate) const DYNPTR: Arg = Arg::new(K::Dynptr(None)).with(F::RDONLY);
    pub(crate) const DYNPTR_LOCAL_OUT: Arg = Arg::new(K::Dynptr(LOCAL)).with(F::UNINIT).with(F::WRITE);
    pub(crate) const DYNPTR_RINGBUF_OUT: Arg = Arg::new(K::Dynptr(RINGBUF)).with(F::UNINIT).with(F::WRITE);
    pub(crate) const DYNPTR_RINGBUF_RELEASE: Arg = Arg::new(K::Dynptr(RINGBUF)).with(F::RELEASE);

    pub(crate) const fn fixed_in(size: u32) -> Arg {
        Arg::new(K::FixedMem(size)).with(F::RDONLY)
    }

    pub(crate) const fn fixed_in_out(size: u32) -> Arg {
        Arg::new(K::FixedMem(size)).with(F::WRITE).with(F::ALIGNED)
    }

    pub(crate) const fn fixed_out(size: u32) -> Arg {
        fixed_in_out(size).with(F::UNINIT)
    }

    pub(crate) const fn btf(name: &'static str) -> Arg {
        Arg::new(K::BtfId(name))
    }

    pub(crate) const fn btf_or_null(name: &'static str) -> Arg {
        btf(name).with(F::OR_NULL)
    }

    pub(crate) const INT: Ret = Ret::Integer;
    pub(crate) const VOID: Ret = Ret::Void;
    pub(crate) const MAP_VALUE: Ret = Ret::MapValue { or_null: false };
    pub(crate) const MAP_VALUE_OR_NULL: Ret = Ret::MapValue { or_null: true };
    pub(crate) const SOCKET: Ret = Ret::SocketOrNull;
    pub(crate) const SOCK: Ret = Ret::SockCommonOrNull;
    pub(crate) const TCP_SOCK: Ret = Ret::TcpSockOrNull;
    pub(crate) const RECORD: Ret = Ret::RingbufMemOrNull;
    pub(crate) const SLICE: Ret = Ret::DynptrMemOrNull;
    pub(crate) const PERCPU_VALUE: Ret = Ret::Percpu { or_null: false };
    pub(crate) const PERCPU_VALUE_OR_NULL: Ret = Ret::Percpu { or_null: true };
    pub(crate) const KPTR: Ret = Ret::KptrOrNull;

    pub(crate) const fn btf_result(name: &'static str) -> Ret {
        Ret::BtfId { name, or_null: false, trusted: false }
    }

    pub(crate) const fn btf_or_null_result(name: &'static str) -> Ret {
        Ret::BtfId { name, or_null: true, trusted: false }
    }

    pub(crate) const fn trusted_result(name: &'static str) -> Ret {
        Ret::BtfId { name, or_null: false, trusted: true }
    }
}
