//! How helpers call back: what a callback gets in its registers and what it may return.

/// How a helper calls back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Callback {
    /// The helper's argument that holds the function.
    pub(crate) function: usize,
    /// Registers the callback starts with, from `R1` on.
    pub(crate) args: &'static [CallbackArg],
    /// What it may return.
    pub(crate) returns: (i32, i32),
    /// Called later, on a stack of its own.
    pub(crate) later: bool,
    /// May sleep, whatever the program may.
    pub(crate) sleeps: bool,
}

/// A register at the start of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallbackArg {
    /// Any number.
    Number,
    /// What the caller has in this argument register, counted from 0.
    Argument(usize),
    /// The map that the caller's first argument is, or is a value of.
    Map,
    /// A key of that map.
    MapKey,
    /// A value of that map.
    MapValue,
    /// A structure of the kernel.
    Kernel(&'static str),
    /// A dynptr that the helper made.
    Dynptr,
    /// A node of the tree that the caller's first argument is.
    Node,
}

/// `long (*callback)(u64 index, void *ctx)` of `bpf_loop`: 0 goes on, 1 stops.
pub(crate) static LOOP: Callback = Callback {
    function: 1,
    args: &[CallbackArg::Number, CallbackArg::Argument(2)],
    returns: (0, 1),
    later: false,
    sleeps: false,
};

/// `long (*callback)(struct bpf_map *, const void *key, void *value, void *ctx)` of `bpf_for_each_map_elem`.
pub(crate) static ELEMENT: Callback = Callback {
    function: 1,
    args: &[CallbackArg::Argument(0), CallbackArg::MapKey, CallbackArg::MapValue, CallbackArg::Argument(2)],
    returns: (0, 1),
    later: false,
    sleeps: false,
};

/// `int (*callback)(struct bpf_map *, void *key, void *value)` of `bpf_timer_set_callback`; the value has the timer.
pub(crate) static TIMER: Callback = Callback {
    function: 1,
    args: &[CallbackArg::Map, CallbackArg::MapKey, CallbackArg::MapValue],
    returns: (0, 0),
    later: true,
    sleeps: false,
};

/// `long (*callback)(struct task_struct *, struct vm_area_struct *, void *ctx)` of `bpf_find_vma`.
pub(crate) static AREA: Callback = Callback {
    function: 2,
    args: &[CallbackArg::Argument(0), CallbackArg::Kernel("vm_area_struct"), CallbackArg::Argument(3)],
    returns: (0, 1),
    later: false,
    sleeps: false,
};

/// `long (*callback)(const struct bpf_dynptr *, void *ctx)` of `bpf_user_ringbuf_drain`.
pub(crate) static RECORD: Callback = Callback {
    function: 1,
    args: &[CallbackArg::Dynptr, CallbackArg::Argument(2)],
    returns: (0, 1),
    later: false,
    sleeps: false,
};
