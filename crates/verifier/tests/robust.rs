//! Any stream of instructions ends in a verdict.

use std::time::Duration;

use bpf_arena_verifier::log::{KernelLog, LogLevel};
use bpf_arena_verifier::{Env, verify, verify_with};
use bpf_object::Program;

use proptest::prelude::*;

/// Instructions whose fields are often small, so that jumps land and registers exist.
fn insn() -> impl Strategy<Value = [u8; 8]> {
    let small = prop_oneof![3 => -4i16..8, 1 => any::<i16>()];
    let imm = prop_oneof![3 => -8i32..16, 1 => any::<i32>()];
    (any::<u8>(), 0u8..11, 0u8..11, small, imm).prop_map(|(opcode, dst, src, offset, imm)| {
        let [o0, o1] = offset.to_le_bytes();
        let [i0, i1, i2, i3] = imm.to_le_bytes();
        [opcode, src << 4 | dst, o0, o1, i0, i1, i2, i3]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_streams_end_in_a_verdict(insns in proptest::collection::vec(insn(), 1..24)) {
        // What does not decode is left out; the rest is followed by an end.
        let mut bytes: Vec<u8> = Vec::new();
        for insn in insns {
            if isa::decode(&insn).is_ok() {
                bytes.extend(insn);
            }
        }
        bytes.extend([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
        if let Ok(code) = isa::decode(&bytes) {
            let program = Program::from_code("random", "syscall", code);
            let verdict = verify(&program, &Env::default());
            if let Err(rejection) = verdict {
                prop_assert!(!rejection.to_string().is_empty());
                prop_assert!(!rejection.explain(&program, None).title.is_empty());
            }
            let env = Env::default();
            let mut log = KernelLog::new(&program, &env, LogLevel::PATHS);
            let verdict = verify_with(&program, &env, &mut log);
            prop_assert!(log.finish(&verdict, Duration::ZERO).contains("processed "));
        }
    }
}

/// Programs as large and as twisted as they may be, on a stack a quarter of what a thread usually has: nothing in the
/// verifier recurses along the program.
#[test]
fn large_programs_need_little_native_stack() {
    const STACK_BYTES: usize = 512 << 10;
    let repeat = |text: &str, times: usize| text.repeat(times);
    let shapes = [
        // One path.
        format!("{}r0 = 0\nexit\n", repeat("r0 = 1\n", 400_000)),
        // A branch every other instruction, all of them open.
        format!(
            "r6 = *(u64 *)(r1 +0)\nr0 = 0\n{}exit\n",
            repeat("if r6 > 7 goto +1\nr0 += 1\nr6 = *(u64 *)(r1 +0)\n", 60_000)
        ),
        // Loops that lead into each other: one component of the whole program.
        format!(
            "r6 = *(u64 *)(r1 +0)\nr0 = 0\nagain:\n{}r0 += 1\nif r0 < 5 goto again\nexit\n",
            repeat("if r6 == 3 goto +0\n", 30_000)
        ),
        // Jumps from the front to the back and the other way round.
        format!("r0 = 0\n{}exit\n", repeat("goto +1\ngoto +1\ngoto -2\n", 40_000)),
    ];
    let verify_all = move || {
        for text in shapes {
            let code = isa::assemble(&text).unwrap().code;
            let program = Program::from_code("large", "syscall", code);
            let verdict = verify(&program, &Env::default());
            if let Err(rejection) = verdict {
                assert!(rejection.insns_walked() <= bpf_arena_verifier::limits::MAX_WALKED + 1);
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(verify_all);
    assert!(thread.is_ok_and(|t| t.join().is_ok()));
}
