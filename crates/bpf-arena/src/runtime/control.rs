//! Callbacks, and the kfuncs that mean nothing outside of the kernel.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::iterate::MAX_LOOPS;
use super::registry::{Row, rows};
use super::{E2BIG, EINVAL, Invocation, Leave, errno, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(181), "bpf_loop" => bpf_loop;
    Some(12), "bpf_tail_call" => tail_call;
    None, "bpf_throw" => throw;
    None, "bpf_local_irq_restore" => irq_restore;
    None, "bpf_local_irq_save" => irq_save;
    None, "bpf_preempt_disable" => nothing;
    None, "bpf_preempt_enable" => nothing;
    None, "bpf_rcu_read_lock" => nothing;
    None, "bpf_rcu_read_unlock" => nothing;
};

/// `bpf_preempt_disable` and `enable`, `bpf_rcu_read_lock` and `unlock`: a thread of this process can always be
/// preempted, and memory of a run lives as long as the run. Verification sees to it that they are paired.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn nothing(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(0)
}

/// Most tail calls of a run (`MAX_TAIL_CALL_CNT`).
const MAX_TAIL_CALLS: u32 = 33;

/// `long bpf_tail_call(void *ctx, struct bpf_map *prog_array_map, u32 index)`: runs another program in place of the calling
/// function; goes on behind the call if there is no such program, there have been too many, or the run is to end.
fn tail_call(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [ctx, map, index, ..] = args;
    let map = run.map("bpf_tail_call", 2, map)?;
    let may_go_on = run.tail_calls < MAX_TAIL_CALLS && !run.must_end();
    let Some(target) = map.program_at(low32(index)).filter(|_| may_go_on) else {
        return Ok(0);
    };
    run.tail_calls += 1;
    let result = run.enter_program(target, ctx);
    run.leave = Some(Leave::Function);
    Ok(result)
}

/// `void bpf_throw(u64 cookie)`: leaves the program, through every function.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn throw(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    run.leave = Some(Leave::Program(args[0]));
    Ok(0)
}

/// What is kept of a processor on which interrupts were on (`X86_EFLAGS_IF`).
const INTERRUPTS_ON: u64 = 1 << 9;

/// `void bpf_local_irq_save(unsigned long *flags__irq_flag)`: no interrupt ever comes between instructions of a run.
fn irq_save(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    run.memory(args[0], 8, true)?.store(Size::DW, INTERRUPTS_ON, Relaxed);
    Ok(0)
}

/// `void bpf_local_irq_restore(unsigned long *flags__irq_flag)`.
fn irq_restore(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    run.memory(args[0], 8, false).map(|_| 0)
}

/// `long bpf_loop(u32 nr_loops, void *callback_fn, void *callback_ctx, u64 flags)`: the number of iterations done.
fn bpf_loop(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [count, callback, context, flags, _] = args;
    let count = low32(count);
    if flags != 0 {
        return Ok(errno(EINVAL));
    }
    if count > MAX_LOOPS {
        return Ok(errno(E2BIG));
    }
    for index in 0..count {
        if run.must_end() {
            return Ok(u64::from(index));
        }
        match run.call_back(callback, [u64::from(index), context, 0, 0, 0]) {
            Some(0) => {}
            Some(_) => return Ok(u64::from(index) + 1),
            None => return Ok(u64::from(index)),
        }
    }
    Ok(u64::from(count))
}
