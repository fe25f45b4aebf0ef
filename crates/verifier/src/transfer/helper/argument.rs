//! Arguments of helpers, one by one (`check_func_arg`).

use isa::Reg;

use super::super::Step;
use super::memory::Request;
use super::{Call, MapRef};
use crate::report::reason::{Access, CallFault, Reason};
use crate::rules::helpers::{Arg, ArgFlags, ArgKind, Traits, id};
use crate::rules::maps;
use crate::state::reg::{RegState, RegType};
use crate::state::stack::{SLOT, SlotByte};

impl Step<'_> {
    /// Checks the argument with this index, and remembers what later ones and the result need of it.
    pub(super) fn check_argument(&mut self, call: &mut Call, index: usize) -> Result<(), Reason> {
        let (Some(&reg), Some(&arg)) = (Reg::ARGS.get(index), call.helper.args.get(index)) else {
            return Ok(());
        };
        let value = self.read(reg)?;
        if arg.kind == ArgKind::Anything {
            self.passes_unchecked(&value);
            return Ok(());
        }
        if value.kind.is_packet() {
            self.packet_for_helper(call.helper.is(Traits::READS_PACKET))?;
        }
        let arg = self.resolve(call, arg)?;
        if arg.has(ArgFlags::OR_NULL) && value.is_null() {
            self.depend_on(&value);
        } else {
            self.check_type(call, reg, arg, &value)?;
            self.check_offset(reg, arg, &value)?;
        }
        if arg.has(ArgFlags::RELEASE) {
            self.check_released(reg, arg, &value)?;
            call.release = Some(reg);
        }
        if value.ref_id != 0 && arg.kind != ArgKind::KptrDest {
            if call.ref_id != 0 {
                let (first, second) = (call.ref_id, value.ref_id);
                return Err(CallFault::TwoReferences { reg, second, first }.into());
            }
            call.ref_id = value.ref_id;
        }
        self.check_content(call, index, reg, arg, &value)
    }

    /// Maps of sockets, and Bloom filters, give the value argument another meaning (`resolve_map_arg_type`).
    fn resolve(&self, call: &Call, arg: Arg) -> Result<Arg, Reason> {
        if arg.kind != ArgKind::MapValue {
            return Ok(arg);
        }
        let map = call.map.and_then(|m| self.plan.map(m.index));
        let Some(map) = map else { return Err(Reason::Internal { what: "value without a map" }) };
        if maps::is_socket_map(map.map_type) {
            if arg.flags == ArgFlags::NONE {
                return Ok(Arg { kind: ArgKind::BtfSockCommon, ..arg });
            }
            return Err(CallFault::SocketMapValue.into());
        }
        let filter = map.map_type == bpf_object::MapType::BloomFilter;
        if filter && call.helper.number == id::MAP_PEEK_ELEM {
            return Ok(Arg { flags: ArgFlags::NONE, ..arg });
        }
        Ok(arg)
    }

    fn check_released(&mut self, reg: Reg, arg: Arg, value: &RegState) -> Result<(), Reason> {
        if matches!(arg.kind, ArgKind::Dynptr(_)) {
            return self.check_released_dynptr(reg);
        }
        if value.ref_id == 0 && !value.is_null() {
            return Err(crate::report::reason::ObjectFault::ReleaseUnowned { reg }.into());
        }
        Ok(())
    }

    fn check_content(
        &mut self,
        call: &mut Call,
        index: usize,
        reg: Reg,
        arg: Arg,
        value: &RegState,
    ) -> Result<(), Reason> {
        let access = if arg.has(ArgFlags::WRITE) { Access::Write } else { Access::Read };
        let raw = arg.has(ArgFlags::UNINIT);
        match arg.kind {
            ArgKind::ConstMap => self.check_map(call, value),
            ArgKind::MapKey => {
                let size = self.call_map(call)?.key_size;
                let request = Request { reg, size: u64::from(size), access, zero_ok: false };
                self.check_helper_memory(value, request, None)?;
                self.find_constant_key(call, value, size);
                Ok(())
            }
            ArgKind::MapValue => {
                if arg.has(ArgFlags::OR_NULL) && value.is_null() {
                    return Ok(());
                }
                let size = u64::from(self.call_map(call)?.value_size);
                let request = Request { reg, size, access, zero_ok: false };
                self.check_helper_memory(value, request, raw.then_some(call))
            }
            ArgKind::Mem => {
                // The size that follows decides.
                call.raw_mode = raw;
                Ok(())
            }
            ArgKind::FixedMem(size) => {
                let request = Request { reg, size: u64::from(size), access, zero_ok: false };
                self.check_helper_memory(value, request, raw.then_some(call))?;
                if arg.has(ArgFlags::ALIGNED) { self.check_aligned(reg, value, 0, size) } else { Ok(()) }
            }
            ArgKind::Size | ArgKind::SizeOrZero => {
                let before = index.checked_sub(1);
                let pointer = before.and_then(|i| Reg::ARGS.get(i)).copied().unwrap_or(Reg::R1);
                let written =
                    before.and_then(|i| call.helper.args.get(i)).is_some_and(|a| a.has(ArgFlags::WRITE));
                let access = if written { Access::Write } else { Access::Read };
                call.size_max = value.scalar.wide.umax;
                let zero_ok = arg.kind == ArgKind::SizeOrZero;
                let raw = call.raw_mode.then_some(call);
                self.check_size_of(pointer, reg, zero_ok, access, raw)
            }
            ArgKind::AllocSize => {
                let Some(size) = value.scalar.as_constant() else {
                    return Err(CallFault::SizeNotConstant { reg }.into());
                };
                call.memory_size = size;
                self.depend_on(value);
                Ok(())
            }
            ArgKind::PercpuBtfId => {
                if let RegType::PtrToBtfId { of, ty } = value.kind {
                    call.percpu = Some((of, ty, value.flags));
                }
                Ok(())
            }
            ArgKind::Func => {
                if let RegType::PtrToFunc { subprog } = value.kind {
                    call.subprog = Some(subprog);
                }
                Ok(())
            }
            ArgKind::ConstString => self.check_const_string(reg, value),
            ArgKind::SpinLock => self.check_lock(call, reg),
            ArgKind::Timer => self.check_timer(call, reg, value),
            ArgKind::KptrDest => self.check_kptr_field(call, reg, value),
            ArgKind::Dynptr(kind) => self.check_dynptr(reg, arg, kind),
            ArgKind::Anything
            | ArgKind::Ctx
            | ArgKind::SockCommon
            | ArgKind::Socket
            | ArgKind::BtfSockCommon
            | ArgKind::BtfId(_)
            | ArgKind::RingbufMem
            | ArgKind::Stack
            | ArgKind::Kptr => Ok(()),
        }
    }

    /// A map; the second of a call must be the one the first argument is a value of.
    fn check_map(&mut self, call: &mut Call, value: &RegState) -> Result<(), Reason> {
        let RegType::ConstPtrToMap { map: index } = value.kind else {
            return Err(Reason::Internal { what: "a map that is none" });
        };
        let map = MapRef { index, uid: value.map_uid };
        if let Some(before) = call.map
            && before != map
        {
            return Err(CallFault::TimerMap { timer: before.uid, map: map.uid }.into());
        }
        call.map = Some(map);
        let own = (index as usize) < self.plan.program.maps.len();
        self.facts.called_with(self.at, own.then_some(index));
        Ok(())
    }

    /// The map that was given before.
    fn call_map(&self, call: &Call) -> Result<&bpf_object::MapSpec, Reason> {
        let map = call.map.and_then(|m| self.plan.map(m.index));
        map.ok_or(Reason::Internal { what: "key or value without a map" })
    }

    /// Remembers a constant key of a map that has a value for every key (`get_constant_map_key`).
    fn find_constant_key(&mut self, call: &mut Call, value: &RegState, size: u32) {
        let dense = call.map.and_then(|m| self.plan.map(m.index));
        if !dense.and_then(|m| maps::find(m.map_type)).is_some_and(|m| m.dense) {
            return;
        }
        let RegType::PtrToStack { frame } = value.kind else { return };
        let Some(known) = value.scalar.as_constant() else { return };
        let start = i64::from(value.offset).saturating_add(known.cast_signed());
        let Some(stack) = self.state.frame_at(frame).map(|f| &f.stack) else { return };
        // Bytes of the slot from the key on that are alike.
        let rest = i64::from(SLOT) - start.rem_euclid(i64::from(SLOT));
        let alike = |byte| (start..start + rest).take_while(|at| stack.byte(*at) == byte).count();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if alike(SlotByte::Zero) >= size {
            call.key = Some(0);
            return;
        }
        let spill = stack.at(start).spill;
        if alike(SlotByte::Spill) != size || !spill.is_scalar() {
            return;
        }
        if let Some(key) = spill.scalar.as_constant() {
            self.depend_on(&spill);
            call.key = Some(key);
        }
    }
}
