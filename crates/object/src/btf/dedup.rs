//! Equal types become one.
//!
//! Two types are equal when they look the same and what they refer to is equal, cycles included. The classes of equal
//! types are found from above: types that look the same but for their references start in one class, and a class is
//! split when members refer to types of different classes, until none is. This finds the fewest classes there are, and
//! needs no assumption about cycles that would have to be taken back.
//!
//! A declaration (`struct s;`, an enum without enumerators) stands for the definition of that name as long as there is
//! one class of definitions: with two different ones, nobody knows which is meant. Variables are never equal, since each
//! has a place of its own.

use std::collections::{BTreeMap, HashMap};

use super::encode::type_bytes;
use super::{Kind, KindTag, StrId, Type, TypeId};

/// The types that remain, and what each old id became. `types` includes `void`, whose id stays 0; every name is assumed
/// to have one [`StrId`].
pub(crate) fn deduplicate(types: &[Type]) -> (Vec<Type>, Vec<TypeId>) {
    let mut classes = Classes::new(types);
    classes.refine();
    classes.finish(types)
}

struct Classes {
    /// Class of each type.
    class: Vec<u32>,
    /// Types of each class, without declarations that stand for a definition.
    members: Vec<Vec<u32>>,
    /// Where each type is in `members` of its class; `None` of a declaration that stands for a definition.
    place: Vec<Option<u32>>,
    /// What each type refers to.
    references: Vec<Vec<u32>>,
    /// What refers to each type.
    users: Vec<Vec<u32>>,
    /// Declarations that stand for the definitions of a class.
    declarations: HashMap<u32, Vec<u32>>,
}

/// What a declaration and its definitions have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Declared {
    name: StrId,
    tag: KindTag,
    /// Of enums, which are as large when they are only declared.
    size: u32,
}

/// The declaration or definition that the type is.
fn declared(ty: &Type) -> Option<(Declared, bool)> {
    let (tag, size, is_declaration) = match &ty.kind {
        Kind::Fwd { is_union: false } => (KindTag::Struct, 0, true),
        Kind::Fwd { is_union: true } => (KindTag::Union, 0, true),
        Kind::Struct(_) => (KindTag::Struct, 0, false),
        Kind::Union(_) => (KindTag::Union, 0, false),
        Kind::Enum(e) => (KindTag::Enum, e.size, e.values.is_empty()),
        Kind::Enum64(e) => (KindTag::Enum, e.size, e.values.is_empty()),
        _ => return None,
    };
    (ty.name.0 != 0).then_some((Declared { name: ty.name, tag, size }, is_declaration))
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Classes {
    /// Classes of types that look the same but for their references.
    fn new(types: &[Type]) -> Self {
        let mut looks: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut new = Self {
            class: Vec::with_capacity(types.len()),
            members: Vec::new(),
            place: vec![None; types.len()],
            references: Vec::with_capacity(types.len()),
            users: vec![Vec::new(); types.len()],
            declarations: HashMap::new(),
        };
        for (index, ty) in types.iter().enumerate() {
            let mut references = Vec::new();
            ty.for_each_reference(&mut |id| references.push(id.0));
            for &to in &references {
                if let Some(users) = new.users.get_mut(to as usize) {
                    users.push(number(index));
                }
            }
            new.references.push(references);
            let mut look = type_bytes(&ty.remapped(&mut |name| name, &mut |_| TypeId::VOID));
            if matches!(ty.kind, Kind::Var { .. } | Kind::DataSec { .. }) {
                look.extend_from_slice(&number(index).to_le_bytes());
            }
            let class = *looks.entry(look).or_insert_with(|| {
                new.members.push(Vec::new());
                number(new.members.len() - 1)
            });
            new.class.push(class);
            new.enter(number(index), class);
        }
        new.join_declarations(types);
        new
    }

    /// Puts each declaration into the class of its definitions, if that is one class.
    fn join_declarations(&mut self, types: &[Type]) {
        let mut definitions: HashMap<Declared, Option<u32>> = HashMap::new();
        for (ty, &class) in types.iter().zip(&self.class) {
            if let Some((key, false)) = declared(ty) {
                let known = definitions.entry(key).or_insert(Some(class));
                *known = known.filter(|&k| k == class);
            }
        }
        for (index, ty) in types.iter().enumerate() {
            let Some((key, true)) = declared(ty) else { continue };
            let Some(&Some(class)) = definitions.get(&key) else { continue };
            self.leave(number(index));
            self.set_class(number(index), class);
            self.declarations.entry(class).or_default().push(number(index));
        }
    }

    fn set_class(&mut self, ty: u32, class: u32) {
        if let Some(slot) = self.class.get_mut(ty as usize) {
            *slot = class;
        }
    }

    /// Makes the type a member of the class.
    fn enter(&mut self, ty: u32, class: u32) {
        self.set_class(ty, class);
        let (Some(members), Some(place)) =
            (self.members.get_mut(class as usize), self.place.get_mut(ty as usize))
        else {
            return;
        };
        *place = Some(number(members.len()));
        members.push(ty);
    }

    /// Takes the type out of the members of its class.
    fn leave(&mut self, ty: u32) {
        let Some(place) = self.place.get_mut(ty as usize).and_then(Option::take) else { return };
        let members = self.class.get(ty as usize).and_then(|&c| self.members.get_mut(c as usize));
        let Some(members) = members.filter(|m| (place as usize) < m.len()) else { return };
        members.swap_remove(place as usize);
        let filled = members.get(place as usize).and_then(|&m| self.place.get_mut(m as usize));
        filled.into_iter().for_each(|slot| *slot = Some(place));
    }

    /// Splits classes until the members of each refer to the same classes.
    fn refine(&mut self) {
        let mut dirty: Vec<u32> = (0..number(self.class.len())).collect();
        let mut is_dirty = vec![true; self.class.len()];
        while !dirty.is_empty() {
            let mut by_class: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for &ty in &dirty {
                by_class
                    .entry(self.class.get(ty as usize).copied().unwrap_or_default())
                    .or_default()
                    .push(ty);
            }
            let mut changed = Vec::new();
            for (class, types) in by_class {
                self.split(class, &types, &is_dirty, &mut changed);
            }
            for &ty in &dirty {
                mark(&mut is_dirty, ty, false);
            }
            dirty.clear();
            for &ty in &changed {
                for &user in self.users.get(ty as usize).map_or(&[][..], Vec::as_slice) {
                    if mark(&mut is_dirty, user, true) {
                        dirty.push(user);
                    }
                }
            }
            dirty.sort_unstable();
        }
    }

    /// Splits one class by what its `dirty` members refer to now. Members that are not dirty are still alike. The most
    /// numerous keep the class, so that what refers to them need not be looked at again.
    fn split(&mut self, class: u32, dirty: &[u32], is_dirty: &[bool], changed: &mut Vec<u32>) {
        let members = self.members.get(class as usize).map_or(&[][..], Vec::as_slice);
        if members.len() < 2 {
            return;
        }
        let is_clean = |m: &u32| !is_dirty.get(*m as usize).copied().unwrap_or_default();
        // The first group is that of the clean members, which are not listed unless they have to move.
        let mut groups: Vec<Vec<u32>> = vec![Vec::new()];
        let mut group_of: HashMap<Vec<u32>, usize> = HashMap::new();
        if let Some(&clean) = members.iter().find(|m| is_clean(m)) {
            group_of.insert(self.signature(clean), 0);
        }
        let mut clean = members.len();
        // A declaration is no member and refers to nothing.
        for &ty in dirty.iter().filter(|&&ty| self.place.get(ty as usize).is_some_and(Option::is_some)) {
            clean = clean.saturating_sub(1);
            let at = *group_of.entry(self.signature(ty)).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups.get_mut(at).into_iter().for_each(|g| g.push(ty));
        }
        let size = |&i: &usize| groups.get(i).map_or(0, Vec::len) + if i == 0 { clean } else { 0 };
        let kept = (0..groups.len()).rev().max_by_key(size).unwrap_or(0);
        if let Some(first) = groups.first_mut().filter(|_| kept != 0 && clean > 0) {
            first.extend(members.iter().filter(|m| is_clean(m)));
        }
        groups.swap_remove(kept);
        groups.retain(|group| !group.is_empty());
        if groups.is_empty() {
            return;
        }
        groups.iter().for_each(|group| self.add_class(group, changed));
        if let Some(declarations) = self.declarations.remove(&class) {
            self.add_class(&declarations, changed);
        }
    }

    /// Moves the types to a class of their own.
    fn add_class(&mut self, types: &[u32], changed: &mut Vec<u32>) {
        let class = number(self.members.len());
        self.members.push(Vec::new());
        for &ty in types {
            self.leave(ty);
            self.enter(ty, class);
        }
        changed.extend_from_slice(types);
    }

    /// Classes of what the type refers to.
    fn signature(&self, ty: u32) -> Vec<u32> {
        let references = self.references.get(ty as usize).map_or(&[][..], Vec::as_slice);
        references.iter().map(|&to| self.class.get(to as usize).copied().unwrap_or_default()).collect()
    }

    /// One type of each class, in the order of their first members, referring to one another.
    fn finish(&self, types: &[Type]) -> (Vec<Type>, Vec<TypeId>) {
        let mut new_id: HashMap<u32, TypeId> = HashMap::new();
        let mut kept = Vec::new();
        for ((ty, &class), place) in types.iter().zip(&self.class).zip(&self.place) {
            if place.is_some() && !new_id.contains_key(&class) {
                new_id.insert(class, TypeId(number(kept.len())));
                kept.push(ty);
            }
        }
        let ids: Vec<TypeId> =
            self.class.iter().map(|class| new_id.get(class).copied().unwrap_or_default()).collect();
        let mut reference = |id: TypeId| ids.get(id.0 as usize).copied().unwrap_or_default();
        let types = kept.into_iter().map(|ty| ty.remapped(&mut |name| name, &mut reference)).collect();
        (types, ids)
    }
}

/// Sets a flag; whether that changed it.
fn mark(flags: &mut [bool], index: u32, value: bool) -> bool {
    flags.get_mut(index as usize).is_some_and(|flag| core::mem::replace(flag, value) != value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Array, BtfLinkage, Composite, Int, Member};

    const INT: StrId = StrId(1);
    const LIST: StrId = StrId(2);
    const NEXT: StrId = StrId(3);
    const OTHER: StrId = StrId(4);

    fn ty(name: StrId, kind: Kind) -> Type {
        Type { name, kind }
    }

    fn int() -> Type {
        ty(INT, Kind::Int(Int { size: 4, bits: 32, ..Int::default() }))
    }

    fn list(to: u32, size: u32) -> Type {
        let members = vec![Member { name: NEXT, ty: TypeId(to), ..Member::default() }];
        ty(LIST, Kind::Struct(Composite { size, members, kind_flag: false }))
    }

    fn ptr(to: u32) -> Type {
        ty(StrId(0), Kind::Ptr(TypeId(to)))
    }

    fn declaration() -> Type {
        ty(LIST, Kind::Fwd { is_union: false })
    }

    /// What the types given become; `void` is added.
    fn kept(types: Vec<Type>) -> (Vec<Type>, Vec<u32>) {
        let types: Vec<Type> = core::iter::once(Type::default()).chain(types).collect();
        let (types, ids) = deduplicate(&types);
        (types.into_iter().skip(1).collect(), ids.into_iter().skip(1).map(|id| id.0).collect())
    }

    #[test]
    fn a_list_of_itself_is_equal_to_another_that_looks_the_same() {
        let types = vec![list(2, 8), ptr(1), list(4, 8), ptr(3), int(), int()];
        assert_eq!(kept(types), (vec![list(2, 8), ptr(1), int()], vec![1, 2, 1, 2, 3, 3]));
    }

    #[test]
    fn what_differs_far_away_differs() {
        let types = vec![list(2, 8), ptr(3), int(), list(5, 8), ptr(6), ty(OTHER, int().kind)];
        assert_eq!(kept(types).1, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_declaration_stands_for_the_only_definition() {
        let types = vec![declaration(), ptr(1), list(4, 8), ptr(3)];
        assert_eq!(kept(types), (vec![ptr(2), list(1, 8)], vec![2, 1, 2, 1]));
        // Two definitions that each know only the name of the other's type are completed by it.
        let types = vec![declaration(), ptr(1), list(2, 8), list(5, 8), ptr(4)];
        assert_eq!(kept(types), (vec![ptr(2), list(1, 8)], vec![2, 1, 2, 2, 1]));
        let types = vec![declaration(), ptr(1), list(2, 8), list(5, 16), ptr(4)];
        assert_eq!(kept(types).1, [1, 2, 3, 4, 5], "which one is not known");
        // Definitions that turn out to differ only by what they refer to.
        let types = vec![declaration(), ptr(1), list(4, 8), int(), list(6, 8), ptr(4)];
        assert_eq!(kept(types).1, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn variables_are_never_equal() {
        let var = ty(OTHER, Kind::Var { ty: TypeId(1), linkage: BtfLinkage::Static });
        assert_eq!(kept(vec![int(), var.clone(), var]).1, [1, 2, 3]);
    }

    #[test]
    fn a_long_chain_takes_time_in_proportion() {
        let mut types = vec![int()];
        types.extend((1..200_000).map(ptr));
        let array = Array { element: TypeId(200_000), index: TypeId(1), len: 1 };
        types.push(ty(StrId(0), Kind::Array(array)));
        let (types, ids) = kept(types);
        assert_eq!(types.len(), 200_001);
        assert_eq!(ids.last(), Some(&200_001));
    }
}
