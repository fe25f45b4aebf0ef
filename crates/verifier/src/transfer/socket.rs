//! Structures of the kernel's network stack that programs read through a pointer: sockets and flow keys; and buffers whose
//! size is known only when the program is attached.

use isa::Reg;

use super::Step;
use super::mem::Place;
use crate::report::reason::{Access, ContextFault, Reason};
use crate::rules::programs::{Query, SOCK_COMMON, SOCKET, TCP_SOCK, XDP_SOCK};
use crate::state::reg::{Flags, RegState, RegType};

/// `sizeof(struct bpf_flow_keys)`.
const FLOW_KEYS_BYTES: i64 = 56;

impl Step<'_> {
    /// Checks an access through a pointer to a socket: reads of some fields.
    pub(super) fn access_socket(&self, place: Place, pointer: &RegState) -> Result<(), Reason> {
        let (reg, found) = (place.reg, pointer.type_name());
        if place.access == Access::Write {
            return Err(Reason::ReadOnly { reg, found });
        }
        if pointer.scalar.wide.smin < 0 {
            return Err(ContextFault::NegativeIndex { reg }.into());
        }
        let layout = match pointer.kind {
            RegType::PtrToSocket => &SOCKET,
            RegType::PtrToSockCommon => &SOCK_COMMON,
            RegType::PtrToTcpSock => &TCP_SOCK,
            RegType::PtrToXdpSock => &XDP_SOCK,
            _ => return Err(Reason::InvalidAccess { reg, found }),
        };
        let offset = i64::from(place.offset) + i64::from(pointer.offset);
        let size = u32::from(place.size.bytes());
        let query = Query { offset, size: u64::from(size), write: false, sign_extend: false, attach: None };
        match layout.find(&query) {
            Some(_) => Ok(()),
            None => Err(ContextFault::SocketAccess { reg, found, offset, size }.into()),
        }
    }

    /// Checks an access to what the flow dissector has found so far.
    pub(super) fn access_flow_keys(&self, place: Place, pointer: &RegState) -> Result<(), Reason> {
        let offset = i64::from(place.offset) + i64::from(pointer.offset);
        let size = u32::from(place.size.bytes());
        if offset >= 0 && offset + i64::from(size) <= FLOW_KEYS_BYTES {
            Ok(())
        } else {
            Err(ContextFault::FlowKeys { offset, size }.into())
        }
    }

    /// Checks `size` bytes of a buffer without a known end: the offset must be constant, so that the end the program needs is
    /// known when it is attached.
    pub(super) fn check_buffer(
        &self,
        reg: Reg,
        pointer: &RegState,
        offset: i64,
        size: u64,
        access: Access,
    ) -> Result<(), Reason> {
        let read_only = pointer.flags.has(Flags::RDONLY);
        if access == Access::Write && read_only {
            return Err(Reason::ReadOnly { reg, found: pointer.type_name() });
        }
        let what = match pointer.kind {
            RegType::PtrToTpBuffer => "tracepoint",
            _ if read_only => "rdonly",
            _ => "rdwr",
        };
        let offset = offset + i64::from(pointer.offset);
        if offset < 0 {
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            return Err(ContextFault::BufferBounds { reg, what, offset, size }.into());
        }
        if !pointer.scalar.is_zero() {
            return Err(ContextFault::BufferVariable { reg, offset, bits: pointer.scalar.bits.into() }.into());
        }
        Ok(())
    }
}
