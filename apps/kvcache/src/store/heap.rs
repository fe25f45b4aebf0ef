//! Memory for items: units of 64 KiB, and slabs of slots of one size made of them.
//!
//! What each unit is stands in the arena, so that another server finds its way; which slots are free does not: whatever the table
//! does not lead to is. A slot that is given out has version 0 until its item is complete, and again once it is removed, so that
//! readers that come late see that they read nothing. When a unit takes on another role, [`Header::layout`] changes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::classes::{Class, classes};
use super::mem::{Mem, UNIT_PAGES};
use crate::layout::{
    FIRST_UNIT, Header, UNIT, UNIT_FREE, UNIT_MORE, UNIT_OVERFLOW, UNIT_SEGMENT, UNITS, touch_place,
};

/// Slabs, units, and the limit of pages.
#[derive(Debug)]
pub(super) struct Heap {
    mem: Mem,
    classes: Vec<Class>,
    slabs: Vec<Mutex<Slabs>>,
    units: Mutex<Units>,
    /// For each unit of a slab its first unit.
    first: Box<[AtomicU32]>,
    /// For the first unit of each slab its number in its class.
    number: Box<[AtomicU32]>,
}

/// Slabs of one class.
#[derive(Debug, Default)]
struct Slabs {
    all: Vec<Slab>,
    /// First units of those that have free slots.
    partial: Vec<u32>,
    /// Where the clock's hand is.
    hand: (usize, u32),
}

#[derive(Debug)]
struct Slab {
    unit: u32,
    /// Slots that are free.
    free: Vec<u16>,
    /// It is being emptied: nothing is given out of it.
    leaving: bool,
}

/// Units that are free, and how many pages are in use.
#[derive(Debug)]
struct Units {
    free: Box<[bool]>,
    /// No unit before this one is free.
    lowest: usize,
    pages: u32,
    limit: u32,
}

/// Pages that units of the table or of slabs take.
fn pages_of(span: u32, of_slab: bool) -> u32 {
    span * (UNIT_PAGES + u32::from(of_slab))
}

impl Heap {
    /// A heap in which nothing is given out, of `limit` pages, of which `pages` are in use.
    pub(super) fn new(mem: Mem, item_max: u32, limit: u32, pages: u32) -> Self {
        let classes = classes(item_max);
        let words = || (0..UNITS).map(|_| AtomicU32::new(0)).collect();
        let free = (0..UNITS).map(|unit| unit >= FIRST_UNIT).collect();
        let units = Units { free, lowest: FIRST_UNIT as usize, pages, limit };
        Self {
            mem,
            slabs: classes.iter().map(|_| Mutex::default()).collect(),
            classes,
            units: Mutex::new(units),
            first: words(),
            number: words(),
        }
    }

    pub(super) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Pages in use.
    pub(super) fn pages(&self) -> u32 {
        self.units().pages
    }

    /// Most pages.
    pub(super) fn limit(&self) -> u32 {
        self.units().limit
    }

    /// Sets most pages; those in use may be more.
    pub(super) fn set_limit(&self, pages: u32) {
        self.units().limit = pages;
    }

    /// Slabs in use.
    pub(super) fn slab_count(&self) -> usize {
        (0..self.slabs.len()).map(|class| self.slabs_of(class).map_or(0, |slabs| slabs.all.len())).sum()
    }

    /// A unit for something that is no slab, zeroed. `None` if the limit is reached.
    pub(super) fn take_unit(&self, kind: u8) -> Option<u32> {
        let unit = self.units().take(&self.mem, kind, 1, false)?;
        Some(unit * UNIT)
    }

    /// Gives a unit back that was for something else than a slab.
    pub(super) fn give_unit(&self, place: u32) {
        self.mem.add(super::header(Header::layout), 1);
        self.units().give(&self.mem, place / UNIT, 1, false);
    }

    /// A free slot of the class. `None` if all are taken.
    pub(super) fn alloc(&self, class: usize) -> Option<u32> {
        let size = self.classes.get(class)?.slot;
        let mut slabs = self.slabs_of(class)?;
        loop {
            let unit = *slabs.partial.last()?;
            let slab = self.slab(&mut slabs, unit)?;
            let slot = slab.free.pop();
            if slab.free.is_empty() {
                slabs.partial.pop();
            }
            if let Some(slot) = slot {
                return Some(unit * UNIT + u32::from(slot) * size);
            }
        }
    }

    /// Makes the class one slab larger. Whether the limit allows it.
    pub(super) fn grow(&self, class: usize) -> bool {
        let Some((Class { slots, span, .. }, kind)) = self.shape(class) else { return false };
        let Some(unit) = self.units().take(&self.mem, kind, span, true) else { return false };
        let slots = u16::try_from(slots).unwrap_or(u16::MAX);
        self.add(class, unit, (0..slots).rev().collect());
        true
    }

    /// Takes a slab over that an earlier server left, with these of its slots free. `false` if it cannot be one.
    pub(super) fn adopt(&self, class: usize, unit: u32, free: Vec<u16>) -> bool {
        let Some((Class { span, .. }, _)) = self.shape(class) else { return false };
        if !self.units().claim(unit, span, true) {
            return false;
        }
        self.add(class, unit, free);
        true
    }

    /// Takes a unit over that an earlier server used for something else than a slab.
    pub(super) fn adopt_unit(&self, unit: u32) -> bool {
        self.units().claim(unit, 1, false)
    }

    /// Takes back a slot whose item is gone.
    pub(super) fn free(&self, place: u32) {
        let Some((class, unit, slot)) = self.locate(place) else { return };
        let Some(mut slabs) = self.slabs_of(class) else { return };
        let Some(slab) = self.slab(&mut slabs, unit) else { return };
        slab.free.push(slot);
        if slab.free.len() == 1 && !slab.leaving {
            slabs.partial.push(unit);
        }
    }

    /// The slot that the hand of the class's clock comes to next. `None` without slabs.
    pub(super) fn hand(&self, class: usize) -> Option<u32> {
        let Class { slot: size, slots, .. } = *self.classes.get(class)?;
        let mut slabs = self.slabs_of(class)?;
        let (mut slab, mut slot) = slabs.hand;
        if slot >= slots {
            (slab, slot) = (slab + 1, 0);
        }
        if slab >= slabs.all.len() {
            (slab, slot) = (0, 0);
        }
        slabs.hand = (slab, slot + 1);
        let unit = slabs.all.get(slab)?.unit;
        Some(unit * UNIT + slot * size)
    }

    /// Slots of the class's slabs together.
    pub(super) fn slots(&self, class: usize) -> u64 {
        let slots = self.classes.get(class).map_or(0, |class| u64::from(class.slots));
        self.slabs_of(class).map_or(0, |slabs| slabs.all.len() as u64 * slots)
    }

    /// Units of the class's slabs together.
    pub(super) fn units_in(&self, class: usize) -> u64 {
        let span = self.classes.get(class).map_or(0, |class| u64::from(class.span));
        self.slabs_of(class).map_or(0, |slabs| slabs.all.len() as u64 * span)
    }

    /// First units of the class's slabs at this moment.
    pub(super) fn units_of(&self, class: usize) -> Vec<u32> {
        self.slabs_of(class).map_or(Vec::new(), |slabs| slabs.all.iter().map(|slab| slab.unit).collect())
    }

    /// Places of the slots of a slab.
    pub(super) fn places(&self, class: usize, unit: u32) -> impl Iterator<Item = u32> + use<> {
        let Class { slot, slots, .. } =
            self.classes.get(class).copied().unwrap_or(Class { slot: 0, slots: 0, span: 0 });
        (0..slots).map(move |n| unit * UNIT + n * slot)
    }

    /// Gives nothing more out of a slab, which is to be emptied.
    pub(super) fn leave(&self, class: usize, unit: u32) {
        let Some(mut slabs) = self.slabs_of(class) else { return };
        if let Some(slab) = self.slab(&mut slabs, unit) {
            slab.leaving = true;
            slabs.partial.retain(|other| *other != unit);
        }
    }

    /// Gives a slab's memory back if all of its slots are free; otherwise they can be given out again. Whether it is gone.
    pub(super) fn release(&self, class: usize, unit: u32) -> bool {
        let Some((Class { slots, span, .. }, _)) = self.shape(class) else { return false };
        let Some(mut slabs) = self.slabs_of(class) else { return false };
        let Some(slab) = self.slab(&mut slabs, unit) else { return false };
        if slab.free.len() < slots as usize {
            let again = std::mem::take(&mut slab.leaving) && !slab.free.is_empty();
            if again {
                slabs.partial.push(unit);
            }
            return false;
        }
        let number =
            self.number.get(unit as usize).map_or(0, |number| number.load(Ordering::Relaxed)) as usize;
        slabs.partial.retain(|other| *other != unit);
        slabs.all.swap_remove(number);
        if let Some(moved) = slabs.all.get(number).and_then(|slab| self.number.get(slab.unit as usize)) {
            moved.store(u32::try_from(number).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
        drop(slabs);
        // Who reads here yet will see the change. Then the memory may become anything.
        self.mem.add(super::header(Header::layout), 1);
        self.units().give(&self.mem, unit, span, true);
        true
    }

    /// Gives back the pages that a late reader made exist when it looked, or marked a use, where a slab had been. What an arena in the
    /// kernel has more is not known.
    pub(super) fn sweep(&self) {
        let units = self.units();
        if self.mem.arena().pages_in_use().get() <= units.pages {
            return;
        }
        let mut unit = FIRST_UNIT;
        for run in units.free.get(FIRST_UNIT as usize..).unwrap_or_default().chunk_by(|a, b| a == b) {
            let (place, count) = (unit * UNIT, u32::try_from(run.len()).unwrap_or(0));
            unit += count;
            if run.first() == Some(&true) {
                self.mem.give_back(place, count * UNIT_PAGES);
                self.mem.give_back(touch_place(place), count);
                continue;
            }
            // Only slabs have touch words.
            let kind = |unit: &u32| self.mem.u8(super::unit_byte(*unit));
            let tables =
                (unit - count..unit).filter(|unit| matches!(kind(unit), UNIT_SEGMENT | UNIT_OVERFLOW));
            tables.for_each(|unit| self.mem.give_back(touch_place(unit * UNIT), 1));
        }
    }

    /// Class, first unit of the slab and slot number of a place; `None` if no slot begins there.
    pub(super) fn locate(&self, place: u32) -> Option<(usize, u32, u16)> {
        let first = self.first.get((place / UNIT) as usize)?.load(Ordering::Relaxed);
        let class = usize::from(self.mem.u8(super::unit_byte(first))).checked_sub(1)?;
        let Class { slot, slots, .. } = *self.classes.get(class)?;
        let offset = place.checked_sub(first.checked_mul(UNIT)?)?;
        let number = offset / slot;
        let begins = first >= FIRST_UNIT && offset.is_multiple_of(slot) && number < slots;
        begins.then_some((class, first, u16::try_from(number).ok()?))
    }

    fn add(&self, class: usize, unit: u32, free: Vec<u16>) {
        let Some(span) = self.classes.get(class).map(|class| class.span) else { return };
        let Some(mut slabs) = self.slabs_of(class) else { return };
        for of_slab in self.first.iter().skip(unit as usize).take(span as usize) {
            of_slab.store(unit, Ordering::Relaxed);
        }
        if let Some(number) = self.number.get(unit as usize) {
            number.store(u32::try_from(slabs.all.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
        if !free.is_empty() {
            slabs.partial.push(unit);
        }
        slabs.all.push(Slab { unit, free, leaving: false });
    }

    fn shape(&self, class: usize) -> Option<(Class, u8)> {
        Some((*self.classes.get(class)?, u8::try_from(class + 1).ok()?))
    }

    fn slab<'s>(&self, slabs: &'s mut Slabs, unit: u32) -> Option<&'s mut Slab> {
        let number = self.number.get(unit as usize)?.load(Ordering::Relaxed);
        slabs.all.get_mut(number as usize).filter(|slab| slab.unit == unit)
    }

    fn slabs_of(&self, class: usize) -> Option<MutexGuard<'_, Slabs>> {
        Some(self.slabs.get(class)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Units {
    /// Gives out units that lie side by side, with their pages.
    fn take(&mut self, mem: &Mem, kind: u8, span: u32, of_slab: bool) -> Option<u32> {
        let pages = pages_of(span, of_slab);
        if self.pages.saturating_add(pages) > self.limit {
            return None;
        }
        let unit = self.run(span as usize)?;
        // First what they are, then their pages: whoever finds them here after a crash can give them back.
        for more in unit + 1..unit + span {
            mem.set_u8(super::unit_byte(more), UNIT_MORE);
        }
        mem.set_u8(super::unit_byte(unit), kind);
        let place = unit * UNIT;
        let provided =
            mem.provide(place, span * UNIT_PAGES) && (!of_slab || mem.provide(touch_place(place), span));
        self.set(unit, span, false);
        self.pages += pages;
        if !provided {
            self.give(mem, unit, span, of_slab);
            return None;
        }
        Some(unit)
    }

    /// Takes units back. The caller has seen to it that readers notice.
    fn give(&mut self, mem: &Mem, unit: u32, span: u32, of_slab: bool) {
        let place = unit * UNIT;
        mem.give_back(place, span * UNIT_PAGES);
        if of_slab {
            mem.give_back(touch_place(place), span);
        }
        for freed in unit..unit + span {
            mem.set_u8(super::unit_byte(freed), UNIT_FREE);
        }
        self.set(unit, span, true);
        self.lowest = self.lowest.min(unit as usize);
        self.pages = self.pages.saturating_sub(pages_of(span, of_slab));
    }

    /// Marks units as in use. Whether all of them were free.
    fn claim(&mut self, unit: u32, span: u32, of_slab: bool) -> bool {
        let range = self.free.get(unit as usize..(unit as usize).saturating_add(span as usize));
        if !range.is_some_and(|units| units.iter().all(|free| *free)) {
            return false;
        }
        self.set(unit, span, false);
        self.pages = self.pages.saturating_add(pages_of(span, of_slab));
        true
    }

    /// The lowest free units side by side.
    fn run(&mut self, span: usize) -> Option<u32> {
        let rest = self.free.get(self.lowest..)?;
        self.lowest += rest.iter().position(|free| *free).unwrap_or(rest.len());
        let rest = self.free.get(self.lowest..)?;
        let mut found = 0;
        for (at, free) in rest.iter().enumerate() {
            found = if *free { found + 1 } else { 0 };
            if found == span {
                return u32::try_from(self.lowest + at + 1 - span).ok();
            }
        }
        None
    }

    fn set(&mut self, unit: u32, span: u32, free: bool) {
        self.free.iter_mut().skip(unit as usize).take(span as usize).for_each(|unit| *unit = free);
    }
}
