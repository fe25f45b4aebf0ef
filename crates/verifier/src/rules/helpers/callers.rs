//! Which helpers the programs of each type may call, as a kernel with every feature of the network and of tracing answers
//! a program that has `CAP_BPF` and `CAP_PERFMON`. Left out: `bpf_probe_write_user`, which takes `CAP_SYS_ADMIN`, and
//! `bpf_override_return`, which few kernels are built with.

use bpf_object::{ProgType, ProgramKind};

use super::id;
use ProgType as P;

/// Whether a program of this kind may call the helper with this number.
pub(crate) fn may_call(kind: &ProgramKind, number: u32) -> bool {
    let Some(prog_type) = kind.prog_type else { return false };
    let attach = attach_type(kind);
    let target = kind.target.as_deref().unwrap_or("");
    let somewhere = WHERE.iter().any(|w| {
        w.prog_type == prog_type
            && w.helpers.contains(&number)
            && w.attach_types.contains(&attach)
            && (w.targets.is_empty() || w.targets.contains(&target))
    });
    somewhere
        || CALLERS
            .iter()
            .find(|c| c.prog_type == prog_type)
            .is_some_and(|c| c.groups.iter().any(|group| group.contains(&number)))
}

/// `expected_attach_type`, with what the kernel takes for none (`bpf_prog_load_fixup_attach_type`).
pub(crate) fn attach_type(kind: &ProgramKind) -> u32 {
    match (kind.attach_type, kind.prog_type) {
        (None | Some(0), Some(P::CgroupSock)) => attach::CGROUP_INET_SOCK_CREATE,
        (None | Some(0), Some(P::SkReuseport)) => attach::SK_REUSEPORT_SELECT,
        (attach_type, _) => attach_type.unwrap_or(0),
    }
}

/// `enum bpf_attach_type`, as far as helpers depend on it.
pub(crate) mod attach {
    pub(crate) const CGROUP_INET_SOCK_CREATE: u32 = 2;
    pub(crate) const CGROUP_DEVICE: u32 = 6;
    pub(crate) const CGROUP_INET4_BIND: u32 = 8;
    pub(crate) const CGROUP_INET6_BIND: u32 = 9;
    pub(crate) const CGROUP_INET4_CONNECT: u32 = 10;
    pub(crate) const CGROUP_INET6_CONNECT: u32 = 11;
    pub(crate) const CGROUP_UDP4_SENDMSG: u32 = 14;
    pub(crate) const CGROUP_UDP6_SENDMSG: u32 = 15;
    pub(crate) const CGROUP_SYSCTL: u32 = 18;
    pub(crate) const CGROUP_SETSOCKOPT: u32 = 22;
    pub(crate) const TRACE_RAW_TP: u32 = 23;
    pub(crate) const TRACE_FENTRY: u32 = 24;
    pub(crate) const TRACE_FEXIT: u32 = 25;
    pub(crate) const MODIFY_RETURN: u32 = 26;
    pub(crate) const LSM_MAC: u32 = 27;
    pub(crate) const TRACE_ITER: u32 = 28;
    pub(crate) const SK_REUSEPORT_SELECT: u32 = 39;
    pub(crate) const TRACE_KPROBE_MULTI: u32 = 42;
    pub(crate) const LSM_CGROUP: u32 = 43;
    pub(crate) const TRACE_UPROBE_MULTI: u32 = 48;
    pub(crate) const CGROUP_UNIX_CONNECT: u32 = 49;
    pub(crate) const CGROUP_UNIX_SENDMSG: u32 = 50;
    pub(crate) const TRACE_KPROBE_SESSION: u32 = 56;

    /// Where a program is called through a trampoline (`bpf_prog_has_trampoline`).
    pub(crate) static TRAMPOLINES: &[u32] = &[TRACE_FENTRY, TRACE_FEXIT, MODIFY_RETURN, LSM_MAC];
}

/// What the programs of one type may call wherever they are attached.
#[derive(Debug)]
struct Callers {
    prog_type: ProgType,
    groups: &'static [&'static [u32]],
}

const fn callers(prog_type: ProgType, groups: &'static [&'static [u32]]) -> Callers {
    Callers { prog_type, groups }
}

/// What programs of a type may call if they are attached to one of these places.
#[derive(Debug)]
struct Where {
    prog_type: ProgType,
    helpers: &'static [u32],
    attach_types: &'static [u32],
    /// To one of these things there; to anything if there is none.
    targets: &'static [&'static str],
}

const fn attached(prog_type: ProgType, helpers: &'static [u32], attach_types: &'static [u32]) -> Where {
    Where { prog_type, helpers, attach_types, targets: &[] }
}

#[rustfmt::skip]
static WHERE: &[Where] = &[
    attached(P::CgroupDevice, RETVAL, &[attach::CGROUP_DEVICE]),
    attached(P::CgroupSysctl, RETVAL, &[attach::CGROUP_SYSCTL]),
    attached(P::CgroupSockopt, SOCKOPT, &[attach::CGROUP_SETSOCKOPT]),
    attached(P::CgroupSockAddr, &[id::BIND], &[attach::CGROUP_INET4_CONNECT, attach::CGROUP_INET6_CONNECT]),
    attached(P::CgroupSockAddr, RETVAL, &[
            attach::CGROUP_INET4_BIND, attach::CGROUP_INET6_BIND, attach::CGROUP_INET4_CONNECT,
            attach::CGROUP_INET6_CONNECT, attach::CGROUP_UNIX_CONNECT, attach::CGROUP_UDP4_SENDMSG,
            attach::CGROUP_UDP6_SENDMSG, attach::CGROUP_UNIX_SENDMSG,
        ]),
    attached(P::Tracing, SEQUENCE, &[attach::TRACE_ITER]),
    attached(P::Tracing, &[id::GET_ATTACH_COOKIE], &[attach::TRACE_RAW_TP]),
    attached(P::Tracing, TRAMPOLINE, attach::TRAMPOLINES),
    attached(P::Lsm, TRAMPOLINE, attach::TRAMPOLINES),
    attached(P::Lsm, LSM_CGROUP, &[attach::LSM_CGROUP]),
    Where { targets: &["tcp", "unix"], ..attached(P::Tracing, SOCKOPT, &[attach::TRACE_ITER]) },
];

static RETVAL: &[u32] = &[id::GET_RETVAL, id::SET_RETVAL];
static SOCKOPT: &[u32] = &[id::SETSOCKOPT, id::GETSOCKOPT];
static SEQUENCE: &[u32] = &[id::SEQ_PRINTF, id::SEQ_WRITE, id::SEQ_PRINTF_BTF];
static TRAMPOLINE: &[u32] =
    &[id::GET_FUNC_ARG, id::GET_FUNC_RET, id::GET_FUNC_ARG_CNT, id::GET_ATTACH_COOKIE];
static LSM_CGROUP: &[u32] =
    &[id::GET_LOCAL_STORAGE, id::GET_RETVAL, id::SET_RETVAL, id::SETSOCKOPT, id::GETSOCKOPT];

/// What programs of every type may call.
#[rustfmt::skip]
static BASE: &[u32] = &[
    id::MAP_LOOKUP_ELEM, id::MAP_UPDATE_ELEM, id::MAP_DELETE_ELEM, id::KTIME_GET_NS, id::TRACE_PRINTK,
    id::GET_PRANDOM_U32, id::GET_SMP_PROCESSOR_ID, id::TAIL_CALL, id::GET_CURRENT_PID_TGID,
    id::GET_CURRENT_UID_GID, id::GET_CURRENT_COMM, id::GET_CGROUP_CLASSID, id::PERF_EVENT_READ,
    id::GET_CURRENT_TASK, id::CURRENT_TASK_UNDER_CGROUP, id::GET_NUMA_NODE_ID, id::PERF_EVENT_READ_VALUE,
    id::GET_CURRENT_CGROUP_ID, id::MAP_PUSH_ELEM, id::MAP_POP_ELEM, id::MAP_PEEK_ELEM, id::SPIN_LOCK,
    id::SPIN_UNLOCK, id::STRTOL, id::STRTOUL, id::SEND_SIGNAL, id::PROBE_READ_USER, id::PROBE_READ_KERNEL,
    id::PROBE_READ_USER_STR, id::PROBE_READ_KERNEL_STR, id::SEND_SIGNAL_THREAD, id::JIFFIES64,
    id::GET_NS_CURRENT_PID_TGID, id::GET_CURRENT_ANCESTOR_CGROUP_ID, id::KTIME_GET_BOOT_NS,
    id::RINGBUF_OUTPUT, id::RINGBUF_RESERVE, id::RINGBUF_SUBMIT, id::RINGBUF_DISCARD, id::RINGBUF_QUERY,
    id::GET_TASK_STACK, id::COPY_FROM_USER, id::SNPRINTF_BTF, id::PER_CPU_PTR, id::THIS_CPU_PTR,
    id::TASK_STORAGE_GET, id::TASK_STORAGE_DELETE, id::GET_CURRENT_TASK_BTF, id::FOR_EACH_MAP_ELEM,
    id::SNPRINTF, id::TIMER_INIT, id::TIMER_SET_CALLBACK, id::TIMER_START, id::TIMER_CANCEL, id::TASK_PT_REGS,
    id::GET_BRANCH_SNAPSHOT, id::TRACE_VPRINTK, id::FIND_VMA, id::LOOP, id::STRNCMP, id::COPY_FROM_USER_TASK,
    id::KPTR_XCHG, id::MAP_LOOKUP_PERCPU_ELEM, id::DYNPTR_FROM_MEM, id::RINGBUF_RESERVE_DYNPTR,
    id::RINGBUF_SUBMIT_DYNPTR, id::RINGBUF_DISCARD_DYNPTR, id::DYNPTR_READ, id::DYNPTR_WRITE, id::DYNPTR_DATA,
    id::KTIME_GET_TAI_NS, id::USER_RINGBUF_DRAIN, id::CGRP_STORAGE_GET, id::CGRP_STORAGE_DELETE,
];

/// Programs of the network besides.
#[rustfmt::skip]
static SOCKETS: &[u32] = &[
    id::SKC_TO_TCP6_SOCK, id::SKC_TO_TCP_SOCK, id::SKC_TO_TCP_TIMEWAIT_SOCK, id::SKC_TO_TCP_REQUEST_SOCK,
    id::SKC_TO_UDP6_SOCK, id::KTIME_GET_COARSE_NS, id::SKC_TO_UNIX_SOCK, id::SKC_TO_MPTCP_SOCK,
];

/// Programs that trace besides.
#[rustfmt::skip]
static TRACING: &[u32] = &[
    id::PROBE_READ, id::PERF_EVENT_OUTPUT, id::GET_STACKID, id::PROBE_READ_STR, id::GET_STACK, id::GET_FUNC_IP,
];

/// Those of them whose arguments have types besides, and programs of system calls.
#[rustfmt::skip]
static TRACING_BTF: &[u32] = &[
    id::GET_SOCKET_COOKIE, id::SK_STORAGE_GET, id::SK_STORAGE_DELETE, id::SKB_OUTPUT, id::XDP_OUTPUT,
    id::SKC_TO_TCP6_SOCK, id::SKC_TO_TCP_SOCK, id::SKC_TO_TCP_TIMEWAIT_SOCK, id::SKC_TO_TCP_REQUEST_SOCK,
    id::SKC_TO_UDP6_SOCK, id::D_PATH, id::SOCK_FROM_FILE, id::SKC_TO_UNIX_SOCK, id::XDP_GET_BUFF_LEN,
    id::SKC_TO_MPTCP_SOCK,
];

/// Lightweight tunnels.
#[rustfmt::skip]
static LWT: &[u32] = &[
    id::GET_ROUTE_REALM, id::PERF_EVENT_OUTPUT, id::SKB_LOAD_BYTES, id::CSUM_DIFF, id::SKB_UNDER_CGROUP,
    id::GET_HASH_RECALC, id::SKB_PULL_DATA,
];

/// Programs of traffic control.
#[rustfmt::skip]
static TC: &[u32] = &[
    id::SKB_STORE_BYTES, id::L3_CSUM_REPLACE, id::L4_CSUM_REPLACE, id::CLONE_REDIRECT, id::SKB_VLAN_PUSH,
    id::SKB_VLAN_POP, id::SKB_GET_TUNNEL_KEY, id::SKB_SET_TUNNEL_KEY, id::REDIRECT,
    id::SKB_GET_TUNNEL_OPT, id::SKB_SET_TUNNEL_OPT, id::SKB_CHANGE_PROTO, id::SKB_CHANGE_TYPE,
    id::SKB_CHANGE_TAIL, id::CSUM_UPDATE, id::SET_HASH_INVALID, id::SKB_CHANGE_HEAD,
    id::GET_SOCKET_COOKIE, id::GET_SOCKET_UID, id::SET_HASH, id::SKB_ADJUST_ROOM, id::SKB_GET_XFRM_STATE,
    id::SKB_LOAD_BYTES_RELATIVE, id::FIB_LOOKUP, id::SKB_CGROUP_ID, id::SKB_ANCESTOR_CGROUP_ID,
    id::SK_LOOKUP_TCP, id::SK_LOOKUP_UDP, id::SK_RELEASE, id::SK_FULLSOCK, id::TCP_SOCK,
    id::SKB_ECN_SET_CE, id::GET_LISTENER_SOCK, id::SKC_LOOKUP_TCP, id::TCP_CHECK_SYNCOOKIE,
    id::SK_STORAGE_GET, id::SK_STORAGE_DELETE, id::TCP_GEN_SYNCOOKIE, id::GET_NETNS_COOKIE, id::SK_ASSIGN,
    id::CSUM_LEVEL, id::SKB_CGROUP_CLASSID, id::REDIRECT_NEIGH, id::REDIRECT_PEER, id::CHECK_MTU,
    id::SKB_SET_TSTAMP, id::TCP_RAW_GEN_SYNCOOKIE_IPV4, id::TCP_RAW_GEN_SYNCOOKIE_IPV6,
    id::TCP_RAW_CHECK_SYNCOOKIE_IPV4, id::TCP_RAW_CHECK_SYNCOOKIE_IPV6,
];

#[rustfmt::skip]
static CALLERS: &[Callers] = &[
    callers(P::SocketFilter, &[BASE, SOCKETS, &[
        id::PERF_EVENT_OUTPUT, id::SKB_LOAD_BYTES, id::GET_SOCKET_COOKIE, id::GET_SOCKET_UID,
        id::SKB_LOAD_BYTES_RELATIVE, id::GET_NETNS_COOKIE,
    ]]),
    callers(P::Kprobe, &[BASE, TRACING, &[
        id::GET_ATTACH_COOKIE,
    ]]),
    callers(P::SchedCls, &[BASE, SOCKETS, LWT, TC]),
    callers(P::SchedAct, &[BASE, SOCKETS, LWT, TC]),
    callers(P::Tracepoint, &[BASE, TRACING, &[
        id::GET_ATTACH_COOKIE,
    ]]),
    callers(P::Xdp, &[BASE, SOCKETS, &[
        id::REDIRECT, id::PERF_EVENT_OUTPUT, id::CSUM_DIFF, id::XDP_ADJUST_HEAD, id::REDIRECT_MAP,
        id::XDP_ADJUST_META, id::XDP_ADJUST_TAIL, id::FIB_LOOKUP, id::SK_LOOKUP_TCP, id::SK_LOOKUP_UDP,
        id::SK_RELEASE, id::SKC_LOOKUP_TCP, id::TCP_CHECK_SYNCOOKIE, id::TCP_GEN_SYNCOOKIE, id::CHECK_MTU,
        id::XDP_GET_BUFF_LEN, id::XDP_LOAD_BYTES, id::XDP_STORE_BYTES, id::TCP_RAW_GEN_SYNCOOKIE_IPV4,
        id::TCP_RAW_GEN_SYNCOOKIE_IPV6, id::TCP_RAW_CHECK_SYNCOOKIE_IPV4, id::TCP_RAW_CHECK_SYNCOOKIE_IPV6,
    ]]),
    callers(P::PerfEvent, &[BASE, TRACING, &[
        id::PERF_PROG_READ_VALUE, id::READ_BRANCH_RECORDS, id::GET_ATTACH_COOKIE,
    ]]),
    callers(P::CgroupSkb, &[BASE, SOCKETS, &[
        id::PERF_EVENT_OUTPUT, id::SKB_LOAD_BYTES, id::GET_SOCKET_COOKIE, id::GET_SOCKET_UID,
        id::SKB_LOAD_BYTES_RELATIVE, id::SKB_CGROUP_ID, id::GET_LOCAL_STORAGE, id::SKB_ANCESTOR_CGROUP_ID,
        id::SK_LOOKUP_TCP, id::SK_LOOKUP_UDP, id::SK_RELEASE, id::SK_FULLSOCK, id::TCP_SOCK,
        id::SKB_ECN_SET_CE, id::GET_LISTENER_SOCK, id::SKC_LOOKUP_TCP, id::SK_STORAGE_GET,
        id::SK_STORAGE_DELETE, id::GET_NETNS_COOKIE, id::SK_CGROUP_ID, id::SK_ANCESTOR_CGROUP_ID,
    ]]),
    callers(P::CgroupSock, &[BASE, &[
        id::PERF_EVENT_OUTPUT, id::GET_SOCKET_COOKIE, id::GET_LOCAL_STORAGE, id::SK_STORAGE_GET,
        id::GET_NETNS_COOKIE, id::KTIME_GET_COARSE_NS, id::GET_RETVAL, id::SET_RETVAL,
    ]]),
    callers(P::LwtIn, &[BASE, SOCKETS, LWT, &[
        id::LWT_PUSH_ENCAP,
    ]]),
    callers(P::LwtOut, &[BASE, SOCKETS, LWT]),
    callers(P::LwtXmit, &[BASE, SOCKETS, LWT, &[
        id::SKB_STORE_BYTES, id::L3_CSUM_REPLACE, id::L4_CSUM_REPLACE, id::CLONE_REDIRECT,
        id::SKB_GET_TUNNEL_KEY, id::SKB_SET_TUNNEL_KEY, id::REDIRECT, id::SKB_GET_TUNNEL_OPT,
        id::SKB_SET_TUNNEL_OPT, id::SKB_CHANGE_TAIL, id::CSUM_UPDATE, id::SET_HASH_INVALID,
        id::SKB_CHANGE_HEAD, id::LWT_PUSH_ENCAP, id::CSUM_LEVEL,
    ]]),
    callers(P::SockOps, &[BASE, SOCKETS, &[
        id::PERF_EVENT_OUTPUT, id::GET_SOCKET_COOKIE, id::SETSOCKOPT, id::SOCK_MAP_UPDATE, id::GETSOCKOPT,
        id::SOCK_OPS_CB_FLAGS_SET, id::SOCK_HASH_UPDATE, id::GET_LOCAL_STORAGE, id::TCP_SOCK,
        id::SK_STORAGE_GET, id::SK_STORAGE_DELETE, id::GET_NETNS_COOKIE, id::LOAD_HDR_OPT, id::STORE_HDR_OPT,
        id::RESERVE_HDR_OPT,
    ]]),
    callers(P::SkSkb, &[BASE, SOCKETS, &[
        id::SKB_STORE_BYTES, id::PERF_EVENT_OUTPUT, id::SKB_LOAD_BYTES, id::SKB_CHANGE_TAIL,
        id::SKB_PULL_DATA, id::SKB_CHANGE_HEAD, id::GET_SOCKET_COOKIE, id::GET_SOCKET_UID,
        id::SKB_ADJUST_ROOM, id::SK_REDIRECT_MAP, id::SK_REDIRECT_HASH, id::SK_LOOKUP_TCP, id::SK_LOOKUP_UDP,
        id::SK_RELEASE, id::SKC_LOOKUP_TCP,
    ]]),
    callers(P::CgroupDevice, &[BASE, &[
        id::PERF_EVENT_OUTPUT, id::GET_LOCAL_STORAGE,
    ]]),
    callers(P::SkMsg, &[BASE, SOCKETS, &[
        id::PERF_EVENT_OUTPUT, id::MSG_REDIRECT_MAP, id::MSG_APPLY_BYTES, id::MSG_CORK_BYTES,
        id::MSG_PULL_DATA, id::MSG_REDIRECT_HASH, id::MSG_PUSH_DATA, id::MSG_POP_DATA, id::SK_STORAGE_GET,
        id::SK_STORAGE_DELETE, id::GET_NETNS_COOKIE,
    ]]),
    callers(P::RawTracepoint, &[BASE, TRACING, &[
        id::GET_ATTACH_COOKIE,
    ]]),
    callers(P::CgroupSockAddr, &[BASE, SOCKETS, &[
        id::PERF_EVENT_OUTPUT, id::GET_SOCKET_COOKIE, id::SETSOCKOPT, id::GETSOCKOPT, id::GET_LOCAL_STORAGE,
        id::SK_LOOKUP_TCP, id::SK_LOOKUP_UDP, id::SK_RELEASE, id::SKC_LOOKUP_TCP, id::SK_STORAGE_GET,
        id::SK_STORAGE_DELETE, id::GET_NETNS_COOKIE,
    ]]),
    callers(P::LwtSeg6local, &[BASE, SOCKETS, LWT, &[
        id::LWT_SEG6_STORE_BYTES, id::LWT_SEG6_ADJUST_SRH, id::LWT_SEG6_ACTION,
    ]]),
    callers(P::SkReuseport, &[BASE, &[
        id::SKB_LOAD_BYTES, id::GET_SOCKET_COOKIE, id::SKB_LOAD_BYTES_RELATIVE, id::SK_SELECT_REUSEPORT,
        id::KTIME_GET_COARSE_NS,
    ]]),
    callers(P::FlowDissector, &[BASE, SOCKETS, &[
        id::SKB_LOAD_BYTES,
    ]]),
    callers(P::CgroupSysctl, &[BASE, &[
        id::PERF_EVENT_OUTPUT, id::GET_LOCAL_STORAGE, id::SYSCTL_GET_NAME, id::SYSCTL_GET_CURRENT_VALUE,
        id::SYSCTL_GET_NEW_VALUE, id::SYSCTL_SET_NEW_VALUE, id::KTIME_GET_COARSE_NS,
    ]]),
    callers(P::RawTracepointWritable, &[BASE, TRACING, &[
        id::GET_ATTACH_COOKIE,
    ]]),
    callers(P::CgroupSockopt, &[BASE, &[
        id::PERF_EVENT_OUTPUT, id::GET_LOCAL_STORAGE, id::TCP_SOCK, id::SK_STORAGE_GET, id::SK_STORAGE_DELETE,
        id::GET_NETNS_COOKIE, id::GET_RETVAL, id::SET_RETVAL,
    ]]),
    callers(P::SkLookup, &[BASE, SOCKETS, &[
        id::PERF_EVENT_OUTPUT, id::SK_RELEASE, id::SK_ASSIGN,
    ]]),
    callers(P::Syscall, &[BASE, TRACING, TRACING_BTF, &[
        id::SYS_BPF, id::BTF_FIND_BY_NAME_KIND, id::SYS_CLOSE, id::KALLSYMS_LOOKUP_NAME,
    ]]),
    callers(P::Netfilter, &[BASE]),
    callers(P::Tracing, &[BASE, TRACING, TRACING_BTF]),
    callers(P::Lsm, &[BASE, TRACING, TRACING_BTF, &[
        id::INODE_STORAGE_GET, id::INODE_STORAGE_DELETE, id::BPRM_OPTS_SET, id::IMA_INODE_HASH,
        id::IMA_FILE_HASH,
    ]]),
    callers(P::StructOps, &[BASE, &[
        id::TCP_SEND_ACK, id::SK_STORAGE_GET, id::SK_STORAGE_DELETE, id::SETSOCKOPT, id::GETSOCKOPT,
        id::KTIME_GET_COARSE_NS,
    ]]),
    // The one type that may not even look at the current task.
    callers(P::LircMode2, &[&[
        id::RC_REPEAT, id::RC_KEYDOWN, id::RC_POINTER_REL, id::MAP_LOOKUP_ELEM, id::MAP_UPDATE_ELEM,
        id::MAP_DELETE_ELEM, id::MAP_PUSH_ELEM, id::MAP_POP_ELEM, id::MAP_PEEK_ELEM, id::KTIME_GET_NS,
        id::KTIME_GET_BOOT_NS, id::TAIL_CALL, id::GET_PRANDOM_U32, id::TRACE_PRINTK,
    ]]),
];
