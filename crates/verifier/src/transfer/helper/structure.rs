//! Structures of the kernel as arguments and results of helpers.

use bpf_object::{Btf, Kind, KindTag, TypeId};
use isa::Reg;

use super::super::Step;
use crate::kernel_types::{holds_at_start, member_at, shown_name};
use crate::report::reason::{CallFault, KfuncFault, Reason, Unsupported};
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

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
        let Some(btf) = self.plan.btf(of) else {
            return Err(Reason::Internal { what: "a structure without its types" });
        };
        let wanted = self.kernel_structure(name)?;
        let at = |offset| holds_at_start(btf, btf.resolve(ty), offset, wanted, strict, true);
        if of == BtfOwner::Kernel && u32::try_from(value.offset).is_ok_and(at) {
            return Ok(());
        }
        let found = btf.name(ty).to_owned();
        Err(CallFault::WrongStructure { reg, found, expected: name }.into())
    }

    /// Reads of a structure of the kernel by a helper: one member at most.
    pub(super) fn check_structure_memory(
        &self,
        of: BtfOwner,
        ty: TypeId,
        reg: Reg,
        pointer: &RegState,
        size: u64,
    ) -> Result<(), Reason> {
        let Some(btf) = self.plan.btf(of) else {
            return Err(Reason::Internal { what: "a structure without its types" });
        };
        let ty = btf.resolve(ty);
        let Ok(offset) = u32::try_from(pointer.offset) else {
            let (name, offset) = (shown_name(btf, ty).to_owned(), i64::from(pointer.offset));
            return Err(KfuncFault::NegativeOffset { reg, name, offset }.into());
        };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let found = member_at(btf, ty, offset, size, !pointer.flags.has(Flags::ALLOC));
        found.map(|_| ()).map_err(|fault| KfuncFault::Walk { reg, fault }.into())
    }

    /// What a per-CPU variable is: a structure, or memory of a size.
    pub(super) fn percpu_type(&self, of: BtfOwner, ty: TypeId) -> Result<(TypeId, Option<u32>), Reason> {
        let Some(btf) = self.plan.btf(of) else {
            return Err(Reason::Internal { what: "a structure without its types" });
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
