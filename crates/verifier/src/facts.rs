//! What the walk finds out about instructions and functions, over all paths.

use isa::InsnIdx;

use crate::report::error::LoadedFrom;
use crate::report::reason::Reason;
use crate::state::reg::{Flags, RegType};
use crate::verified::{FrameFacts, InsnFacts, Memory};
use crate::walk::stack_live;

/// How 64-bit arithmetic at one instruction has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Arithmetic {
    #[default]
    Unseen,
    /// Only on numbers and pointers that are no arena pointers.
    Wide,
    /// On arena pointers: done in 32 bits.
    Narrow,
}

/// A group of pointer types that one instruction may be used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PointerClass {
    /// A type whose accesses are translated in a way of their own, by its name.
    Alone(&'static str),
    Other,
}

/// The map that a call was seen with.
#[derive(Clone, Copy, Debug, Default)]
enum CalledWith {
    #[default]
    Nothing,
    /// On every path so far; `None` for several, and for those that are inside of others.
    Map(Option<u32>),
}

/// What one path needs of an instruction and another forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict(pub(crate) InsnIdx);

/// Facts in the making.
#[derive(Debug)]
pub(crate) struct Facts {
    insns: Vec<InsnFacts>,
    classes: Vec<Option<PointerClass>>,
    maps: Vec<CalledWith>,
    arithmetic: Vec<Arithmetic>,
    /// Instructions whose arithmetic is on arena pointers on some paths and on numbers on others. The code is narrow, so
    /// that nothing can be said of the numbers.
    mixed: Vec<InsnIdx>,
    pub(crate) frames: Vec<FrameFacts>,
    /// End of the highest context access.
    pub(crate) ctx_bytes: u32,
    /// End of the last member of a map's structure that is read.
    pub(crate) map_bytes: u32,
}

impl Facts {
    pub(crate) fn new(insns: usize, subprogs: usize) -> Self {
        Self {
            insns: vec![InsnFacts::default(); insns],
            classes: vec![None; insns],
            maps: vec![CalledWith::default(); insns],
            arithmetic: vec![Arithmetic::default(); insns],
            mixed: Vec::new(),
            frames: vec![FrameFacts::default(); subprogs],
            ctx_bytes: 0,
            map_bytes: 0,
        }
    }

    /// Forgets everything but what is mixed, with `conflict` from now on.
    pub(crate) fn restart(&mut self, conflict: Option<Conflict>) {
        let mut mixed = std::mem::take(&mut self.mixed);
        mixed.extend(conflict.map(|c| c.0));
        *self = Self::new(self.insns.len(), self.frames.len());
        self.mixed = mixed;
    }

    /// What the instruction accesses, as far as it is known.
    pub(crate) fn loaded_from(&self, at: InsnIdx) -> Option<LoadedFrom> {
        self.classes.get(at.index()).copied().flatten().map(|class| match class {
            PointerClass::Alone("arena") => LoadedFrom::Arena,
            PointerClass::Alone("ctx") => LoadedFrom::Context,
            PointerClass::Alone(_) | PointerClass::Other => LoadedFrom::Memory,
        })
    }

    pub(crate) fn reach(&mut self, at: InsnIdx) {
        if let Some(facts) = self.insns.get_mut(at.index()) {
            facts.reached = true;
        }
    }

    /// Records that a function is entered.
    pub(crate) fn reach_function(&mut self, subprog: u32, callback: bool) {
        if let Some(frame) = self.frames.get_mut(subprog as usize) {
            frame.reached = true;
            frame.callback |= callback;
        }
    }

    /// Records that a function is called later, on a stack of its own.
    pub(crate) fn call_later(&mut self, subprog: u32) {
        if let Some(frame) = self.frames.get_mut(subprog as usize) {
            frame.later = true;
        }
    }

    /// Records whose memory the instruction accesses; one instruction may not be used with different kinds.
    pub(crate) fn access(&mut self, at: InsnIdx, kind: RegType, flags: Flags) -> Result<(), Reason> {
        let alone = PointerClass::Alone(kind.name());
        let guarded = flags.has(Flags::UNTRUSTED) || flags.has(Flags::USER);
        let (class, memory) = match kind {
            RegType::PtrToArena => (alone, Memory::Arena),
            RegType::PtrToCtx => (alone, Memory::Proven),
            // What the program allocated is memory like any other, unless it may be gone.
            RegType::PtrToBtfId { .. } if flags.has(Flags::ALLOC) && !guarded => (alone, Memory::Proven),
            RegType::PtrToBtfId { .. } => (alone, Memory::Kernel),
            kind if kind.is_socket() => (alone, Memory::Proven),
            RegType::PtrToTpBuffer | RegType::PtrToBuf => (PointerClass::Other, Memory::Kernel),
            _ if guarded => (PointerClass::Other, Memory::Kernel),
            _ => (PointerClass::Other, Memory::Proven),
        };
        let (Some(facts), Some(known)) = (self.insns.get_mut(at.index()), self.classes.get_mut(at.index()))
        else {
            return Err(Reason::Internal { what: "instruction outside the program" });
        };
        if known.is_some_and(|k| k != class) {
            return Err(Reason::MixedPointers);
        }
        *known = Some(class);
        // Guarded on one path, guarded on all.
        if facts.memory != Some(Memory::Kernel) {
            facts.memory = Some(memory);
        }
        Ok(())
    }

    /// Records that a load of 4 bytes of context gives a pointer.
    pub(crate) fn context_pointer(&mut self, at: InsnIdx) {
        if let Some(facts) = self.insns.get_mut(at.index()) {
            facts.context_pointer = true;
        }
    }

    /// Records which map a call is given; `None` if it is none of the program's own.
    pub(crate) fn called_with(&mut self, at: InsnIdx, map: Option<u32>) {
        let Some(known) = self.maps.get_mut(at.index()) else { return };
        *known = match *known {
            CalledWith::Nothing => CalledWith::Map(map),
            CalledWith::Map(before) if before == map => CalledWith::Map(map),
            _ => CalledWith::Map(None),
        };
        if let (CalledWith::Map(map), Some(facts)) = (*known, self.insns.get_mut(at.index())) {
            facts.map = map;
        }
    }

    /// Whether the instruction is known to be mixed.
    pub(crate) fn is_mixed(&self, at: InsnIdx) -> bool {
        self.mixed.contains(&at)
    }

    /// Records 64-bit arithmetic on an arena pointer (`narrow`) or on something else.
    pub(crate) fn arithmetic(&mut self, at: InsnIdx, narrow: bool) -> Result<(), Conflict> {
        let now = if narrow { Arithmetic::Narrow } else { Arithmetic::Wide };
        let mixed = self.is_mixed(at);
        if let Some(seen) = self.arithmetic.get_mut(at.index()) {
            if *seen != Arithmetic::Unseen && *seen != now && !mixed {
                return Err(Conflict(at));
            }
            *seen = now;
        }
        if let Some(facts) = self.insns.get_mut(at.index()) {
            facts.narrow |= narrow;
        }
        Ok(())
    }

    /// Records that a function's frame reaches `depth` bytes below its frame pointer.
    pub(crate) fn stack(&mut self, subprog: u32, depth: i64) {
        if let Some(frame) = self.frames.get_mut(subprog as usize) {
            let depth = u16::try_from(depth.clamp(0, 512)).unwrap_or(512);
            frame.stack_depth = frame.stack_depth.max(depth.next_multiple_of(8));
            frame.stack_bytes = frame.stack_depth.next_multiple_of(16);
        }
    }

    /// Records that the bytes from `start` to `end`, as offsets from a function's frame pointer, are reached by a pointer.
    pub(crate) fn address_stack(&mut self, subprog: u32, start: i64, end: i64) {
        if let Some(frame) = self.frames.get_mut(subprog as usize) {
            frame.addressed |= stack_live::slots(start, end);
        }
    }

    /// Gives the finished facts.
    pub(crate) fn finish(self) -> (Vec<InsnFacts>, Vec<FrameFacts>) {
        (self.insns, self.frames)
    }
}
