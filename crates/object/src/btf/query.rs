//! Questions about types.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::{Btf, Composite, Kind, KindTag, Member, StrId, Type, TypeId};
use crate::limits::MAX_BTF_DEPTH;
use isa::Endian;

/// Types by hash of their essential name; see [`Btf::named`].
pub(super) type NameIndex = HashMap<u64, Vec<TypeId>>;

impl Btf {
    /// One past the highest type id.
    #[must_use]
    pub fn end_id(&self) -> u32 {
        self.first_id.saturating_add(u32::try_from(self.types.len()).unwrap_or(u32::MAX))
    }

    /// The lowest id that is not the base's.
    pub(crate) fn first_own_id(&self) -> u32 {
        self.first_id.max(1)
    }

    /// One past the last string byte.
    pub(super) fn end_str(&self) -> u32 {
        self.first_str.saturating_add(u32::try_from(self.strings.len()).unwrap_or(u32::MAX))
    }

    /// Bytes of the string section, the base's included: the offset the next string gets.
    #[must_use]
    pub fn string_bytes(&self) -> u32 {
        self.end_str()
    }

    /// The BTF that this one continues.
    #[must_use]
    pub fn base(&self) -> Option<&Self> {
        self.base.as_deref()
    }

    /// Byte order it was read in and is written in.
    #[must_use]
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// The type with this id.
    #[must_use]
    pub fn get(&self, id: TypeId) -> Option<&Type> {
        match id.0.checked_sub(self.first_id) {
            Some(index) => self.types.get(index as usize),
            None => self.base.as_ref()?.get(id),
        }
    }

    /// What the type with this id is.
    #[must_use]
    pub fn kind(&self, id: TypeId) -> Option<&Kind> {
        self.get(id).map(|t| &t.kind)
    }

    /// Every type with its id, the base's first, `void` left out.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (1..self.end_id()).filter_map(|id| Some((TypeId(id), self.get(TypeId(id))?)))
    }

    /// Types of this BTF alone, without its base's and without `void`.
    pub fn own_types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (self.first_own_id()..self.end_id()).filter_map(|id| Some((TypeId(id), self.get(TypeId(id))?)))
    }

    /// Every string of this BTF alone (not its base's), without NUL, with its id.
    pub fn own_strings(&self) -> impl Iterator<Item = (StrId, &[u8])> {
        let mut at = self.first_str;
        // What follows the last NUL is no string.
        let whole = self.strings.strip_suffix(&[0]);
        whole.into_iter().flat_map(|w| w.split(|&b| b == 0)).map(move |text| {
            let id = StrId(at);
            at = at.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX)).saturating_add(1);
            (id, text)
        })
    }

    /// Bytes of the string that starts at `offset`, without its NUL.
    pub(crate) fn str_bytes(&self, StrId(offset): StrId) -> Option<&[u8]> {
        let Some(start) = offset.checked_sub(self.first_str) else {
            return self.base.as_ref()?.str_bytes(StrId(offset));
        };
        let rest = self.strings.get(start as usize..)?;
        rest.get(..rest.iter().position(|&b| b == 0)?)
    }

    /// The text of a string; empty when there is none there or it is not UTF-8 (never so for a name in a parsed BTF).
    #[must_use]
    pub fn str(&self, id: StrId) -> &str {
        self.str_bytes(id).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or_default()
    }

    /// Name of the type with this id; empty if it has none.
    #[must_use]
    pub fn name(&self, id: TypeId) -> &str {
        self.get(id).map_or("", |t| self.str(t.name))
    }

    /// The string with this text, if the string section has it as a whole string.
    #[must_use]
    pub fn find_str(&self, text: &str) -> Option<StrId> {
        if text.is_empty() {
            return Some(StrId(0));
        }
        if let Some(found) = self.base.as_ref().and_then(|b| b.find_str(text)) {
            return Some(found);
        }
        self.own_strings().find(|(_, candidate)| *candidate == text.as_bytes()).map(|(id, _)| id)
    }

    /// The first type with this name and kind.
    #[must_use]
    pub fn find(&self, name: &str, kind: KindTag) -> Option<TypeId> {
        self.named(name).find(|&id| self.name(id) == name && self.kind(id).is_some_and(|k| k.tag() == kind))
    }

    /// Types whose *essential* name (without a `___flavor` suffix) is that of `name`, in ascending order.
    pub fn named(&self, name: &str) -> impl Iterator<Item = TypeId> {
        let wanted = essential_name(name).to_owned();
        let own = self.name_index().get(&hash(&wanted)).map_or(&[][..], Vec::as_slice);
        let base: Vec<TypeId> = self.base.as_ref().map_or_else(Vec::new, |b| b.named(name).collect());
        base.into_iter().chain(own.iter().copied().filter(move |&id| essential_name(self.name(id)) == wanted))
    }

    fn name_index(&self) -> &NameIndex {
        self.names.get_or_init(|| {
            let mut index = NameIndex::new();
            for (id, ty) in self.own_types().filter(|(_, ty)| ty.name.0 != 0) {
                index.entry(hash(essential_name(self.str(ty.name)))).or_default().push(id);
            }
            index
        })
    }

    /// The type behind modifiers (`const`, `volatile`, `restrict`, type tags) and typedefs. A chain of more than 32,
    /// or a cyclic one, ends where the limit is met.
    #[must_use]
    pub fn resolve(&self, id: TypeId) -> TypeId {
        self.skip(id, |_| true)
    }

    /// The type behind modifiers alone: stops at a typedef.
    #[must_use]
    pub fn skip_modifiers(&self, id: TypeId) -> TypeId {
        self.skip(id, |kind| !matches!(kind, Kind::Typedef(_)))
    }

    fn skip(&self, id: TypeId, goes_on: impl Fn(&Kind) -> bool) -> TypeId {
        let mut at = id;
        for _ in 0..MAX_BTF_DEPTH {
            match self.kind(at).filter(|k| goes_on(k)).and_then(Kind::modified) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// Size in bytes of a value of this type; `None` for `void`, functions, forward declarations and types nested too
    /// deep.
    #[must_use]
    pub fn size_of(&self, id: TypeId) -> Option<u64> {
        let mut at = id;
        let mut times = 1u64;
        for _ in 0..MAX_BTF_DEPTH {
            let size = match self.kind(at)? {
                Kind::Int(int) => int.size,
                Kind::Struct(c) | Kind::Union(c) => c.size,
                Kind::Enum(e) => e.size,
                Kind::Enum64(e) => e.size,
                Kind::Float { size } | Kind::DataSec { size, .. } => *size,
                Kind::Ptr(_) => 8,
                Kind::Array(array) => {
                    times = times.checked_mul(u64::from(array.len))?;
                    at = array.element;
                    continue;
                }
                Kind::Var { ty, .. } => {
                    at = *ty;
                    continue;
                }
                other => {
                    at = other.modified()?;
                    continue;
                }
            };
            return times.checked_mul(u64::from(size));
        }
        None
    }

    /// Alignment in bytes of a value of this type, as C lays it out; `None` where [`Btf::size_of`] is.
    #[must_use]
    pub fn align_of(&self, id: TypeId) -> Option<u64> {
        self.align_within(id, MAX_BTF_DEPTH)
    }

    fn align_within(&self, id: TypeId, depth: usize) -> Option<u64> {
        let depth = depth.checked_sub(1)?;
        match self.kind(id)? {
            Kind::Int(int) => Some(u64::from(int.size).clamp(1, 8)),
            Kind::Enum(e) => Some(u64::from(e.size).clamp(1, 8)),
            Kind::Enum64(e) => Some(u64::from(e.size).clamp(1, 8)),
            Kind::Float { size } => Some(u64::from(*size).clamp(1, 8)),
            Kind::Ptr(_) => Some(8),
            Kind::Array(array) => self.align_within(array.element, depth),
            Kind::Var { ty, .. } => self.align_within(*ty, depth),
            Kind::Struct(c) | Kind::Union(c) => Some(self.composite_align(c)),
            other => self.align_within(other.modified()?, depth),
        }
    }

    /// Alignment of a struct is not recorded; the offsets and the size that it explains are, so this is the largest
    /// power of two up to 8 that divides them all.
    fn composite_align(&self, composite: &Composite) -> u64 {
        let offsets =
            composite.members.iter().filter(|m| m.bit_size == 0).map(|m| u64::from(m.bit_offset / 8));
        let bits = offsets.fold(u64::from(composite.size), |all, offset| all | offset) | 8;
        1 << bits.trailing_zeros()
    }

    /// The struct or union that the type is, behind modifiers and typedefs.
    #[must_use]
    pub fn composite(&self, id: TypeId) -> Option<&Composite> {
        self.kind(self.resolve(id))?.as_composite()
    }

    /// The member of a struct or union with this name and its offset in bits from the start of `id`, looked up inside
    /// anonymous structs and unions too.
    #[must_use]
    pub fn member(&self, id: TypeId, name: &str) -> Option<(&Member, u64)> {
        let mut steps = MAX_BTF_DEPTH * MAX_BTF_DEPTH;
        self.member_within(id, name, 0, MAX_BTF_DEPTH, &mut steps)
    }

    fn member_within(
        &self,
        id: TypeId,
        name: &str,
        base: u64,
        depth: usize,
        steps: &mut usize,
    ) -> Option<(&Member, u64)> {
        let depth = depth.checked_sub(1)?;
        *steps = steps.checked_sub(1)?;
        let composite = self.composite(id)?;
        for member in &composite.members {
            let at = base + u64::from(member.bit_offset);
            if member.name.0 != 0 && self.str(member.name) == name {
                return Some((member, at));
            }
            if member.name.0 == 0
                && let Some(found) = self.member_within(member.ty, name, at, depth, steps)
            {
                return Some(found);
            }
        }
        None
    }

    /// Width of a member's bit field in bits, or `None` if it is an ordinary member. Knows both encodings.
    #[must_use]
    pub fn bit_field(&self, member: &Member) -> Option<u8> {
        if member.bit_size != 0 {
            return Some(member.bit_size);
        }
        match self.kind(self.resolve(member.ty))? {
            Kind::Int(int) if u32::from(int.bits) < int.size.saturating_mul(8) && !int.is_bool => {
                Some(int.bits)
            }
            _ => None,
        }
    }

    /// Texts of the declaration tags (`btf_decl_tag`) on a type, or on one of its members or parameters, in order.
    pub fn decl_tags(&self, target: TypeId, component: Option<u32>) -> impl Iterator<Item = &str> {
        self.types().filter_map(move |(_, ty)| match ty.kind {
            Kind::DeclTag { target: t, component: c, .. } if t == target && c == component => {
                Some(self.str(ty.name))
            }
            _ => None,
        })
    }

    /// The function with this name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<TypeId> {
        self.find(name, KindTag::Func)
    }
}

/// The name without a `___flavor` suffix, which CO-RE ignores. A name that starts with `___` has no flavor.
#[must_use]
pub fn essential_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    // The last `___` that has a character other than `_` before it and one after it.
    let mut end = bytes.len();
    while let Some(at) = name.get(..end).and_then(|n| n.rfind("___")) {
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        let after = bytes.get(at + 3);
        if before.is_some_and(|&b| b != b'_') && after.is_some_and(|&b| b != b'_') {
            return name.get(..at).unwrap_or(name);
        }
        end = at + 2;
    }
    name
}

fn hash(name: &str) -> u64 {
    // Fixed keys: results never depend on the run.
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flavor_is_what_follows_three_underscores() {
        for (name, essential) in [
            ("task_struct", "task_struct"),
            ("task_struct___old", "task_struct"),
            ("a___b___c", "a___b"),
            ("a____b", "a____b"),
            ("___a", "___a"),
            ("a___", "a___"),
            ("a__b", "a__b"),
            ("", ""),
            ("é___ü", "é"),
        ] {
            assert_eq!(essential_name(name), essential, "{name}");
        }
    }
}
