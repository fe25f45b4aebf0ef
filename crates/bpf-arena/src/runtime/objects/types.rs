//! What a program makes objects of: its own types, by their numbers in its BTF.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use bpf_object::TypeId;
use verifier::Verified;
use verifier::fields::Tag;

use super::heap::Layout;

/// The layouts of the types that a program allocates objects of, found when they are first asked for.
#[derive(Debug)]
pub(crate) struct ObjectTypes {
    used: bool,
    known: RwLock<HashMap<(u32, bool), &'static Layout>>,
}

impl ObjectTypes {
    /// Of a program.
    pub(crate) fn of(verified: &Verified) -> Self {
        let (program, fields) = (verified.program(), verified.fields());
        let makes = program.externs.iter().any(|external| super::kfuncs::MAKERS.contains(&&*external.name));
        let maps = (0..).zip(program.maps.iter()).map(|(map, _)| fields.of_map(map));
        let used = makes || maps.flatten().any(|field| leads_to_objects(field.tag));
        Self { used, known: RwLock::default() }
    }

    /// Whether the program may come by an object: it makes them, or they are in its maps.
    pub(crate) fn are_used(&self) -> bool {
        self.used
    }

    /// The layout of a type; `per_cpu` for one object for each CPU. `None` if there is no such type.
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

/// Whether a field of a map's values may hold objects.
fn leads_to_objects(tag: Tag) -> bool {
    use Tag::{KptrPercpu, KptrRef, KptrUntrusted, ListHead, RbRoot};
    matches!(tag, ListHead | RbRoot | KptrRef | KptrPercpu | KptrUntrusted)
}
