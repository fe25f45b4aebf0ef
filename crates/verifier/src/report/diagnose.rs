//! From a broken rule to a [`Rejection`]: the source line, and the instructions that made the value at fault.

use bpf_object::Program;
use isa::{Insn, InsnIdx, Operand, Reg};

use crate::facts::Facts;
use crate::report::error::{Cause, Held, Inner, LoadedFrom, Rejection};
use crate::report::reason::{CallFault, ObjectFault, Reason};
use crate::state::State;
use crate::state::held::RefKind;
use crate::state::reg::RegState;
use crate::verified::Stats;
use crate::walk::origin::Origins;

/// Instructions a slice names at most.
const MAX_CAUSES: usize = 16;

/// Where the walk stood when the rule was broken.
pub(crate) struct Site<'a> {
    pub(crate) at: Option<InsnIdx>,
    pub(crate) state: Option<&'a State>,
    pub(crate) origins: Option<&'a Origins>,
    pub(crate) facts: Option<&'a Facts>,
    pub(crate) stats: Stats,
}

/// Makes the rejection.
pub(crate) fn rejection(program: &Program, reason: Reason, site: &Site<'_>) -> Rejection {
    let register = register_of(&reason).or_else(|| operand_of(program, &reason, site));
    let causes = slice(program, register, site);
    let registers = site.state.and_then(State::frame).map(|frame| frame.regs);
    Rejection::new(Inner {
        register,
        registers: registers.unwrap_or([RegState::NOT_INIT; Reg::ALL.len()]),
        held: held(&reason, site),
        alone: site.state.and_then(|s| s.frame_at(0)).map(|frame| frame.subprog).filter(|s| *s != 0),
        causes,
        function: site.at.and_then(|at| function(program, at)),
        line: site.at.and_then(|at| program.line_at(at)).cloned(),
        at: site.at,
        stats: site.stats,
        reason,
    })
}

fn slice(program: &Program, register: Option<Reg>, site: &Site<'_>) -> Vec<Cause> {
    let (Some(register), Some(state), Some(origins)) = (register, site.state, site.origins) else {
        return Vec::new();
    };
    let made = origins.slice(state.reg(register).origin, MAX_CAUSES);
    let cause = |at: InsnIdx| Cause {
        at,
        function: function(program, at).unwrap_or_default(),
        line: program.line_at(at).cloned(),
        loaded: loaded_from(program, at, site),
    };
    made.into_iter().map(cause).collect()
}

/// What the instruction loads from, if it is a load.
fn loaded_from(program: &Program, at: InsnIdx, site: &Site<'_>) -> Option<LoadedFrom> {
    match program.code.get(at)? {
        Insn::Load { base: Reg::R10, .. } => Some(LoadedFrom::Stack),
        Insn::Load { .. } | Insn::LoadAcquire { .. } => site.facts.and_then(|facts| facts.loaded_from(at)),
        _ => None,
    }
}

/// What is held, where the rule is about that.
fn held(reason: &Reason, site: &Site<'_>) -> Vec<Held> {
    let locks = || site.state.into_iter().flat_map(|s| s.held.all()).filter(|r| r.kind != RefKind::Object);
    match reason {
        Reason::UnreleasedReference { at, .. } => vec![Held { at: *at, what: "taken" }],
        Reason::StillHeld { .. }
        | Reason::NotAllowedHere { .. }
        | Reason::SleepsHere { .. }
        | Reason::Call(CallFault::SleepsHere { .. })
        | Reason::Object(
            ObjectFault::LockNested
            | ObjectFault::LockAgain
            | ObjectFault::UnlockOther { .. }
            | ObjectFault::UnlockOrder { .. },
        ) => locks().map(|r| Held { at: r.at, what: lock_text(r.kind) }).collect(),
        _ => Vec::new(),
    }
}

fn lock_text(kind: RefKind) -> &'static str {
    if kind == RefKind::Irq { "interrupts were disabled" } else { "the lock was taken" }
}

/// The number among the operands of arithmetic, where a rule is about what is added to a pointer.
fn operand_of(program: &Program, reason: &Reason, site: &Site<'_>) -> Option<Reg> {
    let about_offset = matches!(
        reason,
        Reason::OffsetUnbounded { .. } | Reason::OffsetTooLarge { .. } | Reason::OffsetOutOfBounds { .. }
    );
    let state = site.state.filter(|_| about_offset)?;
    match program.code.get(site.at?)? {
        Insn::Alu { dst, src: Operand::Reg(src), .. } => {
            Some(if state.reg(src).is_scalar() { src } else { dst })
        }
        _ => None,
    }
}

fn function(program: &Program, at: InsnIdx) -> Option<String> {
    program.subprogram_at(at).map(|s| s.name.clone())
}

/// The register a rule was broken with.
pub(crate) fn register_of(reason: &Reason) -> Option<Reg> {
    match *reason {
        Reason::Uninitialised { reg }
        | Reason::PointerArithmetic32 { reg }
        | Reason::PointerArithmetic { reg, .. }
        | Reason::PointerArithmeticMaybeNull { reg, .. }
        | Reason::PointerBits { reg, .. }
        | Reason::PointerOperator { reg, .. }
        | Reason::PointerPointer { reg, .. }
        | Reason::ScalarMinusPointer { reg }
        | Reason::StackSubtraction { reg }
        | Reason::InvalidAccess { reg, .. }
        | Reason::ModifiedPointer { reg, .. }
        | Reason::Bounds { reg, .. }
        | Reason::MapStruct { reg, .. }
        | Reason::ReadOnly { reg, .. }
        | Reason::AtomicTarget { reg, .. }
        | Reason::SpecialField { reg, .. }
        | Reason::ArgumentType { reg, .. }
        | Reason::KfuncArgument { reg, .. }
        | Reason::Return { reg, .. }
        | Reason::ReturnType { reg, .. }
        | Reason::NotConstant { reg }
        | Reason::SubprogReturn { reg, .. }
        | Reason::NegativeSize { reg }
        | Reason::ZeroSize { reg, .. }
        | Reason::UnboundedSize { reg }
        | Reason::NotConstString { reg }
        | Reason::NotArena { reg }
        | Reason::NotScalar { reg }
        | Reason::NotFunction { reg, .. } => Some(reg),
        Reason::CallbackReturnType { .. } | Reason::ReturnsStackPointer => Some(Reg::R0),
        Reason::Call(ref fault) => fault.register(),
        Reason::Context(ref fault) => fault.register(),
        Reason::Function(ref fault) => fault.register(),
        Reason::Kfunc(ref fault) => fault.register(),
        Reason::Memory(ref fault) => fault.register(),
        Reason::Load(ref fault) => fault.register(),
        Reason::Object(ref fault) => fault.register(),
        _ => None,
    }
}
