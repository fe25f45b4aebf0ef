//! Kernel functions: who may call them, what they promise, what their parameters mean.
//!
//! [`table`](self) has what only the kernel's code says (flags, sets, peculiarities), by name. Parameters and results come
//! from the kernel's BTF by the suffixes of parameter names, or for the arena and the basic functions from [`builtin`], so
//! that programs that need no more verify without it.

mod builtin;
mod context;
pub(crate) mod host;
mod iters;
mod prototype;
mod resolve;
mod table;

use bpf_object::{AttachType, ProgType, ProgramKind};

pub(crate) use context::kernel_context;
pub(crate) use iters::ITERS;
pub(crate) use prototype::{Arg, IterRole, Memory, Pointer, Prototype, Ret, Role, SizeKind};
pub(crate) use resolve::prototype;

/// A kfunc.
#[derive(Clone, Debug)]
pub(crate) struct Kfunc {
    pub(crate) name: &'static str,
    /// Number of its parameters.
    pub(crate) params: u8,
    pub(crate) flags: KfuncFlags,
    /// Program types that may call it.
    pub(crate) hooks: Hooks,
    /// What no flag and no parameter says.
    pub(crate) special: Special,
    /// Which programs of those types may call it.
    pub(crate) filter: Filter,
}

impl Kfunc {
    const fn does(self, special: Special) -> Self {
        Self { special, ..self }
    }

    const fn only(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    pub(crate) fn has(&self, flags: KfuncFlags) -> bool {
        self.flags.0 & flags.0 != 0
    }

    /// Whether pointers given to it must be valid: releasing functions want that too.
    pub(crate) fn wants_trusted(&self) -> bool {
        self.has(KfuncFlags::TRUSTED_ARGS.with(KfuncFlags::RELEASE))
    }

    /// Whether it works on an open-coded iterator, its first argument.
    pub(crate) fn is_iter(&self) -> bool {
        self.has(KfuncFlags::ITER_NEW.with(KfuncFlags::ITER_NEXT).with(KfuncFlags::ITER_DESTROY))
    }

    /// Whether it may be called with a spin lock held.
    pub(crate) fn allowed_under_lock(&self) -> bool {
        let graph = matches!(
            self.special,
            Special::ListPush
                | Special::ListPop
                | Special::ListPeek
                | Special::RbtreeAdd
                | Special::RbtreeRemove
                | Special::RbtreePeek
                | Special::RbtreeStep
                | Special::RefcountAcquire
        );
        let lock = matches!(
            self.special,
            Special::ResSpinLock
                | Special::ResSpinUnlock
                | Special::ResSpinLockIrq
                | Special::ResSpinUnlockIrq
        );
        graph || lock || (self.is_iter() && self.name.starts_with("bpf_iter_num_"))
    }
}

/// `KF_*`, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KfuncFlags(u16);

impl KfuncFlags {
    pub(crate) const NONE: Self = Self(0);
    /// What it returns must be released.
    pub(crate) const ACQUIRE: Self = Self(1);
    /// Gives back the reference it is given.
    pub(crate) const RELEASE: Self = Self(1 << 1);
    /// May return NULL.
    pub(crate) const RET_NULL: Self = Self(1 << 2);
    /// Pointers must be valid and not NULL.
    pub(crate) const TRUSTED_ARGS: Self = Self(1 << 3);
    /// May sleep.
    pub(crate) const SLEEPABLE: Self = Self(1 << 4);
    /// Pointers must be valid on the reading side of RCU, and not NULL.
    pub(crate) const RCU: Self = Self(1 << 5);
    /// Makes an open-coded iterator.
    pub(crate) const ITER_NEW: Self = Self(1 << 6);
    /// Gives its next element.
    pub(crate) const ITER_NEXT: Self = Self(1 << 7);
    /// Ends it.
    pub(crate) const ITER_DESTROY: Self = Self(1 << 8);
    /// To be called on the reading side of RCU only.
    pub(crate) const RCU_PROTECTED: Self = Self(1 << 9);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Kinds of programs that kfuncs are registered for (`enum btf_kfunc_hook`), as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hooks(u16);

impl Hooks {
    /// Every program.
    pub(crate) const COMMON: Self = Self(1);
    pub(crate) const XDP: Self = Self(1 << 1);
    pub(crate) const TC: Self = Self(1 << 2);
    pub(crate) const STRUCT_OPS: Self = Self(1 << 3);
    pub(crate) const TRACING: Self = Self(1 << 4);
    pub(crate) const SYSCALL: Self = Self(1 << 5);
    pub(crate) const CGROUP: Self = Self(1 << 6);
    pub(crate) const SCHED_ACT: Self = Self(1 << 7);
    pub(crate) const SK_SKB: Self = Self(1 << 8);
    pub(crate) const SOCKET_FILTER: Self = Self(1 << 9);
    pub(crate) const LWT: Self = Self(1 << 10);
    pub(crate) const NETFILTER: Self = Self(1 << 11);
    pub(crate) const KPROBE: Self = Self(1 << 12);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What programs of a type may call: what is common, and what is theirs.
    fn of(prog_type: Option<ProgType>) -> Self {
        let own = match prog_type {
            Some(ProgType::Xdp) => Self::XDP,
            Some(ProgType::SchedCls) => Self::TC,
            Some(ProgType::StructOps) => Self::STRUCT_OPS,
            Some(ProgType::Tracing | ProgType::Tracepoint | ProgType::PerfEvent | ProgType::Lsm) => {
                Self::TRACING
            }
            Some(ProgType::Syscall) => Self::SYSCALL,
            Some(
                ProgType::CgroupSkb
                | ProgType::CgroupSock
                | ProgType::CgroupDevice
                | ProgType::CgroupSockAddr
                | ProgType::CgroupSockopt
                | ProgType::CgroupSysctl
                | ProgType::SockOps,
            ) => Self::CGROUP,
            Some(ProgType::SchedAct) => Self::SCHED_ACT,
            Some(ProgType::SkSkb) => Self::SK_SKB,
            Some(ProgType::SocketFilter) => Self::SOCKET_FILTER,
            Some(ProgType::LwtIn | ProgType::LwtOut | ProgType::LwtXmit | ProgType::LwtSeg6local) => {
                Self::LWT
            }
            Some(ProgType::Netfilter) => Self::NETFILTER,
            Some(ProgType::Kprobe) => Self::KPROBE,
            _ => Self(0),
        };
        own.with(Self::COMMON)
    }
}

/// A condition on the program besides its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    None,
    /// Security modules only.
    Lsm,
    /// Iterators (`iter/..`) only.
    Iterator,
    /// `kprobe.session` and `uprobe.session` only.
    Session,
    /// Programs bound to a network device, which needs one.
    DeviceBound,
}

/// What a kfunc does that neither its flags nor its parameters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    None,
    /// Put by the compiler where the behaviour is undefined.
    Trap,
    ObjNew,
    ObjDrop,
    PerCpuObjNew,
    PerCpuObjDrop,
    RefcountAcquire,
    ListPush,
    ListPop,
    /// First or last node, which stays in the list.
    ListPeek,
    RbtreeAdd,
    RbtreeRemove,
    /// First node or root, which stays in the tree.
    RbtreePeek,
    /// Left or right of a node, which stays in the tree.
    RbtreeStep,
    CastToKernCtx,
    ReadOnlyCast,
    RcuLock,
    RcuUnlock,
    PreemptDisable,
    PreemptEnable,
    IrqSave,
    IrqRestore,
    ResSpinLock,
    ResSpinUnlock,
    ResSpinLockIrq,
    ResSpinUnlockIrq,
    DynptrFromSkb,
    DynptrFromSkbMeta,
    DynptrFromXdp,
    DynptrSlice,
    DynptrSliceWritable,
    DynptrClone,
    Throw,
    WqInit,
    WqSetCallback,
    TaskWork,
    SessionCookie,
    /// What it returns is not to be trusted.
    KmemCache,
    /// Packets move: pointers into them are lost.
    PullData,
    CssTaskNew,
}

/// The names of the kernel functions of Linux 6.18, sorted.
pub fn kernel_functions() -> impl Iterator<Item = &'static str> {
    table::KFUNCS.iter().map(|kfunc| kfunc.name)
}

/// The kfunc of this name, if there are rules for it.
pub(crate) fn find(name: &str) -> Option<&'static Kfunc> {
    let found = table::KFUNCS.binary_search_by(|k| k.name.cmp(name)).ok()?;
    table::KFUNCS.get(found)
}

/// Whether a program of this kind may call it.
pub(crate) fn allowed(kfunc: &Kfunc, kind: &ProgramKind) -> bool {
    let hooks = Hooks::of(kind.prog_type);
    let attached = |to: AttachType| kind.attach_type == Some(to as u32);
    let passes = match kfunc.filter {
        Filter::None | Filter::DeviceBound => true,
        Filter::Lsm => kind.prog_type == Some(ProgType::Lsm),
        Filter::Iterator => attached(AttachType::TraceIter),
        Filter::Session => {
            attached(AttachType::TraceKprobeSession) || attached(AttachType::TraceUprobeSession)
        }
    };
    kfunc.hooks.0 & hooks.0 != 0 && passes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(table::KFUNCS.windows(2).all(|w| w[0].name < w[1].name));
    }

    #[test]
    fn sets_and_filters_decide_who_may_call() {
        let may = |name: &str, section: &str| {
            find(name).is_some_and(|k| allowed(k, &ProgramKind::from_section(section)))
        };
        assert!(may("bpf_iter_num_new", "socket"));
        assert!(may("bpf_task_acquire", "syscall") && !may("bpf_task_acquire", "socket"));
        assert!(may("bpf_task_acquire", "tp_btf/x") && !may("bpf_task_acquire", "raw_tp/x"));
        assert!(may("bpf_put_file", "lsm/file_open") && !may("bpf_put_file", "fentry/x"));
        assert!(may("bpf_sock_destroy", "iter/tcp") && !may("bpf_sock_destroy", "fentry/x"));
        assert!(may("bpf_session_cookie", "uprobe.session/x:y"));
        assert!(may("bpf_session_cookie", "kprobe.session/x") && !may("bpf_session_cookie", "kprobe/x"));
    }
}
