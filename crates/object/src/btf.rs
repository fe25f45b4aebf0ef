//! BTF, the type information of BPF objects.

/// Id of a type in a [`Btf`]; 0 is `void`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

/// Parsed type information.
#[derive(Clone, Debug, Default)]
pub struct Btf {}
