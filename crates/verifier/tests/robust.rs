//! Any stream of instructions ends in a verdict.

use bpf_arena_verifier::{Env, verify};
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
            }
        }
    }
}
