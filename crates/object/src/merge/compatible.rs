//! Whether two objects mean the same by a name.
//!
//! Types must agree as far as the code of either object can tell: qualifiers, typedefs, signs, the numbers of array
//! elements, names of parameters and what lies behind pointers to structs do not matter; names, sizes and members of what is
//! there by value do. These are the rules of libbpf's linker.

use super::error::{StaticLinkError, TypeMismatch};
use super::input::Input;
use crate::MapSpec;
use crate::btf::{Btf, BtfLinkage, Composite, Kind, TypeId};
use crate::limits::{MAX_BTF_DEPTH, MAX_LINKED_STEPS};
use crate::parse::read_map;

/// What all comparisons of one link may take.
#[derive(Debug)]
pub(super) struct Budget {
    /// Types that may still be looked at.
    steps: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: MAX_LINKED_STEPS }
    }
}

/// Compares the types of two `VAR`s or `FUNC`s.
pub(super) fn types(
    budget: &mut Budget,
    (first, a): (&Btf, TypeId),
    (second, b): (&Btf, TypeId),
) -> Result<(), TypeMismatch> {
    Comparison { first, second, budget }.types(a, b, true, MAX_BTF_DEPTH)
}

/// Compares two descriptions of a map, by their `VAR`s: all attributes must be the same.
pub(super) fn maps(
    budget: &mut Budget,
    symbol: &str,
    (first, a): (&Input<'_>, TypeId),
    (second, b): (&Input<'_>, TypeId),
) -> Result<(), StaticLinkError> {
    let read = |input: &Input<'_>, id| {
        read_map(&input.btf, symbol, id).map_err(|fault| StaticLinkError::Object {
            object: input.name.clone(),
            error: Box::new(crate::ObjectError::BadMap { map: symbol.to_owned(), fault }),
        })
    };
    let (a, b) = (read(first, a)?, read(second, b)?);
    let differs = different_attribute(budget, (&first.btf, &a), (&second.btf, &b));
    match differs {
        None => Ok(()),
        Some(attribute) => Err(StaticLinkError::MapMismatch {
            symbol: symbol.to_owned(),
            first: first.name.clone(),
            second: second.name.clone(),
            attribute,
        }),
    }
}

fn different_attribute(
    budget: &mut Budget,
    (first, a): (&Btf, &MapSpec),
    (second, b): (&Btf, &MapSpec),
) -> Option<&'static str> {
    let mut same_type = |a: Option<TypeId>, b: Option<TypeId>| match (a, b) {
        (Some(a), Some(b)) => types(budget, (first, a), (second, b)).is_ok(),
        (a, b) => a == b,
    };
    let same = [
        ("type", a.map_type == b.map_type),
        ("key_size", a.key_size == b.key_size),
        ("key", same_type(a.key_btf, b.key_btf)),
        ("value_size", a.value_size == b.value_size),
        ("value", same_type(a.value_btf, b.value_btf)),
        ("max_entries", a.max_entries == b.max_entries),
        ("map_flags", a.flags == b.flags),
        ("map_extra", a.extra == b.extra),
        ("numa_node", a.numa_node == b.numa_node),
        ("pinning", a.pin_by_name == b.pin_by_name),
        ("values", a.inner.is_some() == b.inner.is_some()),
    ];
    let differs = same.into_iter().find(|(_, same)| !same).map(|(attribute, _)| attribute);
    match (&a.inner, &b.inner) {
        (Some(a), Some(b)) => {
            differs.or_else(|| different_attribute(budget, (first, a), (second, b)).map(|_| "values"))
        }
        _ => differs,
    }
}

struct Comparison<'a> {
    first: &'a Btf,
    second: &'a Btf,
    budget: &'a mut Budget,
}

impl Comparison<'_> {
    /// Compares two types; `exact` until a pointer is followed.
    fn types(&mut self, a: TypeId, b: TypeId, exact: bool, depth: usize) -> Result<(), TypeMismatch> {
        let depth = depth.checked_sub(1).ok_or(TypeMismatch::TooDeep)?;
        self.budget.steps = self.budget.steps.checked_sub(1).ok_or(TypeMismatch::TooDeep)?;
        let (a, b) = (self.first.resolve(a), self.second.resolve(b));
        let (first, second) = (self.first, self.second);
        let (Some(kind_a), Some(kind_b)) = (first.kind(a), second.kind(b)) else { return Ok(()) };
        match (kind_a, kind_b) {
            (Kind::Void, Kind::Void) => Ok(()),
            (Kind::Ptr(a), Kind::Ptr(b)) => self.types(*a, *b, false, depth),
            (Kind::Array(a), Kind::Array(b)) => self.types(a.element, b.element, exact, depth),
            (Kind::Struct(x), Kind::Struct(y)) | (Kind::Union(x), Kind::Union(y)) => {
                self.names(a, b)?;
                if exact { self.members(a, x, y, depth) } else { Ok(()) }
            }
            (Kind::Fwd { is_union: x }, Kind::Fwd { is_union: y }) if x == y => self.names(a, b),
            (Kind::Fwd { is_union }, Kind::Struct(_) | Kind::Union(_)) if !exact => {
                self.declared(*is_union, kind_b, a, b)
            }
            (Kind::Struct(_) | Kind::Union(_), Kind::Fwd { is_union }) if !exact => {
                self.declared(*is_union, kind_a, a, b)
            }
            (Kind::Enum(_), Kind::Enum(_)) | (Kind::Enum64(_), Kind::Enum64(_)) => {
                self.names(a, b)?;
                self.sizes(a, b)
            }
            (Kind::Int(_), Kind::Int(_)) | (Kind::Float { .. }, Kind::Float { .. }) => self.sizes(a, b),
            (Kind::Func { proto: x, linkage: l }, Kind::Func { proto: y, linkage: m })
            | (Kind::Var { ty: x, linkage: l }, Kind::Var { ty: y, linkage: m }) => {
                self.names(a, b)?;
                // A declaration and a definition are the same thing seen from two sides.
                if (*l == BtfLinkage::Static) != (*m == BtfLinkage::Static) {
                    return Err(TypeMismatch::Linkage);
                }
                self.types(*x, *y, exact, depth)
            }
            (Kind::FuncProto(x), Kind::FuncProto(y)) => {
                if x.params.len() != y.params.len() {
                    return Err(self.count(a, x.params.len(), y.params.len()));
                }
                for (x, y) in x.params.iter().zip(&y.params) {
                    self.types(x.ty, y.ty, exact, depth)?;
                }
                self.types(x.ret, y.ret, exact, depth)
            }
            _ => Err(TypeMismatch::Kind { first: kind_a.tag(), second: kind_b.tag() }),
        }
    }

    /// A struct or union that one side only declares.
    fn declared(&self, is_union: bool, definition: &Kind, a: TypeId, b: TypeId) -> Result<(), TypeMismatch> {
        if is_union == matches!(definition, Kind::Union(_)) {
            return self.names(a, b);
        }
        let tag = |btf: &Btf, id| btf.kind(id).map_or(crate::KindTag::Void, Kind::tag);
        Err(TypeMismatch::Kind { first: tag(self.first, a), second: tag(self.second, b) })
    }

    fn names(&self, a: TypeId, b: TypeId) -> Result<(), TypeMismatch> {
        let (first, second) = (self.first.name(a), self.second.name(b));
        if first == second {
            return Ok(());
        }
        let kind = self.first.kind(a).map_or(crate::KindTag::Void, Kind::tag);
        Err(TypeMismatch::Name { kind, first: first.to_owned(), second: second.to_owned() })
    }

    fn sizes(&self, a: TypeId, b: TypeId) -> Result<(), TypeMismatch> {
        let size = |btf: &Btf, id| btf.size_of(id).unwrap_or_default();
        let (first, second) = (size(self.first, a), size(self.second, b));
        if first == second {
            return Ok(());
        }
        Err(TypeMismatch::Size { name: self.first.name(a).to_owned(), first, second })
    }

    fn count(&self, a: TypeId, first: usize, second: usize) -> TypeMismatch {
        let kind = self.first.kind(a).map_or(crate::KindTag::Void, Kind::tag);
        TypeMismatch::Count { kind, name: self.first.name(a).to_owned(), first, second }
    }

    fn members(&mut self, a: TypeId, x: &Composite, y: &Composite, depth: usize) -> Result<(), TypeMismatch> {
        if x.members.len() != y.members.len() {
            return Err(self.count(a, x.members.len(), y.members.len()));
        }
        for (index, (x, y)) in x.members.iter().zip(&y.members).enumerate() {
            let (first, second) = (self.first.str(x.name), self.second.str(y.name));
            if first != second || (x.bit_offset, x.bit_size) != (y.bit_offset, y.bit_size) {
                return Err(TypeMismatch::Member {
                    name: self.first.name(a).to_owned(),
                    index,
                    first: first.to_owned(),
                    second: second.to_owned(),
                });
            }
            self.types(x.ty, y.ty, true, depth)?;
        }
        Ok(())
    }
}
