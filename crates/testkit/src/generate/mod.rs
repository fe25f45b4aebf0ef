//! Random programs that a verifier accepts by construction.
//!
//! A [`Case`] is a whole experiment: instructions, context, and which pages of the arena exist with what in them. It
//! follows from its seed alone. What a program computes ends up in memory that can be compared: before it exits it
//! writes its registers and stack slots to the end of the context.
//!
//! How acceptance is ensured: `r9` always points to the context and `r8` into arena space (any arithmetic is allowed on
//! it), all other registers are scalars at every boundary between statements, stack slots are written before anything
//! else, jumps go forward or are loops with a bound, and what the kernel forbids outright is never chosen.

mod flow;
mod loops;
mod memory;
mod scalar;
mod shapes;
mod streams;
mod walks;

use fastrand::Rng;
use isa::{Code, Imm64, Insn, Operand, Reg, Size, Width};

/// Bytes of the context that hold the program's input.
pub const INPUT_BYTES: usize = 64;
/// Bytes of the context that the program writes its registers and stack to.
pub const OUTPUT_BYTES: usize = 8 * (SCALARS.len() + 1 + SLOTS as usize);
/// Bytes of context.
pub const CTX_BYTES: usize = INPUT_BYTES + OUTPUT_BYTES;
/// Pages of the arena, present or missing.
pub const ARENA_PAGES: u32 = 16;
/// Entries of the array that programs may use beside the arena ([`Imm64::MapIdx`] 1).
pub const ARRAY_ENTRIES: u32 = 4;
/// Bytes of each of its values.
pub const ARRAY_VALUE_BYTES: u32 = 64;
/// Kernel functions that programs may call, in the order of their externs.
pub const KFUNCS: [&str; 3] = ["bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy"];
/// Where user space maps the arena: the low 32 bits are not 0, so that a wrong base does not go unnoticed.
pub const USER_VM_START: u64 = 0x1fe0_4000_0000;

const PAGE_BYTES: usize = 4096;
/// Scalars at every statement boundary.
const SCALARS: [Reg; 8] = [Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7];
/// Always an arena pointer.
const ARENA: Reg = Reg::R8;
/// Always the context.
const CTX: Reg = Reg::R9;
/// Stack slots of 8 bytes that hold scalars, at -8, -16 and so on.
const SLOTS: i16 = 8;
/// Where [`ARENA`] is spilled to.
const SPILL: i16 = -8 * (SLOTS + 1);
/// Where a loop counts.
const COUNTER: i16 = -8 * (SLOTS + 2);
/// Where an iterator is.
const ITER: i16 = -8 * (SLOTS + 3);
/// Where the key of an array is.
const KEY: i16 = -8 * (SLOTS + 4);
/// What a callback is given to work on.
const CELL: i16 = -8 * (SLOTS + 5);

/// Which instructions a program may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Everything that the running kernel has no equal for: random numbers of a seed, loops that only their budget
    /// ends, and instructions that Linux 6.18 on x86-64 cannot do on arena memory.
    pub beyond_kernel: bool,
    /// Shapes that passes of the code generator look for: selections, walks of arrays, copies, rotations, small functions,
    /// callbacks, iterators, lookups. They too go beyond what the comparison with the kernel is made for.
    pub shapes: bool,
    /// About how many statements the entry function has.
    pub statements: usize,
}

impl Default for Features {
    fn default() -> Self {
        Self { beyond_kernel: false, shapes: false, statements: 24 }
    }
}

/// A program with everything it is run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it was made from.
    pub seed: u64,
    /// The instructions. The arena is map 0 ([`Imm64::MapIdx`]).
    pub code: Code,
    /// Where each function starts, the entry first.
    pub functions: Vec<isa::InsnIdx>,
    /// The context, [`CTX_BYTES`] long.
    pub ctx: Vec<u8>,
    /// The pages that are present, by ascending index, with their contents.
    pub pages: Vec<(u32, Vec<u8>)>,
}

impl Case {
    /// The case of this seed. The same seed and features always give the same case.
    #[must_use]
    pub fn new(seed: u64, features: Features) -> Self {
        let mut generator = Generator {
            rng: Rng::with_seed(seed),
            features,
            functions: 0,
            leaves: 0,
            callbacks: 0,
            loops: false,
            endless: false,
            whole_slots: false,
            held: false,
        };
        let (code, functions) = generator.program();
        let mut ctx = vec![0; CTX_BYTES];
        let rng = &mut generator.rng;
        ctx.iter_mut().take(INPUT_BYTES).for_each(|byte| *byte = interesting_byte(rng));
        let pages = (0..ARENA_PAGES)
            .filter_map(|page| {
                let present = rng.u8(..) < 128;
                present.then(|| (page, (0..PAGE_BYTES).map(|_| rng.u8(..)).collect()))
            })
            .collect();
        Self { seed, code, functions, ctx, pages }
    }

    /// The program as assembly with a label for each function: what to look at when two engines differ.
    #[must_use]
    pub fn assembly(&self) -> String {
        let mut text = String::new();
        for (at, insn) in self.code.iter() {
            if let Some(number) = self.functions.iter().position(|start| *start == at) {
                text.push_str(&format!("fn{number}:\n"));
            }
            text.push_str(&format!("{at}: {insn}\n"));
        }
        text
    }
}

fn interesting_byte(rng: &mut Rng) -> u8 {
    match rng.u8(..4) {
        0 => 0,
        1 => 0xff,
        _ => rng.u8(..),
    }
}

/// State of the generation of one program.
struct Generator {
    rng: Rng,
    features: Features,
    /// Subprograms besides the entry.
    functions: usize,
    /// Small functions behind those.
    leaves: usize,
    /// Callbacks behind those.
    callbacks: usize,
    /// Whether the statement is inside a loop.
    loops: bool,
    /// Whether only its budget ends that loop.
    endless: bool,
    /// Whether stack slots are only accessed as a whole, as variables are.
    whole_slots: bool,
    /// Whether that loop counts in `r6` and `r7`, which statements leave alone.
    held: bool,
}

impl Generator {
    /// Functions with calls left open are joined, entry first; function `n` only calls those after it.
    fn program(&mut self) -> (Code, Vec<isa::InsnIdx>) {
        self.functions = usize::from(self.rng.u8(..3));
        if self.features.shapes {
            (self.leaves, self.callbacks) = (self.rng.usize(..3), self.rng.usize(..3));
            self.whole_slots = self.rng.bool();
        }
        let mut bodies: Vec<flow::Body> = (0..=self.functions).map(|number| self.function(number)).collect();
        bodies.extend((0..self.leaves).map(|_| self.leaf()));
        bodies.extend((0..self.callbacks).map(|_| self.callback()));
        flow::join(bodies)
    }

    fn function(&mut self, number: usize) -> flow::Body {
        let mut body = flow::Body::default();
        let is_entry = number == 0;
        if is_entry {
            // Naming the arena once makes it the program's.
            body.push(Insn::LoadImm64 { dst: Reg::R0, value: Imm64::MapIdx(0) });
            body.push(mov(CTX, Operand::Reg(Reg::R1)));
        } else {
            // The caller passes the context in r1 and scalars in the others.
            body.push(mov(CTX, Operand::Reg(Reg::R1)));
        }
        self.start_registers(&mut body, is_entry);
        let statements = if is_entry { self.features.statements } else { self.features.statements / 3 };
        self.statements(&mut body, number, statements, 0);
        if is_entry {
            // A function that nothing calls is refused as unreachable.
            for callee in 1..=self.functions {
                self.call_function(&mut body, callee);
            }
            for leaf in 0..self.leaves {
                self.call_leaf(&mut body, leaf);
            }
            for callback in 0..self.callbacks {
                self.call_back(&mut body, callback);
            }
            dump(&mut body);
        } else {
            body.push(Insn::Exit);
        }
        body
    }

    fn start_registers(&mut self, body: &mut flow::Body, is_entry: bool) {
        for reg in SCALARS {
            let given = !is_entry && (Reg::R2..=Reg::R5).contains(&reg);
            if !given {
                self.fresh_scalar(body, reg);
            }
        }
        for slot in 1..=SLOTS {
            let value =
                if self.rng.bool() { Operand::Reg(self.scalar_reg()) } else { Operand::Imm(self.imm()) };
            body.push(store(Size::DW, Reg::R10, -8 * slot, value));
        }
        self.arena_address(body, ARENA);
        body.push(store(Size::DW, Reg::R10, SPILL, Operand::Reg(ARENA)));
    }

    /// A scalar unknown to the verifier, mostly.
    fn fresh_scalar(&mut self, body: &mut flow::Body, reg: Reg) {
        match self.rng.u8(..4) {
            0 => body.push(mov(reg, Operand::Imm(self.imm()))),
            1 => {
                let value = Imm64::Const(self.rng.u64(..));
                body.push(Insn::LoadImm64 { dst: reg, value });
            }
            _ => {
                let offset = 8 * self.rng.i16(0..8);
                body.push(load(Size::DW, false, reg, CTX, offset));
            }
        }
    }

    /// A register that a statement may use as it likes.
    fn scalar_reg(&mut self) -> Reg {
        let reg = self.choose(&SCALARS);
        if self.held && reg >= Reg::R6 { self.choose(&Reg::ARGS) } else { reg }
    }

    /// One of the values, of which there must be one.
    #[allow(clippy::indexing_slicing, reason = "the index is drawn below the length")]
    fn choose<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.rng.usize(..among.len())]
    }

    /// Immediates at edges as often as in between.
    fn imm(&mut self) -> i32 {
        match self.rng.u8(..4) {
            0 => self.choose(&[0, 1, -1, 2, 31, 32, 63, 64, 0xff, 0xffff, i32::MAX, i32::MIN, 0x0101_0101]),
            1 => i32::from(self.rng.i8(..)),
            _ => self.rng.i32(..),
        }
    }
}

/// Writes everything a program computed behind the input in the context, and returns.
fn dump(body: &mut flow::Body) {
    let mut offset = i16::try_from(INPUT_BYTES).unwrap_or_default();
    let mut out = |body: &mut flow::Body, reg: Reg| {
        body.push(store(Size::DW, CTX, offset, Operand::Reg(reg)));
        offset += 8;
    };
    for reg in SCALARS {
        out(body, reg);
    }
    // A user pointer is a scalar; an arena pointer could not be written.
    body.push(Insn::AddrSpaceCast { dst: Reg::R1, src: ARENA, dst_as: 1, src_as: 0 });
    out(body, Reg::R1);
    for slot in 1..=SLOTS {
        body.push(load(Size::DW, false, Reg::R1, Reg::R10, -8 * slot));
        out(body, Reg::R1);
    }
    body.push(Insn::Exit);
}

fn mov(dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width: Width::W64, dst, src }
}

fn load(size: Size, sign_extend: bool, dst: Reg, base: Reg, offset: i16) -> Insn {
    Insn::Load { size, sign_extend, dst, base, offset }
}

fn store(size: Size, base: Reg, offset: i16, src: Operand) -> Insn {
    Insn::Store { size, base, offset, src }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_program() {
        let features = Features { beyond_kernel: true, ..Features::default() };
        for seed in 0..200 {
            let case = Case::new(seed, features);
            assert_eq!(case, Case::new(seed, features));
            let text = case.assembly();
            assert_eq!(isa::assemble(&text).map(|a| a.code), Ok(case.code), "seed {seed}");
        }
    }

    #[test]
    fn every_form_but_a_few_is_generated() {
        let features = Features { beyond_kernel: true, ..Features::default() };
        let mut seen = std::collections::HashSet::new();
        for seed in 0..3000 {
            seen.extend(
                Case::new(seed, features).code.iter().filter_map(|(_, i)| i.form()).map(|f| f.syntax),
            );
        }
        let never: Vec<&str> = isa::Form::all().map(|f| f.syntax).filter(|s| !seen.contains(s)).collect();
        // Maps other than the arena, callbacks, kernel functions and packets need more than instructions; no engine has
        // indirect jumps and calls.
        assert_eq!(
            never,
            [
                "r{dst} = map[fd:{int}]",
                "r{dst} = map[fd:{int}][0]+{next}",
                "r{dst} = btf_var[id:{int},fd:{next}]",
                "r{dst} = subprog[{func}]",
                "r{dst} = map[idx:{uint}][0]+{next}",
                "r0 = *(u32 *)skb[{int}]",
                "r0 = *(u16 *)skb[{int}]",
                "r0 = *(u8 *)skb[{int}]",
                "r0 = *(u32 *)skb[r{src} + {int}]",
                "r0 = *(u16 *)skb[r{src} + {int}]",
                "r0 = *(u8 *)skb[r{src} + {int}]",
                "call {kfunc}",
                "callx r{dst}",
                "gotox r{dst}",
            ]
        );
    }
}
