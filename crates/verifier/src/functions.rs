//! Functions as BTF describes them: what a global function is given, and the stack of call chains.

use bpf_object::{Btf, Kind, TypeId};
use isa::{CallTarget, Imm64, Insn, Reg};

use crate::cfg::callee;
use crate::limits::{MAX_FRAMES, MAX_STACK};
use crate::plan::Plan;
use crate::reason::{FunctionFault, Reason, Unsupported};
use crate::rules::programs::ctx_type;
use crate::verified::FrameFacts;

/// A parameter of a global function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// An integer or enum.
    Number,
    /// `__arg_ctx`.
    Ctx,
    /// `__arg_arena`.
    Arena,
    /// A pointer to so many bytes.
    Mem { size: u32, nullable: bool },
}

/// The parameters of a global function, from its BTF (the kernel's `btf_prepare_func_args`).
pub(crate) fn parameters(plan: &Plan<'_>, index: u32) -> Result<Vec<Parameter>, Reason> {
    let subprog = plan.subprog(index).ok_or(Reason::SubprogLayout)?;
    let name = || subprog.name.clone();
    let (Some(btf), Some(func)) = (plan.program.btf.as_deref(), subprog.btf_func) else {
        return Err(Reason::GlobalWithoutBtf { name: name() });
    };
    let proto = match btf.kind(func) {
        Some(Kind::Func { proto, .. }) => *proto,
        _ => return Err(Reason::GlobalWithoutBtf { name: name() }),
    };
    let Some(Kind::FuncProto(proto)) = btf.kind(proto) else {
        return Err(Reason::GlobalWithoutBtf { name: name() });
    };
    if !is_number(btf, proto.ret) {
        return Err(Reason::GlobalReturn { name: name() });
    }
    if proto.params.len() > Reg::ARGS.len() {
        let what = "more than five arguments";
        return Err(Unsupported::Argument { function: name(), argument: proto.params.len(), what }.into());
    }
    let one = |(i, param): (usize, &bpf_object::Param)| {
        let component = u32::try_from(i).ok();
        let tags: Vec<&str> = btf.decl_tags(func, component).filter_map(|t| t.strip_prefix("arg:")).collect();
        parameter(plan, btf, param.ty, &tags).map_err(|fault| fault.reason(name(), i))
    };
    proto.params.iter().enumerate().map(one).collect()
}

/// What is wrong with a parameter.
enum ParameterFault {
    Tags,
    Size,
    Ctx(ctx_type::Fault),
    What(&'static str),
}

impl ParameterFault {
    fn reason(self, name: String, argument: usize) -> Reason {
        match self {
            Self::Tags => Reason::GlobalArgumentTags { name, argument },
            Self::Size => Reason::GlobalArgumentSize { name, argument },
            Self::Ctx(ctx_type::Fault::Nameless) => FunctionFault::CtxWithoutName { argument }.into(),
            Self::Ctx(ctx_type::Fault::NotVoid) => FunctionFault::CtxNotVoid { argument }.into(),
            Self::Ctx(ctx_type::Fault::NotStruct(expected)) => {
                FunctionFault::CtxNotStruct { argument, expected }.into()
            }
            Self::What(what) => Unsupported::Argument { function: name, argument: argument + 1, what }.into(),
        }
    }
}

fn parameter(plan: &Plan<'_>, btf: &Btf, ty: TypeId, tags: &[&str]) -> Result<Parameter, ParameterFault> {
    let target = match btf.kind(btf.resolve(ty)) {
        Some(Kind::Ptr(target)) => *target,
        _ if !tags.is_empty() => return Err(ParameterFault::Tags),
        _ if is_number(btf, ty) => return Ok(Parameter::Number),
        _ => return Err(ParameterFault::What("a struct, union or float by value")),
    };
    let prog_type = plan.rules.prog_type;
    if !tags.contains(&"ctx") && ctx_type::is_named(prog_type, btf, target) {
        return if tags.is_empty() { Ok(Parameter::Ctx) } else { Err(ParameterFault::Tags) };
    }
    match tags {
        ["ctx"] => {
            ctx_type::check_tagged(prog_type, plan.attach, btf, target).map_err(ParameterFault::Ctx)?;
            Ok(Parameter::Ctx)
        }
        ["arena"] => Ok(Parameter::Arena),
        [] | ["nonnull"] => {
            let is_dynptr = btf.name(btf.resolve(target)) == "bpf_dynptr";
            if is_dynptr {
                return Err(ParameterFault::What("a dynptr"));
            }
            let size = btf.size_of(target).and_then(|s| u32::try_from(s).ok()).ok_or(ParameterFault::Size)?;
            Ok(Parameter::Mem { size, nullable: tags.is_empty() })
        }
        ["trusted"] | ["trusted", "nullable"] | ["nullable", "trusted"] => {
            Err(ParameterFault::What("a trusted kernel pointer"))
        }
        ["untrusted"] => Err(ParameterFault::What("an untrusted kernel pointer")),
        _ => Err(ParameterFault::Tags),
    }
}

fn is_number(btf: &Btf, ty: TypeId) -> bool {
    matches!(btf.kind(btf.resolve(ty)), Some(Kind::Int(_) | Kind::Enum(_) | Kind::Enum64(_)))
}

/// Checks the stack and frames of every call chain from the entry; gives the deepest chain's bytes.
pub(crate) fn check_stack(plan: &Plan<'_>, frames: &[FrameFacts]) -> Result<u32, Reason> {
    let calls = call_graph(plan)?;
    let mut deepest = 0;
    // Depth first with an explicit stack: function, bytes above it, frames above it.
    let mut waiting = vec![(0_u32, 0_u32, 0_usize)];
    let mut best: Vec<Option<(u32, usize)>> = vec![None; frames.len()];
    while let Some((subprog, above, depth)) = waiting.pop() {
        if depth >= MAX_FRAMES {
            return Err(Reason::TooManyFrames { frames: depth });
        }
        let own =
            frames.get(subprog as usize).map_or(0, |f| u32::from(f.stack_bytes)).max(1).next_multiple_of(16);
        let bytes = above + own;
        if bytes > MAX_STACK {
            return Err(Reason::StackTooDeep { frames: depth + 1, bytes });
        }
        // A chain that is neither deeper nor longer than one already followed tells nothing new.
        if let Some(seen) = best.get_mut(subprog as usize) {
            if seen.is_some_and(|(b, d)| b >= bytes && d >= depth) {
                continue;
            }
            *seen =
                Some((seen.map_or(bytes, |(b, _)| b.max(bytes)), seen.map_or(depth, |(_, d)| d.max(depth))));
        }
        deepest = deepest.max(bytes);
        for &callee in calls.get(subprog as usize).into_iter().flatten() {
            waiting.push((callee, bytes, depth + 1));
        }
    }
    Ok(deepest)
}

/// For each function, those it calls or gives to helpers.
fn call_graph(plan: &Plan<'_>) -> Result<Vec<Vec<u32>>, Reason> {
    let mut calls = vec![Vec::new(); plan.program.subprograms.len()];
    let starts = &plan.program.subprograms;
    for (at, insn) in plan.program.code.iter() {
        let offset = match insn {
            Insn::Call { target: CallTarget::Local(offset) } => offset,
            Insn::LoadImm64 { value: Imm64::Func(offset), .. } => offset,
            _ => continue,
        };
        let to = callee(plan.program, at, offset)?;
        let from = starts.partition_point(|s| s.start <= at).saturating_sub(1);
        if let Some(list) = calls.get_mut(from)
            && !list.contains(&to)
        {
            list.push(to);
        }
    }
    Ok(calls)
}
