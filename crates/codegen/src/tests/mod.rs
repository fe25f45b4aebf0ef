//! Tests of the code generator as a whole. They look at code and do not execute it; what it computes is compared
//! with the interpreter and the kernel elsewhere.
#![allow(clippy::cast_possible_truncation, reason = "test programs are small")]

mod fixture;
mod listing;
mod passes;
mod random;
mod structure;
