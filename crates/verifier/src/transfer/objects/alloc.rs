//! Objects that the program allocates, drops and counts references to.

use bpf_object::{Kind, TypeId};
use isa::Reg;

use super::super::Step;
use crate::kernel_types::is_struct_of_numbers;
use crate::plan::fields::{Set, Tag};
use crate::report::reason::{ObjectFault, Reason};
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

/// Bytes of a per-CPU object at most (`BPF_GLOBAL_PERCPU_MA_MAX_SIZE`).
const MAX_PERCPU: u32 = 512;

impl Step<'_> {
    /// A new object of the type of this number in the program's BTF, not NULL yet.
    pub(in crate::transfer) fn new_object(&mut self, number: u64, percpu: bool) -> Result<RegState, Reason> {
        let number = u32::try_from(number).map_err(|_| ObjectFault::TypeRange)?;
        let known = !self.plan.fields.btf_refused;
        let btf = self.plan.program.btf.as_deref().filter(|_| known).ok_or(ObjectFault::NoBtf)?;
        let ty = TypeId(number);
        let Some(Kind::Struct(composite)) = btf.kind(ty) else { return Err(ObjectFault::NotStruct.into()) };
        let mut flags = Flags::ALLOC;
        if percpu {
            if composite.size > MAX_PERCPU {
                return Err(ObjectFault::PercpuSize { size: composite.size, max: MAX_PERCPU }.into());
            }
            if !is_struct_of_numbers(btf, ty) {
                return Err(ObjectFault::PercpuPointers.into());
            }
            if self.plan.fields.object(ty).is_some() {
                return Err(ObjectFault::PercpuFields.into());
            }
            flags = flags.with(Flags::PERCPU);
        }
        Ok(self.pointer(RegType::PtrToBtfId { of: BtfOwner::Object, ty }).with(flags))
    }

    /// Checks an object that is given to a function to be dropped.
    pub(in crate::transfer) fn check_dropped(&self, reg: Reg, percpu: bool) -> Result<(), Reason> {
        let pointer = self.read(reg)?;
        let argument = usize::from(reg.number()).saturating_sub(1);
        let found = pointer.type_name();
        let is_object = matches!(pointer.kind, RegType::PtrToBtfId { .. });
        let one = is_object && pointer.flags == Flags::ALLOC;
        let many = is_object && pointer.flags == Flags::ALLOC.with(Flags::PERCPU);
        if !one && !many {
            return Err(ObjectFault::NodePlace { argument, reg, found }.into());
        }
        if many != percpu {
            let function = if one { "bpf_obj_drop_impl" } else { "bpf_percpu_obj_drop_impl" };
            return Err(ObjectFault::DropWith { argument, reg, function }.into());
        }
        if pointer.ref_id == 0 {
            return Err(ObjectFault::Unowned { reg }.into());
        }
        Ok(())
    }

    /// Checks an object whose references are counted; gives another pointer to it, not NULL yet, and whether the program
    /// owns the one it has (then there is certainly another).
    pub(in crate::transfer) fn counted_object(&mut self, reg: Reg) -> Result<(RegState, bool), Reason> {
        let pointer = self.read(reg)?;
        let argument = usize::from(reg.number()).saturating_sub(1);
        let RegType::PtrToBtfId { of: BtfOwner::Object, ty } = pointer.kind else {
            return Err(ObjectFault::NotReference { argument, reg }.into());
        };
        if !pointer.flags.has(Flags::ALLOC) {
            return Err(ObjectFault::NotReference { argument, reg }.into());
        }
        let Some(record) = self.plan.record(&pointer) else { return Err(ObjectFault::NoRecord.into()) };
        if !record.has(Set::of(Tag::Refcount)) {
            return Err(ObjectFault::NotCounted { argument, reg }.into());
        }
        let owned = !pointer.flags.has(Flags::NON_OWN_REF) && pointer.ref_id != 0;
        let another = self.pointer(RegType::PtrToBtfId { of: BtfOwner::Object, ty }).with(Flags::ALLOC);
        Ok((another, owned))
    }
}
