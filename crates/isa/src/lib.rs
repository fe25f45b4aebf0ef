//! The BPF instruction set: RFC 9669 and the Linux extensions that clang emits.
#![forbid(unsafe_code)]

mod code;
mod insn;

pub use code::Code;
pub use insn::{
    AluOp, AtomicOp, ByteOrder, CallTarget, Cond, Imm64, Insn, InsnIdx, JumpForm, Operand, PacketBase, Reg,
    Size, SwapBits, Width,
};
