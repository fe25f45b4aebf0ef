//! Which registers still matter: backward liveness within each function.
//!
//! Two states that differ only in registers that are never read again are the same.

use bpf_object::Program;
use isa::{AtomicOp, CallTarget, Insn, InsnIdx, Operand, Reg};

use crate::plan::cfg::successors;
use crate::plan::flow::{Flow, Pending};
use crate::rules::{helpers, kfuncs};

/// A set of registers, one bit each.
pub(crate) type RegSet = u16;

/// For every slot, the registers that may be read from there on before they are written.
#[derive(Debug)]
pub(crate) struct Liveness {
    before: Vec<RegSet>,
}

impl Liveness {
    pub(crate) fn compute(program: &Program, flow: &Flow) -> Self {
        let mut before = vec![0; program.code.len()];
        let mut pending = Pending::new(program.code.len());
        (0..program.code.len()).for_each(|at| pending.insert(at));
        // A set only grows, at most eleven times: the work is bounded by the edges.
        while let Some(index) = pending.pop() {
            let at = InsnIdx(u32::try_from(index).unwrap_or(u32::MAX));
            let Some(insn) = program.code.get(at) else { continue };
            let after = successors(program, at, &insn)
                .into_iter()
                .flatten()
                .filter_map(|to| before.get(to.index()))
                .fold(0, |set, live| set | live);
            let (reads, writes) = reads_and_writes(program, &insn);
            let now = after & !writes | reads;
            let Some(old) = before.get_mut(index) else { continue };
            if std::mem::replace(old, now) != now {
                flow.before(at).iter().for_each(|at| pending.insert(at.index()));
            }
        }
        Self { before }
    }

    /// Registers live just before the instruction at `at`.
    pub(crate) fn before(&self, at: InsnIdx) -> RegSet {
        self.before.get(at.index()).copied().unwrap_or(RegSet::MAX)
    }
}

fn bit(reg: Reg) -> RegSet {
    1 << reg.number()
}

fn operand(src: Operand) -> RegSet {
    match src {
        Operand::Reg(reg) => bit(reg),
        Operand::Imm(_) => 0,
    }
}

fn reads_and_writes(program: &Program, insn: &Insn) -> (RegSet, RegSet) {
    match *insn {
        Insn::Alu { dst, src, .. } => (bit(dst) | operand(src), bit(dst)),
        Insn::Neg { dst, .. } | Insn::ByteSwap { dst, .. } => (bit(dst), bit(dst)),
        Insn::Mov { dst, src, .. } => (operand(src), bit(dst)),
        Insn::MovSx { dst, src, .. } | Insn::AddrSpaceCast { dst, src, .. } => (bit(src), bit(dst)),
        Insn::LoadImm64 { dst, .. } => (0, bit(dst)),
        Insn::Load { dst, base, .. } | Insn::LoadAcquire { dst, base, .. } => (bit(base), bit(dst)),
        Insn::Store { base, src, .. } => (bit(base) | operand(src), 0),
        Insn::StoreRelease { base, src, .. } => (bit(base) | bit(src), 0),
        Insn::Atomic { op, base, src, .. } => {
            let compared = if op == AtomicOp::CmpXchg { bit(Reg::R0) } else { 0 };
            // A fetched register is read first, so it is live before in any case.
            (bit(base) | bit(src) | compared, 0)
        }
        // As the kernel has it: everything counts as read.
        Insn::LoadPacket { .. } => (RegSet::MAX, 0),
        Insn::Branch { dst, src, .. } => (bit(dst) | operand(src), 0),
        Insn::IndirectJump { target } => (bit(target), 0),
        Insn::Call { target } => (arguments(program, target), 0b11_1111),
        Insn::Exit => (bit(Reg::R0), 0),
        Insn::Jump { .. } | Insn::MayGoto { .. } => (0, 0),
        // Instructions this version knows nothing of are refused elsewhere.
        _ => (RegSet::MAX, 0),
    }
}

/// Argument registers a call may read: all five where the number is not known.
fn arguments(program: &Program, target: CallTarget) -> RegSet {
    let count = match target {
        CallTarget::Helper(number) => helpers::find_for(&program.kind, number).map(|h| h.args.len()),
        CallTarget::Kfunc { btf_id, .. } => usize::try_from(btf_id)
            .ok()
            .and_then(|id| program.externs.get(id))
            .and_then(|e| kfuncs::find(&e.name))
            .map(|k| usize::from(k.params)),
        CallTarget::Local(_) | CallTarget::Register(_) => None,
    };
    Reg::ARGS.iter().take(count.unwrap_or(Reg::ARGS.len())).fold(0, |set, r| set | bit(*r))
}
