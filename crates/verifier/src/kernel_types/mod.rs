//! Structures as BTF describes them: what lies where, which pointers may be trusted, which types may stand for which.
//!
//! Everything here is a question to one BTF (the kernel's, or the program's for objects it allocates); what a register
//! that was loaded from a structure may then be used for is decided in `transfer`.

mod matching;
#[cfg(test)]
mod tests;
mod trust;
mod walk;

pub(crate) use matching::{holds_at_start, is_init_alias, is_projection};
pub(crate) use trust::{FieldTrust, field_trust};
pub use walk::WalkFault;
pub(crate) use walk::{Field, Found, PointerTag, member_at};

use bpf_object::{Btf, Kind, TypeId};

/// The name of a type as the kernel's messages give it.
pub(crate) fn shown_name(btf: &Btf, ty: TypeId) -> &str {
    let name = btf.name(ty);
    if name.is_empty() { "(anon)" } else { name }
}

/// The kind of a type as the kernel's messages give it (`btf_type_str`).
pub(crate) fn kind_name(btf: &Btf, ty: TypeId) -> &'static str {
    match btf.kind(ty) {
        None | Some(Kind::Void) => "UNKNOWN",
        Some(Kind::Int(_)) => "INT",
        Some(Kind::Ptr(_)) => "PTR",
        Some(Kind::Array(_)) => "ARRAY",
        Some(Kind::Struct(_)) => "STRUCT",
        Some(Kind::Union(_)) => "UNION",
        Some(Kind::Enum(_)) => "ENUM",
        Some(Kind::Fwd { .. }) => "FWD",
        Some(Kind::Typedef(_)) => "TYPEDEF",
        Some(Kind::Volatile(_)) => "VOLATILE",
        Some(Kind::Const(_)) => "CONST",
        Some(Kind::Restrict(_)) => "RESTRICT",
        Some(Kind::Func { .. }) => "FUNC",
        Some(Kind::FuncProto(_)) => "FUNC_PROTO",
        Some(Kind::Var { .. }) => "VAR",
        Some(Kind::DataSec { .. }) => "DATASEC",
        Some(Kind::Float { .. }) => "FLOAT",
        Some(Kind::DeclTag { .. }) => "DECL_TAG",
        Some(Kind::TypeTag { .. }) => "TYPE_TAG",
        Some(Kind::Enum64(_)) => "ENUM64",
        Some(_) => "UNKNOWN",
    }
}

/// Whether the type, behind modifiers and typedefs, is an integer or an enum.
pub(crate) fn is_number(btf: &Btf, ty: TypeId) -> bool {
    matches!(btf.kind(btf.resolve(ty)), Some(Kind::Int(_) | Kind::Enum(_) | Kind::Enum64(_)))
}

/// Levels of structures inside one another that may hold numbers.
const MAX_NUMBER_NESTING: u32 = 4;

/// Whether the type is a struct or union of numbers and arrays of numbers only, nested at most four deep.
pub(crate) fn is_struct_of_numbers(btf: &Btf, ty: TypeId) -> bool {
    numbers_within(btf, ty, MAX_NUMBER_NESTING)
}

fn numbers_within(btf: &Btf, ty: TypeId, depth: u32) -> bool {
    let (Some(depth), Some(composite)) = (depth.checked_sub(1), btf.kind(ty).and_then(Kind::as_composite))
    else {
        return false;
    };
    composite.members.iter().all(|member| {
        let ty = btf.resolve(member.ty);
        match btf.kind(ty) {
            Some(Kind::Struct(_) | Kind::Union(_)) => numbers_within(btf, ty, depth),
            Some(Kind::Array(array)) => array.len > 0 && is_number(btf, array.element),
            _ => is_number(btf, ty),
        }
    })
}
