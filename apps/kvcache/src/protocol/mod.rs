//! The memcached text protocol: classic and meta commands, frames of datagrams, answers.
//!
//! Everything here is a function from bytes to values or from values to bytes: no I/O, no clock, no store, and no
//! input that panics. [`Decoder`] cuts a stream into [`Event`]s, [`command::parse`] and [`meta`] read one line,
//! [`render`] writes answers, [`udp`] knows the header that stands before both in a datagram.
//!
//! What is accepted, what is refused and in which words follows memcached 1.6.18, oddities included: clients were
//! written against it. The few differences stand in the README.

pub mod command;
pub mod limits;
pub mod meta;
pub mod number;
mod refusal;
pub mod render;
mod stream;
mod tokens;
pub mod udp;

pub use command::{Command, Head, Parsed};
pub use refusal::{Complaint, Refusal};
pub use stream::{Decoder, Event};
pub use tokens::words;
