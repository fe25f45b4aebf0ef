//! Calls of kernel functions: arguments by their annotations, iterators, preemption.

use bpf_object::MapOrigin;
use isa::Reg;

use super::Step;
use crate::explore::Stop;
use crate::held::RefKind;
use crate::reason::{Access, Reason, Unsupported};
use crate::reg::{Flags, RegState, RegType};
use crate::rules::kfuncs::{ITERS, Kfunc, KfuncArg, KfuncEffect, KfuncRet};
use crate::scalar::Scalar;
use crate::stack::{Iterator as Iter, SLOT, SlotByte};
use crate::state::State;

/// The only kind of iterator so far.
const NUM: u8 = 0;

/// The iterator a register points to: frame, offset and itself.
pub(crate) fn iterator_at(state: &State, reg: Reg) -> Option<(u8, i64, Iter)> {
    let pointer = state.reg(reg);
    let RegType::PtrToStack { frame } = pointer.kind else { return None };
    let offset = pointer.scalar.as_constant()?.cast_signed().checked_add(i64::from(pointer.offset))?;
    if offset.rem_euclid(i64::from(SLOT)) != 0 {
        return None;
    }
    let slot = state.frame_at(frame)?.stack.at(offset);
    slot.iter.map(|iter| (frame, offset, iter))
}

impl Step<'_> {
    pub(super) fn call_kfunc(&mut self, id: i32) -> Result<(), Stop> {
        let Some(kfunc) = self.plan.kfunc(id) else {
            return Err(Unsupported::Kfunc { name: self.plan.kfunc_name(id).to_owned() }.into());
        };
        self.check_kfunc_here(kfunc)?;
        for (i, (reg, arg)) in Reg::ARGS.into_iter().zip(kfunc.args).enumerate() {
            self.check_kfunc_argument(i, reg, *arg)?;
        }
        match kfunc.effect {
            KfuncEffect::None => {}
            KfuncEffect::IterNew => self.iter_new()?,
            KfuncEffect::IterNext => return self.iter_next(kfunc),
            KfuncEffect::IterDestroy => self.iter_destroy()?,
            KfuncEffect::PreemptDisable => self.state.held.preempt_off += 1,
            KfuncEffect::PreemptEnable => {
                let left = self.state.held.preempt_off.checked_sub(1);
                self.state.held.preempt_off = left.ok_or(Reason::PreemptUnbalanced)?;
            }
            KfuncEffect::RcuLock => self.enter_rcu()?,
            KfuncEffect::RcuUnlock => self.leave_rcu()?,
        }
        self.clobber_arguments();
        if kfunc.ret == KfuncRet::Number {
            let result = self.unknown(&[]);
            self.write(Reg::R0, result)?;
        }
        Ok(())
    }

    fn check_kfunc_here(&self, kfunc: &'static Kfunc) -> Result<(), Reason> {
        let function = kfunc.name;
        if self.state.held.is_locked() && !kfunc.with_lock {
            let (what, region) = ("function calls", "while holding a lock");
            return Err(Reason::NotAllowedHere { what, region });
        }
        if kfunc.sleepable {
            if !self.plan.program.kind.sleepable {
                return Err(Reason::NotSleepable { function });
            }
            if self.state.held.rcu > 0 {
                return Err(Reason::SleepsHere { function, region: "rcu_read_lock region" });
            }
            if self.state.held.preempt_off > 0 {
                return Err(Reason::SleepsHere { function, region: "non-preemptible region" });
            }
        }
        Ok(())
    }

    fn check_kfunc_argument(&mut self, index: usize, reg: Reg, arg: KfuncArg) -> Result<(), Reason> {
        if matches!(arg, KfuncArg::Ignored | KfuncArg::Implicit) {
            return Ok(());
        }
        let value = self.read(reg)?;
        let wrong = |expected| Err(Reason::KfuncArgument { reg, found: value.type_name(), expected });
        match arg {
            KfuncArg::Scalar if value.is_scalar() => Ok(()),
            KfuncArg::Scalar => Err(Reason::NotScalar { reg }),
            KfuncArg::Arena => match value.kind {
                RegType::ConstPtrToMap { map } if self.is_arena_map(map) => Ok(()),
                // The kernel takes any map here and fails at run time.
                RegType::ConstPtrToMap { .. } => {
                    Err(Unsupported::Feature { what: "an arena function on a map that is no arena" }.into())
                }
                _ => wrong("map"),
            },
            KfuncArg::NewIter | KfuncArg::Iter => match value.kind {
                RegType::PtrToStack { .. } => Ok(()),
                _ => wrong("iterator on the stack"),
            },
            KfuncArg::ConstString => self.check_const_string(reg, &value),
            KfuncArg::MemSized => {
                if value.is_null() {
                    self.depend_on(&value);
                }
                Ok(())
            }
            KfuncArg::Size => {
                let memory = index.checked_sub(1).and_then(|i| Reg::ARGS.get(i)).copied().unwrap_or(Reg::R1);
                self.check_size(memory, reg, true, Access::Read)
            }
            KfuncArg::Ignored | KfuncArg::Implicit => Ok(()),
        }
    }

    /// A zero-terminated string at a known place of a read-only data section.
    pub(super) fn check_const_string(&mut self, reg: Reg, value: &RegState) -> Result<(), Reason> {
        let fail = Reason::NotConstString { reg };
        let RegType::PtrToMapValue { map } = value.kind else { return Err(fail) };
        let offset =
            value.scalar.as_constant().map(|c| c.cast_signed().saturating_add(i64::from(value.offset)));
        let (Some(spec), Some(offset)) = (self.plan.map(map), offset.and_then(|o| usize::try_from(o).ok()))
        else {
            return Err(fail);
        };
        let size = usize::try_from(spec.value_size).unwrap_or(usize::MAX);
        let constant = matches!(spec.origin, MapOrigin::Data { read_only: true, .. });
        // Bytes past the initial ones are zero.
        let ends =
            spec.initial.get(offset..).is_none_or(|text| text.contains(&0)) || spec.initial.len() < size;
        if constant && !value.maybe_null() && offset < size && ends { Ok(()) } else { Err(fail) }
    }

    /// Offset of the iterator in its frame, from the frame pointer.
    fn iterator_place(&mut self) -> Result<(u8, i64), Reason> {
        let pointer = self.read(Reg::R1)?;
        let RegType::PtrToStack { frame } = pointer.kind else {
            return Err(Reason::Internal { what: "iterator outside the stack" });
        };
        let Some(known) = pointer.scalar.as_constant() else {
            return Err(Reason::NotConstant { reg: Reg::R1 });
        };
        let offset = known.cast_signed().saturating_add(i64::from(pointer.offset));
        if offset.rem_euclid(i64::from(SLOT)) != 0 {
            return Err(Reason::Misaligned { area: "stack ", offset, size: SLOT });
        }
        let bytes = u64::from(ITERS.get(usize::from(NUM)).map_or(1, |k| k.slots) * SLOT);
        self.stack_bounds(frame, Reg::R1, &pointer, 0, bytes, Access::Write)?;
        Ok((frame, offset))
    }

    fn iter_new(&mut self) -> Result<(), Reason> {
        let iter = ITERS.get(usize::from(NUM)).map_or("", |k| k.name);
        let (frame, offset) = self.iterator_place()?;
        let id = self.fresh_id();
        let at = self.at;
        self.writes_slot(frame, offset);
        let slot = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(offset));
        let slot = slot.ok_or(Reason::Internal { what: "no such frame" })?;
        if slot.iter.is_some() {
            return Err(Reason::IteratorInUse { iter });
        }
        slot.scrub();
        slot.bytes = [SlotByte::Iter; SLOT as usize];
        slot.iter = Some(Iter { kind: NUM, id, active: true, depth: 0 });
        self.state.held.take(RefKind::Object, id, at);
        Ok(())
    }

    fn current_iterator(&mut self) -> Result<(u8, i64, Iter), Reason> {
        let (frame, offset) = self.iterator_place()?;
        self.reads_stack(frame, offset, offset + i64::from(SLOT));
        let iter = ITERS.get(usize::from(NUM)).map_or("", |k| k.name);
        iterator_at(self.state, Reg::R1).ok_or(Reason::IteratorNotInitialised { iter })
    }

    /// One path gets an element, in the other the iterator is at its end.
    fn iter_next(&mut self, kfunc: &'static Kfunc) -> Result<(), Stop> {
        let (frame, offset, iter) = self.current_iterator()?;
        let KfuncRet::ReadOnlyOrNull(size) = kfunc.ret else {
            return Err(Reason::Internal { what: "iterator without elements" }.into());
        };
        self.clobber_arguments();
        let set = |state: &mut State, to: Iter| {
            if let Some(slot) = state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(offset)) {
                slot.iter = Some(to);
            }
        };
        if iter.active {
            let mut element = self.pointer(RegType::PtrToMem { size }).with(Flags::RDONLY);
            element.ref_id = iter.id;
            let mut goes_on = self.state.clone();
            set(&mut goes_on, Iter { depth: iter.depth + 1, ..iter });
            goes_on.set_reg(Reg::R0, element);
            self.widen(&mut goes_on);
            self.forks.push((self.following(), goes_on));
        }
        set(self.state, Iter { active: false, ..iter });
        let null = self.number(Scalar::ZERO, &[]);
        self.depend_on(&null);
        Ok(self.write(Reg::R0, null)?)
    }

    fn iter_destroy(&mut self) -> Result<(), Reason> {
        let (frame, offset, iter) = self.current_iterator()?;
        self.writes_slot(frame, offset);
        if let Some(slot) = self.state.frame_at_mut(frame).and_then(|f| f.stack.at_mut(offset)) {
            slot.scrub();
        }
        if self.state.release(iter.id) {
            Ok(())
        } else {
            Err(Reason::Internal { what: "iterator without a reference" })
        }
    }
}
