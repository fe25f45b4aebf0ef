//! Contexts of program types that are about neither a `__sk_buff` nor a socket.

use bpf_object::AttachType as A;

use super::field::{ANY, Field, Gives, Layout, field, narrow, pointer, word};
use crate::limits::MAX_SYSCALL_CTX;

/// `struct xdp_md`.
#[rustfmt::skip]
static XDP_FIELDS: [Field; 6] = [
    word("data", 0).gives(Gives::Packet),
    word("data_end", 4).gives(Gives::PacketEnd),
    word("data_meta", 8).gives(Gives::PacketMeta),
    word("ingress_ifindex", 12),
    word("rx_queue_index", 16),
    word("egress_ifindex", 20).only(&[A::XdpDevmap]),
];

pub(crate) static XDP: Layout = Layout { fields: &XDP_FIELDS, hidden: &[], writable: &[] };

/// `struct bpf_cgroup_dev_ctx`.
#[rustfmt::skip]
static CGROUP_DEVICE_FIELDS: [Field; 3] = [narrow("access_type", 0), word("major", 4), word("minor", 8)];

pub(crate) static CGROUP_DEVICE: Layout =
    Layout { fields: &CGROUP_DEVICE_FIELDS, hidden: &[], writable: &[] };

/// `struct bpf_sysctl`.
#[rustfmt::skip]
static SYSCTL_FIELDS: [Field; 2] = [narrow("write", 0), narrow("file_pos", 4).store(4)];

pub(crate) static SYSCTL: Layout = Layout { fields: &SYSCTL_FIELDS, hidden: &[], writable: &["file_pos"] };

/// `struct bpf_nf_ctx`.
#[rustfmt::skip]
static NETFILTER_FIELDS: [Field; 2] = [
    pointer("state", 0, Gives::Kernel("nf_hook_state")),
    pointer("skb", 8, Gives::Kernel("sk_buff")),
];

pub(crate) static NETFILTER: Layout = Layout { fields: &NETFILTER_FIELDS, hidden: &[], writable: &[] };

static LIRC_MODE2_FIELDS: [Field; 1] = [word("sample", 0)];

pub(crate) static LIRC_MODE2: Layout = Layout { fields: &LIRC_MODE2_FIELDS, hidden: &[], writable: &[] };

/// Whatever `bpf(BPF_PROG_RUN)` is given. The last byte that may be addressed is one short of 64 KiB, except as the
/// end of a longer number.
#[rustfmt::skip]
static SYSCALL_FIELDS: [Field; 2] = [
    field("bytes", 0, MAX_SYSCALL_CTX, 1).store(1),
    field("numbers", 0, MAX_SYSCALL_CTX + 1, 2 + 4 + 8).store(2 + 4 + 8),
];

pub(crate) static SYSCALL: Layout =
    Layout { fields: &SYSCALL_FIELDS, hidden: &[], writable: &["bytes", "numbers"] };

/// `sizeof(struct pt_regs)` on x86-64.
const PT_REGS_BYTES: u32 = 168;

/// `struct pt_regs`.
static KPROBE_FIELDS: [Field; 1] = [field("pt_regs", 0, PT_REGS_BYTES, ANY)];

pub(crate) static KPROBE: Layout = Layout { fields: &KPROBE_FIELDS, hidden: &[], writable: &[] };

/// `struct bpf_perf_event_data`.
#[rustfmt::skip]
static PERF_EVENT_FIELDS: [Field; 3] = [
    field("regs", 0, PT_REGS_BYTES, 8),
    field("sample_period", PT_REGS_BYTES, 8, ANY),
    field("addr", PT_REGS_BYTES + 8, 8, ANY),
];

pub(crate) static PERF_EVENT: Layout = Layout { fields: &PERF_EVENT_FIELDS, hidden: &[], writable: &[] };

/// Bytes of the largest tracepoint record (`PERF_MAX_TRACE_SIZE`).
const MAX_TRACE_BYTES: u32 = 8192;

/// A tracepoint's record behind the kernel's private pointer. Linux admits accesses in front of the record, too, by a
/// comparison of its offset that is unsigned by mistake.
static TRACEPOINT_FIELDS: [Field; 1] = [field("record", 8, MAX_TRACE_BYTES - 8, ANY)];

pub(crate) static TRACEPOINT: Layout = Layout { fields: &TRACEPOINT_FIELDS, hidden: &[], writable: &[] };

/// Most arguments of a traced kernel function (`MAX_BPF_FUNC_ARGS`).
const MAX_FUNC_ARGS: u32 = 12;

static RAW_TRACEPOINT_FIELDS: [Field; 1] = [field("args", 0, 8 * MAX_FUNC_ARGS, ANY)];

pub(crate) static RAW_TRACEPOINT: Layout =
    Layout { fields: &RAW_TRACEPOINT_FIELDS, hidden: &[], writable: &[] };

/// The first argument is a buffer the program may change. Linux looks at the argument's first byte only: parts of the
/// pointer behind it are numbers.
#[rustfmt::skip]
static RAW_TRACEPOINT_WRITABLE_FIELDS: [Field; 2] = [
    pointer("buffer", 0, Gives::TpBuffer),
    field("args", 1, 8 * MAX_FUNC_ARGS - 1, ANY),
];

pub(crate) static RAW_TRACEPOINT_WRITABLE: Layout =
    Layout { fields: &RAW_TRACEPOINT_WRITABLE_FIELDS, hidden: &[], writable: &[] };
