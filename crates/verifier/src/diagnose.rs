//! From a broken rule to a [`Rejection`]: the source line, and the instructions that made the value at fault.

use bpf_object::Program;
use isa::{InsnIdx, Reg};

use crate::error::{Cause, Inner, Rejection};
use crate::origin::Origins;
use crate::reason::Reason;
use crate::state::State;
use crate::verified::Stats;

/// Instructions a slice names at most.
const MAX_CAUSES: usize = 16;

/// Where the walk stood when the rule was broken.
pub(crate) struct Site<'a> {
    pub(crate) at: Option<InsnIdx>,
    pub(crate) state: Option<&'a State>,
    pub(crate) origins: Option<&'a Origins>,
    pub(crate) stats: Stats,
}

/// Makes the rejection.
pub(crate) fn rejection(program: &Program, reason: Reason, site: &Site<'_>) -> Rejection {
    let register = register_of(&reason);
    let causes = slice(program, register, site);
    Rejection::new(Inner {
        register,
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
    };
    made.into_iter().map(cause).collect()
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
