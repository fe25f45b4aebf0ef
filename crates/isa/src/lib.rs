//! The BPF instruction set: RFC 9669 and the Linux extensions that clang emits.
#![forbid(unsafe_code)]

mod code;
mod decode;
mod encode;
mod form;
mod insn;
mod raw;
mod table;

pub use code::Code;
pub use decode::{DecodeError, RawField, Refusal, decode, decode_endian};
pub use encode::{EncodeError, Encoded};
pub use form::{Form, Group};
pub use insn::{
    AluOp, AtomicOp, ByteOrder, CallTarget, Cond, Imm64, Insn, InsnIdx, JumpForm, Operand, PacketBase, Reg,
    Size, SwapBits, Width,
};
pub use raw::{Endian, RawInsn};
