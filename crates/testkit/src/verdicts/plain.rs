//! Random programs in `SEC("syscall")` that need nothing but an arena and a map, so that they can be run here.
//!
//! They are made of arithmetic on numbers and pointers, branches,
//! the context, the stack with spills, a map value, the arena, helpers without arguments, static functions. Most
//! instructions are chosen so that they may well be fine, or the first one would always be refused.

use std::sync::Arc;

use bpf_object::{Linkage, MapSpec, Program, Subprogram};
use fastrand::Rng;
use isa::{
    AluOp, AtomicOp, CallTarget, Code, Cond, Imm64, Insn, InsnIdx, JumpForm, Operand, Reg, Size, Width,
};

/// Index of the arena among the program's maps.
const ARENA: u32 = 0;
/// Index of the array map.
const ARRAY: u32 = 1;

/// A random program; the same seed gives the same program.
#[must_use]
pub fn generate(seed: u64) -> Program {
    let mut maker = Maker { rng: Rng::with_seed(seed), insns: Vec::new() };
    let with_function = maker.rng.u8(..4) == 0;
    maker.prologue();
    let count = maker.rng.usize(3..30);
    for _ in 0..count {
        maker.insn();
    }
    if with_function {
        maker.insns.push(Insn::Call { target: CallTarget::Local(0) });
    }
    maker.epilogue();
    let main = maker.insns.len();
    if with_function {
        let count = maker.rng.usize(1..8);
        for _ in 0..count {
            maker.insn();
        }
        maker.epilogue();
    }
    maker.program(main, with_function)
}

/// The maps of these programs: an arena and an array of one value, the first two of [`maps`](super::maps).
#[must_use]
pub fn simple_maps() -> Arc<[MapSpec]> {
    super::maps().iter().take(2).cloned().collect()
}

/// Registers with a role: `r6` context, `r7` map value, `r8` arena pointer, `r9` a number; the others change.
struct Maker {
    rng: Rng,
    insns: Vec<Insn>,
}

impl Maker {
    fn prologue(&mut self) {
        let mov = |dst, src| Insn::Mov { width: Width::W64, dst, src: Operand::Reg(src) };
        let imm = |dst, value| Insn::Mov { width: Width::W64, dst, src: Operand::Imm(value) };
        let size = self.size();
        self.insns.extend([
            Insn::LoadImm64 { dst: Reg::R0, value: Imm64::MapIdx(ARENA) },
            mov(Reg::R6, Reg::R1),
            Insn::LoadImm64 { dst: Reg::R7, value: Imm64::MapIdxValue { map: ARRAY, offset: 0 } },
            imm(Reg::R8, 4096),
            Insn::AddrSpaceCast { dst: Reg::R8, src: Reg::R8, dst_as: 0, src_as: 1 },
            Insn::Load { size, sign_extend: false, dst: Reg::R9, base: Reg::R6, offset: 0 },
            imm(Reg::R0, 0),
            imm(Reg::R2, 1),
            mov(Reg::R3, Reg::R9),
            mov(Reg::R4, Reg::R10),
            imm(Reg::R5, -1),
        ]);
    }

    fn epilogue(&mut self) {
        self.insns.push(Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(0) });
        self.insns.push(Insn::Exit);
    }

    fn program(self, main: usize, with_function: bool) -> Program {
        let mut code = Code::new();
        let mut starts = Vec::new();
        for insn in &self.insns {
            starts.push(code.push(*insn));
        }
        let boundary = starts.get(main).copied();
        if let Some(start) = boundary.filter(|_| with_function) {
            // The call was emitted before its target was known: it is the third instruction before the boundary.
            if let Some(at) = main.checked_sub(3).and_then(|i| starts.get(i)).copied() {
                let offset = i32::try_from(i64::from(start.0) - i64::from(at.0) - 1).unwrap_or(0);
                code.replace(at, Insn::Call { target: CallTarget::Local(offset) });
            }
        }
        let mut program = Program::from_code("generated", "syscall", code);
        program.maps = simple_maps();
        if let (true, Some(start), Some(entry)) = (with_function, boundary, program.subprograms.first_mut()) {
            let end = std::mem::replace(&mut entry.end, start);
            let (name, linkage) = ("helper".to_owned(), Linkage::Static);
            program.subprograms.push(Subprogram { name, start, end, btf_func: None, linkage });
        }
        program
    }

    fn insn(&mut self) {
        let insn = match self.rng.u8(..24) {
            0..=5 => self.alu(),
            6 | 7 => Insn::Mov { width: self.width(), dst: self.target(), src: self.operand() },
            8 => Insn::MovSx { width: Width::W64, from: self.narrow(), dst: self.target(), src: self.any() },
            9 => {
                let (dst_as, src_as) = if self.rng.u8(..4) == 0 { (1, 0) } else { (0, 1) };
                Insn::AddrSpaceCast { dst: self.target(), src: self.any(), dst_as, src_as }
            }
            10..=12 => {
                let (base, offset, size) = self.place();
                let sign_extend = size != Size::DW && self.rng.u8(..4) == 0;
                Insn::Load { size, sign_extend, dst: self.target(), base, offset }
            }
            13..=15 => {
                let (base, offset, size) = self.place();
                Insn::Store { size, base, offset, src: self.operand() }
            }
            16 => self.atomic(),
            17..=19 => return self.branch(),
            20 => {
                let number = self.rng.choice([5, 7, 8]).unwrap_or(7);
                self.insns.push(Insn::Call { target: CallTarget::Helper(number) });
                return self.refill();
            }
            21 | 22 => return self.bounded_index(),
            _ => return self.looped(),
        };
        self.insns.push(insn);
    }

    /// After a call: gives the argument registers something again.
    fn refill(&mut self) {
        for dst in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
            let src = match self.rng.u8(..4) {
                0 => Operand::Imm(self.imm()),
                1 => Operand::Reg(Reg::R10),
                2 => Operand::Reg(Reg::R0),
                _ => Operand::Reg(self.saved()),
            };
            self.insns.push(Insn::Mov { width: Width::W64, dst, src });
        }
    }

    /// `r3 = r9 & mask; r4 = pointer + r3; access *r4`: what programs do with indices.
    fn bounded_index(&mut self) {
        let mask = self.rng.choice([7, 15, 31, 56, 63, 127]).unwrap_or(7);
        let base = if self.rng.bool() { Reg::R7 } else { Reg::R10 };
        let size = self.size();
        let offset = if base == Reg::R7 { 0 } else { self.rng.choice([-64, -72, -128]).unwrap_or(-64) };
        let mov = |dst, src| Insn::Mov { width: Width::W64, dst, src: Operand::Reg(src) };
        self.insns.extend([
            mov(Reg::R3, Reg::R9),
            Insn::Alu { width: Width::W64, op: AluOp::And, dst: Reg::R3, src: Operand::Imm(mask) },
            mov(Reg::R4, base),
            Insn::Alu { width: Width::W64, op: AluOp::Add, dst: Reg::R4, src: Operand::Reg(Reg::R3) },
        ]);
        let insn = if self.rng.bool() {
            Insn::Load { size, sign_extend: false, dst: Reg::R5, base: Reg::R4, offset }
        } else {
            Insn::Store { size, base: Reg::R4, offset, src: Operand::Imm(0) }
        };
        self.insns.push(insn);
    }

    /// A loop: with a budget, or a counter in `r2` that the body may spoil.
    fn looped(&mut self) {
        let start = self.insns.len();
        let counted = self.rng.bool();
        if counted {
            self.insns.push(Insn::Mov { width: Width::W64, dst: Reg::R2, src: Operand::Imm(0) });
        }
        let again = self.insns.len();
        if !counted {
            self.insns.push(Insn::MayGoto { offset: 0 });
        }
        for _ in 0..self.rng.usize(1..5) {
            self.insn();
        }
        if self.insns.len() > start + 60 {
            // Loops in loops in loops take too long to unroll.
            self.insns.truncate(start);
            return;
        }
        let one = Operand::Imm(1);
        self.insns.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: Reg::R2, src: one });
        let slots = |insns: &[Insn]| insns.iter().map(|i| i64::from(i.slots())).sum::<i64>();
        let back = -slots(self.insns.get(again..).unwrap_or_default()) - 1;
        if counted {
            let (offset, src) = (i16::try_from(back).unwrap_or(0), Operand::Imm(self.rng.i32(1..20)));
            let (width, cond) = (Width::W64, Cond::Lt);
            self.insns.push(Insn::Branch { width, cond, dst: Reg::R2, src, offset });
        } else {
            let offset = i32::try_from(back).unwrap_or(0);
            self.insns.push(Insn::Jump { form: JumpForm::Short, offset });
            let over = slots(self.insns.get(again + 1..).unwrap_or_default());
            if let Some(first) = self.insns.get_mut(again) {
                *first = Insn::MayGoto { offset: i16::try_from(over).unwrap_or(0) };
            }
        }
    }

    fn alu(&mut self) -> Insn {
        let op = self.rng.choice(AluOp::ALL).unwrap_or(AluOp::Add);
        let shift = matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh);
        let src =
            if shift && self.rng.u8(..8) != 0 { Operand::Imm(self.rng.i32(0..34)) } else { self.operand() };
        // Mostly on numbers: nearly everything is forbidden on pointers.
        let dst = if self.rng.u8(..10) == 0 { self.any() } else { self.number() };
        let src = match src {
            Operand::Reg(_) if self.rng.u8(..10) != 0 => Operand::Reg(self.number()),
            other => other,
        };
        Insn::Alu { width: self.width(), op, dst, src }
    }

    fn atomic(&mut self) -> Insn {
        let (base, offset, size) = self.place();
        let size = if size == Size::DW { Size::DW } else { Size::W };
        let op = self
            .rng
            .choice([
                AtomicOp::Add,
                AtomicOp::Or,
                AtomicOp::And,
                AtomicOp::Xor,
                AtomicOp::Xchg,
                AtomicOp::CmpXchg,
            ])
            .unwrap_or(AtomicOp::Add);
        let fetch = matches!(op, AtomicOp::Xchg | AtomicOp::CmpXchg) || self.rng.bool();
        let align = i16::from(size.bytes());
        Insn::Atomic { size, op, fetch, base, offset: offset / align * align, src: self.number() }
    }

    /// A forward branch over an instruction or two.
    fn branch(&mut self) {
        let cond = self.rng.choice(Cond::ALL).unwrap_or(Cond::Eq);
        let dst = if self.rng.u8(..6) == 0 { self.any() } else { self.number() };
        let src = self.operand();
        let at = self.insns.len();
        self.insns.push(Insn::Jump { form: JumpForm::Short, offset: 0 });
        for _ in 0..self.rng.usize(1..4) {
            self.insn();
        }
        let slots: u32 = self.insns.iter().skip(at + 1).map(Insn::slots).sum();
        let offset = i16::try_from(slots).unwrap_or(0);
        let width = self.width();
        if let Some(jump) = self.insns.get_mut(at) {
            *jump = Insn::Branch { width, cond, dst, src, offset };
        }
    }

    /// An address that may well be fine, with a size.
    fn place(&mut self) -> (Reg, i16, Size) {
        let size = self.size();
        let bytes = i16::from(size.bytes());
        let aligned = self.rng.u8(..12) != 0;
        let slack = if aligned { 0 } else { 1 };
        match self.rng.u8(..10) {
            0..=3 => (Reg::R10, -bytes * self.rng.i16(1..6) + slack, size),
            4 => (Reg::R6, bytes * self.rng.i16(0..4) + slack, size),
            5 | 6 => (Reg::R7, self.rng.i16(0..66 - bytes), size),
            7 | 8 => (Reg::R8, self.rng.i16(-64..64), size),
            _ => (self.any(), self.rng.i16(-16..16), size),
        }
    }

    fn operand(&mut self) -> Operand {
        match self.rng.u8(..8) {
            0..=2 => Operand::Imm(self.imm()),
            3 => Operand::Reg(self.any()),
            _ => Operand::Reg(self.number()),
        }
    }

    fn imm(&mut self) -> i32 {
        match self.rng.u8(..4) {
            0 => self.rng.i32(-16..64),
            1 => 1 << self.rng.u8(..31),
            2 => self.rng.choice([0, 1, -1, i32::MAX, i32::MIN, 0xff, 0xffff, 8, 16]).unwrap_or(0),
            _ => self.rng.i32(..),
        }
    }

    fn width(&mut self) -> Width {
        if self.rng.u8(..3) == 0 { Width::W32 } else { Width::W64 }
    }

    fn size(&mut self) -> Size {
        self.rng.choice([Size::B, Size::H, Size::W, Size::DW, Size::DW]).unwrap_or(Size::DW)
    }

    fn narrow(&mut self) -> Size {
        self.rng.choice([Size::B, Size::H, Size::W]).unwrap_or(Size::W)
    }

    fn any(&mut self) -> Reg {
        Reg::new(self.rng.u8(..11)).unwrap_or(Reg::R0)
    }

    fn saved(&mut self) -> Reg {
        self.rng.choice([Reg::R6, Reg::R7, Reg::R8, Reg::R9]).unwrap_or(Reg::R9)
    }

    /// A register that usually holds a number.
    fn number(&mut self) -> Reg {
        self.rng.choice([Reg::R0, Reg::R2, Reg::R3, Reg::R5, Reg::R9]).unwrap_or(Reg::R9)
    }

    /// A register to write; those with a role seldom.
    fn target(&mut self) -> Reg {
        if self.rng.u8(..16) == 0 {
            self.any()
        } else {
            self.rng.choice([Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5]).unwrap_or(Reg::R0)
        }
    }
}

/// The instruction a text of the program would number so, for messages.
#[must_use]
pub fn listing(program: &Program) -> String {
    program.code.iter().map(|(at, insn): (InsnIdx, Insn)| format!("{at:4}: {insn}\n")).collect()
}
