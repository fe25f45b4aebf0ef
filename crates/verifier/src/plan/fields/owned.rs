//! The records of the program's own structs, which it may allocate (`struct btf_struct_metas`).

use std::collections::BTreeMap;

use bpf_object::{Btf, Kind, KindTag, TypeId};

use super::{Malformed, Record, Refers, Set, Tag, search};
use crate::state::reg::BtfOwner;

/// Objects that own one another in turn at most (`BTF_MAX_OWNERSHIP_DEPTH`).
const MAX_OWNERSHIP: u32 = 8;

/// Types that make a struct one with a record.
const FIELD_TYPES: [Tag; 6] =
    [Tag::SpinLock, Tag::ListHead, Tag::ListNode, Tag::RbRoot, Tag::RbNode, Tag::Refcount];

/// The records of the program's structs that have fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Structs {
    records: BTreeMap<TypeId, Record>,
}

impl Structs {
    /// Of every struct of the object.
    ///
    /// # Errors
    /// The kernel would refuse the whole BTF.
    pub(crate) fn new(btf: &Btf, kernel: Option<&Btf>) -> Result<Self, Malformed> {
        let named: Vec<TypeId> =
            FIELD_TYPES.iter().filter_map(|tag| btf.find(tag.name(), KindTag::Struct)).collect();
        let mut records = BTreeMap::new();
        for (id, ty) in btf.own_types() {
            let Kind::Struct(composite) = &ty.kind else { continue };
            let is_field = |ty: TypeId| named.contains(&ty) || search::is_tagged_pointer(btf, ty);
            if !composite.members.iter().any(|m| is_field(m.ty)) {
                continue;
            }
            let record = search::record(btf, kernel, id, Set::IN_OBJECTS, composite.size)?;
            if record.is_empty() {
                return Err(Malformed::Refused);
            }
            records.insert(id, record);
        }
        let all = Self { records };
        all.check_ownership()?;
        Ok(all)
    }

    /// The record of a struct, if it has fields.
    pub(crate) fn get(&self, ty: TypeId) -> Option<&Record> {
        self.records.get(&ty)
    }

    /// Whether whatever the lists and trees of this record contain has nodes.
    pub(super) fn completes(&self, record: &Record) -> bool {
        record.fields.iter().all(|f| match f.refers {
            Refers::Graph { value, .. } => self.records.contains_key(&value),
            _ => true,
        })
    }

    fn check_ownership(&self) -> Result<(), Malformed> {
        let mut depths = BTreeMap::new();
        for (&ty, record) in &self.records {
            if !self.completes(record) || self.depth(ty, MAX_OWNERSHIP, &mut depths).is_none() {
                return Err(Malformed::Refused);
            }
        }
        Ok(())
    }

    /// How many objects deep the type owns others; `None` if more than `left`.
    fn depth(&self, ty: TypeId, left: u32, known: &mut BTreeMap<TypeId, u32>) -> Option<u32> {
        let below = left.checked_sub(1)?;
        if let Some(&depth) = known.get(&ty) {
            return (depth <= left).then_some(depth);
        }
        let mut deepest = 0;
        for field in self.records.get(&ty).into_iter().flat_map(|r| &r.fields) {
            let owned = match (field.tag, field.refers) {
                (_, Refers::Graph { value, .. }) => value,
                (Tag::KptrRef | Tag::KptrPercpu, Refers::Pointer { owner: BtfOwner::Object, ty }) => ty,
                _ => continue,
            };
            if self.records.contains_key(&owned) {
                deepest = deepest.max(self.depth(owned, below, known)?);
            }
        }
        let depth = deepest + 1;
        known.insert(ty, depth);
        (depth <= left).then_some(depth)
    }
}
