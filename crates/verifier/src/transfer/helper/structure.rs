//! Structures of the kernel as arguments and results of helpers.

use bpf_object::{Btf, Kind, KindTag, TypeId};
use isa::Reg;

use super::super::Step;
use crate::reason::{CallFault, Reason, Unsupported};
use crate::reg::{BtfOwner, RegState, RegType};

/// Structures inside one another that are looked into.
const MAX_NESTING: u32 = 64;

impl Step<'_> {
    /// The types of the kernel, which everything here needs.
    fn kernel_types(&self) -> Result<&Btf, Reason> {
        let what = "a structure of a kernel that is not known";
        self.plan.env.kernel.as_deref().ok_or(Unsupported::Feature { what }.into())
    }

    /// The kernel's structure of this name.
    pub(in crate::transfer) fn kernel_structure(&self, name: &'static str) -> Result<TypeId, Reason> {
        let what = "a structure that this kernel does not have";
        self.kernel_types()?.find(name, KindTag::Struct).ok_or(Unsupported::Feature { what }.into())
    }

    /// Checks that a pointer points to the kernel's structure of this name, or (unless `strict`) to one that has it there.
    pub(super) fn check_structure_is(
        &self,
        reg: Reg,
        value: &RegState,
        name: &'static str,
        strict: bool,
    ) -> Result<(), Reason> {
        let RegType::PtrToBtfId { of, ty } = value.kind else { return Ok(()) };
        let btf = match of {
            BtfOwner::Kernel => self.kernel_types()?,
            BtfOwner::Object => match self.plan.program.btf.as_deref() {
                Some(btf) => btf,
                None => return Err(Reason::Internal { what: "a type without types" }),
            },
        };
        let wanted = self.kernel_structure(name)?;
        if of == BtfOwner::Kernel && holds(btf, ty, value.offset, wanted, strict) {
            return Ok(());
        }
        let found = btf.name(ty).to_owned();
        Err(CallFault::WrongStructure { reg, found, expected: name }.into())
    }

    /// Reads of a structure of the kernel by a helper.
    pub(super) fn check_structure_memory(
        &self,
        reg: Reg,
        pointer: &RegState,
        size: u64,
    ) -> Result<(), Reason> {
        let RegType::PtrToBtfId { of: BtfOwner::Kernel, ty } = pointer.kind else {
            return Err(Unsupported::Feature { what: "an object of the program's own as memory" }.into());
        };
        let btf = self.kernel_types()?;
        let bytes = btf.size_of(ty).unwrap_or(0);
        let end = i64::from(pointer.offset).saturating_add_unsigned(size);
        if pointer.offset < 0 || u64::try_from(end).is_ok_and(|end| end > bytes) {
            let name = btf.name(ty).to_owned();
            return Err(
                CallFault::BeyondStructure { reg, name, offset: i64::from(pointer.offset), size }.into()
            );
        }
        Ok(())
    }

    /// What a per-CPU variable is: a structure, or memory of a size.
    pub(super) fn percpu_type(&self, of: BtfOwner, ty: TypeId) -> Result<(TypeId, Option<u32>), Reason> {
        let btf = match of {
            BtfOwner::Kernel => self.kernel_types()?,
            BtfOwner::Object => match self.plan.program.btf.as_deref() {
                Some(btf) => btf,
                None => return Err(Reason::Internal { what: "a type without types" }),
            },
        };
        let ty = btf.resolve(ty);
        if let Some(Kind::Struct(_) | Kind::Union(_)) = btf.kind(ty) {
            return Ok((ty, None));
        }
        match btf.size_of(ty).and_then(|s| u32::try_from(s).ok()) {
            Some(size) => Ok((ty, Some(size))),
            None => Err(CallFault::UnknownSize { name: btf.name(ty).to_owned() }.into()),
        }
    }

    /// Whether the LSM hook the program is for has no result.
    pub(super) fn hook_returns_nothing(&self) -> bool {
        let Some(btf) = self.plan.env.kernel.as_deref() else { return false };
        let name = format!("bpf_lsm_{}", self.plan.program.kind.target.as_deref().unwrap_or(""));
        let Some(Kind::Func { proto, .. }) = btf.function(&name).and_then(|id| btf.kind(id)) else {
            return false;
        };
        matches!(btf.kind(*proto), Some(Kind::FuncProto(p)) if p.ret == TypeId::default())
    }
}

/// Whether a structure of type `wanted` lies at `offset` of one of type `have`: that type itself, or (unless `strict`) a
/// member of it, of a member, and so on.
fn holds(btf: &Btf, have: TypeId, offset: i32, wanted: TypeId, strict: bool) -> bool {
    let (mut ty, Ok(mut offset)) = (btf.resolve(have), u32::try_from(offset)) else { return false };
    for _ in 0..MAX_NESTING {
        if offset == 0 && ty == wanted {
            return true;
        }
        let Some(members) = btf.composite(ty).map(|c| &c.members) else { return false };
        if strict {
            return false;
        }
        let inside = members.iter().rev().find_map(|member| {
            let start = member.bit_offset / 8;
            let inner = btf.resolve(member.ty);
            let size = btf.size_of(inner)?;
            let within = offset >= start && u64::from(offset - start) < size;
            (within && btf.composite(inner).is_some()).then_some((inner, offset - start))
        });
        let Some(next) = inside else { return false };
        (ty, offset) = next;
    }
    false
}
