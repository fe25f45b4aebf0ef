//! The BPF instruction set: RFC 9669 and the Linux extensions that clang emits.
//!
//! One table has a row per form of instruction: opcode byte, values of the fields that are no operands,
//! conformance group, text. Decoder, encoder, disassembler and assembler all read that table, so that they
//! agree by construction, and so that a new instruction is one row. [`Form`] gives the rows to the outside.
//!
//! ```
//! use bpf_arena_isa::{assemble, decode, Endian, Group, Insn};
//!
//! let program = assemble("
//!     r1 = addr_space_cast(r1, 0, 1)
//!     r0 = *(u64 *)(r1 +8)
//!     exit
//! ")?;
//! let bytes = program.code.encode(Endian::Little)?;
//! assert_eq!(decode(&bytes)?, program.code);
//!
//! let insn: Insn = "r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)".parse()?;
//! assert_eq!(insn.group(), Some(Group::Atomic64));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The text
//! What the disassembler prints is what the kernel's verifier log and bpftool print, and the assembler reads it
//! back to the same instruction. Where the kernel's text says too little for that, there is more:
//!
//! | instruction | kernel | here |
//! | --- | --- | --- |
//! | `lddw` of a map, map value, subprogram | a number, whatever it stands for | `map[fd:3]`, `map[fd:3][0]+8`, `map[idx:0]`, `map[idx:0][0]+8`, `subprog[+5]` (after bpftool) |
//! | `lddw` of a kernel variable | a number | `btf_var[id:7,fd:0]` |
//! | call of a kfunc in a module | `call kernel-function#7` | `call kernel-function#7@2`: the module's index |
//! | `callx`, `gotox` | nothing fitting | `callx r1`, `gotox r1` (after LLVM and Linux 6.19) |
//!
//! A plain `lddw` is hexadecimal (`r1 = 0x5`), a `mov` decimal (`r1 = 5`), as the kernel has it: take care when
//! writing by hand, or use LLVM's `r1 = 5 ll`. LLVM's other spellings are read too.
//!
//! # Strictness
//! A field that a form does not use must be zero, else decoding fails with the slot, its bytes and the field.
//! That is the kernel's rule, with one addition: the kernel does not look at the `offset` of `exit`.
#![forbid(unsafe_code)]

mod asm;
mod code;
mod decode;
mod disasm;
mod encode;
mod form;
mod helpers;
mod insn;
mod raw;
mod table;
mod template;

pub use asm::{AsmError, AsmErrorKind, Assembly, Symbols, assemble, assemble_with};
pub use code::Code;
pub use decode::{DecodeError, RawField, Refusal, decode, decode_endian};
pub use disasm::{Listing, Names, Text};
pub use encode::{CodeError, EncodeError, Encoded};
pub use form::{Form, Group};
pub use helpers::{helper_name, helper_number};
pub use insn::{
    AluOp, AtomicOp, ByteOrder, CallTarget, Cond, Imm64, Insn, InsnIdx, JumpForm, Operand, PacketBase, Reg,
    Size, SwapBits, Width,
};
pub use raw::{Endian, RawInsn};
