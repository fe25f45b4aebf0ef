//! What a program refers to in the kernel: functions and variables, found by name in the kernel's BTF.

use std::borrow::Cow;

use bpf_object::{Btf, Extern, ExternKind, Kind, KindTag, Program, TypeId};
use isa::{CallTarget, Insn, InsnIdx};

use crate::Env;
use crate::limits::MAX_KFUNCS;
use crate::report::reason::{KfuncFault, Reason, Unsupported};
use crate::rules::kfuncs::{self, Filter, Kfunc, Prototype};
use crate::state::reg::{BtfOwner, Flags, RegType};

/// An extern of the program, found or not.
#[derive(Clone, Debug)]
pub(crate) enum External {
    /// A kernel function that may be called.
    Function(KernelFunction),
    /// A kernel function that programs may not call.
    Forbidden,
    /// A variable: what its address is to the program.
    Variable { kind: RegType, flags: Flags },
    /// A symbol of which only the address is wanted.
    Address,
    /// Weak, and the kernel has none of this name: its address is 0.
    Absent,
    /// Nothing in the code refers to it, or what is needed to tell more is not there: why.
    Unknown(Reason),
}

/// A kernel function, and what it takes and gives.
#[derive(Clone, Debug)]
pub(crate) struct KernelFunction {
    pub(crate) row: Cow<'static, Kfunc>,
    pub(crate) prototype: Prototype,
}

/// Everything the program refers to, in the order of [`Program::externs`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Externs {
    found: Vec<External>,
}

impl Externs {
    /// Finds them, and checks what the kernel checks of calls before it walks.
    ///
    /// # Errors
    /// A rule that a call breaks wherever it is, with the instruction.
    pub(crate) fn new(program: &Program, env: &Env, gpl: bool) -> Result<Self, (Option<InsnIdx>, Reason)> {
        let kernel = env.kernel.as_deref();
        let of_host =
            |e: &Extern| (e.kind == ExternKind::Function).then(|| host_function(env, &e.name)).flatten();
        let find = |e| of_host(e).unwrap_or_else(|| find(kernel, program, e));
        let all = Self { found: program.externs.iter().map(find).collect() };
        all.check_calls(program, env, gpl)?;
        Ok(all)
    }

    pub(crate) fn get(&self, index: i32) -> Option<&External> {
        usize::try_from(index).ok().and_then(|i| self.found.get(i))
    }

    fn check_calls(&self, program: &Program, env: &Env, gpl: bool) -> Result<(), (Option<InsnIdx>, Reason)> {
        let mut called = std::collections::BTreeSet::new();
        for (at, insn) in program.code.iter() {
            let Insn::Call { target: CallTarget::Kfunc { btf_id, .. } } = insn else { continue };
            let fail = |fault: KfuncFault| Err((Some(at), fault.into()));
            let name =
                usize::try_from(btf_id).ok().and_then(|i| program.externs.get(i)).map(|e| e.name.as_str());
            let of_host = name.is_some_and(|name| env.host.function(name).is_some());
            if !gpl && !of_host {
                return fail(KfuncFault::License);
            }
            if let Some(External::Function(f)) = self.get(btf_id)
                && f.row.filter == Filter::DeviceBound
            {
                return fail(KfuncFault::NotDeviceBound);
            }
            called.insert(btf_id);
            if called.len() > MAX_KFUNCS {
                return fail(KfuncFault::TooMany);
            }
        }
        Ok(())
    }
}

fn find(kernel: Option<&Btf>, program: &Program, wanted: &Extern) -> External {
    match (wanted.kind, kernel) {
        (ExternKind::Function, _) => function(kernel, program, wanted),
        (ExternKind::TypedVariable, Some(kernel)) => variable(kernel, wanted),
        (ExternKind::TypedVariable, None) => {
            External::Unknown(Unsupported::KernelVariable { name: wanted.name.clone() }.into())
        }
        (ExternKind::Address, _) => External::Address,
    }
}

/// The function of the host with this name.
fn host_function(env: &Env, name: &str) -> Option<External> {
    let function = env.host.function(name)?;
    let by_kernel = env.kernel.as_deref().is_some_and(|k| k.function(name).is_some());
    if function.stands_in && by_kernel && kfuncs::find(name).is_some() {
        return None;
    }
    Some(match kfuncs::host::prototype(env.types(), function) {
        Ok(prototype) => {
            let row = Cow::Owned(kfuncs::host::row(function));
            External::Function(KernelFunction { row, prototype })
        }
        Err(structure) => {
            let (function, structure) = (function.name.to_owned(), structure.to_owned());
            External::Unknown(Unsupported::HostStructure { function, structure }.into())
        }
    })
}

fn missing(wanted: &Extern) -> External {
    if wanted.weak {
        External::Absent
    } else {
        External::Unknown(KfuncFault::NotInKernel { name: wanted.name.clone() }.into())
    }
}

fn function(kernel: Option<&Btf>, program: &Program, wanted: &Extern) -> External {
    let name = wanted.name.as_str();
    let unsupported = || External::Unknown(Unsupported::Kfunc { name: name.to_owned() }.into());
    let id = kernel.and_then(|k| k.function(name));
    if let (Some(_), None) = (kernel, id) {
        return missing(wanted);
    }
    let Some(row) = kfuncs::find(name) else {
        // Another kernel's kfunc, or no kfunc at all.
        let is_kfunc = kernel.zip(id).is_none_or(|(k, id)| k.decl_tags(id, None).any(|t| t == "bpf_kfunc"));
        return if is_kfunc { unsupported() } else { External::Forbidden };
    };
    match kfuncs::prototype(kernel, row, program.kind.prog_type) {
        Some(prototype) => External::Function(KernelFunction { row: Cow::Borrowed(row), prototype }),
        None => unsupported(),
    }
}

/// A variable with a type (`check_pseudo_btf_id`).
fn variable(kernel: &Btf, wanted: &Extern) -> External {
    let Some(id) = kernel.find(&wanted.name, KindTag::Var) else { return missing(wanted) };
    let Some(Kind::Var { ty, .. }) = kernel.kind(id) else { return missing(wanted) };
    let ty = kernel.resolve(*ty);
    let pointer = RegType::PtrToBtfId { of: BtfOwner::Kernel, ty };
    if is_per_cpu(kernel, id) {
        return External::Variable { kind: pointer, flags: Flags::PERCPU };
    }
    if let Some(Kind::Struct(_) | Kind::Union(_)) = kernel.kind(ty) {
        return External::Variable { kind: pointer, flags: Flags::NONE };
    }
    match kernel.size_of(ty).and_then(|s| u32::try_from(s).ok()) {
        Some(size) => External::Variable { kind: RegType::PtrToMem { size }, flags: Flags::RDONLY },
        None => External::Unknown(KfuncFault::VariableSize { name: kernel.name(ty).to_owned() }.into()),
    }
}

/// Whether every processor has its own of this variable.
fn is_per_cpu(kernel: &Btf, variable: TypeId) -> bool {
    let section = kernel.find(".data..percpu", KindTag::DataSec).and_then(|id| kernel.kind(id));
    matches!(section, Some(Kind::DataSec { vars, .. }) if vars.iter().any(|v| v.ty == variable))
}

#[cfg(test)]
mod tests {
    use bpf_object::{BtfLinkage, FuncProto, Int, SecVar, Type};

    use super::*;

    fn add(btf: &mut Btf, name: &str, kind: Kind) -> TypeId {
        let name = btf.add_str(name);
        btf.push(Type { name, kind })
    }

    /// A kernel with a number, a variable of each processor and two functions, one of them no kfunc.
    fn kernel() -> Btf {
        let mut btf = Btf::default();
        let int = add(&mut btf, "int", Kind::Int(Int { size: 4, bits: 32, ..Int::default() }));
        let linkage = BtfLinkage::Global;
        add(&mut btf, "number", Kind::Var { ty: int, linkage });
        let own = add(&mut btf, "own", Kind::Var { ty: int, linkage });
        let vars = vec![SecVar { ty: own, offset: 0, size: 4 }];
        add(&mut btf, ".data..percpu", Kind::DataSec { size: 4, vars });
        let proto = add(&mut btf, "", Kind::FuncProto(FuncProto { ret: TypeId::VOID, params: Vec::new() }));
        add(&mut btf, "bpf_preempt_disable", Kind::Func { proto, linkage });
        add(&mut btf, "panic", Kind::Func { proto, linkage });
        btf
    }

    fn found(kernel: Option<&Btf>, name: &str, kind: ExternKind, weak: bool) -> External {
        let program = Program::from_code("main", "syscall", std::iter::empty().collect());
        find(kernel, &program, &Extern { name: name.to_owned(), kind, weak, btf: None })
    }

    #[test]
    fn functions_are_found_by_name() {
        let kernel = kernel();
        let function = |kernel, name, weak| found(kernel, name, ExternKind::Function, weak);
        assert!(matches!(function(Some(&kernel), "bpf_preempt_disable", false), External::Function(_)));
        assert!(matches!(function(None, "bpf_preempt_disable", false), External::Function(_)), "built in");
        assert!(matches!(function(Some(&kernel), "panic", false), External::Forbidden));
        assert!(matches!(function(Some(&kernel), "bpf_preempt_enable", true), External::Absent));
        assert!(matches!(function(Some(&kernel), "bpf_preempt_enable", false), External::Unknown(_)));
        assert!(matches!(function(None, "bpf_task_acquire", true), External::Unknown(_)), "needs a kernel");
    }

    #[test]
    fn variables_are_memory_or_of_each_processor() {
        let kernel = kernel();
        let variable = |name| match found(Some(&kernel), name, ExternKind::TypedVariable, true) {
            External::Variable { kind, flags } => Some((kind, flags)),
            _ => None,
        };
        assert_eq!(variable("number"), Some((RegType::PtrToMem { size: 4 }, Flags::RDONLY)));
        let ty = TypeId(1);
        let of = BtfOwner::Kernel;
        assert_eq!(variable("own"), Some((RegType::PtrToBtfId { of, ty }, Flags::PERCPU)));
        assert_eq!(variable("missing"), None);
    }
}
