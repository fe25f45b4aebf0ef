//! The value domain of numbers: known bits and bounds, with what arithmetic and comparisons make of them.

pub(crate) mod scalar;
pub(crate) mod tnum;
