//! Machine code for x86-64.

mod emit;
mod insn;
