//! Every limit of verification in one place. Values are the running kernel's unless a line says otherwise.

/// Instructions walked over all paths before a program counts as too complex (`BPF_COMPLEXITY_LIMIT_INSNS`).
pub const MAX_WALKED: u64 = 1_000_000;
/// The same, with what was walked before verification started over. Ours.
pub const MAX_WALKED_IN_ALL: u64 = 4 * MAX_WALKED;
/// Instructions a program may have (privileged loads).
pub const MAX_INSNS: usize = 1_000_000;
/// Bytes of stack of a whole call chain (`MAX_BPF_STACK`).
pub const MAX_STACK: u32 = 512;
/// Frames of a call chain (`MAX_CALL_FRAMES`).
pub const MAX_FRAMES: usize = 8;
/// Subprograms of a program (`BPF_MAX_SUBPROGS`).
pub const MAX_SUBPROGS: usize = 256;
/// Branches waiting to be explored (`BPF_COMPLEXITY_LIMIT_JMP_SEQ`).
pub const MAX_PENDING: usize = 8192;
/// Jumps and accesses to the stack after which a state is saved at the next opportunity (as the kernel does, so that its
/// history of them stays short).
pub const MAX_HISTORY: u32 = 40;
/// Largest fixed offset of a pointer, both ways (`BPF_MAX_VAR_OFF`).
pub const MAX_OFFSET: i64 = 1 << 29;
/// Largest size of a variable-sized helper argument (`BPF_MAX_VAR_SIZ`).
pub const MAX_SIZE_ARG: u64 = 1 << 29;
/// Distinct maps a program may use (`MAX_USED_MAPS`).
pub const MAX_USED_MAPS: usize = 64;
/// Distinct kernel functions a program may call (`MAX_KFUNC_DESCS`).
pub const MAX_KFUNCS: usize = 256;
/// Highest context offset a `SEC("syscall")` program may touch (`U16_MAX`, the bound of `BPF_PROG_TEST_RUN`).
pub const MAX_SYSCALL_CTX: u32 = 65_535;
/// Bytes of explored states, and of what is kept of their values' origins, held at once. Ours: the kernel is bounded by
/// its memory controller.
pub const MAX_STATE_BYTES: usize = 512 << 20;
/// Times verification is started over because one instruction turned out to work on arena pointers on one path and
/// on numbers on another. Ours.
pub const MAX_RESTARTS: u32 = 32;
/// `bpf_get_smp_processor_id` gives a number below this, so that arrays of `NR_CPUS` elements can be indexed with it; a run
/// time with more processors folds them. Ours: the kernel's is the number of possible processors.
pub const CPUS: u32 = 256;
/// Highest offset into a packet that can be reasoned about (`MAX_PACKET_OFF`).
pub const MAX_PACKET_OFFSET: u64 = 0xffff;
