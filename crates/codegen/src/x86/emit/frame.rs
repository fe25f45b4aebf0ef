//! The frame of a function: what lies where below the frame pointer, and the code that builds it and takes it down.
//!
//! ```text
//! rbp + 16   the argument that no register had room for
//! rbp + 8    return address
//! rbp        the caller's frame pointer
//! rbp - 8 …  slots, from the first
//!            slots of what is written here: registers that a cold part saves
//!            registers that belong to the caller
//! rsp        16 bytes for such an argument of a call
//! ```

use iced_x86::{Code, Instruction, MemoryOperand};

use super::encode::Gpr;
use super::moves::Place;
use super::{EmitError, Emitter};
use crate::unwind::FrameChange;
use crate::x86::insn::{Callee, Class, End, Function, Insn, Slot, Src};

/// The most that a function may take: nothing looks at the page below the one it begins on.
const MOST: u64 = 4096 - 128;

/// Registers that belong to the caller: `rbx`, `r12` to `r15`.
const SAVED: [Gpr; 5] = [Gpr(3), Gpr(12), Gpr(13), Gpr(14), Gpr(15)];

/// Where the arguments behind the first one are, those that are in registers.
pub(super) const ARGUMENTS: [Gpr; 5] = [Gpr::RSI, Gpr::RDX, Gpr::RCX, Gpr::R8, Gpr::R9];

/// What lies where.
pub(super) struct Frame {
    /// Slots of the function; those of the emission's own come next.
    slots: u32,
    /// The registers that are saved, and at which slot.
    saved: Vec<(Gpr, u32)>,
    /// Bytes below the frame pointer.
    below: u32,
}

/// Slots of the emission's own.
const OWN: u32 = 3;

impl Frame {
    /// The frame of a function.
    pub(super) fn new(function: &Function, assigned: &[u8]) -> Result<Self, EmitError> {
        let large = || EmitError::Frame { slots: function.slots };
        let own = if needs_own(function) { OWN } else { 0 };
        let used = |register: &Gpr| {
            let mut registers = function.classes.iter().zip(assigned);
            registers.any(|(class, number)| *class == Class::General && *number == register.0)
        };
        let first = function.slots.checked_add(own).ok_or_else(large)?;
        let saved: Vec<_> = SAVED.into_iter().filter(used).zip(first..).collect();
        let total = saved.last().map_or(Some(first), |(_, slot)| slot.checked_add(1)).ok_or_else(large)?;
        let bytes = total.checked_mul(8).and_then(|bytes| bytes.checked_next_multiple_of(16));
        let outgoing = if passes_on_stack(function) { 16 } else { 0 };
        let below = bytes.and_then(|bytes| bytes.checked_add(outgoing)).ok_or_else(large)?;
        let frame = Self { slots: function.slots, saved, below };
        if frame.stack() > MOST { Err(large()) } else { Ok(frame) }
    }

    /// Bytes of stack that the function takes, with its return address.
    pub(super) fn stack(&self) -> u64 {
        u64::from(self.below) + 16
    }

    /// A slot of the function.
    pub(super) fn slot(&self, slot: Slot) -> Option<MemoryOperand> {
        (slot.0 < self.slots).then(|| below(slot.0))
    }

    /// A slot of the emission's own, of which there are three.
    pub(super) fn own(&self, index: u32) -> MemoryOperand {
        below(self.slots.saturating_add(index))
    }
}

/// Where the context has this field.
pub(super) fn field(context: Gpr, offset: usize) -> MemoryOperand {
    memory(context, i64::try_from(offset).unwrap_or_default())
}

/// Memory at a distance from a register.
pub(super) fn memory(base: Gpr, offset: i64) -> MemoryOperand {
    MemoryOperand::with_base_displ(base.r64(), offset)
}

/// A slot by its number from the frame pointer.
fn below(slot: u32) -> MemoryOperand {
    memory(Gpr::RBP, -8 * (i64::from(slot) + 1))
}

/// Whether any part saves registers.
fn needs_own(function: &Function) -> bool {
    let reached = function.order.iter().filter_map(|block| function.blocks.get(block.index()));
    reached.into_iter().any(|block| {
        let loops = |(insn, _): &(Insn, _)| matches!(insn, Insn::AtomicLoop { .. });
        matches!(block.end, End::Afford { asks: true, .. } | End::Look { .. })
            || block.insns.iter().any(loops)
    })
}

/// Whether any call has an argument that is on the stack.
fn passes_on_stack(function: &Function) -> bool {
    let mut insns = function.blocks.iter().flat_map(|block| &block.insns);
    insns.any(|(insn, _)| {
        matches!(insn, Insn::Call { callee: Callee::Subprogram(_), args, .. } if args.len() > ARGUMENTS.len())
    })
}

impl Emitter<'_> {
    /// Builds the frame and takes the arguments.
    pub(super) fn enter(&mut self) {
        self.asm.put(Instruction::with1(Code::Push_r64, Gpr::RBP.r64()));
        self.step(FrameChange::Pushed { below: 16 });
        self.asm.put(Instruction::with2(Code::Mov_rm64_r64, Gpr::RBP.r64(), Gpr::RSP.r64()));
        self.step(FrameChange::Established);
        let below = i32::try_from(self.frame.below).unwrap_or_default();
        if below != 0 {
            let code = if below < 128 { Code::Sub_rm64_imm8 } else { Code::Sub_rm64_imm32 };
            self.asm.put(Instruction::with2(code, Gpr::RSP.r64(), below));
        }
        for (register, slot) in self.frame.saved.clone() {
            self.asm.put(Instruction::with2(Code::Mov_rm64_r64, self::below(slot), register.r64()));
            self.step(FrameChange::Saved { register: register.0, below: 16 + 8 * (slot + 1) });
        }
        let context = self.slot(self.function.context);
        self.asm.put(Instruction::with2(Code::Mov_rm64_r64, context, Gpr::RDI.r64()));
        self.take_arguments();
    }

    fn take_arguments(&mut self) {
        let params = &self.function.params;
        let mut moves = Vec::new();
        if let Some(Some(param)) = params.get(ARGUMENTS.len()) {
            // Nobody has given `rax` a value yet, but a parameter may be about to.
            let passed = memory(Gpr::RBP, 16);
            match *param {
                Src::Reg(to) => moves.push((Place::Register(self.reg(to)), Place::Memory(passed))),
                Src::Slot(slot) => {
                    let slot = self.slot(slot);
                    self.asm.put(Instruction::with2(Code::Mov_r64_rm64, Gpr::RAX.r64(), passed));
                    self.asm.put(Instruction::with2(Code::Mov_rm64_r64, slot, Gpr::RAX.r64()));
                }
                Src::Imm(_) => self.asm.fail(EmitError::Operand),
            }
        }
        if params.len() > ARGUMENTS.len() + 1 {
            self.asm.fail(EmitError::Operand);
        }
        for (param, from) in params.iter().zip(ARGUMENTS) {
            match *param {
                Some(Src::Reg(to)) => moves.push((Place::Register(self.reg(to)), Place::Register(from))),
                Some(Src::Slot(slot)) => moves.push((Place::Memory(self.slot(slot)), Place::Register(from))),
                Some(Src::Imm(_)) => self.asm.fail(EmitError::Operand),
                None => {}
            }
        }
        self.parallel(moves);
    }

    /// Returns what is in `rax`.
    pub(super) fn leave(&mut self) {
        for (register, slot) in self.frame.saved.clone() {
            self.asm.put(Instruction::with2(Code::Mov_r64_rm64, register.r64(), below(slot)));
        }
        self.asm.put(Instruction::with2(Code::Mov_rm64_r64, Gpr::RSP.r64(), Gpr::RBP.r64()));
        self.asm.put(Instruction::with1(Code::Pop_r64, Gpr::RBP.r64()));
        self.asm.put(Ok(Instruction::with(Code::Retnq)));
    }
}
