//! What the code of each function does, read off its instructions without a walk.

use bpf_object::{Btf, Kind, Linkage, Program, TypeId};
use isa::{CallTarget, Imm64, Insn, InsnIdx};

use crate::plan::cfg::{callee, exception_callback};
use crate::report::reason::{FunctionFault, Reason};
use crate::rules::helpers::id;
use crate::rules::kfuncs::{self, Special};

/// A call of a function, or its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) at: InsnIdx,
    pub(crate) callee: u32,
    /// A call; else the address is taken, for a helper to call back.
    pub(crate) direct: bool,
}

/// What one function does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Function {
    pub(crate) edges: Vec<Edge>,
    pub(crate) tail_call: bool,
    /// `BPF_LD_[ABS|IND]`.
    pub(crate) packet_load: bool,
    /// The instructions that throw an exception.
    pub(crate) throws: Vec<InsnIdx>,
}

/// All functions of a program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Functions {
    all: Vec<Function>,
    /// The one that handles exceptions.
    pub(crate) exception_callback: Option<u32>,
}

impl Functions {
    /// Reads the code, and checks how functions must be declared for what they do.
    pub(crate) fn new(program: &Program) -> Result<Self, Reason> {
        check_exception_callback(program)?;
        let mut all = vec![Function::default(); program.subprograms.len()];
        let mut index = 0;
        for (at, insn) in program.code.iter() {
            while program.subprograms.get(index).is_some_and(|s| at >= s.end) {
                index += 1;
            }
            if let Some(function) = all.get_mut(index) {
                function.read(program, at, &insn)?;
            }
        }
        for (subprog, function) in program.subprograms.iter().zip(&all).skip(1) {
            check_abnormal_return(program.btf.as_deref(), subprog.btf_func, function)?;
        }
        Ok(Self { all, exception_callback: exception_callback(program) })
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Function> {
        self.all.get(index as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Function> {
        self.all.iter()
    }
}

impl Function {
    fn read(&mut self, program: &Program, at: InsnIdx, insn: &Insn) -> Result<(), Reason> {
        match *insn {
            Insn::Call { target: CallTarget::Local(offset) } => {
                self.edges.push(Edge { at, callee: callee(program, at, offset)?, direct: true });
            }
            Insn::LoadImm64 { value: Imm64::Func(offset), .. } => {
                self.edges.push(Edge { at, callee: callee(program, at, offset)?, direct: false });
            }
            Insn::Call { target: CallTarget::Helper(number) } => {
                self.tail_call |= number == id::TAIL_CALL;
            }
            Insn::Call { target: CallTarget::Kfunc { btf_id, .. } } => {
                let called = usize::try_from(btf_id).ok().and_then(|i| program.externs.get(i));
                let kfunc = called.and_then(|called| kfuncs::find(&called.name));
                if kfunc.is_some_and(|kfunc| kfunc.special == Special::Throw) {
                    self.throws.push(at);
                }
            }
            Insn::LoadPacket { .. } => self.packet_load = true,
            _ => {}
        }
        Ok(())
    }
}

/// What may end a function in the middle must be in one that returns a number, and BTF must say so.
fn check_abnormal_return(btf: Option<&Btf>, func: Option<TypeId>, function: &Function) -> Result<(), Reason> {
    let what = match (function.packet_load, function.tail_call) {
        (true, _) => "LD_ABS",
        (false, true) => "tail_call",
        (false, false) => return Ok(()),
    };
    let (Some(btf), Some(func)) = (btf, func) else {
        return Err(FunctionFault::AbnormalWithoutBtf { what }.into());
    };
    if returns_number(btf, func) { Ok(()) } else { Err(FunctionFault::AbnormalReturn { what }.into()) }
}

fn returns_number(btf: &Btf, func: TypeId) -> bool {
    let Some(Kind::Func { proto, .. }) = btf.kind(func) else { return false };
    let Some(Kind::FuncProto(proto)) = btf.kind(*proto) else { return false };
    match btf.kind(btf.resolve(proto.ret)) {
        Some(Kind::Int(int)) => {
            int.size.is_power_of_two()
                && int.size <= 8
                && int.offset == 0
                && u32::from(int.bits) == int.size * 8
        }
        Some(Kind::Enum(_) | Kind::Enum64(_)) => true,
        _ => false,
    }
}

/// The entry may name one global function that handles exceptions.
fn check_exception_callback(program: &Program) -> Result<(), Reason> {
    let entry = program.subprograms.first().and_then(|entry| entry.btf_func);
    let (Some(btf), Some(entry)) = (program.btf.as_deref(), entry) else { return Ok(()) };
    let mut names = btf.decl_tags(entry, None).filter_map(|tag| tag.strip_prefix("exception_callback:"));
    let Some(name) = names.next() else { return Ok(()) };
    if names.next().is_some() {
        return Err(FunctionFault::TwoExceptionCallbacks.into());
    }
    let name = name.to_owned();
    let Some(func) = btf.function(&name) else {
        return Err(FunctionFault::ExceptionCallbackMissing { name }.into());
    };
    let subprog = program.subprograms.iter().find(|s| s.btf_func == Some(func));
    match subprog {
        Some(subprog) if subprog.linkage == Linkage::Static => {
            Err(FunctionFault::ExceptionCallbackStatic { name }.into())
        }
        Some(_) => Ok(()),
        None => Err(FunctionFault::ExceptionCallbackMissing { name }.into()),
    }
}
