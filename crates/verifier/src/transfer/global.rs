//! Calls of global functions, which are verified on their own: here only what they are given matters.

use bpf_object::TypeId;
use isa::Reg;

use super::Step;
use super::ctx::check_unmodified;
use crate::kernel_types::holds_at_start;
use crate::plan::functions::{Parameter, parameters};
use crate::report::reason::{Access, FunctionFault, Reason};
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};
use crate::walk::explore::Stop;

impl Step<'_> {
    pub(super) fn call_global(&mut self, index: u32) -> Result<(), Stop> {
        let arguments = self.check_arguments(index);
        if let Err(Reason::Function(FunctionFault::WithoutBtf { .. })) = arguments {
            return Ok(arguments?);
        }
        let name = || self.plan.subprog(index).map(|s| s.name.clone()).unwrap_or_default();
        if self.state.held.is_locked() {
            return Err(FunctionFault::GlobalUnderLock { name: name() }.into());
        }
        let effects = self.plan.effects(index);
        if effects.may_sleep && !self.sleeping_allowed() {
            return Err(FunctionFault::SleepingGlobal { name: name() }.into());
        }
        if let Err(cause) = arguments {
            return Err(FunctionFault::Arguments { index, name: name(), cause: Box::new(cause) }.into());
        }
        if effects.changes_packet {
            self.lose_packet();
        }
        self.facts.reach_function(index, false);
        self.clobber_arguments();
        let result = self.unknown(&[]);
        Ok(self.write(Reg::R0, result)?)
    }

    fn check_arguments(&mut self, index: u32) -> Result<(), Reason> {
        let parameters = parameters(self.plan, index)?;
        for (reg, parameter) in Reg::ARGS.into_iter().zip(&parameters) {
            self.check_parameter(reg, *parameter)?;
        }
        Ok(())
    }

    /// Whether the register is what the function is declared to take (`btf_check_func_arg_match`).
    fn check_parameter(&mut self, reg: Reg, parameter: Parameter) -> Result<(), Reason> {
        let value = *self.state.reg(reg);
        let argument = usize::from(reg.number()).saturating_sub(1);
        match parameter {
            Parameter::Number if value.is_scalar() => Ok(()),
            Parameter::Number => Err(Reason::NotScalar { reg }),
            Parameter::Arena if value.is_arena() || value.is_scalar() => Ok(()),
            Parameter::Arena => Err(Reason::NotArena { reg }),
            Parameter::Ctx => {
                check_moved(reg, &value)?;
                if value.kind == RegType::PtrToCtx {
                    Ok(())
                } else {
                    Err(FunctionFault::NotCtx { argument }.into())
                }
            }
            Parameter::Dynptr => {
                if value.kind == RegType::ConstPtrToDynptr {
                    check_unmodified(reg, &value, false)?;
                }
                self.use_dynptr(reg, None, false).map(|_| ())
            }
            Parameter::Mem { size, nullable } => self.check_passed_memory(reg, &value, size, nullable),
            Parameter::Trusted { nullable: true, .. } if value.is_null() => Ok(()),
            Parameter::Trusted { ty, nullable } => {
                self.check_passed_structure(reg, &value, ty, nullable)?;
                check_moved(reg, &value)
            }
            // Loads are guarded wherever it points.
            Parameter::Untrusted { .. } => Ok(()),
        }
    }

    fn check_passed_memory(
        &mut self,
        reg: Reg,
        value: &RegState,
        size: u32,
        nullable: bool,
    ) -> Result<(), Reason> {
        check_moved(reg, value)?;
        if value.is_null() {
            // What is known to be NULL needs no memory.
            return Ok(());
        }
        let pointer = value.without(Flags::MAYBE_NULL);
        for access in [Access::Read, Access::Write] {
            let checked = self.check_memory(reg, &pointer, u64::from(size), access);
            checked.map_err(|cause| FunctionFault::Memory { reg, cause: Box::new(cause) })?;
        }
        if value.maybe_null() && !nullable {
            let argument = usize::from(reg.number()).saturating_sub(1);
            return Err(FunctionFault::MaybeNull { argument }.into());
        }
        Ok(())
    }

    /// A pointer to a structure of the kernel of this type, or to one that begins with it.
    fn check_passed_structure(
        &self,
        reg: Reg,
        value: &RegState,
        wanted: TypeId,
        nullable: bool,
    ) -> Result<(), Reason> {
        let allowed = if nullable { Flags::MAYBE_NULL } else { Flags::NONE };
        let trusted = [Flags::NONE, Flags::TRUSTED, Flags::RCU].contains(&value.flags.without(allowed));
        let fits = match value.kind {
            RegType::PtrToBtfId { of: BtfOwner::Kernel, ty } => self.plan.kernel().is_some_and(|btf| {
                let holds = |offset| holds_at_start(btf, btf.resolve(ty), offset, wanted, false, true);
                u32::try_from(value.offset).is_ok_and(holds)
            }),
            _ => false,
        };
        if fits && trusted {
            return Ok(());
        }
        let found = value.type_name();
        Err(Reason::ArgumentType { reg, found, expected: "ptr_, trusted_ptr_, rcu_ptr_" })
    }
}

/// What may have been added to a pointer that is passed on (`check_func_arg_reg_off`).
fn check_moved(reg: Reg, value: &RegState) -> Result<(), Reason> {
    if value.kind.may_be_moved() && !value.maybe_null() {
        return Ok(());
    }
    let structure = matches!(value.kind, RegType::PtrToBtfId { .. }) && !value.maybe_null();
    check_unmodified(reg, value, structure)
}
