//! Pointers to objects kept in maps and in other objects: loads, stores and exchanges.

use isa::{Operand, Reg};

use super::super::Step;
use super::super::ctx::check_unmodified;
use super::super::mem::Place;
use crate::kernel_types::holds_at_start;
use crate::plan::fields::{Field, Refers, Set, Tag};
use crate::report::reason::{Access, ObjectFault, Reason};
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

/// Kernel types whose objects stay while RCU readers may look (`rcu_protected_types`).
const RCU_PROTECTED: [&str; 5] =
    ["prog_test_ref_kfunc", "cgroup", "bpf_cpumask", "task_struct", "bpf_crypto_ctx"];

impl Step<'_> {
    /// The pointer in a map's value that an access touches, which check the access has passed; checks that the
    /// instruction may (`check_map_kptr_access`).
    pub(in crate::transfer) fn accessed_kptr(
        &self,
        place: Place,
        pointer: &RegState,
    ) -> Result<Option<Field>, Reason> {
        let RegType::PtrToMapValue { .. } = pointer.kind else { return Ok(None) };
        let (Some(record), Some(known)) = (self.plan.record(pointer), pointer.scalar.as_constant()) else {
            return Ok(None);
        };
        let at = i64::from(place.offset) + i64::from(pointer.offset);
        let field = record.at(at.saturating_add(known.cast_signed()), Set::POINTERS);
        let Some(&field) = field else { return Ok(None) };
        if place.atomic || place.sign_extend {
            return Err(ObjectFault::KptrMode.into());
        }
        match field.tag {
            Tag::KptrRef | Tag::KptrPercpu if place.access == Access::Write => {
                Err(ObjectFault::KptrStore.into())
            }
            Tag::Uptr if place.access == Access::Write => Err(ObjectFault::UptrStore.into()),
            _ => Ok(Some(field)),
        }
    }

    /// What a load of the pointer gives (`btf_ld_kptr_type`).
    pub(in crate::transfer) fn load_kptr(&mut self, field: Field) -> Result<RegState, Reason> {
        let Refers::Pointer { owner: of, ty } = field.refers else {
            return Err(Reason::Internal { what: "a kptr to nothing" });
        };
        let mut loaded = if field.tag == Tag::Uptr {
            let size = self.plan.program.btf.as_ref().and_then(|btf| btf.size_of(ty));
            let size = size.and_then(|s| u32::try_from(s).ok()).unwrap_or(0);
            self.pointer(RegType::PtrToMem { size })
        } else {
            let flags = self.kptr_flags(field);
            self.pointer(RegType::PtrToBtfId { of, ty }).with(flags)
        };
        loaded = loaded.with(Flags::MAYBE_NULL);
        loaded.id = self.fresh_id();
        Ok(loaded)
    }

    fn kptr_flags(&self, field: Field) -> Flags {
        let Refers::Pointer { owner: of, ty } = field.refers else { return Flags::UNTRUSTED };
        let local = of == BtfOwner::Object;
        let name = self.plan.btf(of).map_or("", |btf| btf.name(ty));
        let protected = local || RCU_PROTECTED.contains(&name);
        let safe = field.tag == Tag::KptrPercpu || (field.tag == Tag::KptrRef && protected);
        if !safe || !self.in_rcu() {
            return Flags::UNTRUSTED;
        }
        let mut flags = Flags::RCU;
        if field.tag == Tag::KptrPercpu {
            flags = flags.with(Flags::PERCPU);
        } else if local {
            flags = flags.with(Flags::ALLOC);
        }
        let in_graphs = local && self.plan.fields.object(ty).is_some_and(|r| r.has(Set::NODES));
        if in_graphs { flags.with(Flags::NON_OWN_REF) } else { flags }
    }

    /// Checks what is stored in the pointer: NULL, or a pointer of its type.
    pub(in crate::transfer) fn store_kptr(
        &mut self,
        field: Field,
        value: &RegState,
        src: Operand,
    ) -> Result<(), Reason> {
        match src {
            Operand::Imm(0) => Ok(()),
            Operand::Imm(_) => Err(ObjectFault::KptrImmediate { offset: field.offset }.into()),
            Operand::Reg(_) if value.is_null() => {
                self.depend_on(value);
                Ok(())
            }
            Operand::Reg(reg) => self.check_kptr_type(field, reg, value),
        }
    }

    /// Checks that a pointer is what the field keeps (`map_kptr_match_type`).
    pub(in crate::transfer) fn check_kptr_type(
        &self,
        field: Field,
        reg: Reg,
        value: &RegState,
    ) -> Result<(), Reason> {
        let Refers::Pointer { owner, ty: wanted } = field.refers else {
            return Err(Reason::Internal { what: "a kptr to nothing" });
        };
        let bad = |found: String| {
            let expected = self.plan.btf(owner).map_or("", |btf| btf.name(wanted)).to_owned();
            let or_untrusted = field.tag == Tag::KptrUntrusted;
            Err(ObjectFault::KptrType { reg, kind: value.type_name(), found, expected, or_untrusted }.into())
        };
        let RegType::PtrToBtfId { of, ty } = value.kind else { return bad(String::new()) };
        let mut permitted = if of == BtfOwner::Kernel {
            Flags::MAYBE_NULL.with(Flags::TRUSTED).with(Flags::RCU)
        } else {
            Flags::MAYBE_NULL.with(Flags::ALLOC)
        };
        let percpu = field.tag == Tag::KptrPercpu;
        if of == BtfOwner::Object && percpu {
            permitted = permitted.with(Flags::PERCPU);
        }
        if of == BtfOwner::Kernel && field.tag == Tag::KptrUntrusted {
            permitted = permitted.with(Flags::UNTRUSTED);
        }
        if value.flags.without(permitted) != Flags::NONE || percpu != value.flags.has(Flags::PERCPU) {
            return bad(String::new());
        }
        check_unmodified(reg, value, true)?;
        let btf = self.plan.btf(of);
        let name = btf.map_or("", |btf| btf.name(ty)).to_owned();
        let strict = field.tag != Tag::KptrUntrusted;
        let flexible = !value.flags.has(Flags::ALLOC);
        let offset = u32::try_from(value.offset).ok();
        let matches = of == owner
            && btf
                .zip(offset)
                .is_some_and(|(btf, offset)| holds_at_start(btf, ty, offset, wanted, strict, flexible));
        if matches { Ok(()) } else { bad(name) }
    }

    /// The pointer that an exchange's first argument names (`process_kptr_func`).
    pub(in crate::transfer) fn exchanged_kptr(&self, reg: Reg, pointer: &RegState) -> Result<Field, Reason> {
        if let RegType::PtrToMapValue { map } = pointer.kind
            && !self.plan.fields.map(map).is_some_and(|f| f.has_btf)
        {
            let field = "bpf_kptr_xchg";
            return Err(ObjectFault::FieldWithoutBtf { field, map: self.plan.map_name(map) }.into());
        }
        let Some(known) = pointer.scalar.as_constant() else {
            return Err(ObjectFault::FieldVariable { field: "kptr", reg }.into());
        };
        let record = self.plan.record(pointer).filter(|r| r.has(Set::KPTR));
        let Some(record) = record else { return Err(ObjectFault::NoKptr { reg }.into()) };
        let offset = known.cast_signed().saturating_add(i64::from(pointer.offset));
        match record.at(offset, Set::KPTR) {
            None => Err(ObjectFault::NotKptr { offset }.into()),
            Some(field) if field.tag == Tag::KptrUntrusted => {
                Err(ObjectFault::NotOwnedKptr { offset }.into())
            }
            Some(field) => Ok(*field),
        }
    }

    /// The reference `id` goes into a map; per-CPU objects may still be read until the RCU section ends. `false` if it is
    /// not held.
    pub(in crate::transfer) fn release_into_kptr(&mut self, id: u32) -> bool {
        let in_rcu = self.in_rcu();
        if !self.state.held.give_back_object(id) {
            return false;
        }
        let percpu = Flags::ALLOC.with(Flags::PERCPU);
        if in_rcu {
            self.state.update_all(
                |r| r.ref_id == id && r.flags.has(percpu),
                |r| *r = RegState { ref_id: 0, ..r.without(Flags::ALLOC).with(Flags::RCU) },
            );
        }
        self.state.invalidate(|r| r.ref_id == id);
        true
    }

    /// What the exchange gives back: the pointer that was there, without its reference yet.
    pub(in crate::transfer) fn exchanged(&mut self, field: Field) -> Result<RegState, Reason> {
        let Refers::Pointer { owner: of, ty } = field.refers else {
            return Err(Reason::Internal { what: "a kptr to nothing" });
        };
        let mut flags = Flags::MAYBE_NULL;
        if of == BtfOwner::Object {
            flags = flags.with(Flags::ALLOC);
            if field.tag == Tag::KptrPercpu {
                flags = flags.with(Flags::PERCPU);
            }
        }
        Ok(self.pointer(RegType::PtrToBtfId { of, ty }).with(flags))
    }
}
