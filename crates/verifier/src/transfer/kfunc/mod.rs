//! Calls of kernel functions, in the order in which the kernel checks them.

mod arguments;
mod iterators;
mod pointers;
mod result;

use isa::Reg;

pub(super) use arguments::{TRUST, is_trusted};
pub(crate) use iterators::iterator_at;

use super::Step;
use super::objects::Graph;
use crate::domain::scalar::Scalar;
use crate::plan::externs::{External, KernelFunction};
use crate::report::reason::{KfuncFault, Reason};
use crate::rules::kfuncs::{self, Kfunc, KfuncFlags, Prototype, Special};
use crate::state::reg::RegState;
use crate::state::stack::{Dynptr, Iterator as Iter};
use crate::walk::explore::Stop;

/// One call of a kfunc: what its arguments turn out to be (`struct bpf_kfunc_call_arg_meta`).
#[derive(Clone, Debug)]
pub(super) struct KfuncCall<'p> {
    pub(super) kfunc: &'p Kfunc,
    pub(super) prototype: &'p Prototype,
    /// The reference of an argument, or 0.
    pub(super) ref_id: u32,
    /// The argument whose reference is released.
    pub(super) release: Option<Reg>,
    /// The argument that must be known (`__k`, `__szk`).
    pub(super) constant: Option<u64>,
    /// Size of the memory returned, and whether it may be written.
    pub(super) buffer: Option<(u32, bool)>,
    /// The map given, with the identity of the lookup that gave it.
    pub(super) map: Option<(u32, u32)>,
    /// The function given, to be called back.
    pub(super) callback: Option<u32>,
    /// The iterator given: frame, offset and itself.
    pub(super) iter: Option<(u8, i64, Iter)>,
    /// Another pointer to the counted object given, and whether the program owned that one.
    pub(super) object: Option<RegState>,
    pub(super) owned: bool,
    /// The list or tree given.
    pub(super) graph: Option<Graph>,
    /// The dynptr given.
    pub(super) dynptr: Option<Dynptr>,
}

impl<'p> KfuncCall<'p> {
    fn new(function: &'p KernelFunction) -> Self {
        Self {
            kfunc: &function.row,
            prototype: &function.prototype,
            ref_id: 0,
            release: None,
            constant: None,
            buffer: None,
            map: None,
            callback: None,
            iter: None,
            object: None,
            owned: false,
            graph: None,
            dynptr: None,
        }
    }

    pub(super) fn is(&self, special: Special) -> bool {
        self.kfunc.special == special
    }

    pub(super) fn has(&self, flags: KfuncFlags) -> bool {
        self.kfunc.has(flags)
    }

    pub(super) fn name(&self) -> String {
        self.kfunc.name.to_owned()
    }

    /// Whether `R0` may be NULL: a reference to what the program owned cannot fail.
    fn may_fail(&self) -> bool {
        self.has(KfuncFlags::RET_NULL) && !(self.is(Special::RefcountAcquire) && self.owned)
    }
}

impl Step<'_> {
    pub(super) fn call_kfunc(&mut self, id: i32) -> Result<(), Stop> {
        let plan = self.plan;
        let function = match plan.external(id) {
            Some(External::Function(function)) => function,
            Some(External::Unknown(reason)) => return Err(reason.clone().into()),
            Some(External::Absent) => {
                return Err(KfuncFault::NotInKernel { name: plan.kfunc_name(id).to_owned() }.into());
            }
            _ => return Err(KfuncFault::NotAllowed { name: plan.kfunc_name(id).to_owned() }.into()),
        };
        let mut call = KfuncCall::new(function);
        self.may_call(call.kfunc)?;
        self.kfunc_arguments(&mut call)?;
        self.object_callback(&call)?;
        self.kfunc_sections(&call)?;
        self.kfunc_releases(&call)?;
        self.object_effect(&call)?;
        self.kfunc_result(&mut call)
    }

    /// Whether the function may be called here at all.
    fn may_call(&mut self, kfunc: &Kfunc) -> Result<(), Stop> {
        let name = || kfunc.name.to_owned();
        if self.state.held.is_locked() && !kfunc.allowed_under_lock() {
            let (what, region) = ("function calls", "while holding a lock");
            return Err(Reason::NotAllowedHere { what, region }.into());
        }
        if !kfuncs::allowed(kfunc, &self.plan.program.kind) {
            return Err(KfuncFault::NotAllowed { name: name() }.into());
        }
        match kfunc.special {
            Special::ResSpinLock | Special::ResSpinLockIrq => self.fail_to_lock(),
            Special::Trap => return Err(KfuncFault::Trap.into()),
            _ => {}
        }
        if kfunc.has(KfuncFlags::SLEEPABLE) && !self.may_sleep() {
            return Err(KfuncFault::NotSleepable { name: name() }.into());
        }
        Ok(())
    }

    /// A path in which the lock could not be taken.
    fn fail_to_lock(&mut self) {
        const MAX_ERRNO: i64 = 4095;
        let error = self.number(Scalar::signed(-MAX_ERRNO, -1), &[]);
        let mut failed = self.state.clone();
        for reg in Reg::ARGS {
            failed.set_reg(reg, RegState::NOT_INIT);
        }
        failed.set_reg(Reg::R0, error);
        self.forks.push((self.following(), failed));
    }

    /// Sections without sleeping, preemption or interrupts, and what may be called inside of them.
    fn kfunc_sections(&mut self, call: &KfuncCall<'_>) -> Result<(), Reason> {
        let function = call.kfunc.name;
        let sleeps = call.has(KfuncFlags::SLEEPABLE);
        let here = |region| Err(Reason::SleepsHere { function, region });
        match call.kfunc.special {
            Special::RcuLock => self.enter_rcu()?,
            Special::RcuUnlock => self.leave_rcu()?,
            _ if self.state.held.rcu > 0 && sleeps => return here("rcu_read_lock region"),
            _ => {}
        }
        match call.kfunc.special {
            Special::PreemptDisable => self.state.held.preempt_off += 1,
            Special::PreemptEnable => {
                let left = self.state.held.preempt_off.checked_sub(1);
                self.state.held.preempt_off = left.ok_or(Reason::PreemptUnbalanced)?;
            }
            _ if self.state.held.preempt_off > 0 && sleeps => return here("non-preemptible region"),
            _ => {}
        }
        if sleeps && self.state.held.active_irq().is_some() {
            return here("IRQ-disabled region");
        }
        if call.has(KfuncFlags::RCU_PROTECTED) && !self.in_rcu() {
            return Err(KfuncFault::OutsideRcu { name: call.name() }.into());
        }
        Ok(())
    }

    /// Gives back what the call releases.
    fn kfunc_releases(&mut self, call: &KfuncCall<'_>) -> Result<(), Reason> {
        let Some(reg) = call.release else { return Ok(()) };
        let id = self.state.reg(reg).ref_id;
        if self.state.release(id) {
            Ok(())
        } else {
            Err(Reason::Internal { what: "release of a reference that is not held" })
        }
    }
}
