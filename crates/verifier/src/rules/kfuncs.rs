//! Kernel functions, by name, with the meaning of the kernel's argument suffixes and flags.

/// What a kfunc wants in one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KfuncArg {
    /// A number.
    Scalar,
    /// `p__map`: a map; here always the program's arena.
    Arena,
    /// `__ign`: the kernel does not look.
    Ignored,
    /// An iterator that is not yet one.
    NewIter,
    /// An iterator in use.
    Iter,
    /// `const char *fmt__str`: a constant string in a read-only map.
    ConstString,
    /// `args__` with `len__sz` after it: readable bytes; NULL with size 0.
    MemSized,
    /// The size that belongs to it.
    Size,
    /// `aux__prog`: filled in by the kernel.
    Implicit,
}

/// What a kfunc leaves in `R0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KfuncRet {
    /// Nothing: `R0` becomes unreadable.
    Void,
    /// A number of so many bytes, or a `void *`, which is a number to the verifier.
    Number,
    /// A pointer to so many bytes that may only be read, or NULL; dies with the iterator.
    ReadOnlyOrNull(u32),
}

/// What it does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KfuncEffect {
    None,
    IterNew,
    IterNext,
    IterDestroy,
    PreemptDisable,
    PreemptEnable,
    RcuLock,
    RcuUnlock,
}

/// A kfunc.
#[derive(Debug)]
pub(crate) struct Kfunc {
    pub(crate) name: &'static str,
    pub(crate) args: &'static [KfuncArg],
    pub(crate) ret: KfuncRet,
    /// `KF_SLEEPABLE`.
    pub(crate) sleepable: bool,
    /// May be called with a spin lock held.
    pub(crate) with_lock: bool,
    pub(crate) effect: KfuncEffect,
}

/// A kind of open-coded iterator.
#[derive(Debug)]
pub(crate) struct IterKind {
    /// As in `bpf_iter_<name>_new`.
    pub(crate) name: &'static str,
    /// Slots of stack it takes.
    pub(crate) slots: u32,
}

/// Every kind of iterator; a [`crate::stack::Iterator`] names its row.
pub(crate) static ITERS: [IterKind; 1] = [IterKind { name: "num", slots: 1 }];

/// The kfunc of this name, if there are rules for it.
pub(crate) fn find(name: &str) -> Option<&'static Kfunc> {
    KFUNCS.iter().find(|k| k.name == name)
}

const fn kfunc(name: &'static str, args: &'static [KfuncArg], ret: KfuncRet) -> Kfunc {
    Kfunc { name, args, ret, sleepable: false, with_lock: false, effect: KfuncEffect::None }
}

use KfuncArg::{Arena, ConstString, Ignored, Implicit, Iter, MemSized, NewIter, Scalar, Size};

#[rustfmt::skip]
static KFUNCS: [Kfunc; 12] = [
    Kfunc { sleepable: true, ..kfunc("bpf_arena_alloc_pages", &[Arena, Ignored, Scalar, Scalar, Scalar], KfuncRet::Number) },
    Kfunc { sleepable: true, ..kfunc("bpf_arena_free_pages", &[Arena, Ignored, Scalar], KfuncRet::Void) },
    Kfunc { sleepable: true, ..kfunc("bpf_arena_reserve_pages", &[Arena, Ignored, Scalar], KfuncRet::Number) },
    Kfunc { effect: KfuncEffect::IterNew, with_lock: true, ..kfunc("bpf_iter_num_new", &[NewIter, Scalar, Scalar], KfuncRet::Number) },
    Kfunc { effect: KfuncEffect::IterNext, with_lock: true, ..kfunc("bpf_iter_num_next", &[Iter], KfuncRet::ReadOnlyOrNull(4)) },
    Kfunc { effect: KfuncEffect::IterDestroy, with_lock: true, ..kfunc("bpf_iter_num_destroy", &[Iter], KfuncRet::Void) },
    Kfunc { effect: KfuncEffect::PreemptDisable, ..kfunc("bpf_preempt_disable", &[], KfuncRet::Void) },
    Kfunc { effect: KfuncEffect::PreemptEnable, ..kfunc("bpf_preempt_enable", &[], KfuncRet::Void) },
    Kfunc { effect: KfuncEffect::RcuLock, ..kfunc("bpf_rcu_read_lock", &[], KfuncRet::Void) },
    Kfunc { effect: KfuncEffect::RcuUnlock, ..kfunc("bpf_rcu_read_unlock", &[], KfuncRet::Void) },
    // Linux 6.18 renamed it.
    kfunc("bpf_stream_vprintk_impl", &[Scalar, ConstString, MemSized, Size, Implicit], KfuncRet::Number),
    kfunc("bpf_stream_vprintk", &[Scalar, ConstString, MemSized, Size, Implicit], KfuncRet::Number),
];
