//! Prototypes from the kernel's BTF.

use std::borrow::Cow;

use bpf_object::{Btf, Kind, Param, ProgType, TypeId};

use super::prototype::{Arg, IterRole, Memory, Pointer, Prototype, Ret, Role, SizeKind, Target};
use super::{Kfunc, builtin, context, iters};
use crate::kernel_types::{is_number, is_struct_of_numbers, kind_name};

/// The prototype of a kfunc: as the kernel's BTF says, or the one that is built in.
pub(crate) fn prototype(
    kernel: Option<&Btf>,
    kfunc: &Kfunc,
    prog_type: Option<ProgType>,
) -> Option<Prototype> {
    let Some(kernel) = kernel else { return builtin::find(kfunc.name) };
    let func = kernel.function(kfunc.name)?;
    let Some(Kind::Func { proto, .. }) = kernel.kind(func) else { return None };
    let Some(Kind::FuncProto(proto)) = kernel.kind(*proto) else { return None };
    let one = |(i, param): (usize, &Param)| argument(kernel, kfunc, prog_type, i, *param);
    let args: Vec<Arg> = proto.params.iter().enumerate().map(one).collect();
    Some(Prototype { args: Cow::Owned(args), ret: result(kernel, proto.ret) })
}

fn argument(kernel: &Btf, kfunc: &Kfunc, prog_type: Option<ProgType>, index: usize, param: Param) -> Arg {
    let name = kernel.str(param.name);
    // The kernel wants something in front of a suffix.
    let ends = |suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| !rest.is_empty());
    if ends("__ign") {
        return Arg::Ignored;
    }
    if ends("__prog") {
        return Arg::Program;
    }
    if is_number(kernel, param.ty) {
        let size =
            if ends("__sz") { Some(SizeKind::Any) } else { ends("__szk").then_some(SizeKind::Constant) };
        let result_size = match name {
            "rdonly_buf_size" => Some(false),
            "rdwr_buf_size" => Some(true),
            _ => None,
        };
        return Arg::Number { constant: ends("__k"), size, result_size };
    }
    let ty = kernel.resolve(param.ty);
    let Some(Kind::Ptr(target)) = kernel.kind(ty) else { return Arg::Other(kind_name(kernel, ty)) };
    let structure = kernel.name(kernel.resolve(*target));
    let is_context = prog_type.is_some_and(|p| context::is_context_type(kernel, kernel, *target, p));
    let is_iter = if kfunc.is_iter() { index == 0 } else { ends("__iter") };
    let role = match structure {
        _ if kfunc.special == super::Special::CastToKernCtx || is_context => Role::Ctx,
        _ if ends("__alloc") => Role::Alloc,
        _ if ends("__refcounted_kptr") => Role::RefcountedKptr,
        "bpf_dynptr" => Role::Dynptr,
        _ if is_iter => Role::Iter(iters::iter_of(structure).map_or(IterRole::Unknown, IterRole::Kind)),
        "bpf_list_head" => Role::ListHead,
        "bpf_list_node" => Role::ListNode,
        "bpf_rb_root" => Role::RbRoot,
        "bpf_rb_node" => Role::RbNode,
        _ if ends("__str") => Role::ConstString,
        _ if ends("__map") => Role::Map,
        "bpf_wq" => Role::Wq,
        "bpf_task_work" => Role::TaskWork,
        _ if ends("__irq_flag") => Role::IrqFlag,
        "bpf_res_spin_lock" => Role::ResSpinLock,
        _ => Role::Plain,
    };
    Arg::Pointer(Pointer {
        role,
        nullable: ends("__nullable"),
        uninit: ends("__uninit"),
        optional: ends("__opt"),
        target: self::target(kernel, *target),
    })
}

fn target(kernel: &Btf, target: TypeId) -> Target {
    let ty = kernel.resolve(target);
    let bytes = || kernel.size_of(ty).and_then(|s| u32::try_from(s).ok());
    let memory = match kernel.kind(ty) {
        None | Some(Kind::Void) => Memory::Void,
        Some(Kind::Int(_) | Kind::Enum(_) | Kind::Enum64(_)) => {
            bytes().map_or(Memory::Other, Memory::Numbers)
        }
        Some(Kind::Struct(_) | Kind::Union(_)) if is_struct_of_numbers(kernel, ty) => {
            bytes().map_or(Memory::Struct, Memory::Numbers)
        }
        Some(Kind::Struct(_) | Kind::Union(_)) => Memory::Struct,
        Some(_) => Memory::Other,
    };
    let structure = matches!(kernel.kind(ty), Some(Kind::Struct(_) | Kind::Union(_)));
    Target { ty, memory, structure, function: matches!(kernel.kind(ty), Some(Kind::FuncProto(_))) }
}

fn result(kernel: &Btf, ty: TypeId) -> Ret {
    let ty = kernel.resolve(ty);
    match kernel.kind(ty) {
        None | Some(Kind::Void) => Ret::Void,
        Some(Kind::Int(_) | Kind::Enum(_) | Kind::Enum64(_)) => {
            Ret::Number(kernel.size_of(ty).and_then(|s| u32::try_from(s).ok()).unwrap_or(8))
        }
        Some(Kind::Ptr(target)) => {
            let target = kernel.resolve(*target);
            match kernel.kind(target) {
                None | Some(Kind::Void) => Ret::VoidPointer,
                Some(Kind::Struct(_) | Kind::Union(_)) => Ret::Struct(target),
                Some(_) => {
                    let size = kernel.size_of(target).and_then(|s| u32::try_from(s).ok());
                    Ret::Memory { ty: target, size }
                }
            }
        }
        Some(_) => Ret::Other,
    }
}
