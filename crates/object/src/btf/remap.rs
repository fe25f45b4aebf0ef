//! Types with other names and references: what moving them to another BTF takes.

use super::{Composite, FuncProto, Kind, Member, Param, SecVar, StrId, Type, TypeId};

impl Type {
    /// The same type with every name replaced by `name` of it and every reference by `reference` of it.
    pub(crate) fn remapped(
        &self,
        name: &mut dyn FnMut(StrId) -> StrId,
        reference: &mut dyn FnMut(TypeId) -> TypeId,
    ) -> Self {
        Self { name: name(self.name), kind: self.kind.remapped(name, reference) }
    }
}

impl Kind {
    fn remapped(
        &self,
        name: &mut dyn FnMut(StrId) -> StrId,
        reference: &mut dyn FnMut(TypeId) -> TypeId,
    ) -> Self {
        match self {
            Self::Void | Self::Int(_) | Self::Fwd { .. } | Self::Float { .. } => self.clone(),
            Self::Ptr(ty) => Self::Ptr(reference(*ty)),
            Self::Typedef(ty) => Self::Typedef(reference(*ty)),
            Self::Volatile(ty) => Self::Volatile(reference(*ty)),
            Self::Const(ty) => Self::Const(reference(*ty)),
            Self::Restrict(ty) => Self::Restrict(reference(*ty)),
            Self::TypeTag { ty, attribute } => Self::TypeTag { ty: reference(*ty), attribute: *attribute },
            Self::DeclTag { target, component, attribute } => {
                Self::DeclTag { target: reference(*target), component: *component, attribute: *attribute }
            }
            Self::Array(array) => Self::Array(super::Array {
                element: reference(array.element),
                index: reference(array.index),
                len: array.len,
            }),
            Self::Struct(composite) => Self::Struct(members(composite, name, reference)),
            Self::Union(composite) => Self::Union(members(composite, name, reference)),
            Self::Enum(e) => Self::Enum(super::Enum {
                values: e.values.iter().map(|&(text, value)| (name(text), value)).collect(),
                ..*e
            }),
            Self::Enum64(e) => Self::Enum64(super::Enum64 {
                values: e.values.iter().map(|&(text, value)| (name(text), value)).collect(),
                ..*e
            }),
            Self::Func { proto, linkage } => Self::Func { proto: reference(*proto), linkage: *linkage },
            Self::FuncProto(proto) => Self::FuncProto(FuncProto {
                ret: reference(proto.ret),
                params: proto
                    .params
                    .iter()
                    .map(|p| Param { name: name(p.name), ty: reference(p.ty) })
                    .collect(),
            }),
            Self::Var { ty, linkage } => Self::Var { ty: reference(*ty), linkage: *linkage },
            Self::DataSec { size, vars } => Self::DataSec {
                size: *size,
                vars: vars.iter().map(|v| SecVar { ty: reference(v.ty), ..*v }).collect(),
            },
        }
    }
}

fn members(
    composite: &Composite,
    name: &mut dyn FnMut(StrId) -> StrId,
    reference: &mut dyn FnMut(TypeId) -> TypeId,
) -> Composite {
    let member = |m: &Member| Member { name: name(m.name), ty: reference(m.ty), ..*m };
    Composite { members: composite.members.iter().map(member).collect(), ..*composite }
}
