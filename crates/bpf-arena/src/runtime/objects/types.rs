//! What a program makes objects of: its own types, by their numbers in its BTF.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use bpf_object::TypeId;
use verifier::Verified;
use verifier::fields::Tag;

use super::heap::Layout;

/// The layouts of the types that a program allocates objects of, found when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct Types {
    known: RwLock<HashMap<(u32, bool), &'static Layout>>,
}

impl Types {
    /// Of a type; `per_cpu` for one object for each CPU. `None` if there is no such type.
    pub(super) fn layout(&self, verified: &Verified, number: u32, per_cpu: bool) -> Option<&'static Layout> {
        let key = (number, per_cpu);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if known.is_some() {
            return known;
        }
        let btf = verified.program().btf.as_deref()?;
        let ty = TypeId(number);
        let size = u32::try_from(btf.size_of(ty)?).ok()?;
        let layout = if per_cpu {
            Layout::per_cpu(size, u32::try_from(crate::cpu::possible()).ok()?)
        } else {
            Layout::of(size, verified.fields().of_object(ty))
        };
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key, layout);
        Some(layout)
    }
}

/// Whether a program may come by an object: it makes them, or they are in its maps.
pub(crate) fn used_by(verified: &Verified) -> bool {
    let program = verified.program();
    let makes = |name: &str| super::kfuncs::MAKERS.contains(&name);
    let owns =
        |tag: Tag| matches!(tag, Tag::ListHead | Tag::RbRoot | Tag::KptrRef | Tag::KptrPercpu | Tag::KptrUntrusted);
    program.externs.iter().any(|external| makes(&external.name))
        || (0..).zip(program.maps.iter()).any(|(map, _)| {
            verified.fields().of_map(map).iter().any(|field| owns(field.tag))
        })
}
