//! What helpers, kfuncs, contexts and maps ask for and give: tables, no code.

pub(crate) mod helpers;
pub(crate) mod hooks;
pub(crate) mod kfuncs;
pub(crate) mod maps;
pub(crate) mod programs;
pub(crate) mod struct_ops;
pub(crate) mod structs;
