//! Which types a global function may give its context parameter.

use bpf_object::{AttachType as A, Btf, Kind, KindTag, ProgType as P, TypeId};

/// The structure programs of a type see as their context (`bpf_types.h`), with the kernel's own name for it where
/// functions may use that, too.
struct Row {
    prog_types: &'static [P],
    name: &'static str,
    kernel_name: Option<&'static str>,
}

const fn row(prog_types: &'static [P], name: &'static str) -> Row {
    Row { prog_types, name, kernel_name: None }
}

const ON_SKB: &[P] = &[
    P::SocketFilter,
    P::SchedCls,
    P::SchedAct,
    P::CgroupSkb,
    P::LwtIn,
    P::LwtOut,
    P::LwtXmit,
    P::LwtSeg6local,
    P::SkSkb,
    P::FlowDissector,
];

/// Types that are missing here have a context without a name.
static STRUCTS: [Row; 15] = [
    Row { kernel_name: Some("sk_buff"), ..row(ON_SKB, "__sk_buff") },
    Row { kernel_name: Some("xdp_buff"), ..row(&[P::Xdp], "xdp_md") },
    row(&[P::CgroupSock], "bpf_sock"),
    row(&[P::CgroupSockAddr], "bpf_sock_addr"),
    row(&[P::SockOps], "bpf_sock_ops"),
    row(&[P::SkMsg], "sk_msg_md"),
    Row { kernel_name: Some(REGISTERS), ..row(&[P::Kprobe], "pt_regs") },
    row(&[P::PerfEvent], "bpf_perf_event_data"),
    row(&[P::RawTracepoint, P::RawTracepointWritable], "bpf_raw_tracepoint_args"),
    row(&[P::CgroupDevice], "bpf_cgroup_dev_ctx"),
    row(&[P::CgroupSysctl], "bpf_sysctl"),
    row(&[P::CgroupSockopt], "bpf_sockopt"),
    row(&[P::SkReuseport], "sk_reuseport_md"),
    row(&[P::SkLookup], "bpf_sk_lookup"),
    row(&[P::Netfilter], "bpf_nf_ctx"),
];

/// What else a parameter with the tag `ctx` may point to.
enum Also {
    /// The typedef of the registers.
    Registers,
    /// A structure of this name.
    Struct(&'static str),
    /// One of the structures of iterators.
    Iterator,
    /// A number of 8 bytes: the first argument.
    Number,
    Anything,
}

/// By program type and, where there are some, attach types.
static TAGGED: [(&[P], &[A], &[Also]); 7] = [
    (&[P::Kprobe], &[], &[Also::Registers]),
    (&[P::PerfEvent], &[], &[Also::Registers, Also::Struct("pt_regs")]),
    (&[P::RawTracepoint, P::RawTracepointWritable, P::Lsm, P::StructOps], &[], &[Also::Number]),
    (&[P::Tracing], &[A::TraceRawTp], &[Also::Struct("bpf_raw_tracepoint_args"), Also::Number]),
    (&[P::Tracing], &[A::TraceIter], &[Also::Iterator]),
    (&[P::Tracing], &[A::TraceFentry, A::TraceFexit, A::ModifyReturn], &[Also::Number]),
    (&[P::Tracepoint, P::Syscall, P::Ext], &[], &[Also::Anything]),
];

const REGISTERS: &str = "bpf_user_pt_regs_t";

/// Whether a pointer to this type is the context by its name alone (`btf_is_prog_ctx_type`).
pub(crate) fn is_named(prog_type: P, btf: &Btf, pointee: TypeId) -> bool {
    if prog_type == P::Kprobe && is_registers(btf, pointee) {
        return true;
    }
    let name = struct_name(btf, pointee);
    find(prog_type).is_some_and(|row| name.is_some_and(|n| n == row.name || Some(n) == row.kernel_name))
}

/// What is wrong with the type a parameter tagged as the context points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has no name.
    Nameless,
    /// It must be `void`.
    NotVoid,
    /// It must be this structure.
    NotStruct(&'static str),
}

/// Checks the type a parameter tagged as the context points to (`btf_validate_prog_ctx_type`).
pub(crate) fn check_tagged(prog_type: P, attach: Option<A>, btf: &Btf, pointee: TypeId) -> Result<(), Fault> {
    let target = btf.resolve(pointee);
    let admits = |also: &Also| match also {
        Also::Registers => is_registers(btf, pointee),
        Also::Struct(name) => struct_name(btf, pointee) == Some(*name),
        Also::Iterator => struct_name(btf, pointee).is_some_and(|n| n.starts_with("bpf_iter__")),
        Also::Number => matches!(btf.kind(target), Some(Kind::Int(_))) && btf.size_of(target) == Some(8),
        Also::Anything => true,
    };
    if target == TypeId::VOID {
        return Ok(());
    }
    if btf.name(target).is_empty() && !is_registers(btf, pointee) {
        return Err(Fault::Nameless);
    }
    let fits = |attach_types: &[A]| {
        attach_types.is_empty() || attach.is_some_and(|attach| attach_types.contains(&attach))
    };
    let mut rows = TAGGED.iter().filter(|(types, attach, _)| types.contains(&prog_type) && fits(attach));
    if rows.any(|(_, _, also)| also.iter().any(admits)) {
        return Ok(());
    }
    match find(prog_type) {
        None => Err(Fault::NotVoid),
        Some(row) if struct_name(btf, pointee) == Some(row.name) => Ok(()),
        Some(row) => Err(Fault::NotStruct(row.name)),
    }
}

fn find(prog_type: P) -> Option<&'static Row> {
    STRUCTS.iter().find(|row| row.prog_types.contains(&prog_type))
}

/// The name of the structure behind modifiers and typedefs.
fn struct_name(btf: &Btf, ty: TypeId) -> Option<&str> {
    let target = btf.resolve(ty);
    matches!(btf.get(target).map(|t| t.kind.tag()), Some(KindTag::Struct | KindTag::Union))
        .then(|| btf.name(target))
}

fn is_registers(btf: &Btf, ty: TypeId) -> bool {
    let target = btf.skip_modifiers(ty);
    matches!(btf.kind(target), Some(Kind::Typedef(_))) && btf.name(target) == REGISTERS
}
