//! What a function of the host takes and gives, and whether a program declares it so.

use std::fmt;

use bpf_object::{Btf, Kind, TypeId, essential_name};
use verifier::{HostFunction, HostParam, HostResult};

use crate::typed::Shape;
use crate::typed::layout::{self, LayoutError};

/// The types of a function, as its Rust closure says.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Its name.
    pub name: &'static str,
    /// Its parameters, one for each argument in C.
    pub params: Vec<ParamType>,
    /// What it returns.
    pub result: ResultType,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ParamType {
    /// An integer.
    Int {
        /// Size in bytes.
        bytes: u8,
        /// Whether it is signed.
        signed: bool,
    },
    /// `bool`.
    Bool,
    /// The program's context.
    Context,
    /// A pointer to a value of a plain type.
    Memory {
        /// The type's layout.
        shape: Shape,
        /// Whether it may be NULL.
        nullable: bool,
    },
    /// A pointer to memory whose size is the next parameter.
    Buffer {
        /// Whether it may be NULL.
        nullable: bool,
    },
    /// The size of the memory before it.
    Size,
    /// A constant string.
    Text,
    /// A pointer into the arena.
    Arena {
        /// Layout of what it points to.
        shape: Shape,
    },
    /// A pointer to a structure of the kernel or of the host.
    Object(ObjectParam),
}

/// A parameter that points to a structure of the kernel or of the host.
#[derive(Clone, Copy, Debug)]
pub struct ObjectParam {
    /// The structure's name in C.
    pub name: &'static str,
    /// Its layout, if the host defines it.
    pub shape: Option<Shape>,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether the function takes the program's reference.
    pub released: bool,
}

/// What a function returns.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ResultType {
    /// `void`.
    Nothing,
    /// An integer.
    Int {
        /// Size in bytes.
        bytes: u8,
        /// Whether it is signed.
        signed: bool,
    },
    /// `bool`.
    Bool,
    /// A pointer into the arena.
    Arena {
        /// Layout of what it points to.
        shape: Shape,
    },
    /// A pointer to a structure of the kernel or of the host.
    Object {
        /// The structure's name in C.
        name: &'static str,
        /// Its layout, if the host defines it.
        shape: Option<Shape>,
        /// Whether it may be NULL.
        nullable: bool,
        /// Whether the program has to give it back.
        acquired: bool,
    },
}

/// A function that is declared otherwise than the host provides it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("function `{function}`, {place}: {fault}")]
pub struct SignatureError {
    /// Name of the function.
    pub function: String,
    /// Which part of its declaration.
    pub place: SignaturePlace,
    /// What is wrong with it.
    pub fault: SignatureFault,
}

/// A part of a function's declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignaturePlace {
    /// All of it.
    Whole,
    /// A parameter.
    Parameter {
        /// Its number, from 1.
        number: usize,
        /// Its name in C; empty if it has none.
        name: String,
    },
    /// What it returns.
    Result,
}

/// What is wrong with a declaration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// Another number of parameters.
    #[error("the host has {expected} of them, the declaration {found}")]
    Count {
        /// Of the host's function.
        expected: usize,
        /// Of the declaration.
        found: usize,
    },
    /// Another type.
    #[error("the host provides `{expected}`, it is declared as `{found}`")]
    Type {
        /// The host's type.
        expected: String,
        /// The declared type.
        found: String,
    },
    /// A structure of another layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The declaration is no function.
    #[error("it is declared as `{found}`, not as a function")]
    NoFunction {
        /// What it is.
        found: String,
    },
}

impl fmt::Display for SignaturePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("number of parameters"),
            Self::Parameter { number, name } if name.is_empty() => write!(f, "parameter {number}"),
            Self::Parameter { number, name } => write!(f, "parameter {number} (`{name}`)"),
            Self::Result => f.write_str("result"),
        }
    }
}

impl fmt::Display for ParamType {
    /// The type as a Rust closure writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int { bytes, signed } => write_int(f, *bytes, *signed),
            Self::Bool => f.write_str("bool"),
            Self::Context => f.write_str("Ctx"),
            Self::Memory { shape, .. } => write!(f, "Ptr<{}>", layout::describe_shape(shape)),
            Self::Buffer { .. } => f.write_str("Buffer"),
            Self::Size => f.write_str("size of the Buffer"),
            Self::Text => f.write_str("String"),
            Self::Arena { shape } => write!(f, "ArenaPtr<{}>", layout::describe_shape(shape)),
            Self::Object(object) => write!(f, "Object<struct {}>", object.name),
        }
    }
}

impl fmt::Display for ResultType {
    /// The type as a Rust closure writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("()"),
            Self::Int { bytes, signed } => write_int(f, *bytes, *signed),
            Self::Bool => f.write_str("bool"),
            Self::Arena { shape } => write!(f, "ArenaPtr<{}>", layout::describe_shape(shape)),
            Self::Object { name, .. } => write!(f, "Object<struct {name}>"),
        }
    }
}

fn write_int(f: &mut fmt::Formatter<'_>, bytes: u8, signed: bool) -> fmt::Result {
    write!(f, "{}{}", if signed { 'i' } else { 'u' }, u32::from(bytes) * 8)
}

impl Signature {
    /// What the verifier has to know of it.
    pub(crate) fn to_verifier(&self) -> HostFunction {
        let param = |param: &ParamType| match *param {
            ParamType::Int { .. } | ParamType::Bool => HostParam::Number,
            ParamType::Context => HostParam::Context,
            ParamType::Memory { shape, nullable } => {
                HostParam::Memory { bytes: u32::try_from(shape.size()).unwrap_or(u32::MAX), nullable }
            }
            ParamType::Buffer { nullable } => HostParam::Buffer { nullable },
            ParamType::Size => HostParam::Size,
            ParamType::Text => HostParam::Text,
            ParamType::Arena { .. } => HostParam::Arena,
            ParamType::Object(ObjectParam { name, nullable, released, .. }) => {
                HostParam::Object { name, nullable, released }
            }
        };
        let result = match self.result {
            ResultType::Nothing => HostResult::Nothing,
            ResultType::Int { bytes, .. } => HostResult::Number { bytes: u32::from(bytes) },
            ResultType::Bool => HostResult::Number { bytes: 1 },
            ResultType::Arena { .. } => HostResult::Arena,
            ResultType::Object { name, nullable, acquired, .. } => {
                HostResult::Object { name, nullable, acquired }
            }
        };
        let params = self.params.iter().map(param).collect();
        HostFunction { name: self.name, params, result, stands_in: false }
    }

    /// Compares it with a declaration: the type `function` (a `FUNC`) of `btf`.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, btf: &Btf, function: TypeId) -> Result<(), Box<SignatureError>> {
        let fail =
            |place, fault| Err(Box::new(SignatureError { function: self.name.to_owned(), place, fault }));
        let declared = match btf.kind(function) {
            Some(Kind::Func { proto, .. }) => btf.kind(*proto),
            other => other,
        };
        let Some(Kind::FuncProto(proto)) = declared else {
            let found = layout::describe(btf, function);
            return fail(SignaturePlace::Whole, SignatureFault::NoFunction { found });
        };
        if proto.params.len() != self.params.len() {
            let fault = SignatureFault::Count { expected: self.params.len(), found: proto.params.len() };
            return fail(SignaturePlace::Whole, fault);
        }
        for (index, (expected, found)) in self.params.iter().zip(&proto.params).enumerate() {
            if let Err(fault) = check_param(btf, expected, found.ty) {
                let name = btf.str(found.name).to_owned();
                return fail(SignaturePlace::Parameter { number: index + 1, name }, fault);
            }
        }
        check_result(btf, &self.result, proto.ret).or_else(|fault| fail(SignaturePlace::Result, fault))
    }
}

fn check_param(btf: &Btf, expected: &ParamType, found: TypeId) -> Result<(), SignatureFault> {
    let mismatch = || {
        let (expected, found) = (expected.to_string(), layout::describe(btf, found));
        Err(SignatureFault::Type { expected, found })
    };
    let target = pointee(btf, found);
    let is_byte = |ty| matches!(btf.kind(ty), Some(Kind::Int(int)) if int.size == 1);
    match (expected, target) {
        (ParamType::Int { bytes, signed }, None) if is_integer(btf, found, Some((*bytes, *signed))) => Ok(()),
        (ParamType::Bool, None) if is_bool(btf, found) => Ok(()),
        (ParamType::Size, None) if is_integer(btf, found, None) => Ok(()),
        (ParamType::Context, Some(target)) if structure_name(btf, target).is_some() => Ok(()),
        (ParamType::Memory { shape, .. }, Some(target)) => check_target(btf, shape, target),
        (ParamType::Buffer { .. }, Some(target)) if target == TypeId::VOID || is_byte(target) => Ok(()),
        (ParamType::Text, Some(target)) if is_byte(target) => Ok(()),
        (ParamType::Arena { shape }, Some(target)) if is_unknown(btf, target) || is_opaque(shape) => Ok(()),
        (ParamType::Arena { shape }, Some(target)) => check_target(btf, shape, target),
        // Its layout is not compared: programs follow the host's by CO-RE.
        (ParamType::Object(object), Some(target)) if structure_name(btf, target) == Some(object.name) => {
            Ok(())
        }
        _ => mismatch(),
    }
}

fn check_result(btf: &Btf, expected: &ResultType, found: TypeId) -> Result<(), SignatureFault> {
    let target = pointee(btf, found);
    match (expected, target) {
        (ResultType::Nothing, None) if btf.resolve(found) == TypeId::VOID => Ok(()),
        (ResultType::Int { bytes, signed }, None) if is_integer(btf, found, Some((*bytes, *signed))) => {
            Ok(())
        }
        (ResultType::Bool, None) if is_bool(btf, found) => Ok(()),
        (ResultType::Arena { shape }, Some(target)) if is_unknown(btf, target) || is_opaque(shape) => Ok(()),
        (ResultType::Arena { shape }, Some(target)) => check_target(btf, shape, target),
        (ResultType::Object { name, .. }, Some(target)) if structure_name(btf, target) == Some(name) => {
            Ok(())
        }
        _ => {
            let (expected, found) = (expected.to_string(), layout::describe(btf, found));
            Err(SignatureFault::Type { expected, found })
        }
    }
}

/// What a pointer points to, behind modifiers and typedefs; `None` if it is no pointer.
fn pointee(btf: &Btf, ty: TypeId) -> Option<TypeId> {
    match btf.kind(btf.resolve(ty))? {
        Kind::Ptr(target) => Some(btf.resolve(*target)),
        _ => None,
    }
}

/// Name of a structure or union, declared or defined, without flavour.
fn structure_name(btf: &Btf, ty: TypeId) -> Option<&str> {
    let is_structure = matches!(btf.kind(ty)?, Kind::Struct(_) | Kind::Union(_) | Kind::Fwd { .. });
    is_structure.then(|| essential_name(btf.name(ty)))
}

/// Whether nothing is known of the type: `void`, or declared elsewhere.
fn is_unknown(btf: &Btf, ty: TypeId) -> bool {
    matches!(btf.kind(ty), None | Some(Kind::Void | Kind::Fwd { .. }))
}

fn is_opaque(shape: &Shape) -> bool {
    matches!(shape, Shape::Opaque)
}

/// Whether the type is an integer or enum of this size and sign. The sign of bytes and enums does not count.
fn is_integer(btf: &Btf, ty: TypeId, wanted: Option<(u8, bool)>) -> bool {
    let (size, sign) = match btf.kind(btf.resolve(ty)) {
        Some(Kind::Int(int)) => (int.size, (int.size > 1).then_some(int.signed)),
        Some(Kind::Enum(e)) => (e.size, None),
        Some(Kind::Enum64(e)) => (e.size, None),
        _ => return false,
    };
    wanted.is_none_or(|(bytes, signed)| size == u32::from(bytes) && sign.is_none_or(|s| s == signed))
}

fn is_bool(btf: &Btf, ty: TypeId) -> bool {
    matches!(btf.kind(btf.resolve(ty)), Some(Kind::Int(int)) if int.is_bool)
}

fn check_target(btf: &Btf, shape: &Shape, target: TypeId) -> Result<(), SignatureFault> {
    Ok(layout::check_shape(btf, shape, target)?)
}
