//! What a helper leaves in `R0`.

use isa::Reg;

use super::super::Step;
use super::{Call, MapRef};
use crate::domain::scalar::Scalar;
use crate::limits::CPUS;
use crate::plan::fields::{Set, Tag};
use crate::report::reason::Reason;
use crate::rules::helpers::{Ret, Traits, id};
use crate::rules::maps;
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

/// Largest error number (`MAX_ERRNO`).
const MAX_ERRNO: i64 = 4095;

impl Step<'_> {
    pub(super) fn return_result(&mut self, call: &Call) -> Result<(), Reason> {
        let mut result = match call.helper.ret {
            Ret::Void => return Ok(()),
            Ret::Integer => {
                let scalar = range(call);
                self.number(scalar, &[])
            }
            Ret::MapValue { or_null } => self.map_value(call, or_null)?,
            Ret::SocketOrNull => self.or_null(RegType::PtrToSocket),
            Ret::SockCommonOrNull => self.or_null(RegType::PtrToSockCommon),
            Ret::TcpSockOrNull => self.or_null(RegType::PtrToTcpSock),
            Ret::RingbufMemOrNull => {
                let size = u32::try_from(call.memory_size).unwrap_or(u32::MAX);
                self.or_null(RegType::PtrToMem { size }).with(Flags::RINGBUF)
            }
            Ret::DynptrMemOrNull => {
                let size = u32::try_from(call.memory_size).unwrap_or(u32::MAX);
                self.or_null(RegType::PtrToMem { size })
            }
            Ret::Percpu { or_null } => self.percpu_value(call, or_null)?,
            Ret::BtfId { name, or_null, trusted } => {
                let ty = self.kernel_structure(name)?;
                let pointer = self.pointer(RegType::PtrToBtfId { of: BtfOwner::Kernel, ty });
                let flags = if trusted { Flags::TRUSTED } else { Flags::NONE };
                pointer.with(if or_null { flags.with(Flags::MAYBE_NULL) } else { flags })
            }
            Ret::KptrOrNull => {
                let field = call.kptr.ok_or(Reason::Internal { what: "no kptr field" })?;
                self.exchanged(field)?
            }
        };
        if result.maybe_null() {
            result.id = self.fresh_id();
        }
        if call.helper.number == id::DYNPTR_DATA {
            result.dynptr_id = call.dynptr_id;
        }
        if call.helper.is(Traits::CASTS) || call.helper.number == id::DYNPTR_DATA {
            result.ref_id = call.ref_id;
        } else if self.acquires(call) {
            let reference = self.acquire();
            (result.id, result.ref_id) = (reference, reference);
        }
        self.write(Reg::R0, result)
    }

    fn or_null(&mut self, kind: RegType) -> RegState {
        self.pointer(kind).with(Flags::MAYBE_NULL)
    }

    fn acquires(&self, call: &Call) -> bool {
        let map = call.map.and_then(|m| self.plan.map(m.index));
        let socket = map.is_some_and(|m| maps::is_socket_map(m.map_type));
        call.helper.is(Traits::ACQUIRES) || (call.helper.number == id::MAP_LOOKUP_ELEM && socket)
    }

    fn map_value(&mut self, call: &Call, or_null: bool) -> Result<RegState, Reason> {
        let Some(MapRef { index: map, uid }) = call.map else {
            return Err(Reason::Internal { what: "a value without a map" });
        };
        let entries = self.plan.map(map).map_or(0, |m| m.max_entries);
        let mut value = self.pointer(RegType::PtrToMapValue { map });
        value.map_uid = uid;
        // A map that has a value for every key has one for this; of another processor it may have none.
        let key = call.key.filter(|_| call.helper.number == id::MAP_LOOKUP_ELEM);
        if or_null && key.is_none_or(|key| key >= u64::from(entries)) {
            value = value.with(Flags::MAYBE_NULL);
        } else if self
            .plan
            .record(&value)
            .is_some_and(|r| r.has(Set::of(Tag::SpinLock).with(Tag::ResSpinLock)))
        {
            value.id = self.fresh_id();
        }
        Ok(value)
    }

    /// The variable of one CPU: a structure, or plain memory.
    fn percpu_value(&mut self, call: &Call, or_null: bool) -> Result<RegState, Reason> {
        let (of, ty, flags) = call.percpu.ok_or(Reason::Internal { what: "no per-CPU pointer" })?;
        let maybe = if or_null { Flags::MAYBE_NULL } else { Flags::NONE };
        let (ty, size) = self.percpu_type(of, ty)?;
        Ok(match size {
            Some(size) => self.pointer(RegType::PtrToMem { size }).with(maybe.with(Flags::RDONLY)),
            // An object of the program's own.
            None if flags.has(Flags::RCU) => {
                self.pointer(RegType::PtrToBtfId { of, ty }).with(Flags::ALLOC.with(Flags::RCU))
            }
            None => self.pointer(RegType::PtrToBtfId { of, ty }).with(maybe),
        })
    }
}

/// What is known of a number that is returned (`do_refine_retval_range`).
fn range(call: &Call) -> Scalar {
    if call.helper.is(Traits::RETURNS_SIZE) {
        let max = i64::try_from(call.size_max).unwrap_or(i64::MAX);
        return Scalar::signed(-MAX_ERRNO, max);
    }
    if call.helper.is(Traits::RETURNS_CPU) {
        return Scalar::signed(0, i64::from(CPUS) - 1);
    }
    Scalar::UNKNOWN
}
