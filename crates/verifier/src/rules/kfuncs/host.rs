//! Functions of the host as rows and prototypes, so that calls of them are checked as those of kernel functions are.

use std::borrow::Cow;

use bpf_object::{Btf, KindTag, TypeId};

use super::prototype::{Arg, Memory, Pointer, Prototype, Ret, Role, Target};
use super::{Filter, Hooks, Kfunc, KfuncFlags, Special};
use crate::host::{HostFunction, HostParam, HostResult};

/// What is known of a function besides its prototype.
pub(crate) fn row(function: &HostFunction) -> Kfunc {
    let mut flags = KfuncFlags::TRUSTED_ARGS;
    if function.params.iter().any(|p| matches!(p, HostParam::Object { released: true, .. })) {
        flags = flags.with(KfuncFlags::RELEASE);
    }
    if let HostResult::Object { nullable, acquired, .. } = function.result {
        flags = if nullable { flags.with(KfuncFlags::RET_NULL) } else { flags };
        flags = if acquired { flags.with(KfuncFlags::ACQUIRE) } else { flags };
    }
    let params = u8::try_from(function.params.len()).unwrap_or(u8::MAX);
    let (special, filter) = (Special::None, Filter::None);
    Kfunc { name: function.name, params, flags, hooks: Hooks::COMMON, special, filter }
}

/// Its prototype.
///
/// # Errors
/// The name of a structure that is not in `types`.
pub(crate) fn prototype(types: Option<&Btf>, function: &HostFunction) -> Result<Prototype, &'static str> {
    let structure = |name: &'static str| types.and_then(|t| t.find(name, KindTag::Struct)).ok_or(name);
    let args =
        function.params.iter().map(|param| argument(param, structure)).collect::<Result<Vec<_>, _>>()?;
    let ret = match function.result {
        HostResult::Nothing => Ret::Void,
        HostResult::Number { bytes } => Ret::Number(bytes),
        // A number until the program casts it.
        HostResult::Arena => Ret::VoidPointer,
        HostResult::Object { name, .. } => Ret::Struct(structure(name)?),
    };
    Ok(Prototype { args: Cow::Owned(args), ret })
}

fn argument(
    param: &HostParam,
    structure: impl Fn(&'static str) -> Result<TypeId, &'static str>,
) -> Result<Arg, &'static str> {
    Ok(match *param {
        HostParam::Number => Arg::NUMBER,
        HostParam::Size => Arg::SIZE,
        HostParam::Arena => Arg::Arena,
        HostParam::Context => Arg::pointer(Role::Ctx, Memory::Struct),
        HostParam::Text => Arg::pointer(Role::ConstString, Memory::Numbers(1)),
        HostParam::Memory { bytes, nullable } => pointer(TypeId::VOID, Memory::Numbers(bytes), nullable),
        HostParam::Buffer { nullable } => pointer(TypeId::VOID, Memory::Void, nullable),
        HostParam::Object { name, nullable, .. } => pointer(structure(name)?, Memory::Struct, nullable),
    })
}

fn pointer(ty: TypeId, memory: Memory, nullable: bool) -> Arg {
    let target = Target { ty, memory, structure: memory == Memory::Struct, function: false };
    Arg::Pointer(Pointer { role: Role::Plain, nullable, uninit: false, optional: nullable, target })
}
