//! Memory that BTF describes: structures of the kernel, allocated objects, maps themselves, variables of the kernel.

use bpf_object::{Btf, Kind, TypeId};
use isa::Reg;

use super::Step;
use super::kfunc::{TRUST, is_trusted};
use super::mem::Place;
use crate::domain::scalar::Scalar;
use crate::kernel_types::{Field, FieldTrust, Found, PointerTag, field_trust, member_at};
use crate::plan::externs::External;
use crate::report::reason::{Access, KfuncFault, MapStructFault, Reason, Unsupported};
use crate::rules::structs::{map_structure, writable_fields};
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

impl Step<'_> {
    /// What a load finds, if the pointer is to something that BTF describes.
    pub(super) fn fetch_typed(
        &mut self,
        place: Place,
        pointer: &RegState,
    ) -> Result<Option<RegState>, Reason> {
        if pointer.maybe_null() {
            return Ok(None);
        }
        match pointer.kind {
            RegType::PtrToBtfId { of, ty } => {
                self.check_alignment(place, pointer)?;
                self.access_structure(of, ty, place, pointer).map(Some)
            }
            RegType::ConstPtrToMap { map } => {
                let spec = self.plan.map(map).filter(|m| self.plan.env.map_struct(m.map_type).is_none());
                if spec.is_none() || self.plan.kernel().is_none() {
                    return Ok(None);
                }
                self.check_alignment(place, pointer)?;
                self.read_kernel_map(map, place, pointer).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Accesses a structure; gives what a load finds there (`check_ptr_to_btf_access`).
    pub(super) fn access_structure(
        &mut self,
        of: BtfOwner,
        ty: TypeId,
        place: Place,
        pointer: &RegState,
    ) -> Result<RegState, Reason> {
        let Some(btf) = self.plan.btf(of) else {
            return Err(Reason::Internal { what: "a structure without its types" });
        };
        let ty = btf.resolve(ty);
        let offset = self.check_structure_pointer(btf, of, ty, place, pointer)?;
        let size = u32::from(place.size.bytes());
        let reg = place.reg;
        let alloc = pointer.flags.has(Flags::ALLOC);
        if place.access == Access::Write {
            if pointer.flags.has(Flags::UNTRUSTED) {
                return Err(KfuncFault::ReadOnly { reg }.into());
            }
            if !alloc {
                return self.write_kernel(btf, ty, reg, (offset, size));
            }
        }
        if alloc && let Some(record) = self.plan.record(pointer) {
            let (low, high) = (i64::from(offset), i64::from(offset) + i64::from(size));
            if let Some(field) = record.touched(low, high).next() {
                return Err(KfuncFault::OwnedField { reg, field: field.tag.name() }.into());
            }
        }
        let found = member_at(btf, ty, offset, size, !alloc);
        match found.map_err(|fault| KfuncFault::Walk { reg, fault })? {
            // What a program's own object points to is not known.
            Found::Pointer(field) if !alloc => {
                let flags = self.flags_of_field(btf, ty, pointer, &field);
                Ok(self.structure_pointer(RegType::PtrToBtfId { of, ty: field.target }, flags))
            }
            Found::Bytes => Ok(self.untrusted_bytes()),
            _ => Ok(self.unknown(&[])),
        }
    }

    /// A pointer to anything, of which every load is guarded.
    pub(super) fn untrusted_bytes(&mut self) -> RegState {
        self.pointer(RegType::PtrToMem { size: 0 }).with(Flags::RDONLY.with(Flags::UNTRUSTED))
    }

    fn structure_pointer(&mut self, kind: RegType, flags: Flags) -> RegState {
        let mut value = self.pointer(kind).with(flags);
        if flags.has(Flags::MAYBE_NULL) {
            value.id = self.fresh_id();
        }
        value
    }

    /// Checks the pointer itself; gives the offset in the structure.
    fn check_structure_pointer(
        &self,
        btf: &Btf,
        of: BtfOwner,
        ty: TypeId,
        place: Place,
        pointer: &RegState,
    ) -> Result<u32, Reason> {
        let name = || btf.name(ty).to_owned();
        let reg = place.reg;
        if of == BtfOwner::Kernel && !self.plan.is_gpl() {
            return Err(KfuncFault::StructLicense { name: name() }.into());
        }
        let offset = i64::from(pointer.offset) + i64::from(place.offset);
        let Ok(start) = u32::try_from(offset) else {
            return Err(KfuncFault::NegativeOffset { reg, name: name(), offset }.into());
        };
        if !pointer.scalar.is_zero() {
            let bits = pointer.scalar.bits;
            let variable = format!("({:#x}; {:#x})", bits.value(), bits.mask());
            return Err(KfuncFault::VariableOffset { reg, name: name(), offset, variable }.into());
        }
        for (flag, what) in [(Flags::USER, "user"), (Flags::PERCPU, "percpu")] {
            if pointer.flags.has(flag) {
                return Err(KfuncFault::OtherMemory { reg, name: name(), what, offset }.into());
            }
        }
        Ok(start)
    }

    /// A write to a structure of the kernel: a few fields may be written by some programs.
    fn write_kernel(
        &mut self,
        btf: &Btf,
        ty: TypeId,
        reg: Reg,
        (offset, size): (u32, u32),
    ) -> Result<RegState, Reason> {
        let name = btf.name(ty);
        let prog_type = self.plan.program.kind.prog_type;
        let mut fields = writable_fields(prog_type, name).peekable();
        if fields.peek().is_none() {
            return Err(KfuncFault::ReadOnly { reg }.into());
        }
        for field in fields {
            // A connection that is being made is a whole one to begin with.
            let inner = btf.composite(ty).and_then(|c| c.members.first()).map(|m| m.ty);
            let found = member_at_path(btf, ty, field).or_else(|| member_at_path(btf, inner?, field));
            let Some((member, bits)) = found else { continue };
            let (Ok(start), Some(bytes)) = (u32::try_from(bits / 8), btf.size_of(member)) else {
                continue;
            };
            let end = start.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
            // Private bytes are written anywhere.
            let anywhere = matches!(btf.kind(btf.resolve(member)), Some(Kind::Array(_)));
            if offset != start && !(anywhere && (start..end).contains(&offset)) {
                continue;
            }
            if offset.saturating_add(size) > end {
                let name = name.to_owned();
                return Err(KfuncFault::WriteEnd { reg, name, offset, size, end }.into());
            }
            return Ok(self.unknown(&[]));
        }
        Err(KfuncFault::NoSuchWrite { reg, name: name.to_owned(), offset }.into())
    }

    /// How far a pointer loaded from a field may be trusted.
    fn flags_of_field(&self, btf: &Btf, owner: TypeId, pointer: &RegState, field: &Field<'_>) -> Flags {
        let flags = field_flags(field);
        if pointer.flags.has(Flags::UNTRUSTED) {
            return Flags::UNTRUSTED;
        }
        if !is_trusted(pointer) && !pointer.flags.has(Flags::RCU) {
            return flags.without(TRUST.with(Flags::RCU));
        }
        match field_trust(btf, owner, field.name, field.target) {
            FieldTrust::Trusted => flags.with(Flags::TRUSTED),
            FieldTrust::TrustedOrNull => flags.with(Flags::TRUSTED).with(Flags::MAYBE_NULL),
            _ if !self.in_rcu() || pointer.maybe_null() => Flags::UNTRUSTED,
            FieldTrust::Rcu => flags.with(Flags::RCU),
            FieldTrust::RcuOrNull => flags.with(Flags::RCU).with(Flags::MAYBE_NULL).without(Flags::UNTRUSTED),
            FieldTrust::Unlisted if flags.has(Flags::RCU) => flags.with(Flags::MAYBE_NULL),
            FieldTrust::Unlisted if flags.any(Flags::PERCPU.with(Flags::USER)) => flags,
            FieldTrust::Unlisted => flags.without(TRUST.with(Flags::RCU)),
        }
    }

    /// Reads the structure that stands for a map, as the kernel has it (`check_ptr_to_map_access`).
    pub(super) fn read_kernel_map(
        &mut self,
        map: u32,
        place: Place,
        pointer: &RegState,
    ) -> Result<RegState, Reason> {
        let name = self.plan.map(map).map(|spec| map_structure(spec.map_type));
        let kernel = self.plan.kernel();
        let ty = kernel.zip(name).and_then(|(k, name)| k.find(name, bpf_object::KindTag::Struct));
        let (Some(btf), Some(ty), true) = (kernel, ty, pointer.scalar.is_zero()) else {
            return Err(Reason::InvalidAccess { reg: place.reg, found: pointer.type_name() });
        };
        let (reg, size) = (place.reg, u32::from(place.size.bytes()));
        let offset = i64::from(pointer.offset) + i64::from(place.offset);
        let fail = |fault| {
            let name = btf.name(ty).to_owned();
            Err(Reason::MapStruct { reg, fault, name, offset, size })
        };
        let Ok(start) = u32::try_from(offset) else {
            return fail(MapStructFault::Negative);
        };
        if place.access == Access::Write {
            return fail(MapStructFault::Write);
        }
        match member_at(btf, ty, start, size, true).map_err(|fault| KfuncFault::Walk { reg, fault })? {
            Found::Number => Ok(self.unknown(&[])),
            Found::Bytes => Ok(self.untrusted_bytes()),
            Found::Pointer(field) => {
                let kind = RegType::PtrToBtfId { of: BtfOwner::Kernel, ty: field.target };
                Ok(self.structure_pointer(kind, field_flags(&field)))
            }
        }
    }

    /// The address of a variable or function of the kernel.
    pub(super) fn kernel_address(&mut self, index: i32) -> Result<RegState, Reason> {
        match self.plan.external(index) {
            Some(External::Variable { kind, flags }) => {
                let (kind, flags) = (*kind, *flags);
                Ok(self.pointer(kind).with(flags))
            }
            // A function's address can only be compared with NULL.
            Some(External::Function(_) | External::Forbidden) => {
                Ok(self.pointer(RegType::PtrToMem { size: 0 }).with(Flags::RDONLY))
            }
            Some(External::Address) => Ok(self.unknown(&[])),
            Some(External::Absent) => Ok(self.number(Scalar::ZERO, &[])),
            Some(External::Unknown(reason)) => Err(reason.clone()),
            None => Err(Unsupported::KernelVariable { name: format!("#{index}") }.into()),
        }
    }
}

/// What the member's type and the way to it say.
fn field_flags(field: &Field<'_>) -> Flags {
    let tag = match field.tag {
        Some(PointerTag::User) => Flags::USER,
        Some(PointerTag::PerCpu) => Flags::PERCPU,
        Some(PointerTag::Rcu) => Flags::RCU,
        None => Flags::NONE,
    };
    if field.in_union { tag.with(Flags::UNTRUSTED) } else { tag }
}

/// The type of a member, named by the path to it, and its offset in bits.
fn member_at_path(btf: &Btf, ty: TypeId, path: &str) -> Option<(TypeId, u64)> {
    path.split('.').try_fold((ty, 0_u64), |(ty, bits), name| {
        let (member, at) = btf.member(btf.resolve(ty), name)?;
        Some((member.ty, bits.checked_add(at)?))
    })
}
