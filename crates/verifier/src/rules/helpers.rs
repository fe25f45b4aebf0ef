//! Helpers: arguments, results and where they may be called (`bpf-helpers(7)`, `struct bpf_func_proto`).

/// What a helper wants in one register; registers a row does not name may hold anything, even nothing. The names are the kernel's (`enum bpf_arg_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// `ARG_ANYTHING`.
    Anything,
    /// `ARG_CONST_MAP_PTR`.
    ConstMap,
    /// `ARG_PTR_TO_MAP_KEY`: as many readable bytes as the map's key has.
    MapKey,
    /// `ARG_PTR_TO_MAP_VALUE`: as many readable bytes as the map's value has.
    MapValue,
    /// `ARG_PTR_TO_MEM | MEM_RDONLY`: readable bytes, as many as the next argument says.
    Mem,
    /// The same, or NULL.
    MemOrNull,
    /// `ARG_PTR_TO_UNINIT_MEM`: writable bytes, as many as the next argument says.
    UninitMem,
    /// The same, or NULL.
    UninitMemOrNull,
    /// `ARG_PTR_TO_CONST_STR`: a string in a read-only data section.
    ConstString,
    /// `ARG_CONST_SIZE`: a bounded size above 0.
    Size,
    /// `ARG_CONST_SIZE_OR_ZERO`.
    SizeOrZero,
    /// `ARG_PTR_TO_FUNC`: a static subprogram.
    Func,
    /// `ARG_PTR_TO_STACK_OR_NULL`.
    StackOrNull,
    /// `ARG_PTR_TO_SPIN_LOCK`.
    SpinLock,
}

/// What a helper leaves in `R0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ret {
    /// `RET_INTEGER`.
    Integer,
    /// An integer known to lie in this (signed) range.
    Range(i64, i64),
    /// `RET_VOID`.
    Void,
    /// `RET_PTR_TO_MAP_VALUE_OR_NULL`, of the map given as an argument.
    MapValueOrNull,
}

/// What a helper does besides, where the table cannot say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Takes the spin lock in `R1`.
    Lock,
    /// Gives it back.
    Unlock,
    /// Calls the function in `R2` up to `R1` times.
    Loop,
}

/// How a helper calls back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Callback {
    /// Registers the callback starts with.
    pub(crate) args: &'static [CallbackArg],
    /// What it may return.
    pub(crate) returns: (i64, i64),
}

/// A register at the start of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallbackArg {
    /// Any number.
    Number,
    /// The helper's `R3`: the caller's private pointer.
    Context,
}

/// A helper.
#[derive(Debug)]
pub(crate) struct Helper {
    /// `enum bpf_func_id`.
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) args: &'static [Arg],
    pub(crate) ret: Ret,
    /// `gpl_only`: needs a GPL-compatible licence.
    pub(crate) gpl: bool,
    pub(crate) effect: Effect,
}

/// The helper with this number, if there are rules for it.
pub(crate) fn find(number: u32) -> Option<&'static Helper> {
    HELPERS.iter().find(|h| h.number == number)
}

/// `long (*callback)(u64 index, void *ctx)` of `bpf_loop`: 0 goes on, 1 stops.
pub(crate) static LOOP_CALLBACK: Callback =
    Callback { args: &[CallbackArg::Number, CallbackArg::Context], returns: (0, 1) };

const fn helper(number: u32, name: &'static str, args: &'static [Arg], ret: Ret) -> Helper {
    Helper { number, name, args, ret, gpl: false, effect: Effect::None }
}

#[rustfmt::skip]
static HELPERS: [Helper; 19] = [
    helper(1, "bpf_map_lookup_elem", &[Arg::ConstMap, Arg::MapKey], Ret::MapValueOrNull),
    helper(2, "bpf_map_update_elem", &[Arg::ConstMap, Arg::MapKey, Arg::MapValue, Arg::Anything], Ret::Integer),
    helper(3, "bpf_map_delete_elem", &[Arg::ConstMap, Arg::MapKey], Ret::Integer),
    helper(5, "bpf_ktime_get_ns", &[], Ret::Integer),
    Helper { gpl: true,
        ..helper(6, "bpf_trace_printk", &[Arg::Mem, Arg::Size], Ret::Integer) },
    helper(7, "bpf_get_prandom_u32", &[], Ret::Integer),
    helper(8, "bpf_get_smp_processor_id", &[], Ret::Range(0, MAX_CPU)),
    helper(14, "bpf_get_current_pid_tgid", &[], Ret::Integer),
    helper(15, "bpf_get_current_uid_gid", &[], Ret::Integer),
    helper(16, "bpf_get_current_comm", &[Arg::UninitMem, Arg::Size], Ret::Integer),
    Helper { effect: Effect::Lock, ..helper(93, "bpf_spin_lock", &[Arg::SpinLock], Ret::Void) },
    Helper { effect: Effect::Unlock, ..helper(94, "bpf_spin_unlock", &[Arg::SpinLock], Ret::Void) },
    Helper { gpl: true, ..helper(113, "bpf_probe_read_kernel", &[Arg::UninitMem, Arg::SizeOrZero, Arg::Anything], Ret::Integer) },
    helper(118, "bpf_jiffies64", &[], Ret::Integer),
    helper(125, "bpf_ktime_get_boot_ns", &[], Ret::Integer),
    helper(160, "bpf_ktime_get_coarse_ns", &[], Ret::Integer),
    Helper { gpl: true,
        ..helper(165, "bpf_snprintf", &[Arg::UninitMemOrNull, Arg::SizeOrZero, Arg::ConstString, Arg::MemOrNull, Arg::SizeOrZero], Ret::Integer) },
    Helper { gpl: true,
        ..helper(177, "bpf_trace_vprintk", &[Arg::Mem, Arg::Size, Arg::MemOrNull, Arg::SizeOrZero], Ret::Integer) },
    Helper { effect: Effect::Loop,
        ..helper(181, "bpf_loop", &[Arg::Anything, Arg::Func, Arg::StackOrNull, Arg::Anything], Ret::Integer) },
];

/// Highest processor number a program is told.
const MAX_CPU: i64 = crate::limits::CPUS as i64 - 1;
