//! Helpers that are another function, with another prototype, for programs of some types.

use bpf_object::ProgType as P;

use super::arg::short::*;
use super::callers::attach;
use super::{Allowed, Effect, Helper, helper, id};

/// A helper as programs of some types get it.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) prog_types: &'static [P],
    /// Where the program is attached; anywhere if there is none.
    pub(super) attach_types: &'static [u32],
    pub(super) helper: Helper,
}

const fn variant(prog_types: &'static [P], helper: Helper) -> Variant {
    Variant { prog_types, attach_types: &[], helper }
}

static TRACING: &[P] = &[P::Tracing, P::Lsm, P::Syscall];
static MULTI: &[u32] =
    &[attach::TRACE_KPROBE_MULTI, attach::TRACE_KPROBE_SESSION, attach::TRACE_UPROBE_MULTI];

/// Programs that are given the processor's number by a call.
#[rustfmt::skip]
static RAW_CPU: &[P] = &[
    P::SocketFilter, P::CgroupSkb, P::CgroupSock, P::SockOps, P::SkSkb, P::CgroupDevice, P::SkMsg, P::CgroupSockAddr,
    P::SkReuseport, P::FlowDissector, P::CgroupSysctl, P::CgroupSockopt, P::SkLookup, P::Netfilter, P::StructOps,
];

#[rustfmt::skip]
pub(super) static VARIANTS: &[Variant] = &[
    variant(RAW_CPU, helper(id::GET_SMP_PROCESSOR_ID, &[], INT).returns_cpu()),
    variant(&[P::SchedCls, P::SchedAct, P::LwtIn, P::LwtOut, P::LwtXmit, P::LwtSeg6local],
        helper(id::GET_CGROUP_CLASSID, &[CTX], INT)),
    variant(&[P::Tracing, P::Lsm, P::Syscall, P::SkReuseport], helper(id::GET_SOCKET_COOKIE, &[SK_OR_NULL], INT)),
    variant(&[P::PerfEvent], helper(id::GET_STACKID, &[CTX, MAP, ANY], INT)),
    variant(&[P::CgroupSockopt, P::Lsm, P::StructOps, P::Tracing],
        helper(id::SETSOCKOPT, &[SK, ANY, ANY, IN, SIZE], INT)),
    variant(&[P::CgroupSockopt, P::Lsm, P::StructOps, P::Tracing],
        helper(id::GETSOCKOPT, &[SK, ANY, ANY, OUT, SIZE], INT)),
    variant(&[P::CgroupSock], helper(id::SK_STORAGE_GET, &[MAP, CTX, VALUE_OR_NULL, ANY], MAP_VALUE_OR_NULL)),
    // Programs at security hooks have those of the network.
    variant(&[P::Tracing, P::Syscall], helper(id::SK_STORAGE_GET,
        &[MAP, btf_or_null("sock_common"), VALUE_OR_NULL, ANY], MAP_VALUE_OR_NULL).only(Allowed::SocketStorage)),
    variant(&[P::Tracing, P::Syscall], helper(id::SK_STORAGE_DELETE,
        &[MAP, btf_or_null("sock_common")], INT).only(Allowed::SocketStorage)),
    variant(&[P::SkLookup], helper(id::SK_ASSIGN, &[CTX, SOCKET_OR_NULL, ANY], INT)),
    variant(TRACING, helper(id::XDP_GET_BUFF_LEN, &[btf("xdp_buff")], INT)),
    Variant { prog_types: &[P::Kprobe], attach_types: MULTI,
        helper: helper(id::GET_FUNC_IP, &[CTX], INT).effect(Effect::FunctionAddress) },
];
