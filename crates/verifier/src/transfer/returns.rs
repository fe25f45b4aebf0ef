//! What programs, global functions and callbacks may return.

use isa::Reg;

use super::Step;
use crate::plan::hook::{Hook, HookReturns};
use crate::report::reason::{Reason, ReturnPlace};
use crate::rules::programs::Returns;

impl Step<'_> {
    /// What the program, or a global function, returns: in `R0`, or in `R1` of what throws an exception.
    pub(super) fn check_result(&mut self, reg: Reg) -> Result<(), Reason> {
        let subprog = self.state.frame_at(0).map(|f| f.subprog);
        let handler = subprog.is_some() && subprog == self.plan.functions.exception_callback;
        let entry = subprog == Some(0) || handler;
        let returns = match self.plan.rules.returns(self.plan.attach) {
            Returns::Hook => self.plan.hook.as_ref().map_or(HookReturns::Any, Hook::returns),
            Returns::Range(min, max) => HookReturns::Range(min, max),
            Returns::Any => HookReturns::Any,
        };
        if entry && returns == HookReturns::Nothing {
            return Ok(());
        }
        let result = self.read(reg)?;
        if !entry {
            return if result.is_scalar() {
                Ok(())
            } else {
                Err(Reason::SubprogReturn { reg, found: result.type_name() })
            };
        }
        match returns {
            HookReturns::Range(min, max) => self.check_return(ReturnPlace::Program, reg, min, max),
            HookReturns::Low(min, max) => {
                let low = &result.scalar.low;
                if result.is_scalar() && min <= low.smin && low.smax <= max {
                    self.depend_on(&result);
                    return Ok(());
                }
                self.check_return(ReturnPlace::Program, reg, min, max)
            }
            HookReturns::Any | HookReturns::Nothing => Ok(()),
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
