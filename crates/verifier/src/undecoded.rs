//! What Linux says of slots that are no instruction.
//!
//! A [`Program`](bpf_object::Program) has instructions only, so that [`verify`](crate::verify) never meets such slots; what decoding
//! refuses is told here in the kernel's words.

use isa::{DecodeError, RawField, RawInsn, Refusal};

const LDDW: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// The final message of Linux for code that cannot be decoded; its error number is EINVAL.
#[must_use]
pub fn undecoded(error: &DecodeError) -> String {
    match error {
        DecodeError::Refused { raw, why, .. } => refused(*raw, *why),
        other => other.to_string(),
    }
}

fn refused(raw: RawInsn, why: Refusal) -> String {
    match why {
        Refusal::Register { number, .. } => format!("R{number} is invalid"),
        Refusal::SecondSlot(_) | Refusal::MissingSecondSlot => "invalid bpf_ld_imm64 insn".to_owned(),
        Refusal::Reserved { field: RawField::NextImm, .. } => "unrecognized bpf_ld_imm64 insn".to_owned(),
        Refusal::Opcode(opcode) if opcode & 7 != 1 => format!("unknown opcode {opcode:02x}"),
        _ => match family(raw.opcode) {
            Some(family) => format!("{family} uses reserved fields"),
            None => format!("unknown opcode {:02x}", raw.opcode),
        },
    }
}

/// The name under which the kernel complains about fields of these opcodes.
fn family(opcode: u8) -> Option<&'static str> {
    Some(match (opcode, opcode & 7) {
        (LDDW, _) => "BPF_LD_IMM64",
        (CALL, _) => "BPF_CALL",
        (EXIT, _) => "BPF_EXIT",
        (0x05 | 0x06, _) => "BPF_JA",
        (_, 1) => "BPF_LDX",
        (_, 2) => "BPF_ST",
        (_, 3) => "BPF_STX",
        (_, 4 | 7) if opcode & 0xf0 == 0xb0 => "BPF_MOV",
        (_, 4 | 7) if opcode & 0xf0 == 0x80 => "BPF_NEG",
        (_, 4 | 7) if opcode & 0xf0 == 0xd0 => "BPF_END",
        (_, 4 | 7) => "BPF_ALU",
        (_, 5 | 6) => "BPF_JMP/JMP32",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        let words = |bytes: &[u8]| isa::decode(bytes).map_err(|error| undecoded(&error));
        let refused: [(&[u8], &str); 6] = [
            (&[0xff, 0, 0, 0, 0, 0, 0, 0], "unknown opcode ff"),
            (&[0xbf, 0xf0, 0, 0, 0, 0, 0, 0], "R15 is invalid"),
            (&[0x85, 0, 1, 0, 0, 0, 0, 0], "BPF_CALL uses reserved fields"),
            (&[0x18, 0, 0, 0, 0, 0, 0, 0], "invalid bpf_ld_imm64 insn"),
            (&[0x18, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "BPF_LD_IMM64 uses reserved fields"),
            (&[0x01, 0, 0, 0, 0, 0, 0, 0], "BPF_LDX uses reserved fields"),
        ];
        for (bytes, message) in refused {
            assert_eq!(words(bytes), Err(message.to_owned()));
        }
    }
}
