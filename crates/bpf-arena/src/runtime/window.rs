//! Arena accesses by window offset, in the terms of the instruction set.

use isa::{AtomicOp, Size};
use sys::Width;
use sys::window::Window;

/// An atomic read-modify-write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rmw {
    /// What to do.
    pub(crate) op: AtomicOp,
    /// With what.
    pub(crate) operand: u64,
    /// What `CmpXchg` compares with.
    pub(crate) expected: u64,
}

/// When an access happens in relation to others of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Whenever.
    Relaxed,
    /// `load_acquire` and `store_release`.
    Ordered,
}

/// Loads from `at`, an offset in the window or its guards; `None` if the page is missing.
pub(crate) fn load(window: &Window, at: i64, size: Size, order: Order) -> Option<u64> {
    let (ptr, offset) = split(at)?;
    match order {
        Order::Relaxed => window.load(ptr, offset, width(size)).ok(),
        Order::Ordered => window.load_acquire(ptr, offset, width(size)).ok(),
    }
}

/// Stores to `at`; `None` if the page is missing.
pub(crate) fn store(window: &Window, at: i64, size: Size, value: u64, order: Order) -> Option<()> {
    let (ptr, offset) = split(at)?;
    match order {
        Order::Relaxed => window.store(ptr, offset, width(size), value).ok(),
        Order::Ordered => window.store_release(ptr, offset, width(size), value).ok(),
    }
}

/// Reads, modifies and writes at `at`; the old value, `None` if the page is missing.
pub(crate) fn atomic(window: &Window, at: i64, size: Size, operation: Rmw) -> Option<u64> {
    let (ptr, offset) = split(at)?;
    let op = match operation.op {
        AtomicOp::Add => sys::AtomicOp::Add,
        AtomicOp::Or => sys::AtomicOp::Or,
        AtomicOp::And => sys::AtomicOp::And,
        AtomicOp::Xor => sys::AtomicOp::Xor,
        AtomicOp::Xchg => sys::AtomicOp::Xchg,
        AtomicOp::CmpXchg => sys::AtomicOp::CmpXchg { expected: operation.expected },
    };
    window.atomic(ptr, offset, width(size), op, operation.operand).ok()
}

/// A window offset as a 32-bit pointer and an instruction's offset; `None` if no instruction reaches it.
fn split(at: i64) -> Option<(u32, i16)> {
    let ptr = u32::try_from(at.clamp(0, i64::from(u32::MAX))).ok()?;
    Some((ptr, i16::try_from(at - i64::from(ptr)).ok()?))
}

fn width(size: Size) -> Width {
    match size {
        Size::B => Width::B1,
        Size::H => Width::B2,
        Size::W => Width::B4,
        Size::DW => Width::B8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_an_instruction_can_reach_is_split() {
        assert_eq!(split(0), Some((0, 0)));
        assert_eq!(split(-1), Some((0, -1)));
        assert_eq!(split(-32768), Some((0, -32768)));
        assert_eq!(split(-32769), None);
        assert_eq!(split(0xffff_ffff), Some((u32::MAX, 0)));
        assert_eq!(split(0xffff_ffff + 32767), Some((u32::MAX, 32767)));
        assert_eq!(split(0xffff_ffff + 32768), None);
    }
}
