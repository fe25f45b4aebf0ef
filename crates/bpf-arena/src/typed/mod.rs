//! Typed arena pointers and the layout check against BTF.
