//! `bpf_cpumask_*`: sets of virtual CPUs.
//!
//! A mask is words of bits, least CPU first, as in the kernel; programs may look into them. Those that programs make are objects
//! of the heap with a count of references. Functions that only read take any mask, among them those of tasks: what is not there
//! reads as no CPUs. As in the kernel, operations on whole masks may leave bits behind the last CPU, which none of them looks at.

use std::sync::atomic::{AtomicU32, Ordering};

use isa::{AtomicOp, Size};

use super::heap::{Layout, Object, heap};
use super::release::{acquire, release};
use crate::access::Place;
use crate::cpu;
use crate::error::TrapKind;
use crate::runtime::registry::{Row, rows};
use crate::runtime::{Invocation, errno32, low32};

pub(in crate::runtime) static ROWS: &[Row] = rows! {
    None, "bpf_cpumask_acquire" => acquire_mask;
    None, "bpf_cpumask_and" => and;
    None, "bpf_cpumask_any_and_distribute" => any_and_distribute;
    None, "bpf_cpumask_any_distribute" => any_distribute;
    None, "bpf_cpumask_clear" => clear;
    None, "bpf_cpumask_clear_cpu" => clear_cpu;
    None, "bpf_cpumask_copy" => copy;
    None, "bpf_cpumask_create" => create;
    None, "bpf_cpumask_empty" => empty;
    None, "bpf_cpumask_equal" => equal;
    None, "bpf_cpumask_first" => first;
    None, "bpf_cpumask_first_and" => first_and;
    None, "bpf_cpumask_first_zero" => first_zero;
    None, "bpf_cpumask_full" => full;
    None, "bpf_cpumask_intersects" => intersects;
    None, "bpf_cpumask_or" => or;
    None, "bpf_cpumask_populate" => populate;
    None, "bpf_cpumask_release" => release_mask;
    None, "bpf_cpumask_set_cpu" => set_cpu;
    None, "bpf_cpumask_setall" => set_all;
    None, "bpf_cpumask_subset" => subset;
    None, "bpf_cpumask_test_and_clear_cpu" => test_and_clear_cpu;
    None, "bpf_cpumask_test_and_set_cpu" => test_and_set_cpu;
    None, "bpf_cpumask_test_cpu" => test_cpu;
    None, "bpf_cpumask_weight" => weight;
    None, "bpf_cpumask_xor" => xor;
};

const EACCES: i32 = 13;

/// Bytes of a mask: those of a kernel for 8192 CPUs, so that whatever kernel's types a program was verified with, it finds zeroes
/// behind the CPUs there are.
const MASK_BYTES: u32 = 1024;

/// `struct bpf_cpumask *bpf_cpumask_create(void)`: an empty mask, or NULL.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn create(run: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    let object = heap().and_then(|heap| heap.allocate(Layout::counted(MASK_BYTES)));
    let Some((object, count)) = object.and_then(|object| Some((object, object.refcount()?))) else {
        return Ok(0);
    };
    count.store(Size::W, 1, Ordering::Release);
    run.owned.gain(object.address());
    Ok(object.address())
}

/// `struct bpf_cpumask *bpf_cpumask_acquire(struct bpf_cpumask *cpumask)`: the same mask.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn acquire_mask(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [mask, ..] = args;
    let acquired = Object::find(mask).filter(acquire).map_or(0, |_| mask);
    run.owned.gain(acquired);
    Ok(mask)
}

/// `void bpf_cpumask_release(struct bpf_cpumask *cpumask)`.
fn release_mask(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [mask, ..] = args;
    run.owned.lose(mask);
    let bad = TrapKind::BadArgument { function: "bpf_cpumask_release", argument: 1, value: mask };
    if release(mask) { Ok(0) } else { Err(bad) }
}

/// Number of CPUs.
fn cpus() -> u32 {
    u32::try_from(cpu::possible()).unwrap_or(u32::MAX)
}

/// Words that have a bit for each CPU.
fn words() -> u64 {
    u64::from(cpus().div_ceil(64))
}

/// The bits of a word that stand for CPUs.
fn of_cpus(word: u64) -> u64 {
    match u64::from(cpus()).saturating_sub(word * 64) {
        0 => 0,
        bits @ 1..64 => u64::MAX >> (64 - bits),
        _ => u64::MAX,
    }
}

/// A word of any mask.
fn word(run: &Invocation<'_>, mask: u64, index: u64) -> u64 {
    run.guarded_load(mask.wrapping_add(index * 8), Size::DW)
}

/// The words of a mask, bits behind the last CPU aside.
fn bits<'a>(run: &'a Invocation<'_>, mask: u64) -> impl Iterator<Item = u64> + 'a {
    (0..words()).map(move |index| word(run, mask, index) & of_cpus(index))
}

/// A word of a mask that a program has made.
fn own_word(run: &Invocation<'_>, mask: u64, index: u64) -> Result<Place<'static>, TrapKind> {
    let address = mask.wrapping_add(index * 8);
    let outside = TrapKind::OutOfBounds { address, size: 8, write: true };
    let own = run.memory(address, 8, true).is_ok();
    let object = Object::find(mask).filter(|object| own && object.address() == mask);
    object.and_then(|object| object.place(index * 8, 8)).ok_or(outside)
}

/// The lowest CPU of some words; the number of CPUs if there is none.
fn lowest(bits: impl Iterator<Item = u64>) -> u32 {
    let mut numbered = (0..).zip(bits);
    numbered.find(|(_, word)| *word != 0).map_or(cpus(), |(index, word)| index * 64 + word.trailing_zeros())
}

/// `u32 bpf_cpumask_first(const struct cpumask *cpumask)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn first(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(lowest(bits(run, args[0])).into())
}

/// `u32 bpf_cpumask_first_zero(const struct cpumask *cpumask)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn first_zero(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(lowest((0..).zip(bits(run, args[0])).map(|(index, word)| !word & of_cpus(index))).into())
}

/// `u32 bpf_cpumask_first_and(const struct cpumask *src1, const struct cpumask *src2)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn first_and(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(lowest(both(run, args[0], args[1]).map(|(a, b)| a & b)).into())
}

fn both<'a>(run: &'a Invocation<'_>, a: u64, b: u64) -> impl Iterator<Item = (u64, u64)> + 'a {
    bits(run, a).zip(bits(run, b))
}

/// Changes the bit of one CPU; whether it was set. Nothing, if there is no such CPU.
fn change(run: &Invocation<'_>, args: [u64; 5], set: bool) -> Result<bool, TrapKind> {
    let [cpu, mask, ..] = args;
    let cpu = low32(cpu);
    if cpu >= cpus() {
        return Ok(false);
    }
    let place = own_word(run, mask, u64::from(cpu / 64))?;
    let bit = 1_u64 << (cpu % 64);
    let (op, operand) = if set { (AtomicOp::Or, bit) } else { (AtomicOp::And, !bit) };
    Ok(place.fetch(Size::DW, op, operand, 0).is_some_and(|old| old & bit != 0))
}

/// `void bpf_cpumask_set_cpu(u32 cpu, struct bpf_cpumask *cpumask)`.
fn set_cpu(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    change(run, args, true).map(|_| 0)
}

/// `void bpf_cpumask_clear_cpu(u32 cpu, struct bpf_cpumask *cpumask)`.
fn clear_cpu(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    change(run, args, false).map(|_| 0)
}

/// `bool bpf_cpumask_test_and_set_cpu(u32 cpu, struct bpf_cpumask *cpumask)`.
fn test_and_set_cpu(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    change(run, args, true).map(u64::from)
}

/// `bool bpf_cpumask_test_and_clear_cpu(u32 cpu, struct bpf_cpumask *cpumask)`.
fn test_and_clear_cpu(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    change(run, args, false).map(u64::from)
}

/// `bool bpf_cpumask_test_cpu(u32 cpu, const struct cpumask *cpumask)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn test_cpu(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [cpu, mask, ..] = args;
    let cpu = low32(cpu);
    Ok(if cpu < cpus() { word(run, mask, u64::from(cpu / 64)) >> (cpu % 64) & 1 } else { 0 })
}

/// Overwrites every word of a mask; whether any CPU is in it then.
fn fill(run: &Invocation<'_>, mask: u64, value: impl Fn(u64) -> u64) -> Result<bool, TrapKind> {
    let mut any = false;
    for index in 0..words() {
        let value = value(index);
        own_word(run, mask, index)?.store(Size::DW, value, Ordering::Relaxed);
        any |= value & of_cpus(index) != 0;
    }
    Ok(any)
}

/// `void bpf_cpumask_setall(struct bpf_cpumask *cpumask)`.
fn set_all(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    fill(run, args[0], |_| u64::MAX).map(|_| 0)
}

/// `void bpf_cpumask_clear(struct bpf_cpumask *cpumask)`.
fn clear(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    fill(run, args[0], |_| 0).map(|_| 0)
}

/// `bool bpf_cpumask_and(struct bpf_cpumask *dst, const struct cpumask *src1, const struct cpumask *src2)`: whether the result has
/// any CPU.
fn and(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, a, b, _, _] = args;
    fill(run, dst, |index| word(run, a, index) & word(run, b, index) & of_cpus(index)).map(u64::from)
}

/// `void bpf_cpumask_or(struct bpf_cpumask *dst, const struct cpumask *src1, const struct cpumask *src2)`.
fn or(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, a, b, _, _] = args;
    fill(run, dst, |index| word(run, a, index) | word(run, b, index)).map(|_| 0)
}

/// `void bpf_cpumask_xor(struct bpf_cpumask *dst, const struct cpumask *src1, const struct cpumask *src2)`.
fn xor(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, a, b, _, _] = args;
    fill(run, dst, |index| word(run, a, index) ^ word(run, b, index)).map(|_| 0)
}

/// `void bpf_cpumask_copy(struct bpf_cpumask *dst, const struct cpumask *src)`.
fn copy(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [dst, src, ..] = args;
    fill(run, dst, |index| word(run, src, index)).map(|_| 0)
}

/// `int bpf_cpumask_populate(struct cpumask *cpumask, void *src, size_t src__sz)`: fills a mask from memory, which must have a bit for
/// each CPU.
fn populate(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [mask, src, size, _, _] = args;
    if size < words() * 8 {
        return Ok(errno32(EACCES));
    }
    let src = run.memory(src, words() * 8, false)?.to_vec();
    let (source, _) = src.as_chunks();
    for (index, bytes) in (0..).zip(source) {
        own_word(run, mask, index)?.store(Size::DW, u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
    Ok(0)
}

/// `bool bpf_cpumask_equal(const struct cpumask *src1, const struct cpumask *src2)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn equal(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(both(run, args[0], args[1]).all(|(a, b)| a == b).into())
}

/// `bool bpf_cpumask_intersects(const struct cpumask *src1, const struct cpumask *src2)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn intersects(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(both(run, args[0], args[1]).any(|(a, b)| a & b != 0).into())
}

/// `bool bpf_cpumask_subset(const struct cpumask *src1, const struct cpumask *src2)`: whether the first is part of the second.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn subset(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(both(run, args[0], args[1]).all(|(a, b)| a & !b == 0).into())
}

/// `bool bpf_cpumask_empty(const struct cpumask *cpumask)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn empty(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(bits(run, args[0]).all(|word| word == 0).into())
}

/// `bool bpf_cpumask_full(const struct cpumask *cpumask)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn full(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok((0..).zip(bits(run, args[0])).all(|(index, word)| word == of_cpus(index)).into())
}

/// `u32 bpf_cpumask_weight(const struct cpumask *cpumask)`.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn weight(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(bits(run, args[0]).map(|word| u64::from(word.count_ones())).sum())
}

/// `u32 bpf_cpumask_any_distribute(const struct cpumask *cpumask)`: some CPU of the mask, another one each time.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn any_distribute(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(distribute(&bits(run, args[0]).collect::<Vec<_>>()).into())
}

/// `u32 bpf_cpumask_any_and_distribute(const struct cpumask *src1, const struct cpumask *src2)`: some CPU of both masks.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn any_and_distribute(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(distribute(&both(run, args[0], args[1]).map(|(a, b)| a & b).collect::<Vec<_>>()).into())
}

/// The CPU behind the one that was given last, or the lowest; the number of CPUs if there is none.
fn distribute(words: &[u64]) -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let last = LAST.load(Ordering::Relaxed);
    let behind = (0..).zip(words).map(|(index, word)| match last.checked_sub(index * 64) {
        None => *word,
        Some(at @ 0..63) => word & (u64::MAX << (at + 1)),
        Some(_) => 0,
    });
    let next = match lowest(behind) {
        none if none == cpus() => lowest(words.iter().copied()),
        next => next,
    };
    if next < cpus() {
        LAST.store(next, Ordering::Relaxed);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_take_turns() {
        let mask = of_cpus(0);
        let given: Vec<u32> = (0..2 * cpus().min(64)).map(|_| distribute(&[mask])).collect();
        assert!((0..cpus().min(64)).all(|cpu| given.contains(&cpu)), "{given:?}");
        assert_eq!(distribute(&[0]), cpus());
        assert_eq!(distribute(&[1]), 0);
    }
}
