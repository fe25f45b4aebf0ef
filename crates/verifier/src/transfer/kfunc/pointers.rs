//! Pointers to structures of the kernel as arguments.

use bpf_object::{Btf, TypeId};
use isa::Reg;

use super::super::Step;
use super::super::ctx::check_unmodified;
use super::KfuncCall;
use super::arguments::{TRUST, stands_for_structure};
use crate::kernel_types::{holds_at_start, is_init_alias, is_projection, kind_name};
use crate::report::reason::{KfuncFault, OtherStruct, Reason, TypeName};
use crate::rules::kfuncs::KfuncFlags;
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

impl Step<'_> {
    /// A pointer to a structure, which must be `wanted` or begin with it.
    pub(super) fn structure_argument(
        &self,
        call: &KfuncCall<'_>,
        index: usize,
        reg: Reg,
        value: &RegState,
        wanted: TypeId,
    ) -> Result<(), Reason> {
        check_kind(index, reg, value)?;
        let Some(kernel) = self.plan.types() else {
            return Err(Reason::Internal { what: "a kernel's structure without its types" });
        };
        let found = self.structure_of(kernel, value);
        let Some((btf, owner, have)) = found else {
            return Err(Reason::Internal { what: "a pointer to a structure without type" });
        };
        let (have_name, wanted_name) = (btf.name(have), kernel.name(wanted));
        let strict =
            call.has(KfuncFlags::RELEASE) && value.ref_id != 0 || is_init_alias(have_name, wanted_name);
        let flexible = !value.flags.has(Flags::ALLOC);
        let offset = u32::try_from(value.offset).ok();
        let matches = owner == BtfOwner::Kernel
            && offset.is_some_and(|offset| holds_at_start(kernel, have, offset, wanted, strict, flexible));
        if matches || is_projection(wanted_name, have_name) {
            return Ok(());
        }
        let other = OtherStruct {
            function: call.kfunc.name,
            index,
            kind: kind_name(kernel, wanted),
            expected: wanted_name.to_owned(),
            reg,
            found_kind: kind_name(btf, have),
            found: have_name.to_owned(),
        };
        Err(KfuncFault::OtherStruct(Box::new(other)).into())
    }

    /// The structure behind a pointer.
    fn structure_of<'k>(&'k self, kernel: &'k Btf, value: &RegState) -> Option<(&'k Btf, BtfOwner, TypeId)> {
        let named =
            |name| kernel.find(name, bpf_object::KindTag::Struct).map(|ty| (kernel, BtfOwner::Kernel, ty));
        match value.kind {
            RegType::PtrToBtfId { of, ty } => {
                let btf = self.plan.btf(of)?;
                Some((btf, of, btf.resolve(ty)))
            }
            RegType::PtrToSocket => named("sock"),
            RegType::PtrToSockCommon => named("sock_common"),
            RegType::PtrToTcpSock => named("tcp_sock"),
            RegType::ConstPtrToMap { .. } => named("bpf_map"),
            _ => None,
        }
    }

    /// A map where a kfunc wants one (`__map`): the program's, or the kernel's structure of one.
    pub(super) fn map_as_structure(
        &self,
        call: &KfuncCall<'_>,
        index: usize,
        reg: Reg,
        value: &RegState,
    ) -> Result<(), Reason> {
        let wanted = self.plan.kernel().and_then(|k| k.find("bpf_map", bpf_object::KindTag::Struct));
        match (value.kind, wanted) {
            (RegType::ConstPtrToMap { .. }, _) | (_, None) => check_kind(index, reg, value),
            (_, Some(wanted)) => self.structure_argument(call, index, reg, value, wanted),
        }
    }

    /// Checks the offset of a pointer given to a kfunc (`check_func_arg_reg_off`).
    pub(super) fn argument_offset(&self, reg: Reg, value: &RegState, released: bool) -> Result<(), Reason> {
        if released && value.offset != 0 {
            return Err(KfuncFault::ReleaseOffset { reg }.into());
        }
        let plain = value.flags.without(Flags::RDONLY.with(Flags::RINGBUF)) == Flags::NONE;
        if value.kind.may_be_moved() && plain && !released {
            return Ok(());
        }
        let fixed_ok = matches!(value.kind, RegType::PtrToBtfId { .. })
            && !released
            && !value
                .flags
                .any(Flags::MAYBE_NULL.with(Flags::UNTRUSTED).with(Flags::USER).with(Flags::PERCPU));
        check_unmodified(reg, value, fixed_ok)
    }
}

/// Checks that there is a structure behind a pointer, and nothing that forbids to give it away.
fn check_kind(index: usize, reg: Reg, value: &RegState) -> Result<(), Reason> {
    let safe = value.flags.without(TRUST) == Flags::NONE || value.flags.has(Flags::RCU);
    if matches!(value.kind, RegType::PtrToBtfId { .. }) && safe || stands_for_structure(value.kind) {
        return Ok(());
    }
    let kept = Flags::NONE.with(value.flags.without(NOT_TRUST));
    let expected = TypeName { base: value.kind.name(), prefix: kept.prefix(), maybe_null: false };
    Err(KfuncFault::NotKernelPointer { index, reg, found: value.type_name(), expected }.into())
}

/// Every modifier that says nothing of trust.
const NOT_TRUST: Flags = Flags::MAYBE_NULL
    .with(Flags::RDONLY)
    .with(Flags::RINGBUF)
    .with(Flags::USER)
    .with(Flags::PERCPU)
    .with(Flags::RCU)
    .with(Flags::UNTRUSTED)
    .with(Flags::PACKET_DATA);
