//! A linked program: what the verifier, the code generator and both engines consume.

use std::sync::Arc;

use isa::{Code, InsnIdx};

use crate::{Btf, MapSpec, TypeId};

/// One program, relocated, with every subprogram it reaches joined behind it.
///
/// A specification: plain data, editable, no system call was made for it. In `code`
/// - maps are [`Imm64::MapIdx`](isa::Imm64::MapIdx) and [`Imm64::MapIdxValue`](isa::Imm64::MapIdxValue), indexing
///   [`Program::maps`];
/// - calls to subprograms are [`CallTarget::Local`](isa::CallTarget::Local), callbacks
///   [`Imm64::Func`](isa::Imm64::Func);
/// - calls to kfuncs are [`CallTarget::Kfunc`](isa::CallTarget::Kfunc) with `btf_id` an index into
///   [`Program::externs`] and `module` 0;
/// - references to kernel variables, and to kfuncs whose presence is asked for, are
///   [`Imm64::BtfVar`](isa::Imm64::BtfVar) with `btf_id` such an index.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the entry function.
    pub name: String,
    /// ELF section it came from, e.g. `syscall` or `xdp`.
    pub section: String,
    /// Type, attach type and flags that the section name implies.
    pub kind: ProgramKind,
    /// The instructions; the entry function starts at 0.
    pub code: Code,
    /// Functions in `code`, by ascending start; the first is the entry.
    pub subprograms: Vec<Subprogram>,
    /// Every map of the object, whether this program uses it or not.
    pub maps: Arc<[MapSpec]>,
    /// Kernel functions and variables the code refers to.
    pub externs: Vec<Extern>,
    /// The object's type information.
    pub btf: Option<Arc<Btf>>,
    /// Source lines, by ascending instruction.
    pub lines: Vec<LineInfo>,
    /// Contents of the `license` section.
    pub license: String,
}

impl Program {
    /// A program made of instructions alone, with one subprogram that covers them all: for tools and tests that
    /// have no ELF object. More functions, maps and externs may be added to the result.
    #[must_use]
    pub fn from_code(name: &str, section: &str, code: Code) -> Self {
        let end = InsnIdx(u32::try_from(code.len()).unwrap_or(u32::MAX));
        let entry = Subprogram {
            name: name.to_owned(),
            start: InsnIdx(0),
            end,
            btf_func: None,
            linkage: Linkage::Global,
        };
        Self {
            name: name.to_owned(),
            section: section.to_owned(),
            kind: ProgramKind::from_section(section),
            code,
            subprograms: vec![entry],
            maps: Arc::from([]),
            externs: Vec::new(),
            btf: None,
            lines: Vec::new(),
            license: "GPL".to_owned(),
        }
    }

    /// The subprogram that contains this instruction.
    #[must_use]
    pub fn subprogram_at(&self, at: InsnIdx) -> Option<&Subprogram> {
        let after = self.subprograms.partition_point(|s| s.start <= at);
        self.subprograms.get(after.checked_sub(1)?).filter(|s| at < s.end)
    }

    /// The source line of this instruction: the last line entry at or before it, within its subprogram.
    #[must_use]
    pub fn line_at(&self, at: InsnIdx) -> Option<&LineInfo> {
        let after = self.lines.partition_point(|l| l.insn <= at);
        let line = self.lines.get(after.checked_sub(1)?)?;
        (self.subprogram_at(at)?.start <= line.insn).then_some(line)
    }
}

/// A function inside a linked program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subprogram {
    /// Symbol name.
    pub name: String,
    /// First slot.
    pub start: InsnIdx,
    /// Slot after the last.
    pub end: InsnIdx,
    /// Its `FUNC` in the object's BTF.
    pub btf_func: Option<TypeId>,
    /// Whether it is verified on its own (global) or at each call (static).
    pub linkage: Linkage,
}

/// Linkage of a function or variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// Known in its own object only.
    Static,
    /// Visible to other objects.
    Global,
    /// Global, and replaceable by another definition.
    Weak,
}

/// A kernel function or variable that the program refers to by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extern {
    /// Symbol name, without a `___flavor` suffix.
    pub name: String,
    /// Function or variable.
    pub kind: ExternKind,
    /// A weak extern that nobody provides is address 0 instead of an error.
    pub weak: bool,
    /// Its type in the object's BTF (`FUNC` or `VAR`).
    pub btf: Option<TypeId>,
}

/// What an [`Extern`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternKind {
    /// A kfunc.
    Function,
    /// A kernel variable with a type (`extern const struct rq runqueues __ksym`).
    TypedVariable,
    /// A kernel symbol whose address is asked for (`extern const void x __ksym`).
    Address,
}

/// One row of line information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// First instruction of the line.
    pub insn: InsnIdx,
    /// File name as the compiler wrote it.
    pub file: Arc<str>,
    /// Line number, from 1.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
    /// Text of the line, without indentation trimmed.
    pub source: Arc<str>,
}

/// What a section name says about its program, as libbpf reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramKind {
    /// `BPF_PROG_TYPE_*`, or `None` when the section name is none that libbpf knows.
    pub prog_type: Option<ProgType>,
    /// `expected_attach_type` (`BPF_*` attach type number) that the section implies.
    pub attach_type: Option<u32>,
    /// Whether the program may sleep (`BPF_F_SLEEPABLE`): `.s` sections and `syscall`.
    pub sleepable: bool,
    /// `xdp.frags`: `BPF_F_XDP_HAS_FRAGS`.
    pub xdp_frags: bool,
    /// Part of the section name after the first `/`, e.g. the tracepoint or function to attach to.
    pub target: Option<String>,
    /// `?` in front of the section name: not loaded unless asked for.
    pub optional: bool,
}

/// Program types, with the kernel's numbers (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the kernel's BPF_PROG_TYPE_*")]
#[non_exhaustive]
#[repr(u32)]
pub enum ProgType {
    SocketFilter = 1,
    Kprobe = 2,
    SchedCls = 3,
    SchedAct = 4,
    Tracepoint = 5,
    Xdp = 6,
    PerfEvent = 7,
    CgroupSkb = 8,
    CgroupSock = 9,
    LwtIn = 10,
    LwtOut = 11,
    LwtXmit = 12,
    SockOps = 13,
    SkSkb = 14,
    CgroupDevice = 15,
    SkMsg = 16,
    RawTracepoint = 17,
    CgroupSockAddr = 18,
    LwtSeg6local = 19,
    LircMode2 = 20,
    SkReuseport = 21,
    FlowDissector = 22,
    CgroupSysctl = 23,
    RawTracepointWritable = 24,
    CgroupSockopt = 25,
    Tracing = 26,
    StructOps = 27,
    Ext = 28,
    Lsm = 29,
    SkLookup = 30,
    Syscall = 31,
    Netfilter = 32,
}

impl ProgType {
    /// Every type, in the order of the kernel's numbers.
    pub const ALL: [Self; 32] = [
        Self::SocketFilter,
        Self::Kprobe,
        Self::SchedCls,
        Self::SchedAct,
        Self::Tracepoint,
        Self::Xdp,
        Self::PerfEvent,
        Self::CgroupSkb,
        Self::CgroupSock,
        Self::LwtIn,
        Self::LwtOut,
        Self::LwtXmit,
        Self::SockOps,
        Self::SkSkb,
        Self::CgroupDevice,
        Self::SkMsg,
        Self::RawTracepoint,
        Self::CgroupSockAddr,
        Self::LwtSeg6local,
        Self::LircMode2,
        Self::SkReuseport,
        Self::FlowDissector,
        Self::CgroupSysctl,
        Self::RawTracepointWritable,
        Self::CgroupSockopt,
        Self::Tracing,
        Self::StructOps,
        Self::Ext,
        Self::Lsm,
        Self::SkLookup,
        Self::Syscall,
        Self::Netfilter,
    ];

    /// The type with this number in `enum bpf_prog_type`.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// The name bpftool prints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SocketFilter => "socket_filter",
            Self::Kprobe => "kprobe",
            Self::SchedCls => "sched_cls",
            Self::SchedAct => "sched_act",
            Self::Tracepoint => "tracepoint",
            Self::Xdp => "xdp",
            Self::PerfEvent => "perf_event",
            Self::CgroupSkb => "cgroup_skb",
            Self::CgroupSock => "cgroup_sock",
            Self::LwtIn => "lwt_in",
            Self::LwtOut => "lwt_out",
            Self::LwtXmit => "lwt_xmit",
            Self::SockOps => "sock_ops",
            Self::SkSkb => "sk_skb",
            Self::CgroupDevice => "cgroup_device",
            Self::SkMsg => "sk_msg",
            Self::RawTracepoint => "raw_tracepoint",
            Self::CgroupSockAddr => "cgroup_sock_addr",
            Self::LwtSeg6local => "lwt_seg6local",
            Self::LircMode2 => "lirc_mode2",
            Self::SkReuseport => "sk_reuseport",
            Self::FlowDissector => "flow_dissector",
            Self::CgroupSysctl => "cgroup_sysctl",
            Self::RawTracepointWritable => "raw_tracepoint_writable",
            Self::CgroupSockopt => "cgroup_sockopt",
            Self::Tracing => "tracing",
            Self::StructOps => "struct_ops",
            Self::Ext => "ext",
            Self::Lsm => "lsm",
            Self::SkLookup => "sk_lookup",
            Self::Syscall => "syscall",
            Self::Netfilter => "netfilter",
        }
    }
}
