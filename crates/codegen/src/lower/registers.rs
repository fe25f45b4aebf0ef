//! Where the variables of a body are kept while it is lowered.
//!
//! They are variables of the backend, which finds out what is a value of its own and keeps it in a machine register as long as
//! it can. Some are in memory ([`Body::in_memory`]), and all of them in huge functions ([`Effort::Linear`]), where that would
//! take too long: such a variable has a slot of the frame, is loaded where a block first reads it, and is stored at the end of a
//! block that has changed it, if anybody may still read it. Between, it is an ordinary value.

use cranelift_codegen::ir::{self, InstBuilder, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};

use crate::analysis::{Edges, Liveness, VarSet};
use crate::flow::{BlockId, Body, Var};
use crate::machine::Effort;

/// Of a huge function with more variables than these, all that changed is stored: what still matters would take too long to find.
const FOLLOWED: u16 = 256;

/// Where a variable, or the loop budget, is kept.
#[derive(Clone, Copy)]
pub(super) enum Register {
    /// Wherever the backend likes.
    Variable(Variable),
    /// In the function's frame.
    Slot(ir::StackSlot),
}

/// What a block has of a variable that is kept in a slot.
#[derive(Clone, Copy, Default)]
struct Held {
    value: Option<Value>,
    /// Whether the slot has something older.
    changed: bool,
}

/// The variables of one function.
pub(super) struct Registers {
    places: Vec<Register>,
    /// Per variable; of use for those in slots.
    held: Vec<Held>,
    /// Those of which the block has something.
    touched: Vec<Var>,
    /// What is read behind each block, where that is known.
    live: Option<Liveness>,
}

impl Registers {
    /// Those of a body, without values.
    pub(super) fn new(b: &mut FunctionBuilder<'_>, body: &Body, effort: Effort) -> Self {
        let all = effort == Effort::Linear;
        let some = all || !body.in_memory.is_empty();
        let in_memory = |var: u16| all || body.in_memory.contains(&Var(var));
        let followed = if all { body.vars <= FOLLOWED } else { some };
        let mut places: Vec<_> = (0..body.vars).map(|var| Register::new(b, in_memory(var))).collect();
        for var in body.wide_vars() {
            if let Some(place) = places.get_mut(var.index()) {
                *place = Register::Variable(b.declare_var(types::I8X16));
            }
        }
        Self {
            places,
            held: if some { vec![Held::default(); usize::from(body.vars)] } else { Vec::new() },
            touched: Vec::new(),
            live: followed.then(|| Liveness::of(body, &Edges::of(body))),
        }
    }

    /// The value of a variable; `None` if there is no such variable.
    pub(super) fn get(&mut self, b: &mut FunctionBuilder<'_>, var: Var) -> Option<Value> {
        let place = *self.places.get(var.index())?;
        let Some(held) = self.held.get_mut(var.index()).filter(|_| place.is_slot()) else {
            return Some(place.get(b));
        };
        if held.value.is_none() {
            *held = Held { value: Some(place.get(b)), changed: false };
            self.touched.push(var);
        }
        held.value
    }

    /// Gives a variable a value.
    pub(super) fn set(&mut self, b: &mut FunctionBuilder<'_>, var: Var, value: Value) {
        let Some(place) = self.places.get(var.index()) else { return };
        match self.held.get_mut(var.index()).filter(|_| place.is_slot()) {
            Some(held) => {
                if held.value.is_none() {
                    self.touched.push(var);
                }
                *held = Held { value: Some(value), changed: true };
            }
            None => place.set(b, value),
        }
    }

    /// At the beginning of a block, which may come behind several: nothing is in hand.
    pub(super) fn begin_block(&mut self) {
        for var in self.touched.drain(..) {
            if let Some(held) = self.held.get_mut(var.index()) {
                *held = Held::default();
            }
        }
    }

    /// Before the end of a block (or of what comes before the first): puts where others find it what they may read.
    pub(super) fn end_block(&mut self, b: &mut FunctionBuilder<'_>, body: &Body, block: Option<BlockId>) {
        if self.touched.is_empty() {
            return;
        }
        let live = self.live.as_ref().map(|live| match block {
            Some(id) => live.behind(body, id),
            None => live.at(BlockId::ENTRY).clone(),
        });
        let is_live = |var: Var| live.as_ref().is_none_or(|live: &VarSet| live.contains(var));
        for &var in &self.touched {
            let (Some(place), Some(held)) = (self.places.get(var.index()), self.held.get_mut(var.index()))
            else {
                continue;
            };
            if let Some(value) = held.value.filter(|_| held.changed && is_live(var)) {
                place.set(b, value);
                held.changed = false;
            }
        }
    }
}

impl Register {
    /// In a slot, or wherever the backend likes.
    pub(super) fn new(b: &mut FunctionBuilder<'_>, in_slot: bool) -> Self {
        if in_slot {
            let slot = ir::StackSlotData::new(ir::StackSlotKind::ExplicitSlot, 8, 3);
            Self::Slot(b.create_sized_stack_slot(slot))
        } else {
            Self::Variable(b.declare_var(types::I64))
        }
    }

    fn is_slot(self) -> bool {
        matches!(self, Self::Slot(_))
    }

    pub(super) fn get(self, b: &mut FunctionBuilder<'_>) -> Value {
        match self {
            Self::Variable(variable) => b.use_var(variable),
            Self::Slot(slot) => b.ins().stack_load(types::I64, types::I64, slot, 0),
        }
    }

    pub(super) fn set(self, b: &mut FunctionBuilder<'_>, value: Value) {
        match self {
            Self::Variable(variable) => b.def_var(variable, value),
            Self::Slot(slot) => _ = b.ins().stack_store(types::I64, value, slot, 0),
        }
    }
}
