//! When a type of the object and a type of the target are the same thing, at the three degrees CO-RE knows.

use std::collections::HashSet;

use super::Budget;
use crate::btf::{Btf, Composite, Kind, StrId, TypeId, essential_name};
use crate::error::CoreError;
use crate::limits::MAX_BTF_DEPTH;

/// Whether two types have the same kind; the two kinds of enums count as one.
pub(super) fn same_kind(a: &Kind, b: &Kind) -> bool {
    a.tag() == b.tag() || is_enum(a) && is_enum(b)
}

pub(super) fn is_enum(kind: &Kind) -> bool {
    matches!(kind, Kind::Enum(_) | Kind::Enum64(_))
}

/// A pair of types being compared: one of the object, one of the target.
#[derive(Clone, Copy)]
struct Pair<'l, 't> {
    local: &'l Btf,
    target: &'t Btf,
    ids: (TypeId, TypeId),
}

impl<'l, 't> Pair<'l, 't> {
    fn resolved(self, ids: (TypeId, TypeId)) -> Option<(Self, &'l Kind, &'t Kind)> {
        let ids = (self.local.resolve(ids.0), self.target.resolve(ids.1));
        Some((Self { ids, ..self }, self.local.kind(ids.0)?, self.target.kind(ids.1)?))
    }

    /// Names without flavor.
    fn names(&self, ids: (StrId, StrId)) -> (&'l str, &'t str) {
        (essential_name(self.local.str(ids.0)), essential_name(self.target.str(ids.1)))
    }

    fn type_names(&self) -> (&'l str, &'t str) {
        (essential_name(self.local.name(self.ids.0)), essential_name(self.target.name(self.ids.1)))
    }
}

/// Whether a field of one type may be read as a field of the other: structs with structs, pointers with pointers,
/// integers of any size, enums of the same name, arrays of compatible elements.
pub(super) fn fields_compatible(
    local: &Btf,
    local_id: TypeId,
    target: &Btf,
    target_id: TypeId,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    let mut pair = Pair { local, target, ids: (local_id, target_id) };
    for _ in 0..MAX_BTF_DEPTH {
        budget.spend()?;
        let Some((at, l, t)) = pair.resolved(pair.ids) else { return Ok(false) };
        return Ok(match (l, t) {
            (l, t) if l.as_composite().is_some() && t.as_composite().is_some() => true,
            (Kind::Ptr(_), Kind::Ptr(_)) | (Kind::Float { .. }, Kind::Float { .. }) => true,
            (Kind::Int(l), Kind::Int(t)) => l.offset == 0 && t.offset == 0,
            (Kind::Array(l), Kind::Array(t)) => {
                pair.ids = (l.element, t.element);
                continue;
            }
            (l, t) if is_enum(l) && is_enum(t) || matches!((l, t), (Kind::Fwd { .. }, Kind::Fwd { .. })) => {
                let (l, t) = at.type_names();
                l.is_empty() || t.is_empty() || l == t
            }
            _ => false,
        });
    }
    Ok(false)
}

/// Whether a type of the target stands for a local type of the same name (`bpf_core_type_exists`): the same kind, and
/// for pointers, arrays and functions the same of what they are made of.
pub(super) fn types_compatible(
    local: &Btf,
    local_id: TypeId,
    target: &Btf,
    target_id: TypeId,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    let pair = Pair { local, target, ids: (local_id, target_id) };
    match (local.kind(local_id), target.kind(target_id)) {
        (Some(l), Some(t)) if same_kind(l, t) => compatible(pair, MAX_BTF_DEPTH, budget),
        _ => Ok(false),
    }
}

fn compatible(mut pair: Pair<'_, '_>, level: usize, budget: &mut Budget) -> Result<bool, CoreError> {
    for _ in 0..MAX_BTF_DEPTH {
        budget.spend()?;
        let Some((_, l, t)) = pair.resolved(pair.ids) else { return Ok(false) };
        pair.ids = match (l, t) {
            (Kind::Ptr(l), Kind::Ptr(t)) => (*l, *t),
            (Kind::Array(l), Kind::Array(t)) => (l.element, t.element),
            (Kind::Int(l), Kind::Int(t)) => return Ok(l.offset == 0 && t.offset == 0),
            (Kind::FuncProto(l), Kind::FuncProto(t)) => {
                let Some(level) = level.checked_sub(1).filter(|_| l.params.len() == t.params.len()) else {
                    return Ok(false);
                };
                for (l, t) in l.params.iter().zip(&t.params) {
                    if !compatible(Pair { ids: (l.ty, t.ty), ..pair }, level, budget)? {
                        return Ok(false);
                    }
                }
                (l.ret, t.ret)
            }
            (Kind::Void | Kind::Struct(_) | Kind::Union(_) | Kind::Fwd { .. }, _) => {
                return Ok(l.tag() == t.tag());
            }
            (l, t) => return Ok(is_enum(l) && is_enum(t)),
        };
    }
    Ok(false)
}

/// Whether a type of the target has everything a local type has (`bpf_core_type_matches`): members by name, recursively,
/// enumerators by name, integers of the same size and sign. Behind a pointer a struct's name is enough.
pub(super) fn types_match(
    local: &Btf,
    local_id: TypeId,
    target: &Btf,
    target_id: TypeId,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    matches(Pair { local, target, ids: (local_id, target_id) }, false, MAX_BTF_DEPTH, budget)
}

fn matches(
    mut pair: Pair<'_, '_>,
    mut behind_pointer: bool,
    level: usize,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    let Some(level) = level.checked_sub(1) else { return Ok(false) };
    for _ in 0..MAX_BTF_DEPTH {
        budget.spend()?;
        let Some((at, l, t)) = pair.resolved(pair.ids) else { return Ok(false) };
        let (local_name, target_name) = at.type_names();
        if local_name != target_name {
            return Ok(false);
        }
        pair.ids = match (l, t) {
            (Kind::Ptr(l), Kind::Ptr(t)) => {
                behind_pointer = true;
                (*l, *t)
            }
            (Kind::Array(l), Kind::Array(t)) if l.len == t.len => (l.element, t.element),
            (Kind::FuncProto(l), Kind::FuncProto(t)) if l.params.len() == t.params.len() => {
                for (l, t) in l.params.iter().zip(&t.params) {
                    if !matches(Pair { ids: (l.ty, t.ty), ..pair }, behind_pointer, level, budget)? {
                        return Ok(false);
                    }
                }
                (l.ret, t.ret)
            }
            (Kind::Int(l), Kind::Int(t)) => return Ok(l.size == t.size && l.signed == t.signed),
            (Kind::Void, Kind::Void) => return Ok(true),
            (l, t) if is_enum(l) && is_enum(t) => return enums_match(at, l, t, budget),
            (l, t) if behind_pointer => return Ok(same_declaration(l, t)),
            (Kind::Struct(l), Kind::Struct(t)) | (Kind::Union(l), Kind::Union(t)) => {
                return members_match(at, l, t, level, budget);
            }
            (Kind::Fwd { is_union: l }, Kind::Fwd { is_union: t }) => return Ok(l == t),
            _ => return Ok(false),
        };
    }
    Ok(false)
}

/// Whether both are structs or both unions; either may be a forward declaration.
fn same_declaration(local: &Kind, target: &Kind) -> bool {
    let is_union = |kind: &Kind| match kind {
        Kind::Struct(_) => Some(false),
        Kind::Union(_) => Some(true),
        Kind::Fwd { is_union } => Some(*is_union),
        _ => None,
    };
    is_union(local).is_some() && is_union(local) == is_union(target)
}

fn members_match(
    pair: Pair<'_, '_>,
    local: &Composite,
    target: &Composite,
    level: usize,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    if local.members.len() > target.members.len() {
        return Ok(false);
    }
    for wanted in &local.members {
        let mut found = false;
        for member in &target.members {
            budget.spend()?;
            let (l, t) = pair.names((wanted.name, member.name));
            if l == t && matches(Pair { ids: (wanted.ty, member.ty), ..pair }, false, level, budget)? {
                found = true;
                break;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

fn enums_match(
    pair: Pair<'_, '_>,
    local: &Kind,
    target: &Kind,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    let ((local_size, local_names), (target_size, target_names)) = (enumerators(local), enumerators(target));
    if local_size != target_size || local_names.len() > target_names.len() {
        return Ok(false);
    }
    let mut known = HashSet::new();
    for name in target_names {
        budget.spend()?;
        known.insert(essential_name(pair.target.str(name)));
    }
    Ok(local_names.into_iter().all(|name| known.contains(essential_name(pair.local.str(name)))))
}

/// Size and names of an enum.
fn enumerators(kind: &Kind) -> (u32, Vec<StrId>) {
    match kind {
        Kind::Enum(e) => (e.size, e.values.iter().map(|v| v.0).collect()),
        Kind::Enum64(e) => (e.size, e.values.iter().map(|v| v.0).collect()),
        _ => (0, Vec::new()),
    }
}
