//! Packets: pointers into them, and comparisons that prove how long they are.
//!
//! A pointer to a packet knows how many bytes behind its base are there: none at first, more once it (or a pointer with
//! the same base) was compared with the packet's end. Metadata lies in front of the packet and is compared with its
//! beginning.

use isa::{Cond, Reg};

use super::Step;
use super::jump::Comparison;
use crate::limits::MAX_PACKET_OFFSET;
use crate::report::reason::{Access, ContextFault, Reason};
use crate::rules::programs::Packet;
use crate::state::State;
use crate::state::reg::{RegState, RegType};

/// [`RegState::range`] of a pointer that is at the packet's end or behind it.
const AT_END: i32 = -1;
/// [`RegState::range`] of a pointer that is behind the packet's end.
const BEHIND_END: i32 = -2;

impl Step<'_> {
    /// Checks `size` bytes at `offset` from the pointer.
    pub(super) fn check_packet(
        &mut self,
        reg: Reg,
        pointer: &RegState,
        offset: i64,
        size: u64,
        zero_ok: bool,
    ) -> Result<(), Reason> {
        if pointer.scalar.wide.smin < 0 {
            return Err(ContextFault::NegativeIndex { reg }.into());
        }
        let offset = offset + i64::from(pointer.offset);
        let range = pointer.range;
        let end = offset.checked_add_unsigned(size);
        let inside = offset >= 0 && (size > 0 || zero_ok) && end.is_some_and(|end| end <= i64::from(range));
        if range >= 0 && inside {
            return Ok(());
        }
        let (id, size) = (pointer.id, u32::try_from(size).unwrap_or(u32::MAX));
        Err(ContextFault::PacketBounds { reg, id, offset, size, range }.into())
    }

    /// Checks an access by an instruction.
    pub(super) fn access_packet(
        &mut self,
        reg: Reg,
        pointer: &RegState,
        offset: i64,
        size: u64,
        access: Access,
    ) -> Result<(), Reason> {
        let writable = matches!(self.plan.rules.packet, Packet::Write | Packet::Memory);
        if access == Access::Write && !writable {
            return Err(ContextFault::PacketWrite.into());
        }
        self.check_packet(reg, pointer, offset, size, false)
    }

    /// Whether a helper may be given a pointer to a packet; `takes` says whether it is made for packets.
    pub(super) fn packet_for_helper(&self, takes: bool) -> Result<(), Reason> {
        let allowed = match self.plan.rules.packet {
            Packet::None => false,
            Packet::Read | Packet::Write => takes,
            Packet::Memory => true,
        };
        if allowed { Ok(()) } else { Err(ContextFault::PacketForHelper.into()) }
    }
}

/// Which side a comparison of a pointer with the packet's end takes, if that is known.
pub(super) fn predict(cond: Cond, a: &RegState, b: &RegState) -> Option<bool> {
    let (pointer, cond) = match (a.kind, b.kind) {
        (_, RegType::PtrToPacketEnd) => (a, cond),
        (RegType::PtrToPacketEnd, _) => (b, flipped(cond)?),
        _ => return None,
    };
    match (cond, pointer.range) {
        (Cond::Gt, BEHIND_END) | (Cond::Ge, AT_END | BEHIND_END) => Some(true),
        (Cond::Le, BEHIND_END) | (Cond::Lt, AT_END | BEHIND_END) => Some(false),
        _ => None,
    }
}

/// Learns from the comparison having come out as `holds`. `false` if it is none with the end of a packet or of its
/// metadata.
pub(super) fn learn(state: &mut State, compared: &Comparison, holds: bool) -> bool {
    let Comparison { cond, dst, a, src: Some(src), b, .. } = compared else { return false };
    // As if the pointer stood left and its end right.
    let (reg, pointer, cond) = if is_pair(a, b) {
        (*dst, a, *cond)
    } else if is_pair(b, a) {
        let Some(cond) = flipped(*cond) else { return false };
        (*src, b, cond)
    } else {
        return false;
    };
    match (cond, holds) {
        (Cond::Gt, false) | (Cond::Le, true) => extend(state, pointer, false),
        (Cond::Ge, false) | (Cond::Lt, true) => extend(state, pointer, true),
        (Cond::Gt, true) | (Cond::Le, false) => mark_end(state, reg, BEHIND_END),
        (Cond::Ge, true) | (Cond::Lt, false) => mark_end(state, reg, AT_END),
        _ => return false,
    }
    true
}

/// A pointer into a packet and the packet's end, or one into metadata and the packet's beginning.
fn is_pair(pointer: &RegState, end: &RegState) -> bool {
    match pointer.kind {
        RegType::PtrToPacket => end.kind == RegType::PtrToPacketEnd,
        RegType::PtrToPacketMeta => {
            end.kind == RegType::PtrToPacket && end.id == 0 && end.offset == 0 && end.scalar.is_zero()
        }
        _ => false,
    }
}

fn flipped(cond: Cond) -> Option<Cond> {
    match cond {
        Cond::Gt => Some(Cond::Lt),
        Cond::Lt => Some(Cond::Gt),
        Cond::Ge => Some(Cond::Le),
        Cond::Le => Some(Cond::Ge),
        _ => None,
    }
}

/// The pointer is not behind the end, or, with `open`, before it: what lies in front of it is there, for every pointer with
/// the same base.
fn extend(state: &mut State, pointer: &RegState, open: bool) {
    if pointer.offset < 0 || (pointer.offset == 0 && open) {
        return;
    }
    let highest = pointer.scalar.wide.umax.checked_add(u64::from(pointer.offset.unsigned_abs()));
    if highest.is_none_or(|h| h > MAX_PACKET_OFFSET) || pointer.scalar.wide.umax > MAX_PACKET_OFFSET {
        // The sum could wrap around.
        return;
    }
    let range = pointer.offset.saturating_add(i32::from(open));
    let (kind, id) = (pointer.kind, pointer.id);
    state.update_all(|r| r.kind == kind && r.id == id, |r| r.range = r.range.max(range));
}

/// The pointer is at the end or behind it; metadata is not followed so far.
fn mark_end(state: &mut State, reg: Reg, range: i32) {
    let known = *state.reg(reg);
    if known.kind == RegType::PtrToPacket {
        state.set_reg(reg, RegState { range, ..known });
    }
}
