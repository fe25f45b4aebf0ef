//! The host's structures as types that the verifier can look into.

use std::sync::Arc;

use bpf_object::{Array, Btf, Composite, Int, Kind, KindTag, Member, Type, TypeId};

use super::signature::{ParamType, ResultType, Signature};
use crate::typed::Shape;

/// The structures that functions have pointers to and the kernel does not describe; `None` if there are none. One without
/// layout is empty: programs can hold pointers to it and see nothing.
pub(super) fn of<'s>(
    signatures: impl Iterator<Item = &'s Signature>,
    kernel: Option<&Arc<Btf>>,
) -> Option<Arc<Btf>> {
    let mut types: Option<Btf> = None;
    for (name, shape) in signatures.flat_map(structures) {
        let known = types.as_ref().or(kernel.map(|k| &**k));
        if name.is_empty() || known.is_some_and(|btf| btf.find(name, KindTag::Struct).is_some()) {
            continue;
        }
        let types = types
            .get_or_insert_with(|| kernel.map_or_else(Btf::default, |kernel| Btf::split(Arc::clone(kernel))));
        match shape {
            Some(shape) => add(types, &shape),
            None => add_type(types, name, Kind::Struct(Composite::default())),
        };
    }
    types.map(Arc::new)
}

/// The structures in a signature.
fn structures(signature: &Signature) -> Vec<(&'static str, Option<Shape>)> {
    let of_param = |param: &ParamType| match param {
        ParamType::Object(object) => Some((object.name, object.shape)),
        _ => None,
    };
    let of_result = match signature.result {
        ResultType::Object { name, shape, .. } => Some((name, shape)),
        _ => None,
    };
    signature.params.iter().filter_map(of_param).chain(of_result).collect()
}

fn add_type(types: &mut Btf, name: &str, kind: Kind) -> TypeId {
    let name = types.add_str(name);
    types.push(Type { name, kind })
}

/// Adds a type of this layout. Pointers are numbers: they lead into an arena, not into the kernel.
fn add(types: &mut Btf, shape: &Shape) -> TypeId {
    match *shape {
        Shape::Int { bytes, signed } => add_int(types, bytes, signed),
        Shape::Pointer { .. } => add_int(types, 8, false),
        Shape::Array { element, len } => {
            let element = add(types, element);
            let index = add_int(types, 4, false);
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            add_type(types, "", Kind::Array(Array { element, index, len }))
        }
        Shape::Struct(shape) => {
            if let Some(known) = types.find(shape.c_name, KindTag::Struct) {
                return known;
            }
            let mut members = Vec::new();
            for field in shape.fields {
                let ty = add(types, &field.shape);
                let name = types.add_str(field.c_name.unwrap_or(field.name));
                let bit_offset = u32::try_from(field.offset.saturating_mul(8)).unwrap_or(u32::MAX);
                members.push(Member { name, ty, bit_offset, bit_size: 0 });
            }
            let size = u32::try_from(shape.size).unwrap_or(u32::MAX);
            add_type(types, shape.c_name, Kind::Struct(Composite { size, members, kind_flag: false }))
        }
        Shape::Opaque => TypeId::VOID,
    }
}

fn add_int(types: &mut Btf, bytes: usize, signed: bool) -> TypeId {
    let (name, size, bits) = match bytes {
        1 => ("u8", 1, 8),
        2 => ("u16", 2, 16),
        4 => ("u32", 4, 32),
        _ => ("u64", 8, 64),
    };
    add_type(types, name, Kind::Int(Int { size, bits, signed, ..Int::default() }))
}

#[cfg(test)]
mod tests {
    use super::super::{Acquired, Call, Function, Object, Structure};
    use super::*;
    use crate::typed::{ArenaPtr, ArenaType};

    #[derive(ArenaType, Clone, Copy)]
    #[repr(C)]
    struct Session {
        id: u32,
        flags: [u16; 2],
        next: ArenaPtr<Session>,
    }

    enum Opaque {}
    impl Structure for Opaque {
        const NAME: &'static str = "opaque";
    }

    fn signature<Args, F: Function<Args>>(_: &F) -> Signature {
        F::signature("f")
    }

    #[test]
    fn structures_of_the_host_have_types_behind_the_kernels() {
        let mut kernel = Btf::default();
        let known =
            add_type(&mut kernel, "opaque", Kind::Struct(Composite { size: 8, ..Composite::default() }));
        let kernel = Arc::new(kernel);
        let open = signature(&|_: &mut Call<'_>, _: Object<Opaque>| -> Option<Acquired<Session>> { None });
        let types = of([&open].into_iter(), Some(&kernel)).unwrap();
        let session = types.find("session", KindTag::Struct).unwrap();
        assert!(session > known);
        assert_eq!(types.size_of(session), Some(16));
        assert_eq!(types.member(session, "next").unwrap().1, 64);
        assert_eq!(types.find("opaque", KindTag::Struct), Some(known));
        let alone = of([&open].into_iter(), None).unwrap();
        let opaque = alone.find("opaque", KindTag::Struct).unwrap();
        assert_eq!(alone.size_of(opaque), Some(0));
        let number = signature(&|_: &mut Call<'_>, a: u32| a);
        assert!(of([&number].into_iter(), None).is_none());
    }
}
