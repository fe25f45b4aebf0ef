//! Made programs of any size, in the shapes that are hard on compilers in different ways.

use std::sync::Arc;

use bpf_arena::bpf_object::{BPF_F_MMAPABLE, Linkage, MapSpec, MapType, Program, Subprogram};
use bpf_arena::isa::{
    AluOp, CallTarget, Code, Cond, Imm64, Insn, InsnIdx, JumpForm, Operand, Reg, Size, Width,
};
use fastrand::Rng;

/// What a program mostly consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One block of arithmetic and arena accesses.
    Straight,
    /// Short branches, one after the other.
    Branches,
    /// Functions of one length, up to as many as the verifier allows.
    Functions,
    /// Small loops, one after the other.
    Loops,
    /// One loop around everything. Branches in it would be too much for the verifier.
    OneLoop,
    /// One block of arithmetic on all of the stack: many more values live at once than there are registers.
    Stack,
}

/// Scalars that steps work on. `r6` points into the arena, `r9` to the context.
const SCALARS: [Reg; 5] = [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5];
const ARENA: Reg = Reg::R6;
const CTX: Reg = Reg::R9;
/// Eights of bytes of the stack.
const SLOTS: i16 = 60;
/// Most functions besides the entry; the verifier takes 256.
const FUNCTIONS: usize = 250;
/// Instructions of a function: with the most of them, the largest program.
const FUNCTION_INSNS: usize = 400;

impl Shape {
    pub(super) const ALL: [Self; 6] =
        [Self::Straight, Self::Branches, Self::Functions, Self::Loops, Self::OneLoop, Self::Stack];

    /// A program of about so many instructions, always the same.
    pub(super) fn program(self, size: usize) -> Program {
        let mut maker = Maker { code: Code::new(), rng: Rng::with_seed(size as u64) };
        let mut starts = vec![0];
        maker.entry();
        match self {
            Self::Straight => maker.fill(size, Maker::step),
            Self::Branches => maker.fill(size, Maker::triangle),
            Self::Loops => maker.fill(size, Maker::small_loop),
            Self::OneLoop => maker.big_loop(size),
            Self::Stack => maker.stack(size),
            Self::Functions => {
                starts = maker.functions(size);
                return finish(maker.code, &starts);
            }
        }
        maker.push(Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Reg(Reg::R1) });
        maker.push(Insn::Exit);
        finish(maker.code, &starts)
    }
}

fn finish(code: Code, starts: &[u32]) -> Program {
    let end = u32::try_from(code.len()).unwrap_or(u32::MAX);
    let mut program = Program::from_code("made", "syscall", code);
    let arena = MapSpec { max_entries: 16, flags: BPF_F_MMAPABLE, ..MapSpec::new("arena", MapType::Arena) };
    program.maps = Arc::from([arena]);
    let ends = starts.iter().skip(1).copied().chain([end]);
    let named = |(number, (&start, end)): (usize, (&u32, u32))| Subprogram {
        name: format!("made_{number}"),
        start: InsnIdx(start),
        end: InsnIdx(end),
        btf_func: None,
        linkage: if number == 0 { Linkage::Global } else { Linkage::Static },
    };
    program.subprograms = starts.iter().zip(ends).enumerate().map(named).collect();
    program
}

/// A program that is being made.
struct Maker {
    code: Code,
    rng: Rng,
}

impl Maker {
    fn push(&mut self, insn: Insn) {
        self.code.push(insn);
    }

    fn fill(&mut self, size: usize, part: fn(&mut Self)) {
        while self.code.len() + 2 < size {
            part(self);
        }
    }

    /// Gives all registers a value that is not known.
    fn entry(&mut self) {
        // Naming the arena makes it the program's.
        self.push(Insn::LoadImm64 { dst: Reg::R0, value: Imm64::MapIdx(0) });
        self.push(Insn::Mov { width: Width::W64, dst: CTX, src: Operand::Reg(Reg::R1) });
        self.arguments();
        self.arena_pointer(Reg::R1);
    }

    fn arguments(&mut self) {
        for (dst, offset) in SCALARS.into_iter().zip((0..).step_by(8)) {
            self.push(Insn::Load { size: Size::DW, sign_extend: false, dst, base: CTX, offset });
        }
    }

    fn arena_pointer(&mut self, src: Reg) {
        self.push(Insn::AddrSpaceCast { dst: ARENA, src, dst_as: 0, src_as: 1 });
    }

    /// Fills the stack, and then computes on it.
    fn stack(&mut self, size: usize) {
        for slot in 1..=SLOTS {
            let src = Operand::Reg(self.scalar());
            self.push(Insn::Store { size: Size::DW, base: Reg::R10, offset: -8 * slot, src });
        }
        self.fill(size, |maker| {
            let (dst, other) = (maker.scalar(), maker.scalar());
            let offset = -8 * maker.rng.i16(1..=SLOTS);
            maker.push(Insn::Load { size: Size::DW, sign_extend: false, dst, base: Reg::R10, offset });
            let src = Operand::Reg(other);
            maker.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst, src });
            let offset = -8 * maker.rng.i16(1..=SLOTS);
            maker.push(Insn::Store { size: Size::DW, base: Reg::R10, offset, src: Operand::Reg(dst) });
        });
    }

    fn scalar(&mut self) -> Reg {
        self.rng.choice(SCALARS).unwrap_or(Reg::R1)
    }

    fn offset(&mut self) -> i16 {
        8 * self.rng.i16(0..256)
    }

    /// Arithmetic, mostly; now and then an access of the arena.
    fn step(&mut self) {
        const OPS: [AluOp; 8] =
            [AluOp::Add, AluOp::Sub, AluOp::Xor, AluOp::And, AluOp::Or, AluOp::Mul, AluOp::Lsh, AluOp::Rsh];
        let (dst, other) = (self.scalar(), self.scalar());
        let insn = match self.rng.u8(..12) {
            0 => {
                let size = self.rng.choice([Size::B, Size::H, Size::W, Size::DW]).unwrap_or(Size::DW);
                Insn::Load { size, sign_extend: false, dst, base: ARENA, offset: self.offset() }
            }
            1 => Insn::Store { size: Size::DW, base: ARENA, offset: self.offset(), src: Operand::Reg(other) },
            2 => Insn::AddrSpaceCast { dst: ARENA, src: other, dst_as: 0, src_as: 1 },
            _ => {
                let width = if self.rng.bool() { Width::W64 } else { Width::W32 };
                let op = self.rng.choice(OPS).unwrap_or(AluOp::Add);
                let shift = matches!(op, AluOp::Lsh | AluOp::Rsh);
                let src = match self.rng.bool() || shift {
                    true => Operand::Imm(self.rng.i32(1..32)),
                    false => Operand::Reg(other),
                };
                Insn::Alu { width, op, dst, src }
            }
        };
        self.push(insn);
    }

    /// A branch over five steps, on a value from the arena. The verifier takes no more than 8192 branches on a path.
    fn triangle(&mut self) {
        self.push(Insn::Load { size: Size::W, sign_extend: false, dst: Reg::R0, base: ARENA, offset: 0 });
        let src = Operand::Imm(self.rng.i32(1..1000));
        self.push(Insn::Branch { width: Width::W64, cond: Cond::Gt, dst: Reg::R0, src, offset: 5 });
        for _ in 0..12 {
            self.step();
        }
    }

    /// A loop of ten steps that goes on while the arena says so.
    fn small_loop(&mut self) {
        let first = self.code.len();
        self.push(Insn::MayGoto { offset: 13 });
        self.push(Insn::Load { size: Size::W, sign_extend: false, dst: Reg::R0, base: ARENA, offset: 0 });
        let src = Operand::Imm(0);
        self.push(Insn::Branch { width: Width::W64, cond: Cond::Eq, dst: Reg::R0, src, offset: 11 });
        for _ in 0..10 {
            self.step();
        }
        debug_assert_eq!(self.code.len() - first, 13, "what the jumps count on");
        self.push(Insn::Jump { form: JumpForm::Short, offset: -14 });
    }

    fn big_loop(&mut self, size: usize) {
        let first = self.code.len();
        self.push(Insn::MayGoto { offset: 1 });
        self.push(Insn::Jump { form: JumpForm::Short, offset: 1 });
        let out = self.code.len();
        self.push(Insn::Jump { form: JumpForm::Long, offset: 0 });
        self.fill(size, Self::step);
        let last = self.code.len();
        self.push(Insn::Jump { form: JumpForm::Long, offset: distance(last, first) });
        let leave = Insn::Jump { form: JumpForm::Long, offset: distance(out, last + 1) };
        self.code.replace(InsnIdx(u32::try_from(out).unwrap_or(u32::MAX)), leave);
    }

    /// The entry calls all others; gives where each begins.
    fn functions(&mut self, size: usize) -> Vec<u32> {
        const CALL: usize = SCALARS.len() + 1;
        let count = (size / FUNCTION_INSNS).clamp(1, FUNCTIONS);
        let body = size / count - CALL;
        let entry_end = self.code.len() + count * CALL + 2;
        let mut starts = vec![0];
        for number in 0..count {
            self.arguments();
            let here = self.code.len();
            let offset = distance(here, entry_end + number * body);
            self.push(Insn::Call { target: CallTarget::Local(offset) });
        }
        self.push(Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(0) });
        self.push(Insn::Exit);
        for _ in 0..count {
            let start = self.code.len();
            starts.push(u32::try_from(start).unwrap_or(u32::MAX));
            self.arena_pointer(Reg::R1);
            while self.code.len() + 16 < start + body {
                self.triangle();
            }
            while self.code.len() + 2 < start + body {
                self.step();
            }
            self.push(Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Reg(Reg::R1) });
            self.push(Insn::Exit);
        }
        starts
    }
}

/// What a jump at `from` to `to` has as its offset.
fn distance(from: usize, to: usize) -> i32 {
    let difference = to as i64 - from as i64 - 1;
    i32::try_from(difference).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bpf_arena::verifier::{Env, verify};

    use super::*;

    #[test]
    fn every_shape_is_accepted_and_as_large_as_asked_for() {
        for shape in Shape::ALL {
            for size in [1_000, 3_000] {
                let program = shape.program(size);
                let len = program.code.len();
                assert!((size * 9 / 10..size * 11 / 10).contains(&len), "{shape:?}: {len} for {size}");
                verify(&program, &Env::default()).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
            }
        }
    }
}
