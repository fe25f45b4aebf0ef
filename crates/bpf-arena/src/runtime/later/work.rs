//! `bpf_wq`: callbacks as soon as possible, in a context that may sleep.

use verifier::fields::Tag;

use super::Later;
use crate::error::TrapKind;
use crate::runtime::registry::{Row, rows};
use crate::runtime::{EINVAL, Invocation, errno32, low32};

pub(in crate::runtime) static ROWS: &[Row] = rows! {
    None, "bpf_wq_init" => init;
    None, "bpf_wq_set_callback_impl" => set_callback;
    None, "bpf_wq_start" => start;
};

/// The work queues of the process.
pub(in crate::runtime) static WORK: Later = Later::new(Tag::Wq, "bpf-work");

/// `int bpf_wq_init(struct bpf_wq *wq, void *map, unsigned int flags)`: `-EBUSY` if it was.
fn init(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [queue, map, flags, ..] = args;
    run.memory(queue, 16, true)?;
    if low32(flags) != 0 {
        return Ok(errno32(EINVAL));
    }
    Ok(WORK.init(run, queue, map, 0).map_or_else(errno32, |()| 0))
}

/// `int bpf_wq_set_callback_impl(struct bpf_wq *wq, int (*callback)(void *map, int *key, void *value), unsigned int flags,
/// void *aux)`.
fn set_callback(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [queue, function, flags, ..] = args;
    run.memory(queue, 16, true)?;
    if low32(flags) != 0 {
        return Ok(errno32(EINVAL));
    }
    Ok(WORK.set_callback(run, queue, function).map_or_else(errno32, |()| 0))
}

/// `int bpf_wq_start(struct bpf_wq *wq, unsigned int flags)`: nothing new if it waits for its turn.
fn start(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [queue, flags, ..] = args;
    run.memory(queue, 16, true)?;
    if low32(flags) != 0 {
        return Ok(errno32(EINVAL));
    }
    Ok(WORK.start(queue, 0, None, true).map_or_else(errno32, |()| 0))
}
