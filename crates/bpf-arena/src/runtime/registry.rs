//! The tables of helpers and kfuncs, and what else generated code may call.

use std::collections::HashMap;
use std::sync::LazyLock;

use bpf_object::Program;
use codegen::Import;
use codegen::abi::RuntimeFn;
use isa::{AtomicOp, CallTarget, InsnIdx, Size};

use super::hosted::{self, Hosted};
use super::{Invocation, Order, Rmw, low32};
use super::{
    arena, bits, checksum, control, dynptr, environment, foreign, iterate, keyless, later, locks, map,
    memory, objects, packets, perf, print, ringbuf, seq, stack, storage, strings, tasks,
};
use crate::enter::{self, Callee, Trapped};
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
        use $crate::enter::{self, Callee, Trapped};
        struct This;
        impl Callee for This {
            const NAME: &'static str = $name;
            fn call(invocation: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, Trapped> {
                $function(invocation, args).map_err(Trapped::new)
            }
        }
        (
            enter::call::<This> as fn(&mut Invocation<'_>, [u64; 5]) -> u64,
            enter::trampoline::<This> as RuntimeFn,
        )
    }};
}

/// The rows of a room: number (`None` for a kfunc), name, function.
macro_rules! rows {
    ($($number:expr, $name:literal => $function:path;)*) => {
        &[$({
            use $crate::runtime::Invocation;
            use $crate::runtime::registry::{Row, callee};
            use codegen::abi::RuntimeFn;
            const ENTRIES: (fn(&mut Invocation<'_>, [u64; 5]) -> u64, RuntimeFn) = callee!($name, $function);
            Row { name: $name, number: $number, call: ENTRIES.0, entry: ENTRIES.1 }
        },)*]
    };
}

pub(super) use {callee, rows};

/// The rooms that functions live in.
static ROOMS: &[&[Row]] = &[
    arena::ROWS,
    bits::ROWS,
    checksum::ROWS,
    control::ROWS,
    dynptr::ROWS,
    environment::ROWS,
    foreign::ROWS,
    iterate::ROWS,
    keyless::ROWS,
    later::TIMER_ROWS,
    later::WORK_ROWS,
    locks::ROWS,
    map::ROWS,
    memory::ROWS,
    objects::CPUMASK_ROWS,
    objects::ROWS,
    perf::ROWS,
    print::ROWS,
    ringbuf::ROWS,
    stack::ROWS,
    seq::ROWS,
    storage::ROWS,
    strings::ROWS,
    tasks::ROWS,
];

/// Every row, found by number or name.
struct Index {
    helpers: HashMap<u32, &'static Row>,
    kfuncs: HashMap<&'static str, &'static Row>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| Index {
    helpers: every_row().filter_map(|row| Some((row.number?, row))).collect(),
    kfuncs: every_row().filter(|row| row.number.is_none()).map(|row| (row.name, row)).collect(),
});

/// The rows of all rooms.
pub(crate) fn every_row() -> impl Iterator<Item = &'static Row> {
    ROOMS.iter().chain(&packets::ROOMS).copied().flatten()
}

/// The names of the kfuncs.
pub(crate) fn kfuncs() -> impl Iterator<Item = &'static str> {
    every_row().filter(|row| row.number.is_none()).map(|row| row.name)
}

/// The helper with this number.
pub(crate) fn helper(number: u32) -> Option<&'static Row> {
    INDEX.helpers.get(&number).copied()
}

/// The kfunc with this name.
pub(crate) fn kfunc(name: &str) -> Option<&'static Row> {
    INDEX.kfuncs.get(name).copied()
}

/// What generated code is to call for an import.
pub(crate) fn import(import: Import, program: &Program, hosted: &Hosted) -> Option<RuntimeFn> {
    let target = match import {
        Import::Helper(number) => Some(CallTarget::Helper(number)),
        Import::Kfunc(index) => {
            i32::try_from(index).ok().map(|btf_id| CallTarget::Kfunc { btf_id, module: 0 })
        }
        _ => None,
    };
    if let Some(slot) = target.and_then(|target| hosted.slot(target)) {
        return hosted::entry(slot);
    }
    match import {
        Import::Helper(number) => helper(number).map(|row| row.entry),
        Import::Kfunc(index) => kfunc(&program.externs.get(index as usize)?.name).map(|row| row.entry),
        Import::OnMap(number) => on_map(number),
        Import::LoopBudget => Some(callee!("may_goto", loop_budget).1),
        Import::MustEnd => Some(callee!("must end", must_end).1),
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
        Import::GuardedLoad(size) => Some(match size {
            Size::B => callee!("guarded load", |run, args| guarded_load(run, args, Size::B)).1,
            Size::H => callee!("guarded load", |run, args| guarded_load(run, args, Size::H)).1,
            Size::W => callee!("guarded load", |run, args| guarded_load(run, args, Size::W)).1,
            Size::DW => callee!("guarded load", |run, args| guarded_load(run, args, Size::DW)).1,
        }),
        Import::GuardedStore(size) => Some(match size {
            Size::B => callee!("guarded store", |run, args| guarded_store(run, args, Size::B)).1,
            Size::H => callee!("guarded store", |run, args| guarded_store(run, args, Size::H)).1,
            Size::W => callee!("guarded store", |run, args| guarded_store(run, args, Size::W)).1,
            Size::DW => callee!("guarded store", |run, args| guarded_store(run, args, Size::DW)).1,
        }),
        Import::PacketLoad(size) => match size {
            Size::B => Some(callee!("packet load", |run, args| packet_load(run, args, Size::B)).1),
            Size::H => Some(callee!("packet load", |run, args| packet_load(run, args, Size::H)).1),
            Size::W => Some(callee!("packet load", |run, args| packet_load(run, args, Size::W)).1),
            Size::DW => None,
        },
        Import::ArenaAtomic(Size::W, op) => Some(arena_atomic::<true>(op)),
        Import::ArenaAtomic(Size::DW, op) => Some(arena_atomic::<false>(op)),
        _ => None,
    }
}

/// What generated code is to call for a helper on a map that it knows.
fn on_map(helper: u32) -> Option<RuntimeFn> {
    match helper {
        1 => Some(callee!("bpf_map_lookup_elem", map::lookup_known).1),
        2 => Some(callee!("bpf_map_update_elem", map::update_known).1),
        3 => Some(callee!("bpf_map_delete_elem", map::delete_known).1),
        130 => Some(callee!("bpf_ringbuf_output", ringbuf::output_known).1),
        131 => Some(callee!("bpf_ringbuf_reserve", ringbuf::reserve_known).1),
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
        fn call(invocation: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, Trapped> {
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
fn loop_budget(invocation: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(invocation.loop_budget(args[0], InsnIdx(low32(args[1]))))
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn must_end(invocation: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(invocation.end_at(Some(InsnIdx(low32(args[0])))).into())
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn load(invocation: &mut Invocation<'_>, args: [u64; 5], size: Size) -> Result<u64, TrapKind> {
    let [at, _, insn, synchronizing, _] = args;
    Ok(invocation.arena_load(at.cast_signed(), size, order(synchronizing), InsnIdx(low32(insn))))
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn store(invocation: &mut Invocation<'_>, args: [u64; 5], size: Size) -> Result<u64, TrapKind> {
    let [at, value, insn, synchronizing, _] = args;
    invocation.arena_store(at.cast_signed(), size, value, order(synchronizing), InsnIdx(low32(insn)));
    Ok(0)
}

fn order(synchronizing: u64) -> Order {
    if synchronizing == 0 { Order::Relaxed } else { Order::Ordered }
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn guarded_load(invocation: &mut Invocation<'_>, args: [u64; 5], size: Size) -> Result<u64, TrapKind> {
    Ok(invocation.guarded_load(args[0], size))
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn guarded_store(invocation: &mut Invocation<'_>, args: [u64; 5], size: Size) -> Result<u64, TrapKind> {
    invocation.guarded_store(args[0], size, args[1]);
    Ok(0)
}

#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn packet_load(invocation: &mut Invocation<'_>, args: [u64; 5], size: Size) -> Result<u64, TrapKind> {
    /// Says that there are no such bytes: see [`Import::PacketLoad`].
    const MISSING: u64 = 1 << 32;
    Ok(invocation.packet_load(args[0].cast_signed(), size).unwrap_or(MISSING))
}
