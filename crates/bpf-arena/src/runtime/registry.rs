//! The tables of helpers and kfuncs, and what else generated code may call.

use bpf_object::Program;
use codegen::Import;
use codegen::abi::RuntimeFn;
use isa::{AtomicOp, InsnIdx, Size};

use super::{Invocation, Order, Rmw, low32};
use super::{arena, control, environment, iterate, map, print};
use crate::enter::{self, Callee};
use crate::error::TrapKind;

/// A function that programs may call.
pub(crate) struct Row {
    /// Its name in the kernel.
    pub(crate) name: &'static str,
    /// Number of a helper (`enum bpf_func_id`); `None` for a kfunc.
    pub(crate) number: Option<u32>,
    /// Calls it from Rust.
    pub(crate) call: fn(&mut Invocation<'_>, [u64; 5]) -> u64,
    /// Calls it from generated code.
    pub(crate) entry: RuntimeFn,
}

/// Gives a function a type, so that a trampoline of its own can be made for it.
macro_rules! callee {
    ($name:expr, $function:expr) => {{
        struct This;
        impl Callee for This {
            const NAME: &'static str = $name;
            fn call(invocation: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
                $function(invocation, args)
            }
        }
        (
            enter::call::<This> as fn(&mut Invocation<'_>, [u64; 5]) -> u64,
            enter::trampoline::<This> as RuntimeFn,
        )
    }};
}

macro_rules! rows {
    ($($number:expr, $name:literal => $function:path;)*) => {
        &[$({
            const ENTRIES: (fn(&mut Invocation<'_>, [u64; 5]) -> u64, RuntimeFn) = callee!($name, $function);
            Row { name: $name, number: $number, call: ENTRIES.0, entry: ENTRIES.1 }
        },)*]
    };
}

static HELPERS: &[Row] = rows! {
    Some(1), "bpf_map_lookup_elem" => map::lookup;
    Some(2), "bpf_map_update_elem" => map::update;
    Some(3), "bpf_map_delete_elem" => map::delete;
    Some(5), "bpf_ktime_get_ns" => environment::ktime;
    Some(6), "bpf_trace_printk" => print::trace_printk;
    Some(7), "bpf_get_prandom_u32" => environment::prandom;
    Some(8), "bpf_get_smp_processor_id" => environment::processor;
    Some(14), "bpf_get_current_pid_tgid" => environment::pid_tgid;
    Some(15), "bpf_get_current_uid_gid" => environment::uid_gid;
    Some(16), "bpf_get_current_comm" => environment::comm;
    Some(93), "bpf_spin_lock" => control::spin_lock;
    Some(94), "bpf_spin_unlock" => control::spin_unlock;
    Some(113), "bpf_probe_read_kernel" => environment::probe_read;
    Some(125), "bpf_ktime_get_boot_ns" => environment::ktime_boot;
    Some(160), "bpf_ktime_get_coarse_ns" => environment::ktime_coarse;
    Some(165), "bpf_snprintf" => print::snprintf;
    Some(177), "bpf_trace_vprintk" => print::trace_vprintk;
    Some(181), "bpf_loop" => control::bpf_loop;
};

static KFUNCS: &[Row] = rows! {
    None, "bpf_arena_alloc_pages" => arena::alloc_pages;
    None, "bpf_arena_free_pages" => arena::free_pages;
    None, "bpf_arena_reserve_pages" => arena::reserve_pages;
    None, "bpf_iter_num_new" => iterate::num_new;
    None, "bpf_iter_num_next" => iterate::num_next;
    None, "bpf_iter_num_destroy" => iterate::num_destroy;
    None, "bpf_preempt_disable" => control::nothing;
    None, "bpf_preempt_enable" => control::nothing;
    None, "bpf_rcu_read_lock" => control::nothing;
    None, "bpf_rcu_read_unlock" => control::nothing;
    // Linux 6.18 renamed it.
    None, "bpf_stream_vprintk" => print::stream_vprintk;
    None, "bpf_stream_vprintk_impl" => print::stream_vprintk;
};

/// The helper with this number.
pub(crate) fn helper(number: u32) -> Option<&'static Row> {
    HELPERS.iter().find(|row| row.number == Some(number))
}

/// The kfunc with this name.
pub(crate) fn kfunc(name: &str) -> Option<&'static Row> {
    KFUNCS.iter().find(|row| row.name == name)
}

/// What generated code is to call for an import.
pub(crate) fn import(import: Import, program: &Program) -> Option<RuntimeFn> {
    match import {
        Import::Helper(number) => helper(number).map(|row| row.entry),
        Import::Kfunc(index) => kfunc(&program.externs.get(index as usize)?.name).map(|row| row.entry),
        Import::LoopBudget => Some(callee!("may_goto", loop_budget).1),
        Import::ArenaLoad(size) => Some(match size {
            Size::B => callee!("arena load", |run, args| load(run, args, Size::B)).1,
            Size::H => callee!("arena load", |run, args| load(run, args, Size::H)).1,
            Size::W => callee!("arena load", |run, args| load(run, args, Size::W)).1,
            Size::DW => callee!("arena load", |run, args| load(run, args, Size::DW)).1,
        }),
        Import::ArenaStore(size) => Some(match size {
            Size::B => callee!("arena store", |run, args| store(run, args, Size::B)).1,
            Size::H => callee!("arena store", |run, args| store(run, args, Size::H)).1,
            Size::W => callee!("arena store", |run, args| store(run, args, Size::W)).1,
            Size::DW => callee!("arena store", |run, args| store(run, args, Size::DW)).1,
        }),
        Import::ArenaAtomic(Size::W, op) => Some(arena_atomic::<true>(op)),
        Import::ArenaAtomic(Size::DW, op) => Some(arena_atomic::<false>(op)),
        _ => None,
    }
}

fn arena_atomic<const NARROW: bool>(op: AtomicOp) -> RuntimeFn {
    /// One type per operation and width, as a trampoline needs.
    struct Atomic<const NARROW: bool, const OP: u8>;
    const OPS: [AtomicOp; 6] =
        [AtomicOp::Add, AtomicOp::Or, AtomicOp::And, AtomicOp::Xor, AtomicOp::Xchg, AtomicOp::CmpXchg];
    impl<const NARROW: bool, const OP: u8> Callee for Atomic<NARROW, OP> {
        const NAME: &'static str = "arena atomic";
        fn call(invocation: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
            let [at, operand, insn, expected, missing] = args;
            let op = OPS.get(usize::from(OP)).copied().unwrap_or(AtomicOp::Add);
            let size = if NARROW { Size::W } else { Size::DW };
            let operation = Rmw { op, operand, expected };
            let old = invocation.arena_atomic(at.cast_signed(), size, operation, InsnIdx(low32(insn)));
            Ok(old.unwrap_or(missing))
        }
    }
    match op {
        AtomicOp::Add => enter::trampoline::<Atomic<NARROW, 0>>,
        AtomicOp::Or => enter::trampoline::<Atomic<NARROW, 1>>,
        AtomicOp::And => enter::trampoline::<Atomic<NARROW, 2>>,
        AtomicOp::Xor => enter::trampoline::<Atomic<NARROW, 3>>,
        AtomicOp::Xchg => enter::trampoline::<Atomic<NARROW, 4>>,
        AtomicOp::CmpXchg => enter::trampoline::<Atomic<NARROW, 5>>,
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn loop_budget(invocation: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(invocation.loop_budget())
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn load(invocation: &mut Invocation<'_>, args: [u64; 5], size: Size) -> Result<u64, TrapKind> {
    let [at, _, insn, _, _] = args;
    Ok(invocation.arena_load(at.cast_signed(), size, Order::Ordered, InsnIdx(low32(insn))))
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn store(invocation: &mut Invocation<'_>, args: [u64; 5], size: Size) -> Result<u64, TrapKind> {
    let [at, value, insn, _, _] = args;
    invocation.arena_store(at.cast_signed(), size, value, Order::Ordered, InsnIdx(low32(insn)));
    Ok(0)
}
