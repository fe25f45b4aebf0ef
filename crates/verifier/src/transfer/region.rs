//! Whether an access stays inside a region of known size.

use isa::Reg;

use crate::limits::MAX_OFFSET;
use crate::report::reason::{BoundsFault, Reason};
use crate::state::reg::RegState;

/// A region of so many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) size: u32,
}

impl Region {
    /// Checks `size` bytes at `reg + offset`, over all offsets the register may have.
    pub(super) fn check(self, reg: Reg, pointer: &RegState, offset: i64, size: u64) -> Result<(), Reason> {
        let found = pointer.type_name();
        let fault = |fault, offset| Reason::Bounds { reg, fault, found, region: self.size, offset, size };
        let offset = offset + i64::from(pointer.offset);
        let wide = &pointer.scalar.wide;
        let lowest = offset.saturating_add(wide.smin);
        if wide.smin < 0 && (wide.smin == i64::MIN || i32::try_from(lowest).is_err() || lowest < 0) {
            return Err(fault(BoundsFault::Negative, lowest));
        }
        if !self.holds(lowest, size) {
            return Err(fault(BoundsFault::Min, lowest));
        }
        if wide.umax >= MAX_OFFSET.cast_unsigned() {
            return Err(fault(BoundsFault::Unbounded, offset));
        }
        let highest = offset.saturating_add(wide.umax.cast_signed());
        if !self.holds(highest, size) {
            return Err(fault(BoundsFault::Max, highest));
        }
        Ok(())
    }

    fn holds(self, start: i64, size: u64) -> bool {
        start >= 0 && start.cast_unsigned().checked_add(size).is_some_and(|end| end <= u64::from(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scalar::Scalar;
    use crate::state::reg::RegType;
    use crate::walk::origin::Origin;

    fn at(scalar: Scalar, offset: i32) -> RegState {
        let kind = RegType::PtrToMapValue { map: 0 };
        RegState { scalar, offset, ..RegState::pointer(kind, Origin::NONE) }
    }

    fn check(scalar: Scalar, offset: i32, size: u64) -> Result<(), BoundsFault> {
        Region { size: 16 }.check(Reg::R1, &at(scalar, offset), 0, size).map_err(|e| match e {
            Reason::Bounds { fault, .. } => fault,
            _ => BoundsFault::Max,
        })
    }

    #[test]
    fn every_offset_must_fit() {
        assert_eq!(check(Scalar::ZERO, 8, 8), Ok(()));
        assert!(check(Scalar::ZERO, 9, 8).is_err());
        assert!(check(Scalar::ZERO, -1, 1).is_err());
        assert_eq!(check(Scalar::unsigned(0, 8), 0, 8), Ok(()));
        assert_eq!(check(Scalar::unsigned(0, 9), 0, 8), Err(BoundsFault::Max));
        assert_eq!(check(Scalar::signed(-1, 8), 0, 8), Err(BoundsFault::Negative));
        assert_eq!(check(Scalar::signed(-1, 8), 1, 4), Err(BoundsFault::Unbounded));
        assert_eq!(check(Scalar::UNKNOWN, 0, 1), Err(BoundsFault::Negative));
        assert_eq!(check(Scalar::unsigned(0, u64::MAX >> 1), 0, 1), Err(BoundsFault::Unbounded));
        assert_eq!(check(Scalar::ZERO, 16, 0), Ok(()));
        assert!(check(Scalar::ZERO, 16, u64::MAX).is_err());
    }
}
