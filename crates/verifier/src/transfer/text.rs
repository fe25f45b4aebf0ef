//! Constant strings as arguments.

use isa::Reg;

use super::Step;
use crate::report::reason::{Access, CallFault, Reason};
use crate::rules::maps;
use crate::state::reg::{RegState, RegType};

impl Step<'_> {
    /// A zero-terminated string at a known place of a read-only data section (`check_reg_const_str`).
    pub(super) fn check_const_string(&mut self, reg: Reg, value: &RegState) -> Result<(), Reason> {
        let RegType::PtrToMapValue { map } = value.kind else { return Err(Reason::NotConstString { reg }) };
        let Some(spec) = self.plan.map(map) else { return Err(Reason::Internal { what: "no such map" }) };
        if !maps::is_frozen(spec) {
            return Err(CallFault::StringNotReadOnly { reg }.into());
        }
        let Some(known) = value.scalar.as_constant() else {
            return Err(CallFault::StringVariable { reg }.into());
        };
        if !maps::find(spec.map_type).is_some_and(|m| m.direct_value) {
            return Err(CallFault::NoDirectString.into());
        }
        let rest = i64::from(spec.value_size) - i64::from(value.offset);
        self.check_region(reg, value, 0, u64::try_from(rest).unwrap_or(0), Access::Read)?;
        let start = known.cast_signed().saturating_add(i64::from(value.offset));
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        // Bytes past the initial ones are zero.
        let size = usize::try_from(spec.value_size).unwrap_or(usize::MAX);
        let text = spec.initial.get(start..).unwrap_or_default();
        if text.contains(&0) || spec.initial.len() < size {
            return Ok(());
        }
        Err(CallFault::StringEnd { reg }.into())
    }
}
