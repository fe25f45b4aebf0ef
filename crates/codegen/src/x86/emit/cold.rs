//! Parts that are made here and rarely executed, behind the blocks that are.

use std::mem::{offset_of, take};

use iced_x86::{Code, Instruction};
use isa::Width;

use super::encode::{Gpr, Label};
use super::frame::field;
use super::{EmitError, Emitter, Target, codes};
use crate::Import;
use crate::abi::VmContext;
use crate::flow::At;
use crate::lower::stub::StubOf;
use crate::x86::insn::{Alu, Cc, Slot, Src};

/// A cold part, and where it goes from there.
pub(super) enum Cold {
    /// `dst = a / b` where `b` is 0 or, in a division with sign, -1.
    Division {
        at: Option<At>,
        width: Width,
        remainder: bool,
        dst: Gpr,
        a: Gpr,
        zero: Label,
        minus_one: Option<Label>,
        back: Label,
    },
    /// `few` iterations are left: the subtraction of `number` wrapped. With a `state`, the runtime is asked for more.
    Budget { at: At, left: Src, state: Option<Slot>, number: i32, few: Label, enough: Label, short: Label },
    /// The runtime is asked whether the run is to end.
    Look { at: At, asked: Label, taken: Label, next: Label },
}

/// What a question overwrites: the arguments of stubs, which keep all else.
const ASKING: [Gpr; 3] = [Gpr::RDI, Gpr::RSI, Gpr::RDX];

impl Emitter<'_> {
    /// Writes the parts that are wanted so far.
    pub(super) fn cold_parts(&mut self) {
        for cold in take(&mut self.cold) {
            match cold {
                Cold::Division { at, width, remainder, dst, a, zero, minus_one, back } => {
                    if let Some(at) = at {
                        self.locate(at);
                    }
                    self.asm.bind(zero);
                    if remainder {
                        self.mov_register(width, dst, a);
                    } else {
                        self.number(width, dst, 0);
                    }
                    self.asm.branch(Code::Jmp_rel32_64, back);
                    let Some(minus_one) = minus_one else { continue };
                    self.asm.bind(minus_one);
                    if remainder {
                        self.number(width, dst, 0);
                    } else {
                        self.copy(width, dst, a);
                        self.neg(width, dst);
                    }
                    self.asm.branch(Code::Jmp_rel32_64, back);
                }
                Cold::Budget { at, left, state, number, few, enough, short } => {
                    self.locate(at);
                    self.asm.bind(few);
                    if let Some(state) = state {
                        self.ask_for_more(at, left, state);
                        self.asm.branch(codes::jump_if(Cc::Below), enough);
                    }
                    self.budget(Alu::Add, left, number);
                    self.asm.branch(Code::Jmp_rel32_64, short);
                }
                Cold::Look { at, asked, taken, next } => {
                    self.locate(at);
                    self.asm.bind(asked);
                    self.ask_whether_to_end(at);
                    self.asm.branch(codes::jump_if(Cc::NotEqual), taken);
                    self.asm.branch(Code::Jmp_rel32_64, next);
                }
            }
        }
    }

    /// Adds what the runtime gives to what is left: what is left then has wrapped back, which carries, if it is enough.
    fn ask_for_more(&mut self, at: At, left: Src, state: Slot) {
        let state = self.slot(state);
        self.save();
        self.load_context();
        self.load_slot(Width::W64, Gpr::RSI, state);
        self.number(Width::W64, Gpr::RDX, i64::from(at.insn.0));
        self.call_stub(StubOf::Loops);
        self.load_slot(Width::W64, Gpr::RSI, field(Gpr::RDI, offset_of!(VmContext, loops_left)));
        self.asm.put(Instruction::with2(Code::Mov_rm64_r64, state, Gpr::RSI.r64()));
        self.load_slot(Width::W64, Gpr::RDX, field(Gpr::RDI, offset_of!(VmContext, answer)));
        match left {
            Src::Slot(left) => {
                let left = self.slot(left);
                self.asm.put(Instruction::with2(Code::Add_rm64_r64, left, Gpr::RDX.r64()));
                self.restore();
            }
            // It may be one of those that are restored.
            Src::Reg(left) => {
                let left = self.reg(left).r64();
                let given = self.frame.own(1);
                self.load_slot(Width::W64, Gpr::RSI, given);
                self.asm.put(Instruction::with2(Code::Mov_rm64_r64, given, Gpr::RDX.r64()));
                for (register, place) in [(Gpr::RDI, 0), (Gpr::RDX, 2)] {
                    let place = self.frame.own(place);
                    self.load_slot(Width::W64, register, place);
                }
                self.asm.put(Instruction::with2(Code::Add_r64_rm64, left, given));
            }
            Src::Imm(_) => self.asm.fail(EmitError::Operand),
        }
    }

    /// Leaves the flags so that "not equal" means that the run is to end.
    fn ask_whether_to_end(&mut self, at: At) {
        self.save();
        self.load_context();
        self.number(Width::W64, Gpr::RSI, i64::from(at.insn.0));
        self.number(Width::W64, Gpr::RDX, i64::from(at.insn.0));
        self.call_stub(StubOf::Call(Import::MustEnd));
        let answer = field(Gpr::RDI, offset_of!(VmContext, answer));
        self.asm.put(Instruction::with2(codes::cmp(Width::W64).byte, answer, 0));
        self.restore();
    }

    fn call_stub(&mut self, of: StubOf) {
        let number = (self.stub)(of);
        self.call_target(Target::Stub(number));
    }

    fn save(&mut self) {
        for (register, place) in ASKING.into_iter().zip(0..) {
            let place = self.frame.own(place);
            self.asm.put(Instruction::with2(Code::Mov_rm64_r64, place, register.r64()));
        }
    }

    /// Keeps flags.
    fn restore(&mut self) {
        for (register, place) in ASKING.into_iter().zip(0..) {
            let place = self.frame.own(place);
            self.load_slot(Width::W64, register, place);
        }
    }
}
