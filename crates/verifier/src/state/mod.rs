//! The state of the abstract machine at one point of one path.

pub(crate) mod held;
pub(crate) mod reg;
pub(crate) mod stack;

use std::rc::Rc;

use isa::{InsnIdx, Reg};

use self::held::Held;
use self::reg::{RegState, RegType};
use self::stack::{IterGuard, Slot, Stack};
use crate::rules::helpers::Callback;

/// One frame of the call chain. Frames are shared between states until one of them writes.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) regs: [RegState; Reg::ALL.len()],
    pub(crate) stack: Stack,
    /// Index in the program's subprograms.
    pub(crate) subprog: u32,
    /// The call instruction that entered the frame.
    pub(crate) callsite: InsnIdx,
    /// Set for the frame of a callback: it returns to the call of the helper.
    pub(crate) callback: Option<&'static Callback>,
    /// Times a callback was entered from the helper call this frame is at.
    pub(crate) callback_depth: u64,
}

impl Frame {
    pub(crate) fn new(subprog: u32, callsite: InsnIdx, number: u8) -> Self {
        let mut regs = [RegState::NOT_INIT; Reg::ALL.len()];
        if let Some(fp) = regs.last_mut() {
            *fp = RegState::pointer(RegType::PtrToStack { frame: number }, crate::walk::origin::Origin::NONE);
        }
        Self { regs, stack: Stack::default(), subprog, callsite, callback: None, callback_depth: 0 }
    }

    pub(crate) fn reg(&self, reg: Reg) -> &RegState {
        self.regs.get(reg.index()).unwrap_or(&RegState::NOT_INIT)
    }

    pub(crate) fn set(&mut self, reg: Reg, to: RegState) {
        if let Some(slot) = self.regs.get_mut(reg.index()) {
            *slot = to;
        }
    }
}

/// A saved state that a path has come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

/// The whole state.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Innermost last; never empty.
    frames: Vec<Rc<Frame>>,
    pub(crate) held: Held,
    /// Times a `may_goto` was passed.
    pub(crate) may_goto_depth: u32,
    /// Callbacks entered on this path.
    pub(crate) callback_depth: u32,
    /// Callbacks that run some time after the call, begun one from another up to this path; 0 outside of them.
    pub(crate) called_later: u32,
    /// Entries the kernel would have in this path's history since the last saved state.
    pub(crate) history: u32,
    /// The nearest saved state on this path.
    pub(crate) parent: Option<NodeId>,
}

impl State {
    /// A state with one frame.
    pub(crate) fn new(frame: Frame) -> Self {
        Self {
            frames: vec![Rc::new(frame)],
            held: Held::default(),
            may_goto_depth: 0,
            callback_depth: 0,
            called_later: 0,
            history: 0,
            parent: None,
        }
    }

    pub(crate) fn frames(&self) -> &[Rc<Frame>] {
        &self.frames
    }

    /// Number of the innermost frame.
    pub(crate) fn depth(&self) -> u8 {
        u8::try_from(self.frames.len().saturating_sub(1)).unwrap_or(u8::MAX)
    }

    /// The innermost frame.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        self.frames.last().map(Rc::as_ref)
    }

    /// The innermost frame, to change it.
    pub(crate) fn frame_mut(&mut self) -> Option<&mut Frame> {
        self.frames.last_mut().map(Rc::make_mut)
    }

    /// Frame number `number`.
    pub(crate) fn frame_at(&self, number: u8) -> Option<&Frame> {
        self.frames.get(usize::from(number)).map(Rc::as_ref)
    }

    pub(crate) fn frame_at_mut(&mut self, number: u8) -> Option<&mut Frame> {
        self.frames.get_mut(usize::from(number)).map(Rc::make_mut)
    }

    /// Puts another frame in the place of frame number `number`.
    pub(crate) fn set_frame(&mut self, number: u8, to: Rc<Frame>) {
        if let Some(frame) = self.frames.get_mut(usize::from(number)) {
            *frame = to;
        }
    }

    pub(crate) fn push_frame(&mut self, frame: Frame) {
        self.frames.push(Rc::new(frame));
    }

    /// Leaves the innermost frame, unless it is the only one.
    pub(crate) fn pop_frame(&mut self) -> Option<Rc<Frame>> {
        if self.frames.len() < 2 { None } else { self.frames.pop() }
    }

    /// A register of the innermost frame.
    pub(crate) fn reg(&self, reg: Reg) -> &RegState {
        self.frame().map_or(&RegState::NOT_INIT, |f| f.reg(reg))
    }

    pub(crate) fn set_reg(&mut self, reg: Reg, to: RegState) {
        if let Some(frame) = self.frame_mut() {
            frame.set(reg, to);
        }
    }

    /// Changes every register and spilled register, in every frame. Frames in which `wanted` finds nothing stay shared.
    pub(crate) fn update_all(
        &mut self,
        wanted: impl Fn(&RegState) -> bool,
        mut update: impl FnMut(&mut RegState),
    ) {
        for frame in &mut self.frames {
            let any = frame.regs.iter().any(&wanted) || frame.stack.slots().iter().any(|s| wanted(&s.spill));
            if !any {
                continue;
            }
            let frame = Rc::make_mut(frame);
            let spills = frame.stack.slots_mut().iter_mut().map(|s| &mut s.spill);
            for reg in frame.regs.iter_mut().chain(spills) {
                if wanted(reg) {
                    update(reg);
                }
            }
        }
    }

    /// Forgets the reference `id` and everything that hung on it; `false` if it is not held.
    pub(crate) fn release(&mut self, id: u32) -> bool {
        if !self.held.give_back_object(id) {
            return false;
        }
        self.invalidate(|r| r.ref_id == id);
        true
    }

    /// Pointers that are no longer good for anything become numbers of which nothing is known (`mark_reg_invalid`).
    pub(crate) fn invalidate(&mut self, wanted: impl Fn(&RegState) -> bool) {
        self.update_all(wanted, |r| *r = RegState::number(crate::domain::scalar::Scalar::UNKNOWN, r.origin));
    }

    /// Iterators that lived under RCU are no good once its reading side is left.
    pub(crate) fn end_iterator_guards(&mut self) {
        let guarded = |s: &Slot| s.iter.is_some_and(|i| i.guard == IterGuard::Rcu);
        for frame in &mut self.frames {
            if !frame.stack.slots().iter().any(guarded) {
                continue;
            }
            for iter in Rc::make_mut(frame).stack.slots_mut().iter_mut().filter_map(|s| s.iter.as_mut()) {
                if iter.guard == IterGuard::Rcu {
                    iter.guard = IterGuard::Over;
                }
            }
        }
    }

    /// Bytes it takes at most, shared frames counted in full.
    pub(crate) fn bytes(&self) -> usize {
        let frames: usize =
            self.frames.iter().map(|f| size_of::<Frame>() + size_of_val(f.stack.slots())).sum();
        size_of::<Self>() + frames
    }
}
