//! Calls of helpers: where they may be made, every argument against the table, then what the helper leaves behind
//! (`check_helper_call`).

mod argument;
mod format;
mod memory;
mod objects;
mod result;
mod structure;
mod types;

use bpf_object::{MapType, ProgType, TypeId};
use isa::Reg;

use super::Step;
use super::objects::LockKind;
use super::stack::Span;
use crate::plan::fields::Field;
use crate::report::reason::{CallFault, Reason};
use crate::rules::helpers::callers::attach;
use crate::rules::helpers::{self, Allowed, ArgKind, Effect, Helper, Traits, attach_type, id};
use crate::rules::maps;
use crate::state::reg::{BtfOwner, Flags, RegType};
use crate::walk::explore::Stop;

/// A map given to a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MapRef {
    index: u32,
    /// Which lookup of an outer map gave it.
    uid: u32,
}

/// What the arguments of one call have in common (`struct bpf_call_arg_meta`).
#[derive(Clone, Copy, Debug)]
struct Call {
    helper: &'static Helper,
    map: Option<MapRef>,
    subprog: Option<u32>,
    /// The one reference (not 0) among the arguments.
    ref_id: u32,
    /// The argument that is given up.
    release: Option<Reg>,
    /// The memory argument checked last is not read.
    raw_mode: bool,
    /// Stack that the helper writes whole: frame and bytes.
    raw: Option<(u8, Span)>,
    /// Highest value of the size argument checked last.
    size_max: u64,
    /// Size of the memory that is returned.
    memory_size: u64,
    /// A constant key of a map that has a value for every key.
    key: Option<u64>,
    /// What the per-CPU pointer points to.
    percpu: Option<(BtfOwner, TypeId, Flags)>,
    /// The dynptr that memory is taken from.
    dynptr_id: u32,
    /// What the kptr field holds.
    kptr: Option<Field>,
    /// Pointers into the packet are lost.
    changes_packet: bool,
}

impl Call {
    fn new(helper: &'static Helper) -> Self {
        Self {
            helper,
            map: None,
            subprog: None,
            ref_id: 0,
            release: None,
            raw_mode: false,
            raw: None,
            size_max: 0,
            memory_size: 0,
            key: None,
            percpu: None,
            dynptr_id: 0,
            kptr: None,
            changes_packet: helper.is(Traits::CHANGES_PACKET),
        }
    }
}

impl Step<'_> {
    pub(super) fn call_helper(&mut self, number: u32) -> Result<(), Stop> {
        if self.state.held.is_locked() && number != id::SPIN_UNLOCK {
            let (what, region) = ("function calls", "while holding a lock");
            return Err(Reason::NotAllowedHere { what, region }.into());
        }
        let kind = &self.plan.program.kind;
        let Some(helper) = helpers::find_for(kind, number) else {
            return Err(CallFault::NoSuchHelper { number: number.cast_signed() }.into());
        };
        let forbidden = self.plan.hook.as_ref().is_some_and(|hook| hook.forbids(number));
        if forbidden || !helpers::may_call(kind, number) {
            return Err(CallFault::NotForProgram { name: helper.name(), number }.into());
        }
        self.check_helper_here(helper)?;
        let mut call = Call::new(helper);
        for index in 0..helper.args.len() {
            self.check_argument(&mut call, index)?;
        }
        self.check_map_writable(&call)?;
        self.check_tail_call(&call)?;
        if let Some((frame, span)) = call.raw {
            self.stack_clobber(frame, span)?;
        }
        self.release_argument(&call)?;
        self.take_effect(&mut call)?;
        self.clobber_arguments();
        self.return_result(&call)?;
        self.check_map_compatible(&call)?;
        if number == id::GET_FUNC_IP {
            self.check_function_address()?;
        }
        // A tail call that returns has changed nothing.
        if call.changes_packet && helper.effect != Effect::TailCall {
            self.lose_packet();
        }
        Ok(())
    }

    /// Whether the program may call it, and here.
    fn check_helper_here(&self, helper: &'static Helper) -> Result<(), Reason> {
        let (function, number) = (helper.name(), helper.number);
        if helper.is(Traits::GPL) && !self.plan.is_gpl() {
            return Err(CallFault::NotGpl { function }.into());
        }
        if !self.is_allowed(helper.allowed) {
            return Err(CallFault::NotInProbe { function }.into());
        }
        if !helper.is(Traits::SLEEPS) {
            return Ok(());
        }
        if !self.may_sleep() {
            return Err(CallFault::MightSleep { function }.into());
        }
        let held = &self.state.held;
        let region = if held.rcu > 0 {
            "rcu_read_lock region"
        } else if held.preempt_off > 0 {
            "non-preemptible region"
        } else if held.active_irq().is_some() {
            "IRQ-disabled region"
        } else {
            return Ok(());
        };
        Err(CallFault::SleepsHere { function, number, region }.into())
    }

    fn is_allowed(&self, allowed: Allowed) -> bool {
        /// Hooks that tracing programs may ask for a path in (`btf_allowlist_d_path`).
        const WITH_PATH: [&str; 9] = [
            "security_file_permission",
            "security_inode_getattr",
            "security_file_open",
            "security_path_truncate",
            "vfs_truncate",
            "vfs_fallocate",
            "dentry_open",
            "vfs_getattr",
            "filp_close",
        ];
        let kind = &self.plan.program.kind;
        let attach = attach_type(kind);
        let target = kind.target.as_deref().unwrap_or("");
        let hook_may_sleep = kind.prog_type == Some(ProgType::Lsm) && kind.sleepable;
        match allowed {
            Allowed::All => true,
            Allowed::SleepableHook => hook_may_sleep,
            Allowed::DPath => match kind.prog_type {
                Some(ProgType::Tracing) if attach == attach::TRACE_ITER => true,
                Some(ProgType::Lsm) => hook_may_sleep,
                _ => WITH_PATH.contains(&target),
            },
            Allowed::SocketStorage => match attach {
                attach::TRACE_ITER | attach::TRACE_RAW_TP => true,
                attach::TRACE_FENTRY | attach::TRACE_FEXIT => !target.starts_with("bpf_sk_storage"),
                _ => false,
            },
        }
    }

    /// Programs may not change maps that are read-only for them (`record_func_map`).
    fn check_map_writable(&self, call: &Call) -> Result<(), Reason> {
        let writes = matches!(
            call.helper.number,
            id::MAP_UPDATE_ELEM | id::MAP_DELETE_ELEM | id::MAP_PUSH_ELEM | id::MAP_POP_ELEM
        );
        let map = call.map.and_then(|m| self.plan.map(m.index));
        if writes && map.is_some_and(maps::is_read_only) {
            return Err(CallFault::MapReadOnly { function: call.helper.name() }.into());
        }
        Ok(())
    }

    /// A tail call by a constant key is made a direct jump, which depends on the key (`record_func_key`).
    fn check_tail_call(&mut self, call: &Call) -> Result<(), Reason> {
        if call.helper.effect != Effect::TailCall {
            return Ok(());
        }
        let map = call.map.and_then(|m| self.plan.map(m.index));
        let Some(map) = map.filter(|m| m.map_type == MapType::ProgArray) else {
            return Err(CallFault::NotProgArray.into());
        };
        let entries = map.max_entries;
        let key = *self.state.reg(Reg::R3);
        if key.is_scalar() && key.scalar.as_constant().is_some_and(|k| k < u64::from(entries)) {
            self.depend_on(&key);
        }
        Ok(())
    }

    fn release_argument(&mut self, call: &Call) -> Result<(), Reason> {
        let Some(reg) = call.release else { return Ok(()) };
        let value = *self.state.reg(reg);
        let dynptr = call.helper.args.iter().any(|a| matches!(a.kind, ArgKind::Dynptr(_)));
        let released = if dynptr {
            self.release_dynptr(reg)?;
            true
        } else if call.ref_id == 0 {
            value.is_null()
        } else if call.helper.number == id::KPTR_XCHG {
            self.release_into_kptr(call.ref_id)
        } else {
            self.state.release(call.ref_id)
        };
        if released {
            return Ok(());
        }
        let (function, number) = (call.helper.name().to_owned(), call.helper.number);
        Err(crate::report::reason::ObjectFault::NotAcquired { function, number }.into())
    }

    fn take_effect(&mut self, call: &mut Call) -> Result<(), Stop> {
        match call.helper.effect {
            // Locks are taken where their argument is checked.
            Effect::None | Effect::Lock | Effect::Unlock | Effect::Percpu | Effect::FunctionAddress => {}
            Effect::TailCall => self.check_leaks("tail_call", false)?,
            Effect::Loop => {
                // How often it calls back decides when it stops.
                let (count, flags) = (self.read(Reg::R1)?, self.read(Reg::R4)?);
                if flags.is_null() {
                    // Calls without flags can be inlined.
                    self.depend_on(&flags);
                }
                self.depend_on(&count);
                let depth = self.state.frame().map_or(0, |f| f.callback_depth);
                if depth < count.scalar.wide.umax {
                    self.start_callback(call)?;
                } else if let Some(frame) = self.state.frame_mut() {
                    frame.callback_depth = 0;
                }
            }
            Effect::ForEachElement => {
                let map = call.map.and_then(|m| self.plan.map(m.index)).map(|m| m.map_type);
                if !map.and_then(maps::find).is_some_and(|m| m.callback) {
                    return Err(CallFault::NoCallbackForMap.into());
                }
                self.start_callback(call)?;
            }
            Effect::TimerCallback | Effect::FindVma | Effect::DrainRingbuf => self.start_callback(call)?,
            Effect::NoFlags => {
                let flags = self.read(Reg::R2)?;
                if !flags.is_null() {
                    return Err(CallFault::StorageFlags.into());
                }
                self.depend_on(&flags);
            }
            Effect::Format => self.check_format()?,
            Effect::DynptrFromMem => self.check_dynptr_memory(Reg::R1)?,
            Effect::DynptrData => self.dynptr_data(call)?,
            Effect::DynptrWrite => self.dynptr_write(call)?,
            Effect::SetRetval => self.check_set_retval()?,
        }
        Ok(())
    }

    fn start_callback(&mut self, call: &Call) -> Result<(), Reason> {
        let (Some(subprog), Some(callback)) = (call.subprog, call.helper.callback()) else {
            return Err(Reason::Internal { what: "no callback" });
        };
        self.call_back(subprog, callback)
    }

    /// The lock argument is the whole of what locking does.
    fn check_lock(&mut self, call: &Call, reg: Reg) -> Result<(), Reason> {
        if call.helper.effect == Effect::Lock {
            self.spin_lock(reg, LockKind::Spin)
        } else {
            self.spin_unlock(reg, LockKind::Spin)
        }
    }

    /// Whether the helper takes this type of map and the map this helper.
    fn check_map_compatible(&self, call: &Call) -> Result<(), Reason> {
        let Some(map) = call.map.and_then(|m| self.plan.map(m.index)) else { return Ok(()) };
        if maps::compatible(&self.plan.program.kind, map.map_type, call.helper.number) {
            return Ok(());
        }
        let (function, number) = (call.helper.name(), call.helper.number);
        Err(CallFault::MapForFunction { map_type: map.map_type as u32, function, number }.into())
    }

    /// `bpf_get_func_ip` (`check_get_func_ip`).
    fn check_function_address(&self) -> Result<(), Reason> {
        let kind = &self.plan.program.kind;
        let (function, number) = ("bpf_get_func_ip", id::GET_FUNC_IP);
        match kind.prog_type {
            Some(ProgType::Kprobe) => Ok(()),
            Some(ProgType::Tracing) if attach::TRAMPOLINES.contains(&attach_type(kind)) => Ok(()),
            Some(ProgType::Tracing) => Err(CallFault::OnlyTrampolines { function, number }.into()),
            prog_type => {
                let prog_type = prog_type.map_or(0, |t| t as u32);
                Err(CallFault::NotSupported { function, number, prog_type }.into())
            }
        }
    }

    /// Hooks without a result have none to replace.
    fn check_set_retval(&self) -> Result<(), Reason> {
        let kind = &self.plan.program.kind;
        let lsm = kind.prog_type == Some(ProgType::Lsm) && attach_type(kind) == attach::LSM_CGROUP;
        if lsm && self.hook_returns_nothing() {
            return Err(CallFault::VoidHook.into());
        }
        Ok(())
    }

    /// The packet may have moved: what pointed into it points nowhere (`clear_all_pkt_pointers`).
    pub(in crate::transfer) fn lose_packet(&mut self) {
        self.state.invalidate(|r| {
            r.kind.is_packet() || r.kind == RegType::PtrToPacketEnd || r.flags.has(Flags::PACKET_DATA)
        });
    }
}
