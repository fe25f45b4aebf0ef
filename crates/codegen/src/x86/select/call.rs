//! Calls: subprograms, helpers, kfuncs, and what is an instruction, or a shorter call, in their place.

use std::mem::offset_of;

use bpf_object::MapType;
use isa::{CallTarget, Width};

use super::super::insn::{Address, Alu, Callee, Cc, End, Insn, Reg, Shift, Src, Test};
use super::{Select, reg};
use crate::Import;
use crate::abi::{self, VmContext};
use crate::flow::Var;
use crate::lower::Leaving;
use crate::lower::call::{SPIN_LOCK, TAIL_CALL};
use crate::lower::inline::{InPlace, in_place};

impl Select<'_> {
    pub(super) fn call(
        &mut self,
        target: CallTarget,
        map: Option<u32>,
        stack: u32,
        args: [Var; 5],
        dst: Var,
    ) -> Option<()> {
        let result = reg(dst);
        match in_place(self.unit, target, map) {
            Some(InPlace::Cpu) => {
                let cpu = self.cpu()?;
                self.push(Insn::Mov { width: Width::W64, dst: result, src: Src::Reg(cpu) });
                return Some(());
            }
            Some(InPlace::OnMap { helper, map, args: chosen }) => {
                let [b, c, d] =
                    chosen.map(|index| args.get(index).map_or(Src::Imm(0), |var| self.passed(*var)));
                let index = Src::Imm(i64::from(map));
                self.runtime_call(Import::OnMap(helper), [index, b, c, d, d], Some(result));
                return Some(());
            }
            None => {}
        }
        match target {
            CallTarget::Helper(number) => self.external_call(Import::Helper(number), stack, args, result)?,
            CallTarget::Kfunc { btf_id, .. } => {
                let index = u32::try_from(btf_id).ok()?;
                self.external_call(Import::Kfunc(index), stack, args, result)?;
            }
            CallTarget::Local(offset) => self.local_call(offset, stack, args, result)?,
            CallTarget::Register(_) => return None,
        }
        let tail_call = target == CallTarget::Helper(TAIL_CALL);
        if tail_call || self.may_leave(target) {
            self.leave(result)?;
        }
        Some(())
    }

    /// Whether a call that is no tail call may end more than itself.
    fn may_leave(&self, target: CallTarget) -> bool {
        match (self.unit.leaving, target) {
            (Leaving::Never, _) => false,
            (Leaving::Exceptions, _) | (_, CallTarget::Local(_) | CallTarget::Helper(SPIN_LOCK)) => true,
            (Leaving::Locks, _) => self.has_callbacks,
        }
    }

    /// Returns `result` from this function if the call that gave it ended more than itself.
    fn leave(&mut self, result: Reg) -> Option<()> {
        let offset = offset_of!(VmContext, leave);
        let leave = self.field(offset)?;
        let (done, before) = (self.new_block(), self.cold);
        self.leave_if(Insn::is_not_zero(leave), done)?;
        let go_on = std::mem::replace(&mut self.block, done);
        let insns = std::mem::take(&mut self.insns);

        self.cold = true;
        let function_only = i64::try_from(abi::LEAVE_FUNCTION).ok()?;
        let (width, a, b) = (Width::W64, Src::Reg(leave), Src::Imm(function_only));
        let test = Test { cc: Cc::Equal, and: false, width, a, b };
        let left = self.temp();
        self.push(Insn::Select { dst: left, test, yes: Src::Imm(0), no: Src::Reg(leave) });
        let base = self.context();
        let address = Address { base, index: None, offset: i32::try_from(offset).ok()? };
        self.push(Insn::store(address, Src::Reg(left)));
        self.finish(End::Exit(Src::Reg(result)))?;

        (self.block, self.cold, self.insns) = (go_on, before, insns);
        Some(())
    }

    /// What is passed to a function of a variable: nothing in particular, if it has no value.
    fn passed(&self, var: Var) -> Src {
        if self.forgotten.contains(&var) { Src::Imm(0) } else { Src::Reg(reg(var)) }
    }

    fn local_call(&mut self, offset: i32, stack: u32, args: [Var; 5], dst: Reg) -> Option<()> {
        let index = self.unit.source.subprogram_at(self.at.insn, offset)?;
        let frame = self.callee_frame(stack);
        let passed = if index == 0 { 1 } else { args.len() };
        let args = args.into_iter().take(passed).map(|var| self.passed(var)).chain([frame]).collect();
        self.push(Insn::Call { callee: Callee::Subprogram(index), args, dst: Some(dst) });
        Some(())
    }

    /// A helper or kfunc, which may enter callbacks.
    fn external_call(&mut self, import: Import, stack: u32, args: [Var; 5], dst: Reg) -> Option<()> {
        if self.has_callbacks {
            let frame = self.callee_frame(stack);
            let offset = i32::try_from(offset_of!(VmContext, callback_frame)).ok()?;
            let base = self.context();
            self.push(Insn::store(Address { base, index: None, offset }, frame));
        }
        let args = args.map(|var| self.passed(var));
        self.runtime_call(import, args, Some(dst));
        Some(())
    }

    /// `r10` of a function that this one calls.
    fn callee_frame(&mut self, stack: u32) -> Src {
        if stack == 0 {
            return Src::Reg(self.frame);
        }
        let dst = self.temp();
        let b = Src::Imm(-i64::from(stack));
        self.push(Insn::add(dst, self.frame, b));
        Src::Reg(dst)
    }

    /// The address of a value of an array.
    pub(super) fn element(&mut self, dst: Var, index: u32, key: Var) -> Option<()> {
        let map = self.unit.source.program().maps.get(usize::try_from(index).ok()?)?;
        let per_cpu = map.map_type == MapType::PercpuArray;
        let stride = i64::try_from(abi::value_stride(map.value_size)).ok()?;
        let area = i64::try_from(abi::per_cpu_area(map.value_size, map.max_entries)).ok()?;
        let mut base = self.temp();
        self.entry_of(base, offset_of!(VmContext, map_values), index)?;
        if per_cpu {
            let cpu = self.cpu()?;
            let offset = self.product(cpu, area);
            let sum = self.temp();
            self.push(Insn::add(sum, base, Src::Reg(offset)));
            base = sum;
        }
        let offset = self.product(reg(key), stride);
        self.push(Insn::add(reg(dst), base, Src::Reg(offset)));
        Some(())
    }

    fn product(&mut self, a: Reg, factor: i64) -> Reg {
        let dst = self.temp();
        let shift = u64::try_from(factor).ok().filter(|f| f.is_power_of_two()).map(u64::trailing_zeros);
        match shift {
            Some(0) => return a,
            Some(bits) => {
                let (op, by) = (Shift::Left, Src::Imm(bits.into()));
                self.push(Insn::Shift { op, width: Width::W64, dst, a, by });
            }
            None => self.push(Insn::alu(Alu::Mul, dst, a, Src::Imm(factor))),
        }
        dst
    }
}
