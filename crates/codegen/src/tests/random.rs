//! Whatever the program and its facts, compilation ends with code that is in order, or with an error.

use isa::{Code, Insn, InsnIdx, Operand, Reg, Width};
use verifier::{FrameFacts, InsnFacts, Memory};

use super::fixture::Fixture;
use super::structure::check;

/// Programs drawn at random.
const PROGRAMS: u64 = 400;

#[test]
fn random_programs_with_random_facts() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut compiled = 0;
    for seed in seed..seed + PROGRAMS {
        let fixture = random(&mut fastrand::Rng::with_seed(seed));
        for result in [fixture.compile(), fixture.compile_checked()] {
            match result {
                Ok(code) => {
                    compiled += 1;
                    check(&fixture, &code);
                }
                Err(error) => {
                    let defect = matches!(
                        error,
                        crate::CompileError::UnskippableAccess { .. }
                            | crate::CompileError::Unresolved { .. }
                            | crate::CompileError::Backend { .. }
                    );
                    assert!(!defect, "SEED={seed}: {error}");
                }
            }
        }
    }
    assert!(compiled > PROGRAMS / 4, "only {compiled} programs compiled: the generator tests nothing");
}

/// Valid instructions with small offsets, and facts that fit nothing in particular.
fn random(rng: &mut fastrand::Rng) -> Fixture {
    let mut code = Code::new();
    // Nothing is known of the first argument; make nothing known of the rest, or the backend folds it all.
    for dst in [Reg::R0, Reg::R2, Reg::R3, Reg::R5, Reg::R7] {
        let src = Operand::Reg(Reg::R1);
        code.push(Insn::Mov { width: Width::W64, dst, src });
        let op = isa::AluOp::Mul;
        code.push(Insn::Alu { width: Width::W64, op, dst, src: Operand::Imm(rng.i32(..)) });
    }
    let length = rng.usize(11..70);
    while code.len() < length {
        let word = random_insn(rng, code.len(), length);
        if let Ok(decoded) = isa::decode(&word) {
            decoded.iter().for_each(|(_, insn)| _ = code.push(insn));
        }
    }
    code.push(Insn::Exit);
    let facts = (0..code.len()).map(|_| random_facts(rng)).collect();
    let mut frame = FrameFacts::default();
    frame.reached = true;
    frame.stack_bytes = rng.u16(0..=32) * 16;
    let mut fixture = Fixture::parse("exit");
    fixture.program.subprograms[0].end = InsnIdx(code.len() as u32);
    fixture.program.code = code;
    fixture.facts = facts;
    fixture.frames = vec![frame];
    fixture
}

fn random_insn(rng: &mut fastrand::Rng, at: usize, length: usize) -> Vec<u8> {
    let opcode = rng.u8(..);
    let jump = rng.i16(-(at as i16)..(length - at) as i16);
    let is_jump = matches!(opcode & 7, 5 | 6);
    let offset = match rng.u8(0..16) {
        0..=7 if !is_jump => 0,
        8..=12 if !is_jump => rng.i16(..),
        _ => jump,
    };
    let imm = match rng.u8(0..5) {
        0 => rng.i32(..),
        1 => [0, 1, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1, 0x100, 0x110][rng.usize(0..12)],
        2 => [16, 32, 64][rng.usize(0..3)],
        _ => rng.i32(-4..4),
    };
    let mut bytes = vec![opcode, rng.u8(0..11) | rng.u8(0..11) << 4];
    bytes.extend(offset.to_le_bytes());
    bytes.extend(imm.to_le_bytes());
    if opcode == 0x18 {
        bytes.extend([0; 4]);
        bytes.extend(rng.i32(..).to_le_bytes());
    }
    if rng.bool() {
        bytes[1] &= 0x0f; // Most instructions want no source register.
    }
    bytes
}

fn random_facts(rng: &mut fastrand::Rng) -> InsnFacts {
    let mut facts = InsnFacts::default();
    facts.reached = rng.u8(0..100) != 0;
    facts.narrow = rng.u8(0..8) == 0;
    facts.memory = match rng.u8(0..250) {
        0 => None,
        1..=50 => Some(Memory::Proven),
        _ => Some(Memory::Arena),
    };
    facts
}
