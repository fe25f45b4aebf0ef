//! When loops that passes make, which count no budget, look at the stop word.

use isa::{Cond, Width};

use crate::abi::LOOPS_PER_LOOK;
use crate::flow::{Src, Test, Var};

/// That no look is due at a number of those that are counted up from one that a look was taken at.
pub(super) fn not_due(number: Var) -> Test {
    const { assert!(LOOPS_PER_LOOK.is_power_of_two(), "the low bits tell") };
    let low_bits = (LOOPS_PER_LOOK - 1).cast_signed();
    Test { width: Width::W32, cond: Cond::Set, a: number, b: Src::Imm(low_bits) }
}
