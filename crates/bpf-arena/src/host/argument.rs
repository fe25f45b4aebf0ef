//! Calls of programs that take arguments: callbacks of `struct_ops` tables, and programs attached to functions, tracepoints and
//! hooks of the kernel.

use std::sync::Arc;

use bpf_object::{Btf, Composite, Kind, KindTag, MapType, ProgType, Program, TypeId, essential_name};

use super::object::{Image, Object, Structure};
use super::signature::{SignatureError, SignatureFault, SignaturePlace};
use crate::typed::value::c_type;

/// Structures at the start of one another that are looked into.
const MAX_NESTING: usize = 16;

/// An argument of a program.
#[derive(Clone, Debug)]
pub struct Argument {
    bits: u64,
    object: Option<(&'static str, Arc<Image>)>,
}

macro_rules! numbers {
    ($($int:ident)*) => {$(
        impl From<$int> for Argument {
            /// Extended to 64 bits by its sign.
            #[allow(clippy::cast_lossless, clippy::cast_sign_loss, reason = "bits, not numbers")]
            fn from(number: $int) -> Self {
                Self { bits: number as u64, object: None }
            }
        }
    )*};
}

numbers! { u8 i8 u16 i16 u32 i32 u64 i64 bool }

impl<S: Structure> From<&Object<S>> for Argument {
    /// A pointer to the object.
    fn from(object: &Object<S>) -> Self {
        Self { bits: object.address(), object: Some((S::NAME, Arc::clone(object.image()))) }
    }
}

impl<S: Structure> From<Option<&Object<S>>> for Argument {
    /// A pointer to the object, or NULL.
    fn from(object: Option<&Object<S>>) -> Self {
        object.map_or(Self { bits: 0, object: None }, Self::from)
    }
}

impl Argument {
    /// Its register.
    pub(crate) fn bits(&self) -> u64 {
        self.bits
    }

    /// The object it points to.
    pub(crate) fn image(&self) -> Option<&Arc<Image>> {
        self.object.as_ref().map(|(_, image)| image)
    }
}

/// The function that a program is called as: its name, and its type.
struct Callee<'b> {
    name: String,
    btf: &'b Btf,
    params: Vec<(String, TypeId)>,
}

/// Compares arguments with the function the program stands for, as far as that is known: a member of a table by the object's own
/// types, a function, hook or tracepoint by the kernel's.
///
/// # Errors
/// The number of them, or one that is no such pointer.
pub(crate) fn check(
    program: &Program,
    kernel: Option<&Btf>,
    arguments: &[Argument],
) -> Result<(), Box<SignatureError>> {
    let callee = match program.kind.prog_type {
        Some(ProgType::StructOps) => member_of_table(program),
        Some(ProgType::Tracing | ProgType::Lsm) => {
            kernel.and_then(|kernel| function_of_kernel(program, kernel))
        }
        _ => None,
    };
    let Some(callee) = callee else { return Ok(()) };
    let fail = |place, fault| Err(Box::new(SignatureError { function: callee.name.clone(), place, fault }));
    // A program that runs after the function is also given what that returned.
    let (given, expected) = (arguments.len(), callee.params.len());
    if given != expected && given != expected + 1 {
        return fail(SignaturePlace::Whole, SignatureFault::Count { expected: given, found: expected });
    }
    for (index, (argument, (name, ty))) in arguments.iter().zip(&callee.params).enumerate() {
        if let Some(fault) = mismatch(callee.btf, argument, *ty) {
            return fail(SignaturePlace::Parameter { number: index + 1, name: name.clone() }, fault);
        }
    }
    Ok(())
}

/// What is wrong with giving this argument for a parameter of this type.
fn mismatch(btf: &Btf, argument: &Argument, ty: TypeId) -> Option<SignatureFault> {
    let target = match btf.kind(btf.resolve(ty)) {
        Some(Kind::Ptr(target)) => Some(btf.resolve(*target)),
        _ => None,
    };
    let structure = target.filter(|target| {
        matches!(btf.kind(*target), Some(Kind::Struct(_) | Kind::Union(_) | Kind::Fwd { .. }))
    });
    let expected = match (&argument.object, structure) {
        (Some((name, image)), Some(structure))
            if stands_for(name, image, essential_name(btf.name(structure))) =>
        {
            return None;
        }
        (Some((name, _)), _) => format!("Object<struct {name}>"),
        // NULL, and addresses of what is no structure, are numbers to the caller.
        (None, Some(_)) if argument.bits != 0 => "a number".to_owned(),
        (None, _) => return None,
    };
    Some(SignatureFault::Type { expected, found: c_type(btf, ty) })
}

/// Whether an object is a structure of this name, or begins with one, as `struct tcp_sock` does with `struct sock`.
fn stands_for(name: &str, image: &Image, wanted: &str) -> bool {
    let inner = image.types().into_iter().flat_map(|(btf, ty)| {
        let first = |ty: &TypeId| {
            let member = btf.composite(*ty)?.members.first()?;
            Some(btf.resolve(member.ty))
        };
        std::iter::successors(first(ty), first).take(MAX_NESTING).map(|ty| btf.name(ty))
    });
    std::iter::once(name).chain(inner).any(|name| name == wanted)
}

/// The function of a table that a program is the member of.
fn member_of_table(program: &Program) -> Option<Callee<'_>> {
    let btf = program.btf.as_deref()?;
    let tables = program.maps.iter().filter(|map| map.map_type == MapType::StructOps);
    let mut slots = tables.flat_map(|map| map.slots.iter().map(move |slot| (map.value_btf, slot)));
    let (table, slot) = slots.find(|(_, slot)| slot.target == program.name)?;
    let Composite { members, .. } = btf.composite(btf.resolve(table?))?;
    let member = members.iter().find(|member| Some(member.bit_offset) == slot.index.checked_mul(8))?;
    let Kind::Ptr(proto) = btf.kind(btf.resolve(member.ty))? else { return None };
    callee(btf, btf.str(member.name), btf.resolve(*proto), 0)
}

/// The function, hook or tracepoint of the kernel that a program is attached to.
fn function_of_kernel<'b>(program: &Program, kernel: &'b Btf) -> Option<Callee<'b>> {
    let target = program.kind.target.as_deref()?;
    let typedef = || {
        let id = kernel.find(&format!("btf_trace_{target}"), KindTag::Typedef)?;
        let Kind::Ptr(proto) = kernel.kind(kernel.resolve(id))? else { return None };
        // Its first parameter is the tracer's.
        callee(kernel, target, kernel.resolve(*proto), 1)
    };
    let function = |name: &str| {
        let Kind::Func { proto, .. } = kernel.kind(kernel.function(name)?)? else { return None };
        callee(kernel, target, *proto, 0)
    };
    match program.kind.prog_type? {
        ProgType::Lsm => function(&format!("bpf_lsm_{target}")),
        _ if program.section.trim_start_matches('?').starts_with("tp_btf") => typedef(),
        _ if program.section.trim_start_matches('?').starts_with("iter") => {
            function(&format!("bpf_iter_{target}"))
        }
        _ => function(target),
    }
}

fn callee<'b>(btf: &'b Btf, name: &str, proto: TypeId, skip: usize) -> Option<Callee<'b>> {
    let Kind::FuncProto(proto) = btf.kind(proto)? else { return None };
    let params = proto.params.iter().skip(skip).map(|param| (btf.str(param.name).to_owned(), param.ty));
    Some(Callee { name: name.to_owned(), btf, params: params.collect() })
}
