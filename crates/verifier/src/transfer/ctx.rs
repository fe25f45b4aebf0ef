//! The context: which fields of it may be accessed, and what they give.

use bpf_object::KindTag;
use isa::{Reg, Size};

use super::Step;
use super::mem::Place;
use crate::domain::scalar::Scalar;
use crate::plan::hook::Argument;
use crate::report::reason::{Access, ContextFault, Reason, Unsupported};
use crate::rules::programs::{Ctx, Gives, Query};
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

impl Step<'_> {
    /// Checks an access by an instruction; gives what a load of it gives.
    pub(super) fn check_ctx(&mut self, place: Place, pointer: &RegState) -> Result<Gives, Reason> {
        check_unmodified(place.reg, pointer, false)?;
        let query = Query {
            offset: i64::from(place.offset),
            size: u64::from(place.size.bytes()),
            write: place.access == Access::Write,
            sign_extend: place.sign_extend,
            attach: self.plan.attach,
        };
        self.find_field(&query)
    }

    /// Checks `size` bytes of context that a function is given as memory. Where the kernel translates accesses there is no
    /// such memory; elsewhere the last byte decides.
    pub(super) fn check_ctx_memory(
        &mut self,
        reg: Reg,
        pointer: &RegState,
        size: u64,
        access: Access,
    ) -> Result<(), Reason> {
        if self.plan.rules.converts {
            return Err(Reason::ArgumentType { reg, found: pointer.type_name(), expected: "fp" });
        }
        let Some(last) = size.checked_sub(1) else { return Ok(()) };
        check_unmodified(reg, pointer, false)?;
        let query = Query {
            offset: i64::try_from(last).unwrap_or(i64::MAX),
            size: 1,
            write: access == Access::Write,
            sign_extend: false,
            attach: self.plan.attach,
        };
        self.find_field(&query).map(|_| ())
    }

    fn find_field(&mut self, query: &Query) -> Result<Gives, Reason> {
        let layout = match self.plan.rules.ctx {
            Ctx::Fields(layout) => layout,
            Ctx::Function => return self.find_argument(query),
            Ctx::Target => return Err(Unsupported::Feature { what: "replacing another program" }.into()),
        };
        let Query { offset, size, .. } = *query;
        let refused = Reason::CtxAccess { offset, size: u32::try_from(size).unwrap_or(u32::MAX) };
        let Some(gives) = layout.find(query) else { return Err(refused) };
        let end = u32::try_from(offset.saturating_add_unsigned(size)).unwrap_or(u32::MAX);
        let bound = self.plan.env.max_ctx_bytes;
        if bound != 0 && end > bound {
            return Err(refused);
        }
        self.facts.ctx_bytes = self.facts.ctx_bytes.max(end);
        Ok(gives)
    }

    /// The argument of the hook that lies there. They are only read.
    fn find_argument(&mut self, query: &Query) -> Result<Gives, Reason> {
        let (Some(hook), Some(kernel)) = (&self.plan.hook, self.plan.kernel()) else {
            return Err(Unsupported::Feature { what: "context described by BTF" }.into());
        };
        let Query { offset, size, write, .. } = *query;
        let found = hook.argument(kernel, offset, size).filter(|_| !write);
        let end = u32::try_from(offset.saturating_add_unsigned(size)).unwrap_or(u32::MAX);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let gives = found.map(Gives::Argument).ok_or(Reason::CtxAccess { offset, size })?;
        self.facts.ctx_bytes = self.facts.ctx_bytes.max(end);
        Ok(gives)
    }

    /// What a load of a field leaves in a register, before truncation or extension.
    pub(super) fn field_value(&mut self, gives: Gives, place: Place) -> Result<RegState, Reason> {
        let kind = match gives {
            Gives::Number => return Ok(self.number(Scalar::of_size(place.size), &[])),
            Gives::Packet => RegType::PtrToPacket,
            Gives::PacketMeta => RegType::PtrToPacketMeta,
            Gives::PacketEnd => RegType::PtrToPacketEnd,
            Gives::Socket | Gives::SocketOrNull => RegType::PtrToSocket,
            Gives::SockCommonOrNull => RegType::PtrToSockCommon,
            Gives::FlowKeys => RegType::PtrToFlowKeys,
            Gives::TpBuffer => RegType::PtrToTpBuffer,
            Gives::Argument(Argument::Number) => return Ok(self.unknown(&[])),
            Gives::Argument(Argument::HookResult) => {
                const MAX_ERRNO: i64 = 4095;
                return Ok(self.number(Scalar::signed(-MAX_ERRNO, 0), &[]));
            }
            Gives::Argument(Argument::Pointer(kind, flags)) => {
                let mut value = self.pointer(kind).with(flags);
                if flags.has(Flags::MAYBE_NULL) {
                    value.id = self.fresh_id();
                }
                return Ok(value);
            }
            Gives::Kernel(name) => {
                let kernel = self.plan.env.kernel.as_deref();
                let ty = kernel.and_then(|btf| btf.find(name, KindTag::Struct));
                let Some(ty) = ty else {
                    return Err(
                        Unsupported::Feature { what: "a pointer into the kernel, without its BTF" }.into()
                    );
                };
                let kind = RegType::PtrToBtfId { of: BtfOwner::Kernel, ty };
                return Ok(self.pointer(kind).with(Flags::TRUSTED));
            }
        };
        let of_packet = matches!(gives, Gives::Packet | Gives::PacketMeta | Gives::PacketEnd);
        if of_packet && place.size == Size::W {
            self.facts.context_pointer(self.at);
        }
        let mut value = self.pointer(kind);
        if matches!(gives, Gives::SocketOrNull | Gives::SockCommonOrNull) {
            value = value.with(Flags::MAYBE_NULL);
            value.id = self.fresh_id();
        }
        Ok(value)
    }
}

/// A pointer that may be used only as it was given out, up to a constant offset if `fixed_ok` (`__check_ptr_off_reg`).
pub(super) fn check_unmodified(reg: Reg, pointer: &RegState, fixed_ok: bool) -> Result<(), Reason> {
    let found = pointer.type_name();
    let offset = i64::from(pointer.offset);
    if offset < 0 {
        return Err(ContextFault::NegativeOffset { reg, found, offset }.into());
    }
    if offset != 0 && !fixed_ok {
        return Err(Reason::ModifiedPointer { reg, found, offset });
    }
    if !pointer.scalar.is_zero() {
        return Err(ContextFault::VariableOffset { reg, found, bits: pointer.scalar.bits.into() }.into());
    }
    Ok(())
}
