//! Memory given to functions, with a size known before or in the next register (`check_helper_mem_access`).

use isa::Reg;

use super::super::Step;
use super::super::region::Region;
use super::Call;
use crate::limits::MAX_SIZE_ARG;
use crate::report::reason::{Access, BoundsFault, CallFault, Reason};
use crate::state::reg::{Flags, RegState, RegType};
use crate::state::stack::SlotByte;

/// What a function does with memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) reg: Reg,
    pub(super) size: u64,
    pub(super) access: Access,
    /// Whether it may be nothing.
    pub(super) zero_ok: bool,
}

impl Step<'_> {
    /// Checks a size argument and the memory it belongs to.
    pub(in crate::transfer) fn check_size(
        &mut self,
        pointer: Reg,
        reg: Reg,
        zero_ok: bool,
        access: Access,
    ) -> Result<(), Reason> {
        self.check_size_of(pointer, reg, zero_ok, access, None)
    }

    /// The same; stack that is only written, and all of it, is left to `raw`.
    pub(super) fn check_size_of(
        &mut self,
        pointer: Reg,
        reg: Reg,
        zero_ok: bool,
        access: Access,
        raw: Option<&mut Call>,
    ) -> Result<(), Reason> {
        let size = self.read(reg)?;
        if !size.is_scalar() {
            return Err(Reason::ArgumentType { reg, found: size.type_name(), expected: "scalar" });
        }
        let wide = &size.scalar.wide;
        let (min, max) = (wide.umin, wide.umax);
        if wide.smin < 0 {
            return Err(Reason::NegativeSize { reg });
        }
        if min == 0 && !zero_ok {
            return Err(Reason::ZeroSize { reg, min, max });
        }
        if max >= MAX_SIZE_ARG {
            return Err(Reason::UnboundedSize { reg });
        }
        // Of a size that varies, the function may write less.
        let raw = raw.filter(|_| size.scalar.as_constant().is_some());
        let memory = self.read(pointer)?;
        let request = Request { reg: pointer, size: max, access, zero_ok };
        self.check_helper_memory(&memory, request, raw)?;
        self.depend_on(&size);
        Ok(())
    }

    /// Checks that `size` bytes may be read, or are written, through a pointer given to a function.
    pub(in crate::transfer) fn check_memory(
        &mut self,
        reg: Reg,
        pointer: &RegState,
        size: u64,
        access: Access,
    ) -> Result<(), Reason> {
        self.check_helper_memory(pointer, Request { reg, size, access, zero_ok: true }, None)
    }

    pub(super) fn check_helper_memory(
        &mut self,
        pointer: &RegState,
        request: Request,
        raw: Option<&mut Call>,
    ) -> Result<(), Reason> {
        let Request { reg, size, access, zero_ok } = request;
        let found = pointer.type_name();
        match pointer.kind {
            RegType::PtrToStack { frame } => self.check_stack_memory(frame, pointer, request, raw),
            RegType::PtrToMapKey { .. } if access == Access::Write => Err(Reason::ReadOnly { reg, found }),
            RegType::PtrToMapKey { map } => {
                let region = Region { size: self.plan.map(map).map_or(0, |m| m.key_size) };
                region.check(reg, pointer, 0, size)
            }
            RegType::PtrToMem { .. } | RegType::PtrToBuf
                if access == Access::Write && pointer.flags.has(Flags::RDONLY) =>
            {
                Err(Reason::ReadOnly { reg, found })
            }
            RegType::PtrToPacket | RegType::PtrToPacketMeta => {
                self.check_packet(reg, pointer, 0, size, zero_ok)
            }
            RegType::PtrToMapValue { .. } | RegType::PtrToMem { .. } | RegType::PtrToBuf => {
                // Whether it may be NULL is asked of the argument, not of the access.
                let pointer = pointer.without(Flags::MAYBE_NULL);
                self.check_region(reg, &pointer, 0, size, access)?;
                if size == 0 && !zero_ok {
                    let (fault, region) = (BoundsFault::Min, 0);
                    return Err(Reason::Bounds { reg, fault, found, region, offset: 0, size });
                }
                self.check_field_access(reg, &pointer, 0, size, false)
            }
            RegType::PtrToBtfId { of, ty } => self.check_structure_memory(of, ty, reg, pointer, size),
            RegType::PtrToCtx if !self.plan.rules.converts && size == 0 && !zero_ok => {
                Err(CallFault::ZeroRead { reg }.into())
            }
            RegType::PtrToCtx => self.check_ctx_memory(reg, pointer, size, access),
            _ if zero_ok && size == 0 && pointer.is_null() => Ok(()),
            _ => Err(Reason::ArgumentType { reg, found, expected: "fp" }),
        }
    }

    /// Bytes of the stack. Those that are written are anything afterwards, whatever they were.
    fn check_stack_memory(
        &mut self,
        frame: u8,
        pointer: &RegState,
        request: Request,
        raw: Option<&mut Call>,
    ) -> Result<(), Reason> {
        let Request { reg, size, access, zero_ok } = request;
        if size == 0 && !zero_ok {
            return Err(CallFault::ZeroRead { reg }.into());
        }
        let span = self.stack_bounds(frame, reg, pointer, 0, size, access)?;
        let bytes = self.state.frame_at(frame).map(|f| &f.stack);
        let never_written = self.plan.env.refuse_uninit_stack;
        let refused = |byte| is_special(byte) || byte == SlotByte::Invalid && never_written;
        let special = |at: i64| bytes.is_some_and(|s| refused(s.byte(at)));
        if let Some(call) = raw.filter(|_| span.fixed) {
            self.check_dynptr_overlap(frame, span)?;
            call.raw = Some((frame, span));
            return Ok(());
        }
        if let Some(at) = (span.start..span.end).find(|at| special(*at)) {
            let (start, byte) = (span.start, at - span.start);
            let variable = (!span.fixed).then_some(pointer.scalar.bits.into());
            return Err(CallFault::StackRead { reg, start, byte, size, variable }.into());
        }
        self.reads_stack(frame, span.start, span.end);
        if access == Access::Write {
            self.stack_clobber(frame, span)?;
        }
        Ok(())
    }
}

/// Bytes that helpers may neither read nor write.
fn is_special(byte: SlotByte) -> bool {
    !matches!(byte, SlotByte::Invalid | SlotByte::Misc | SlotByte::Zero | SlotByte::Spill)
}
