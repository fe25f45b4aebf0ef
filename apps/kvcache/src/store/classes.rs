//! Size classes: how large the slots of items are, and how many units a slab of them has.

use crate::layout::{GRAIN, UNIT, value_offset};

/// One class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Bytes of a slot, a multiple of [`GRAIN`].
    pub(super) slot: u32,
    /// Slots of a slab.
    pub(super) slots: u32,
    /// Units of a slab.
    pub(super) span: u32,
}

/// Classes for values of up to `item_max` bytes: each about a quarter larger than the one before, the smallest one grain.
pub(super) fn classes(item_max: u32) -> Vec<Class> {
    let largest = round_up(value_offset(u8::MAX).saturating_add(item_max));
    let mut all = Vec::new();
    let mut slot = GRAIN;
    loop {
        all.push(of_slot(slot));
        if slot >= largest {
            return all;
        }
        slot = round_up(slot + slot / 4).max(slot + GRAIN).min(largest);
    }
}

/// The class of the smallest slot that has so many bytes.
pub(super) fn class_of(classes: &[Class], bytes: u32) -> Option<usize> {
    let class = classes.partition_point(|class| class.slot < bytes);
    (class < classes.len()).then_some(class)
}

/// The smallest slab that wastes no more than an eighth, or else least.
fn of_slot(slot: u32) -> Class {
    let candidates = (1..=8).map(|slots: u32| {
        let span = slot.saturating_mul(slots).div_ceil(UNIT);
        Class { slot, slots: (span * UNIT) / slot, span }
    });
    let waste = |class: &Class| {
        f64::from(class.span * UNIT - class.slots * class.slot) / f64::from(class.span * UNIT)
    };
    let least = |best: Class, next: Class| {
        if waste(&best) > 0.125 && waste(&next) < waste(&best) { next } else { best }
    };
    candidates.reduce(least).unwrap_or(Class { slot, slots: 1, span: slot.div_ceil(UNIT) })
}

fn round_up(bytes: u32) -> u32 {
    bytes.next_multiple_of(GRAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_that_wastes_little() {
        for item_max in [1024, 1 << 20, 64 << 20] {
            let all = classes(item_max);
            assert!(all.len() < 250, "a class is a byte");
            let largest = value_offset(u8::MAX) + item_max;
            for bytes in (1..largest.min(4096)).chain((1..=largest).rev().step_by(largest as usize / 1000)) {
                let class = all[class_of(&all, bytes).unwrap()];
                assert!(class.slot >= bytes && class.slot - bytes <= (bytes / 4 + 2 * GRAIN));
                assert!(class.slots >= 1 && class.slot * class.slots <= class.span * UNIT);
                let waste = class.span * UNIT - class.slot * class.slots;
                assert!(waste * 8 <= class.span * UNIT, "{class:?}");
            }
            assert_eq!(class_of(&all, all.last().unwrap().slot + 1), None);
        }
    }
}
