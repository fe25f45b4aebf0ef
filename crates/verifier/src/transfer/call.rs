//! Calls of subprograms, callbacks and the way back.

use bpf_object::Linkage;
use isa::{CallTarget, InsnIdx, Reg};

use super::objects::EXIT;
use super::{Next, Step};
use crate::limits::MAX_FRAMES;
use crate::plan::cfg::callee;
use crate::report::reason::{FunctionFault, Reason, ReturnPlace};
use crate::rules::helpers::{Callback, CallbackArg, id};
use crate::state::reg::{BtfOwner, RegState, RegType};
use crate::state::{Frame, State};
use crate::walk::explore::Stop;

/// The opcode of calls by register, which are no part of the kernel's instruction set.
const CALLX: u8 = 0x8d;
/// The function that ends the program with an exception.
const THROW: &str = "bpf_throw";

impl Step<'_> {
    pub(super) fn call(&mut self, target: CallTarget) -> Result<Next, Stop> {
        match target {
            CallTarget::Helper(number) => {
                self.call_helper(number)?;
                if number == id::TAIL_CALL && self.state.depth() > 0 {
                    return self.tail_called();
                }
            }
            CallTarget::Kfunc { btf_id, .. } if self.plan.kfunc_name(btf_id) == THROW => {
                return self.throw(btf_id);
            }
            CallTarget::Kfunc { btf_id, .. } => self.call_kfunc(btf_id)?,
            CallTarget::Local(offset) => return self.call_local(offset),
            CallTarget::Register(_) => return Err(Reason::UnknownOpcode { opcode: CALLX }.into()),
        }
        Ok(Next::At(self.following()))
    }

    fn call_local(&mut self, offset: i32) -> Result<Next, Stop> {
        let index = callee(self.plan.program, self.at, offset)?;
        let subprog = self.plan.subprog(index).ok_or(Reason::SubprogLayout)?;
        if subprog.linkage != Linkage::Static && index != 0 {
            self.call_global(index)?;
            return Ok(Next::At(self.following()));
        }
        let start = subprog.start;
        let arguments = Reg::ARGS.map(|r| *self.state.reg(r));
        self.clobber_arguments();
        self.enter(index, None, &arguments)?;
        Ok(Next::At(start))
    }

    /// Enters a static function or callback.
    fn enter(
        &mut self,
        subprog: u32,
        callback: Option<&'static Callback>,
        arguments: &[RegState],
    ) -> Result<(), Reason> {
        let depth = self.state.frames().len();
        if depth >= MAX_FRAMES {
            return Err(Reason::TooManyFrames { frames: depth + 1 });
        }
        let mut frame = Frame::new(subprog, self.at, u8::try_from(depth).unwrap_or(u8::MAX));
        frame.callback = callback;
        for (reg, value) in Reg::ARGS.into_iter().zip(arguments) {
            frame.set(reg, *value);
        }
        self.facts.reach_function(subprog, callback.is_some());
        self.state.push_frame(frame);
        Ok(())
    }

    /// A path in which the helper calls `subprog` now. It comes back to the helper's call, so that the helper may call
    /// again or not.
    pub(super) fn call_back(&mut self, subprog: u32, callback: &'static Callback) -> Result<(), Reason> {
        let start = self.plan.subprog(subprog).ok_or(Reason::SubprogLayout)?.start;
        let mut arguments = Vec::new();
        for argument in callback.args {
            arguments.push(self.callback_argument(*argument)?);
        }
        if callback.later {
            return self.call_later(subprog, callback, &arguments);
        }
        let before = self.state.clone();
        self.state.callback_depth += 1;
        if let Some(frame) = self.state.frame_mut() {
            frame.callback_depth += 1;
        }
        self.enter(subprog, Some(callback), &arguments)?;
        let entered = std::mem::replace(self.state, before);
        self.forks.push((start, entered));
        if let Some(frame) = self.state.frame_mut() {
            frame.callback_depth = 0;
        }
        Ok(())
    }

    /// A path that begins with the callback and ends with it: nothing of this one is left by then.
    fn call_later(
        &mut self,
        subprog: u32,
        callback: &'static Callback,
        arguments: &[RegState],
    ) -> Result<(), Reason> {
        let start = self.plan.subprog(subprog).ok_or(Reason::SubprogLayout)?.start;
        let mut frame = Frame::new(subprog, self.at, 0);
        frame.callback = Some(callback);
        for (reg, value) in Reg::ARGS.into_iter().zip(arguments) {
            frame.set(reg, *value);
        }
        self.facts.reach_function(subprog, true);
        self.facts.call_later(subprog);
        let mut state = State::new(frame);
        state.held.may_sleep = callback.sleeps;
        state.called_later = self.state.called_later + 1;
        self.forks.push((start, state));
        Ok(())
    }

    /// A register that a callback begins with.
    fn callback_argument(&mut self, argument: CallbackArg) -> Result<RegState, Reason> {
        let first = *self.state.reg(Reg::R1);
        let map = match first.kind {
            RegType::ConstPtrToMap { map } | RegType::PtrToMapValue { map } => map,
            _ => 0,
        };
        let kind = match argument {
            CallbackArg::Number => return Ok(self.unknown(&[])),
            CallbackArg::Argument(index) => {
                let reg = Reg::ARGS.get(index).copied().unwrap_or(Reg::R1);
                return Ok(*self.state.reg(reg));
            }
            CallbackArg::Map => RegType::ConstPtrToMap { map },
            CallbackArg::MapKey => RegType::PtrToMapKey { map },
            CallbackArg::MapValue => RegType::PtrToMapValue { map },
            CallbackArg::Kernel(name) => {
                let ty = self.kernel_structure(name)?;
                return Ok(self.pointer(RegType::PtrToBtfId { of: BtfOwner::Kernel, ty }));
            }
            CallbackArg::Dynptr => RegType::ConstPtrToDynptr,
            CallbackArg::Node => return self.node_of_argument(Reg::R1),
        };
        let mut value = self.pointer(kind);
        if kind == RegType::ConstPtrToDynptr {
            value.id = self.fresh_id();
        } else {
            value.map_uid = first.map_uid;
        }
        Ok(value)
    }

    /// A function whose address is taken is entered by helpers only, and must be static.
    pub(super) fn check_callback(&self, subprog: u32) -> Result<(), Reason> {
        match self.plan.subprog(subprog) {
            Some(_) if subprog == 0 => Err(FunctionFault::MainAsCallback.into()),
            Some(s) if s.linkage == Linkage::Static => Ok(()),
            Some(s) => Err(Reason::GlobalCallback { name: s.name.clone() }),
            None => Err(Reason::SubprogLayout),
        }
    }

    /// What a call leaves of the registers: `R0` to `R5` are lost.
    pub(super) fn clobber_arguments(&mut self) {
        // Reading one is a mistake that this call explains.
        let lost = RegState { origin: self.origins.derive(Some(self.at), &[]), ..RegState::NOT_INIT };
        for reg in [Reg::R0].into_iter().chain(Reg::ARGS) {
            self.state.set_reg(reg, lost);
        }
    }

    pub(super) fn exit(&mut self) -> Result<Next, Stop> {
        self.check_leaks(EXIT, false)?;
        if self.state.depth() == 0 {
            match self.state.frame().and_then(|f| f.callback) {
                Some(Callback { returns: (min, max), .. }) => {
                    self.check_return(ReturnPlace::AsyncCallback, Reg::R0, *min, *max)?;
                }
                None => self.check_result(Reg::R0)?,
            }
            return Ok(Next::End);
        }
        self.leave()
    }

    /// A tail call in a function of the program: what was called returns to the caller in its stead, with any result and
    /// after any change of the packet. If the call fails, the function goes on.
    fn tail_called(&mut self) -> Result<Next, Stop> {
        self.forks.push((self.following(), self.state.clone()));
        self.lose_packet();
        let result = self.unknown(&[]);
        self.write(Reg::R0, result)?;
        self.leave()
    }

    /// `bpf_throw`: every function of the chain ends here. Without a function of the program's own that handles it, what is
    /// thrown is what the program returns.
    fn throw(&mut self, id: i32) -> Result<Next, Stop> {
        if self.plan.functions.exception_callback.is_none() {
            self.check_result(Reg::R1)?;
        }
        self.call_kfunc(id)?;
        self.check_leaks(THROW, true)?;
        Ok(Next::End)
    }

    /// From a function or callback back to its caller.
    pub(super) fn leave(&mut self) -> Result<Next, Stop> {
        let callee = self.state.frame().map(|f| (f.callsite, f.callback));
        let (callsite, callback) = callee.ok_or(Reason::Internal { what: "no frame" })?;
        let result = self
            .read(Reg::R0)
            .or_else(|e| if callback.is_some() { Err(e) } else { Ok(RegState::NOT_INIT) })?;
        if matches!(result.kind, RegType::PtrToStack { .. }) {
            return Err(Reason::ReturnsStackPointer.into());
        }
        if let Some(callback) = callback {
            return self.leave_callback(callsite, callback, &result).map(Next::At);
        }
        self.state.pop_frame();
        self.state.set_reg(Reg::R0, result);
        Ok(Next::At(self.plan.program.code.next(callsite)))
    }

    /// Back to the helper's call, with less known of the numbers the callback changed.
    fn leave_callback(
        &mut self,
        callsite: InsnIdx,
        callback: &Callback,
        result: &RegState,
    ) -> Result<InsnIdx, Stop> {
        if !result.is_scalar() {
            return Err(Reason::CallbackReturnType { found: result.type_name() }.into());
        }
        let (min, max) = callback.returns;
        self.check_return(ReturnPlace::Callback, Reg::R0, min, max)?;
        self.state.pop_frame();
        let mut state = self.state.clone();
        self.widen_at(callsite, &mut state, false);
        *self.state = state;
        Ok(callsite)
    }
}
