//! Which type may stand for which.

use bpf_object::{Btf, TypeId};

use super::walk::{Step, Walk};

/// Structures at the start of one another that are looked into.
const MAX_NESTING: u32 = 64;

/// Whether a structure of type `wanted` lies at `offset` of one of type `have`: that type itself, or a first member of
/// it, of a first member, and so on. `strict`: the type itself only.
pub(crate) fn holds_at_start(
    btf: &Btf,
    have: TypeId,
    offset: u32,
    wanted: TypeId,
    strict: bool,
    flexible: bool,
) -> bool {
    if offset == 0 && have == wanted {
        return true;
    }
    if strict {
        return false;
    }
    let mut walk = Walk { btf, ty: have, offset, size: 1, flexible, in_union: false };
    for _ in 0..MAX_NESTING {
        let Ok(Step::Into { ty, offset }) = walk.step() else { return false };
        if offset == 0 && ty == wanted {
            return true;
        }
        (walk.ty, walk.offset) = (ty, offset);
    }
    false
}

/// Whether one name is the other with `___init` behind it: a type that must not be taken for the one it will become.
pub(crate) fn is_init_alias(one: &str, other: &str) -> bool {
    const SUFFIX: &str = "___init";
    one.strip_suffix(SUFFIX) == Some(other) || other.strip_suffix(SUFFIX) == Some(one)
}

/// Whether `seen` is what programs see of the kernel's `real` structure.
pub(crate) fn is_projection(seen: &str, real: &str) -> bool {
    matches!((seen, real), ("__sk_buff", "sk_buff") | ("xdp_md", "xdp_buff"))
}
