//! The search for fields in a type, as the kernel does it: direct members and variables, those of nested structs and of
//! the elements of arrays.

use bpf_object::{Btf, Composite, Kind, KindTag, TypeId};

use super::{Field, Malformed, Record, Refers, Set, Tag};
use crate::state::reg::BtfOwner;

/// Fields in one type at most (`BTF_FIELDS_MAX`).
const MAX_FIELDS: usize = 11;
/// Types nested in one another at most (`MAX_RESOLVE_DEPTH`).
const MAX_DEPTH: u32 = 32;

/// Names of types that are fields, and whether a record may have only one.
const NAMES: [(Tag, bool); 10] = [
    (Tag::SpinLock, true),
    (Tag::ResSpinLock, true),
    (Tag::Timer, true),
    (Tag::Wq, true),
    (Tag::TaskWork, true),
    (Tag::ListHead, false),
    (Tag::ListNode, false),
    (Tag::RbRoot, false),
    (Tag::RbNode, false),
    (Tag::Refcount, true),
];

/// Types of the kernel that a pointer in a map may own: those whose release the kernel knows.
const RELEASABLE: [&str; 6] =
    ["task_struct", "cgroup", "bpf_cpumask", "bpf_crypto_ctx", "prog_test_ref_kfunc", "prog_test_member"];

/// The record of a type: every field of the `wanted` kinds in its `size` bytes.
pub(super) fn record(
    btf: &Btf,
    kernel: Option<&Btf>,
    ty: TypeId,
    wanted: Set,
    size: u32,
) -> Result<Record, Malformed> {
    let mut search = Search { btf, kernel, wanted, seen: Set::default() };
    let found = match btf.kind(ty) {
        Some(Kind::Struct(composite)) => search.members(ty, composite, 0, MAX_FIELDS)?,
        Some(Kind::DataSec { vars, .. }) => {
            let mut found = Vec::new();
            for var in vars {
                let Some(Kind::Var { ty: inner, .. }) = btf.kind(var.ty) else { continue };
                let place = Place { owner: var.ty, member: None, offset: var.offset, size: Some(var.size) };
                found.extend(search.one(place, *inner, 0, MAX_FIELDS - found.len())?);
            }
            found
        }
        _ => return Err(Malformed::Refused),
    };
    check(found, size)
}

/// Whether the type is a pointer that is a field wherever it is a member.
pub(super) fn is_tagged_pointer(btf: &Btf, ty: TypeId) -> bool {
    tagged_pointer(btf, ty).is_ok_and(|found| found.is_some_and(|(tag, _)| Set::KPTR.has(tag)))
}

fn check(mut fields: Vec<Field>, size: u32) -> Result<Record, Malformed> {
    let mut next = 0;
    let mut tags = Set::default();
    for field in &fields {
        let end = field.offset.saturating_add(field.tag.size());
        if end > size || field.offset < next {
            return Err(Malformed::Refused);
        }
        next = end;
        tags = tags.with(field.tag);
    }
    let both_locks = tags.has(Tag::SpinLock) && tags.has(Tag::ResSpinLock);
    let any_lock = tags.has(Tag::SpinLock) || tags.has(Tag::ResSpinLock);
    let two_nodes = tags.has(Tag::ListNode) && tags.has(Tag::RbNode) && !tags.has(Tag::Refcount);
    if both_locks || two_nodes || (tags.any(Set::ROOTS) && !any_lock) {
        return Err(Malformed::Refused);
    }
    fields.sort_by_key(|f| f.offset);
    Ok(Record { fields, tags })
}

struct Search<'a> {
    btf: &'a Btf,
    kernel: Option<&'a Btf>,
    wanted: Set,
    /// Kinds met that may be met only once.
    seen: Set,
}

/// Where a type is used.
#[derive(Clone, Copy)]
struct Place {
    /// The struct or variable, which tags are attached to.
    owner: TypeId,
    /// Which member of the struct.
    member: Option<u32>,
    offset: u32,
    /// The size it must have, if something says.
    size: Option<u32>,
}

impl Search<'_> {
    fn members(
        &mut self,
        owner: TypeId,
        composite: &Composite,
        depth: u32,
        room: usize,
    ) -> Result<Vec<Field>, Malformed> {
        let mut found = Vec::new();
        for (number, member) in (0..).zip(&composite.members) {
            if member.bit_offset % 8 != 0 {
                return Err(Malformed::Refused);
            }
            let place = Place { owner, member: Some(number), offset: member.bit_offset / 8, size: None };
            found.extend(self.one(place, member.ty, depth, room - found.len())?);
        }
        Ok(found)
    }

    fn one(
        &mut self,
        place: Place,
        mut ty: TypeId,
        depth: u32,
        room: usize,
    ) -> Result<Vec<Field>, Malformed> {
        let mut count = 1_u32;
        let mut steps = 0;
        while let Some(Kind::Array(array)) = self.btf.kind(ty) {
            count = count.wrapping_mul(array.len);
            ty = array.element;
            steps += 1;
            if steps == MAX_DEPTH {
                return Err(Malformed::Refused);
            }
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let fits = |size: u32| place.size.is_none_or(|expected| expected == size.wrapping_mul(count));
        let composite = match self.btf.kind(ty) {
            Some(Kind::Struct(composite)) => Some(composite),
            _ => None,
        };
        let (found, step) = match (self.named(ty)?, composite) {
            (Some(tag), _) => {
                let usable = fits(tag.size()) && place.offset.is_multiple_of(tag.align());
                let is_it = composite.is_some_and(|c| c.size == tag.size());
                if !usable || !is_it {
                    return Ok(Vec::new());
                }
                let refers = if Set::ROOTS.has(tag) { self.contents(place, tag)? } else { Refers::Nothing };
                (vec![Field { offset: place.offset, tag, refers }], tag.size())
            }
            (None, Some(composite)) => {
                if !fits(composite.size) {
                    return Ok(Vec::new());
                }
                if depth + 1 >= MAX_DEPTH {
                    return Err(Malformed::Refused);
                }
                let mut inner = self.members(ty, composite, depth + 1, room)?;
                for field in &mut inner {
                    field.offset = field.offset.saturating_add(place.offset);
                }
                (inner, composite.size)
            }
            (None, None) => {
                let size = Tag::KptrRef.size();
                if !fits(size) || !place.offset.is_multiple_of(size) {
                    return Ok(Vec::new());
                }
                (self.pointer(ty, place.offset)?, size)
            }
        };
        repeat(found, count, step, room)
    }

    /// The field that the type's name makes it.
    fn named(&mut self, ty: TypeId) -> Result<Option<Tag>, Malformed> {
        let name = self.btf.name(ty);
        let row = NAMES.iter().find(|(tag, _)| self.wanted.has(*tag) && tag.name() == name);
        let Some(&(tag, once)) = row else { return Ok(None) };
        if once && self.seen.has(tag) {
            return Err(Malformed::Refused);
        }
        self.seen = self.seen.with(tag);
        Ok(Some(tag))
    }

    fn pointer(&self, ty: TypeId, offset: u32) -> Result<Vec<Field>, Malformed> {
        if !self.wanted.any(Set::POINTERS) {
            return Ok(Vec::new());
        }
        match tagged_pointer(self.btf, ty)? {
            Some((tag, target)) if self.wanted.has(tag) => {
                let target = self.btf.resolve(target);
                if !matches!(self.btf.kind(target), Some(Kind::Struct(_))) {
                    return Err(Malformed::Refused);
                }
                Ok(vec![Field { offset, tag, refers: self.target(tag, target)? }])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Whether the type a pointer in a map points to is the kernel's or the program's own.
    fn target(&self, tag: Tag, ty: TypeId) -> Result<Refers, Malformed> {
        let own = Refers::Pointer { owner: BtfOwner::Object, ty };
        if tag == Tag::Uptr {
            return Ok(own);
        }
        let name = self.btf.name(ty);
        let Some(kernel) = self.kernel else {
            return if RELEASABLE.contains(&name) { Err(Malformed::NeedsKernel) } else { Ok(own) };
        };
        match kernel.find(name, KindTag::Struct) {
            None => Ok(own),
            Some(_) if tag == Tag::KptrRef && !RELEASABLE.contains(&name) => Err(Malformed::Refused),
            Some(ty) => Ok(Refers::Pointer { owner: BtfOwner::Kernel, ty }),
        }
    }

    /// What a list or tree contains, from its tag `contains:type:node`.
    fn contents(&self, place: Place, tag: Tag) -> Result<Refers, Malformed> {
        let mut tags = self.btf.decl_tags(place.owner, place.member);
        let mut values = tags.by_ref().filter_map(|t| t.strip_prefix("contains:"));
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Malformed::Refused) };
        let (name, node) = value.split_once(':').ok_or(Malformed::Refused)?;
        let value = self.btf.find(name, KindTag::Struct).ok_or(Malformed::Refused)?;
        let Some(Kind::Struct(composite)) = self.btf.kind(value) else { return Err(Malformed::Refused) };
        let mut members = composite.members.iter().filter(|m| self.btf.str(m.name) == node);
        let (Some(member), None) = (members.next(), members.next()) else { return Err(Malformed::Refused) };
        let expected = if tag == Tag::ListHead { Tag::ListNode } else { Tag::RbNode };
        let is_node = matches!(self.btf.kind(member.ty), Some(Kind::Struct(_)))
            && self.btf.name(member.ty) == expected.name()
            && member.bit_offset % 64 == 0;
        if is_node {
            Ok(Refers::Graph { value, node_offset: member.bit_offset / 8 })
        } else {
            Err(Malformed::Refused)
        }
    }
}

/// A pointer with one of the tags that make it a field, and what it points to. Other tags are refused.
fn tagged_pointer(btf: &Btf, mut ty: TypeId) -> Result<Option<(Tag, TypeId)>, Malformed> {
    if let Some(Kind::Volatile(inner)) = btf.kind(ty) {
        ty = *inner;
    }
    let Some(&Kind::Ptr(tagged)) = btf.kind(ty) else { return Ok(None) };
    let Some(&Kind::TypeTag { ty: target, attribute: false }) = btf.kind(tagged) else { return Ok(None) };
    if matches!(btf.kind(target), Some(Kind::TypeTag { .. })) {
        return Err(Malformed::Refused);
    }
    let tag = match btf.name(tagged) {
        "kptr_untrusted" => Tag::KptrUntrusted,
        "kptr" => Tag::KptrRef,
        "percpu_kptr" => Tag::KptrPercpu,
        "uptr" => Tag::Uptr,
        _ => return Err(Malformed::Refused),
    };
    Ok(Some((tag, target)))
}

/// The fields of every element of an array, from those of the first.
fn repeat(found: Vec<Field>, count: u32, step: u32, room: usize) -> Result<Vec<Field>, Malformed> {
    let total = found.len().saturating_mul(usize::try_from(count).unwrap_or(usize::MAX));
    if total > room {
        return Err(Malformed::Refused);
    }
    if count > 1 && found.iter().any(|f| !f.tag.is_pointer() && !Set::ROOTS.has(f.tag)) {
        return Err(Malformed::Refused);
    }
    let shifted = |i: u32| {
        let found = &found;
        let shift = step.saturating_mul(i);
        found.iter().map(move |f| Field { offset: f.offset.saturating_add(shift), ..*f })
    };
    Ok((0..count).take(total).flat_map(shifted).collect())
}
