//! Calls of the runtime and of subprograms.

use std::mem::offset_of;

use iced_x86::{Code, Instruction};
use isa::Width;

use super::encode::{Assembler, Gpr};
use super::frame::{ARGUMENTS, field, memory};
use super::moves::Place;
use super::{EmitError, Emitter, Target};
use crate::abi::VmContext;
use crate::x86::insn::{Callee, Reg, Src};

impl Emitter<'_> {
    /// `dst = callee(context, args)`.
    pub(super) fn call(&mut self, callee: Callee, args: &[Src], dst: Option<Reg>) {
        let places = args.iter().map(|arg| self.place(*arg)).collect::<Vec<_>>();
        let in_registers = ARGUMENTS.into_iter().map(Place::Register).zip(places.iter().copied());
        let mut moves: Vec<_> = in_registers.collect();
        let on_stack = places.get(ARGUMENTS.len()).copied();
        let passed = memory(Gpr::RSP, 0);
        if let Some(from @ Place::Register(_)) = on_stack {
            moves.push((Place::Memory(passed), from));
        }
        self.parallel(moves);
        match on_stack {
            None | Some(Place::Register(_)) => {}
            // `rax` is no argument: whatever was in it has been moved.
            Some(Place::Memory(from)) => {
                self.load_slot(Width::W64, Gpr::RAX, from);
                self.asm.put(Instruction::with2(Code::Mov_rm64_r64, passed, Gpr::RAX.r64()));
            }
            Some(Place::Number(value)) => {
                self.number(Width::W64, Gpr::RAX, value);
                self.asm.put(Instruction::with2(Code::Mov_rm64_r64, passed, Gpr::RAX.r64()));
            }
        }
        self.load_context();
        let most = match callee {
            Callee::Import(offset) => {
                let imports = field(Gpr::RDI, offset_of!(VmContext, imports));
                self.load_slot(Width::W64, Gpr::RAX, imports);
                let function = memory(Gpr::RAX, i64::from(offset));
                self.asm.put(Instruction::with1(Code::Call_rm64, function));
                ARGUMENTS.len()
            }
            Callee::Subprogram(index) => {
                self.call_target(Target::Subprogram(index));
                ARGUMENTS.len() + 1
            }
        };
        if args.len() > most {
            self.asm.fail(EmitError::Operand);
        }
        if let Some(dst) = dst {
            let dst = self.reg(dst);
            self.copy(Width::W64, dst, Gpr::RAX);
        }
    }

    /// `dst =` the address of a subprogram.
    pub(super) fn subprogram(&mut self, dst: Reg, index: usize) {
        let dst = self.reg(dst).r64();
        self.refers(Target::Subprogram(index));
        self.asm.put(Instruction::with2(Code::Lea_r64_m, dst, Assembler::at(self.start)));
    }

    /// Calls what the linker fills in.
    pub(super) fn call_target(&mut self, target: Target) {
        self.refers(target);
        self.asm.branch(Code::Call_rel32_64, self.start);
    }

    /// The first argument.
    pub(super) fn load_context(&mut self) {
        let context = self.slot(self.function.context);
        self.load_slot(Width::W64, Gpr::RDI, context);
    }

    /// Where an operand is.
    fn place(&mut self, src: Src) -> Place {
        match src {
            Src::Reg(reg) => Place::Register(self.reg(reg)),
            Src::Imm(value) => Place::Number(value),
            Src::Slot(slot) => Place::Memory(self.slot(slot)),
        }
    }

    /// Moves an operand to a register.
    pub(super) fn fetch(&mut self, to: Gpr, src: Src) {
        let place = self.place(src);
        self.parallel(vec![(Place::Register(to), place)]);
    }
}
