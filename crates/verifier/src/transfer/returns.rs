//! What programs, global functions and callbacks may return.

use isa::Reg;

use super::Step;
use crate::reason::{Reason, ReturnPlace};
use crate::rules::programs::Returns;

impl Step<'_> {
    /// What the program, or a global function, returns: in `R0`, or in `R1` of what throws an exception.
    pub(super) fn check_result(&mut self, reg: Reg) -> Result<(), Reason> {
        let result = self.read(reg)?;
        let subprog = self.state.frame_at(0).map(|f| f.subprog);
        let handler = subprog.is_some() && subprog == self.plan.functions.exception_callback;
        if subprog != Some(0) && !handler {
            return if result.is_scalar() {
                Ok(())
            } else {
                Err(Reason::SubprogReturn { reg, found: result.type_name() })
            };
        }
        match self.plan.rules.returns(self.plan.attach) {
            Returns::Range(min, max) => self.check_return(ReturnPlace::Program, reg, min, max),
            Returns::Any | Returns::Hook => Ok(()),
        }
    }

    /// Checks that the number in the register is within the range, all its values.
    pub(super) fn check_return(
        &mut self,
        place: ReturnPlace,
        reg: Reg,
        min: i32,
        max: i32,
    ) -> Result<(), Reason> {
        let result = self.read(reg)?;
        if !result.is_scalar() {
            return Err(Reason::ReturnType { place, reg, found: result.type_name() });
        }
        self.depend_on(&result);
        let (smin, smax) = (result.scalar.wide.smin, result.scalar.wide.smax);
        if i64::from(min) <= smin && smax <= i64::from(max) {
            Ok(())
        } else {
            Err(Reason::Return { place, reg, smin, smax, min, max })
        }
    }
}
