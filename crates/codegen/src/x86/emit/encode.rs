//! Machine instructions in a row, and the bytes that they are.
//!
//! Labels stand in the place of addresses until the end: the target of a jump and the displacement of memory behind the code is the
//! number of a [`Label`].

use std::collections::HashMap;

use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Code, IcedError, Instruction, InstructionBlock, MemoryOperand, OpKind,
    Register,
};
use isa::Width;

use super::EmitError;

/// A general-purpose register of the machine, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gpr(pub(super) u8);

impl Gpr {
    pub(super) const RAX: Self = Self(0);
    pub(super) const RCX: Self = Self(1);
    pub(super) const RDX: Self = Self(2);
    pub(super) const RSP: Self = Self(4);
    pub(super) const RBP: Self = Self(5);
    pub(super) const RSI: Self = Self(6);
    pub(super) const RDI: Self = Self(7);
    pub(super) const R8: Self = Self(8);
    pub(super) const R9: Self = Self(9);

    /// All 64 bits.
    pub(super) fn r64(self) -> Register {
        use Register::{R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP};
        self.of([RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15])
    }

    /// The low 32 bits.
    pub(super) fn r32(self) -> Register {
        use Register::{
            EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP, R8D, R9D, R10D, R11D, R12D, R13D, R14D, R15D,
        };
        self.of([EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, R8D, R9D, R10D, R11D, R12D, R13D, R14D, R15D])
    }

    /// The low 16 bits.
    pub(super) fn r16(self) -> Register {
        use Register::{AX, BP, BX, CX, DI, DX, R8W, R9W, R10W, R11W, R12W, R13W, R14W, R15W, SI, SP};
        self.of([AX, CX, DX, BX, SP, BP, SI, DI, R8W, R9W, R10W, R11W, R12W, R13W, R14W, R15W])
    }

    /// The low 8 bits.
    pub(super) fn r8(self) -> Register {
        use Register::{AL, BL, BPL, CL, DIL, DL, R8L, R9L, R10L, R11L, R12L, R13L, R14L, R15L, SIL, SPL};
        self.of([AL, CL, DL, BL, SPL, BPL, SIL, DIL, R8L, R9L, R10L, R11L, R12L, R13L, R14L, R15L])
    }

    /// As many bits as an operation has.
    pub(super) fn wide(self, width: Width) -> Register {
        match width {
            Width::W32 => self.r32(),
            Width::W64 => self.r64(),
        }
    }

    fn of(self, names: [Register; 16]) -> Register {
        names.get(usize::from(self.0)).copied().unwrap_or(Register::None)
    }
}

/// Which of two instructions an operation of this width is.
pub(super) fn pick(width: Width, narrow: Code, wide: Code) -> Code {
    match width {
        Width::W32 => narrow,
        Width::W64 => wide,
    }
}

/// A place in the code, or behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Label(u32);

/// What the machine instructions became.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    /// Where each instruction begins.
    offsets: Vec<u32>,
    /// Where the last one ends.
    pub(super) code_bytes: u32,
}

impl Encoded {
    /// Where an instruction begins; the one behind the last one where that ends.
    pub(super) fn offset(&self, index: usize) -> u32 {
        self.offsets.get(index).copied().unwrap_or(self.code_bytes)
    }
}

/// The machine instructions of a function. Mistakes are told at the end.
#[derive(Default)]
pub(super) struct Assembler {
    instructions: Vec<Instruction>,
    /// The instruction that each label is in front of.
    labels: Vec<Option<usize>>,
    constants: Vec<(u64, Label)>,
    known: HashMap<u64, Label>,
    failed: Option<EmitError>,
}

impl Assembler {
    /// The next instruction's index.
    pub(super) fn next(&self) -> usize {
        self.instructions.len()
    }

    /// Appends an instruction.
    pub(super) fn put(&mut self, made: Result<Instruction, IcedError>) {
        match made {
            Ok(instruction) => self.instructions.push(instruction),
            Err(error) => self.fail(EmitError::Encoding(error)),
        }
    }

    /// Appends an instruction that locks the bus.
    pub(super) fn put_locked(&mut self, made: Result<Instruction, IcedError>) {
        self.put(made.map(|mut instruction| {
            instruction.set_has_lock_prefix(true);
            instruction
        }));
    }

    /// Appends a jump or call.
    pub(super) fn branch(&mut self, code: Code, to: Label) {
        self.put(Instruction::with_branch(code, u64::from(to.0)));
    }

    /// Notes a mistake, the first of them.
    pub(super) fn fail(&mut self, error: EmitError) {
        self.failed.get_or_insert(error);
    }

    /// A label that is not anywhere yet.
    pub(super) fn label(&mut self) -> Label {
        let label = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.labels.push(None);
        Label(label)
    }

    /// The label is here.
    pub(super) fn bind(&mut self, label: Label) {
        let here = self.next();
        if let Some(place) = self.labels.get_mut(label.0 as usize) {
            *place = Some(here);
        }
    }

    /// Memory at a label.
    pub(super) fn at(label: Label) -> MemoryOperand {
        MemoryOperand::with_base_displ(Register::RIP, i64::from(label.0))
    }

    /// Memory behind the code that holds a number of 8 bytes.
    pub(super) fn constant(&mut self, value: i64) -> MemoryOperand {
        let value = value.cast_unsigned();
        let label = match self.known.get(&value) {
            Some(label) => *label,
            None => {
                let label = self.label();
                self.known.insert(value, label);
                self.constants.push((value, label));
                label
            }
        };
        Self::at(label)
    }

    /// The bytes.
    pub(super) fn finish(mut self) -> Result<Encoded, EmitError> {
        let code = self.instructions.len();
        for (value, label) in std::mem::take(&mut self.constants) {
            self.bind(label);
            self.put(Instruction::try_with_declare_qword_1(value));
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        for (index, instruction) in self.instructions.iter_mut().enumerate() {
            instruction.set_ip(address(index));
            place(instruction, &self.labels)?;
        }
        let block = InstructionBlock::new(&self.instructions, 0);
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let encoded = BlockEncoder::encode(64, block, options).map_err(EmitError::Encoding)?;
        let mut offsets = encoded.new_instruction_offsets;
        // One that was replaced by something longer.
        if offsets.contains(&u32::MAX) {
            return Err(EmitError::Far);
        }
        let bytes = encoded.code_buffer;
        let end = u32::try_from(bytes.len()).map_err(|_too_long| EmitError::Far)?;
        let code_bytes = offsets.get(code).copied().unwrap_or(end);
        offsets.truncate(code);
        Ok(Encoded { bytes, offsets, code_bytes })
    }
}

/// What an instruction's address is said to be: no two have the same, and none has 0.
fn address(index: usize) -> u64 {
    0x1000 + index as u64
}

/// Puts addresses in the place of labels.
fn place(instruction: &mut Instruction, labels: &[Option<usize>]) -> Result<(), EmitError> {
    let resolve = |label: u64| {
        let place = usize::try_from(label).ok().and_then(|label| labels.get(label).copied().flatten());
        place.map(address).ok_or(EmitError::Unbound)
    };
    if instruction.op0_kind() == OpKind::NearBranch64 {
        instruction.set_near_branch64(resolve(instruction.near_branch64())?);
    } else if instruction.memory_base() == Register::RIP {
        instruction.set_memory_displacement64(resolve(instruction.memory_displacement64())?);
    }
    Ok(())
}
