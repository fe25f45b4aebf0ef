//! From instructions whose registers are assigned to bytes.
//!
//! Blocks are written in the function's order, those that are rarely executed last; in front of these are the cold parts that are made
//! here: divisions by 0, questions to the runtime. No instruction needs a register beyond those that it says it
//! [takes](crate::x86::insn::Insn::taken).

mod arith;
mod calls;
mod codes;
mod cold;
mod encode;
mod ends;
mod flags;
mod frame;
mod memory;
mod moves;
mod step;

#[cfg(test)]
mod tests;
mod wide;

use std::mem;

use iced_x86::{IcedError, MemoryOperand, Register};

use self::cold::Cold;
use self::encode::{Assembler, Gpr, Label};
use self::frame::Frame;
use super::insn::{Access, Address, BlockId, Function, Reg, Slot};
use crate::flow::At;
use crate::link::{Code, Reference, Target};
use crate::lower::stub::StubOf;
use crate::reloc::Form;
use crate::unwind::{FrameChange, FrameStep};

/// A function that is written.
pub(crate) struct Emitted {
    /// Its code.
    pub(crate) code: Code<'static>,
    /// Bytes of stack that the function takes, with its return address.
    pub(crate) stack: u64,
}

/// Why a function cannot be written.
#[derive(Debug, thiserror::Error)]
pub(in crate::x86) enum EmitError {
    /// The machine has no such instruction.
    #[error("no encoding: {0}")]
    Encoding(#[source] IcedError),
    /// A jump goes nowhere.
    #[error("a label is nowhere")]
    Unbound,
    /// The code is too long.
    #[error("code of 2 GiB or more")]
    Far,
    /// The frame is too large.
    #[error("the frame is too large, with {slots} slots")]
    Frame {
        /// Slots of the function.
        slots: u32,
    },
    /// A register, slot or block does not exist.
    #[error("nothing has the number {number}")]
    Unknown {
        /// Its number.
        number: u32,
    },
    /// An instruction has an operand, or a size, that it cannot have.
    #[error("an operand that its instruction cannot have")]
    Operand,
}

/// The bytes of a function: `assigned` says which machine register each register is. `stub` gives the number of a stub.
pub(in crate::x86) fn emit(
    function: &Function,
    assigned: &[u8],
    stub: &mut dyn FnMut(StubOf) -> usize,
) -> Result<Emitted, EmitError> {
    let mut asm = Assembler::default();
    let blocks: Vec<Label> = function.blocks.iter().map(|_| asm.label()).collect();
    let start = asm.label();
    let frame = Frame::new(function, assigned)?;
    let mut emitter = Emitter {
        function,
        assigned,
        stub,
        asm,
        frame,
        blocks,
        start,
        cold: Vec::new(),
        locations: Vec::new(),
        traps: Vec::new(),
        references: Vec::new(),
        steps: Vec::new(),
    };
    emitter.function();
    emitter.finish()
}

/// A function that is being written. Places are indices of machine instructions until all have bytes.
struct Emitter<'a> {
    function: &'a Function,
    assigned: &'a [u8],
    stub: &'a mut dyn FnMut(StubOf) -> usize,
    asm: Assembler,
    frame: Frame,
    /// Where each block begins.
    blocks: Vec<Label>,
    /// Where the function does.
    start: Label,
    cold: Vec<Cold>,
    locations: Vec<(usize, At)>,
    traps: Vec<(usize, bool)>,
    references: Vec<(usize, Target)>,
    steps: Vec<(usize, FrameChange)>,
}

impl Emitter<'_> {
    fn function(&mut self) {
        let function = self.function;
        let is_cold = |id: &BlockId| function.blocks.get(id.index()).is_some_and(|block| block.cold);
        let (cold, hot): (Vec<_>, Vec<_>) = function.order.iter().copied().partition(is_cold);
        self.asm.bind(self.start);
        if let Some(first) = function.blocks.first() {
            self.locate(first.at);
        }
        self.enter();
        self.jump(BlockId(0), hot.first().copied());
        self.blocks(&hot);
        self.cold_parts();
        self.blocks(&cold);
        // What a cold block left.
        self.cold_parts();
    }

    fn blocks(&mut self, ids: &[BlockId]) {
        let function = self.function;
        let mut ids = ids.iter().copied().peekable();
        while let Some(id) = ids.next() {
            let (Some(block), Some(label)) = (function.blocks.get(id.index()), self.blocks.get(id.index()))
            else {
                self.asm.fail(EmitError::Unknown { number: id.0 });
                continue;
            };
            self.asm.bind(*label);
            for (insn, at) in &block.insns {
                self.locate(*at);
                self.insn(insn);
            }
            self.locate(block.at);
            self.end(&block.end, block.at, ids.peek().copied());
        }
    }

    /// What comes now belongs to this.
    fn locate(&mut self, at: At) {
        let here = self.asm.next();
        if self.locations.last().is_some_and(|(place, _)| *place == here) {
            self.locations.pop();
        }
        if self.locations.last().is_none_or(|(_, known)| *known != at) {
            self.locations.push((here, at));
        }
    }

    /// The next instruction accesses memory.
    fn accesses(&mut self, access: Access) {
        let here = self.asm.next();
        match access {
            Access::Safe => {}
            Access::Arena => self.traps.push((here, false)),
            Access::Probe => self.traps.push((here, true)),
        }
    }

    /// The next instruction refers to this by its last 4 bytes.
    fn refers(&mut self, to: Target) {
        self.references.push((self.asm.next(), to));
    }

    /// The last instruction did this to the frame.
    fn step(&mut self, change: FrameChange) {
        self.steps.push((self.asm.next(), change));
    }

    fn reg(&mut self, reg: Reg) -> Gpr {
        Gpr(self.number_of(reg))
    }

    fn xmm(&mut self, reg: Reg) -> Register {
        use Register::{
            XMM0, XMM1, XMM2, XMM3, XMM4, XMM5, XMM6, XMM7, XMM8, XMM9, XMM10, XMM11, XMM12, XMM13, XMM14,
            XMM15,
        };
        const ALL: [Register; 16] = [
            XMM0, XMM1, XMM2, XMM3, XMM4, XMM5, XMM6, XMM7, XMM8, XMM9, XMM10, XMM11, XMM12, XMM13, XMM14,
            XMM15,
        ];
        ALL.get(usize::from(self.number_of(reg))).copied().unwrap_or_default()
    }

    fn number_of(&mut self, reg: Reg) -> u8 {
        let number = self.assigned.get(reg.index()).copied().filter(|number| *number < 16);
        number.unwrap_or_else(|| {
            self.asm.fail(EmitError::Unknown { number: reg.0 });
            0
        })
    }

    fn slot(&mut self, slot: Slot) -> MemoryOperand {
        self.frame.slot(slot).unwrap_or_else(|| {
            self.asm.fail(EmitError::Unknown { number: slot.0 });
            frame::memory(Gpr::RBP, 0)
        })
    }

    fn address(&mut self, address: Address) -> MemoryOperand {
        let base = self.reg(address.base).r64();
        let (index, shift) = match address.index {
            Some((index, shift)) => (self.reg(index).r64(), shift),
            None => (Register::None, 0),
        };
        if shift > 3 {
            self.asm.fail(EmitError::Operand);
        }
        let displacement = i64::from(address.offset);
        let scale = 1 << shift.min(3);
        MemoryOperand::new(
            base,
            index,
            scale,
            displacement,
            u32::from(displacement != 0),
            false,
            Register::None,
        )
    }

    fn finish(self) -> Result<Emitted, EmitError> {
        let stack = self.frame.stack();
        let mut encoded = self.asm.finish()?;
        let mut bytes = mem::take(&mut encoded.bytes);
        let mut references = Vec::new();
        for (index, to) in self.references {
            let field = encoded.offset(index + 1).checked_sub(4).ok_or(EmitError::Far)?;
            let written = bytes.get_mut(field as usize..).and_then(<[u8]>::first_chunk_mut::<4>);
            *written.ok_or(EmitError::Far)? = [0; 4];
            references.push(Reference { form: Form::Distance, at: field, to, addend: -4 });
        }
        let step = |(index, change)| FrameStep { offset: encoded.offset(index), change };
        let code = Code {
            bytes: bytes.into(),
            length: encoded.code_bytes,
            locations: self.locations.iter().map(|(index, at)| (encoded.offset(*index), *at)).collect(),
            traps: self.traps.iter().map(|(index, probe)| (encoded.offset(*index), *probe)).collect(),
            references,
            frame: self.steps.into_iter().map(step).collect(),
        };
        Ok(Emitted { code, stack })
    }
}
