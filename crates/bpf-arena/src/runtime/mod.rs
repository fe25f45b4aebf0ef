//! What programs call at run time: helpers, kfuncs, maps, streams.
//!
//! Every function of the runtime is a safe Rust function of the run and `r1` to `r5`, and one row of a table here. Both
//! executors call the same functions: the interpreter through `Row::call`, compiled code through `Row::entry`.

mod arena;
mod bits;
mod checksum;
mod control;
mod dynptr;
mod ending;
mod environment;
mod foreign;
mod format;
mod held;
pub(crate) mod hosted;
mod invocation;
mod iterate;
mod keyless;
mod later;
mod locks;
mod map;
pub(crate) mod maps;
mod memory;
pub(crate) mod objects;
mod owned;
pub(crate) mod packets;
mod perf;
mod print;
mod registry;
mod ringbuf;
mod seq;
mod stack;
mod storage;
mod strings;
mod tasks;
mod window;

pub(crate) use ending::{Answer, Reason, Signal};
pub(crate) use held::Held;
pub(crate) use invocation::{Executor, FaultLog, Invocation, Leave, Loops, RawFault};
#[cfg(test)]
pub(crate) use registry::every_row;
pub(crate) use registry::{helper, import, kfunc, kfuncs};
pub(crate) use seq::Seq;
pub(crate) use window::{Order, Rmw};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const EOVERFLOW: i32 = 75;

/// A negative error number as a helper returns it: 64 bits.
fn errno(number: i32) -> u64 {
    i64::from(-number).cast_unsigned()
}

/// A negative error number as a kfunc of type `int` returns it: 32 bits, the high half clear.
fn errno32(number: i32) -> u64 {
    u64::from((-number).cast_unsigned())
}

/// The low half of a register: an argument of type `u32`.
#[allow(clippy::cast_possible_truncation, reason = "the high half of a 32-bit argument does not count")]
fn low32(register: u64) -> u32 {
    register as u32
}
