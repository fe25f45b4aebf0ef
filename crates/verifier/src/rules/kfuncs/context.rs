//! The context of a program type, as the kernel's BTF names it.
//!
//! `struct bpf_ctx_convert` has for every program type what the program sees (`.._prog`) and what the kernel has
//! (`.._kern`).

use bpf_object::{Btf, Kind, ProgType, TypeId};

use crate::kernel_types::is_projection;

/// Names of program types as `bpf_ctx_convert` has them.
const NAMES: [(ProgType, &str); 31] = [
    (ProgType::SocketFilter, "SOCKET_FILTER"),
    (ProgType::Kprobe, "KPROBE"),
    (ProgType::SchedCls, "SCHED_CLS"),
    (ProgType::SchedAct, "SCHED_ACT"),
    (ProgType::Tracepoint, "TRACEPOINT"),
    (ProgType::Xdp, "XDP"),
    (ProgType::PerfEvent, "PERF_EVENT"),
    (ProgType::CgroupSkb, "CGROUP_SKB"),
    (ProgType::CgroupSock, "CGROUP_SOCK"),
    (ProgType::LwtIn, "LWT_IN"),
    (ProgType::LwtOut, "LWT_OUT"),
    (ProgType::LwtXmit, "LWT_XMIT"),
    (ProgType::SockOps, "SOCK_OPS"),
    (ProgType::SkSkb, "SK_SKB"),
    (ProgType::CgroupDevice, "CGROUP_DEVICE"),
    (ProgType::SkMsg, "SK_MSG"),
    (ProgType::RawTracepoint, "RAW_TRACEPOINT"),
    (ProgType::CgroupSockAddr, "CGROUP_SOCK_ADDR"),
    (ProgType::LwtSeg6local, "LWT_SEG6LOCAL"),
    (ProgType::SkReuseport, "SK_REUSEPORT"),
    (ProgType::FlowDissector, "FLOW_DISSECTOR"),
    (ProgType::CgroupSysctl, "CGROUP_SYSCTL"),
    (ProgType::RawTracepointWritable, "RAW_TRACEPOINT_WRITABLE"),
    (ProgType::CgroupSockopt, "CGROUP_SOCKOPT"),
    (ProgType::Tracing, "TRACING"),
    (ProgType::StructOps, "STRUCT_OPS"),
    (ProgType::Ext, "EXT"),
    (ProgType::Lsm, "LSM"),
    (ProgType::SkLookup, "SK_LOOKUP"),
    (ProgType::Syscall, "SYSCALL"),
    (ProgType::Netfilter, "NETFILTER"),
];

/// The type of one side of a program type's context.
fn side(kernel: &Btf, prog_type: ProgType, side: &str) -> Option<TypeId> {
    let (_, name) = NAMES.iter().find(|(t, _)| *t == prog_type)?;
    let convert = kernel.find("bpf_ctx_convert", bpf_object::KindTag::Struct)?;
    let (member, _) = kernel.member(convert, &format!("BPF_PROG_TYPE_{name}_{side}"))?;
    Some(member.ty)
}

/// The structure of the kernel behind the context of programs of this type (`get_kern_ctx_btf_id`).
pub(crate) fn kernel_context(kernel: &Btf, prog_type: ProgType) -> Option<TypeId> {
    side(kernel, prog_type, "kern")
}

/// Whether a pointer to `target` (modifiers and all), in any BTF, is one to the context of programs of this type. Types
/// are compared by name, as the kernel does.
pub(crate) fn is_context_type(kernel: &Btf, btf: &Btf, target: TypeId, prog_type: ProgType) -> bool {
    let typedef = btf.skip_modifiers(target);
    if prog_type == ProgType::Kprobe
        && matches!(btf.kind(typedef), Some(Kind::Typedef(_)))
        && btf.name(typedef) == "bpf_user_pt_regs_t"
    {
        return true;
    }
    let target = btf.resolve(target);
    if !matches!(btf.kind(target), Some(Kind::Struct(_) | Kind::Union(_))) {
        return false;
    }
    let name = btf.name(target);
    let Some(context) = side(kernel, prog_type, "prog") else { return false };
    // A typedef counts by its own name and by that of what it stands for.
    [context, kernel.resolve(context)].into_iter().any(|ty| {
        let context = kernel.name(ty);
        !context.is_empty() && (context == name || is_projection(context, name))
    })
}
