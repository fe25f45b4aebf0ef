//! `bpf_iter_num_*`: the iterator behind `bpf_for`.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::registry::{Row, rows};
use super::{E2BIG, EINVAL, Invocation, errno32, low32};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    None, "bpf_iter_num_new" => num_new;
    None, "bpf_iter_num_next" => num_next;
    None, "bpf_iter_num_destroy" => num_destroy;
};

/// Most iterations of one iterator and of one `bpf_loop` (`BPF_MAX_LOOPS`).
pub(super) const MAX_LOOPS: u32 = 8 << 20;

/// The kernel's `struct bpf_iter_num_kern { int cur; int end; }` on the program's stack.
struct Num<'m> {
    current: Place<'m>,
    end: Place<'m>,
}

impl<'m> Num<'m> {
    fn at(run: &Invocation<'m>, address: u64) -> Result<Self, TrapKind> {
        run.memory(address, 8, true)?;
        Ok(Self {
            current: run.memory(address, 4, true)?,
            end: run.memory(address.wrapping_add(4), 4, true)?,
        })
    }

    fn set(&self, current: i32, end: i32) {
        self.current.store(Size::W, u64::from(current.cast_unsigned()), Relaxed);
        self.end.store(Size::W, u64::from(end.cast_unsigned()), Relaxed);
    }

    fn get(&self) -> (i32, i32) {
        let word = |place: &Place<'_>| low32(place.load(Size::W, Relaxed)).cast_signed();
        (word(&self.current), word(&self.end))
    }
}

/// `int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end)`.
fn num_new(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, start, end, _, _] = args;
    let num = Num::at(run, it)?;
    let (start, end) = (low32(start).cast_signed(), low32(end).cast_signed());
    num.set(0, 0);
    if start > end {
        return Ok(errno32(EINVAL));
    }
    if i64::from(end) - i64::from(start) > i64::from(MAX_LOOPS) {
        return Ok(errno32(E2BIG));
    }
    num.set(start.wrapping_sub(1), end);
    Ok(0)
}

/// `int *bpf_iter_num_next(struct bpf_iter_num *it)`: the current number's address, NULL at the end.
fn num_next(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, ..] = args;
    let num = Num::at(run, it)?;
    let (current, end) = num.get();
    let next = current.wrapping_add(1);
    // `start - 1` wraps for the least start.
    if next >= end || run.must_end() {
        num.set(0, 0);
        return Ok(0);
    }
    num.set(next, end);
    Ok(it)
}

/// `void bpf_iter_num_destroy(struct bpf_iter_num *it)`.
fn num_destroy(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [it, ..] = args;
    Num::at(run, it)?.set(0, 0);
    Ok(0)
}
