//! Which registers an argument takes (`check_reg_type`, `check_func_arg_reg_off`).

use isa::Reg;

use super::super::Step;
use super::super::ctx::check_unmodified;
use super::Call;
use crate::report::reason::{CallFault, Reason};
use crate::rules::helpers::{Arg, ArgFlags, ArgKind, id};
use crate::state::reg::{Flags, RegState, RegType};

/// The registers one kind of argument takes.
struct Takes {
    /// As the kernel lists them.
    expected: &'static str,
    /// Whether it takes this, with what may be overlooked taken away.
    fits: fn(RegType, Flags) -> bool,
}

fn takes(kind: ArgKind) -> Option<&'static Takes> {
    Some(match kind {
        ArgKind::Anything => return None,
        ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem | ArgKind::FixedMem(_) => &MEMORY,
        ArgKind::Size | ArgKind::SizeOrZero | ArgKind::AllocSize => &NUMBER,
        ArgKind::ConstMap => &MAP,
        ArgKind::Ctx => &CTX,
        ArgKind::SockCommon => &SOCKETS,
        ArgKind::BtfSockCommon => &KERNEL_SOCKETS,
        ArgKind::Socket => &FULL_SOCKET,
        ArgKind::BtfId(_) | ArgKind::Kptr => &KERNEL,
        ArgKind::SpinLock => &LOCK,
        ArgKind::KptrDest => &KPTR_FIELD,
        ArgKind::RingbufMem => &RECORD,
        ArgKind::PercpuBtfId => &PERCPU,
        ArgKind::Func => &FUNCTION,
        ArgKind::Stack => &STACK,
        ArgKind::ConstString | ArgKind::Timer => &MAP_VALUE,
        ArgKind::Dynptr(_) => &DYNPTR,
    })
}

static MEMORY: Takes = Takes {
    expected: "fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_",
    fits: |kind, flags| match kind {
        RegType::PtrToStack { .. }
        | RegType::PtrToPacket
        | RegType::PtrToPacketMeta
        | RegType::PtrToMapKey { .. }
        | RegType::PtrToMapValue { .. }
        | RegType::PtrToBuf => flags == Flags::NONE,
        RegType::PtrToMem { .. } => flags == Flags::NONE || flags == Flags::RINGBUF,
        RegType::PtrToBtfId { .. } => flags == Flags::TRUSTED,
        _ => false,
    },
};
static NUMBER: Takes = Takes { expected: "scalar", fits: |kind, _| kind == RegType::Scalar };
static MAP: Takes = Takes {
    expected: "map_ptr",
    fits: |kind, flags| matches!(kind, RegType::ConstPtrToMap { .. }) && flags == Flags::NONE,
};
static CTX: Takes =
    Takes { expected: "ctx", fits: |kind, flags| kind == RegType::PtrToCtx && flags == Flags::NONE };
static SOCKETS: Takes = Takes {
    expected: "sock_common, sock, tcp_sock, xdp_sock",
    fits: |kind, flags| kind.is_socket() && flags == Flags::NONE,
};
static KERNEL_SOCKETS: Takes = Takes {
    expected: "sock_common, sock, tcp_sock, xdp_sock, ptr_, trusted_ptr_",
    fits: |kind, flags| match kind {
        RegType::PtrToBtfId { .. } => flags == Flags::NONE || flags == Flags::TRUSTED,
        _ => kind.is_socket() && flags == Flags::NONE,
    },
};
static FULL_SOCKET: Takes =
    Takes { expected: "sock", fits: |kind, flags| kind == RegType::PtrToSocket && flags == Flags::NONE };
static KERNEL: Takes = Takes {
    expected: "ptr_, trusted_ptr_, rcu_ptr_",
    fits: |kind, flags| {
        let trust = [Flags::NONE, Flags::TRUSTED, Flags::RCU];
        matches!(kind, RegType::PtrToBtfId { .. }) && trust.contains(&flags)
    },
};
static LOCK: Takes = Takes { expected: "map_value, ptr_", fits: is_field_place };
static KPTR_FIELD: Takes = Takes { expected: "map_value, ptr_", fits: is_field_place };
static RECORD: Takes = Takes {
    expected: "ringbuf_mem",
    fits: |kind, flags| matches!(kind, RegType::PtrToMem { .. }) && flags == Flags::RINGBUF,
};
static PERCPU: Takes = Takes {
    expected: "percpu_ptr_, percpu_rcu_ptr_, percpu_trusted_ptr_",
    fits: |kind, flags| {
        let rest = flags.without(Flags::PERCPU);
        let trust = [Flags::NONE, Flags::TRUSTED, Flags::RCU];
        matches!(kind, RegType::PtrToBtfId { .. }) && flags.has(Flags::PERCPU) && trust.contains(&rest)
    },
};
static FUNCTION: Takes =
    Takes { expected: "func", fits: |kind, _| matches!(kind, RegType::PtrToFunc { .. }) };
static STACK: Takes = Takes { expected: "fp", fits: |kind, _| matches!(kind, RegType::PtrToStack { .. }) };
static MAP_VALUE: Takes = Takes {
    expected: "map_value",
    fits: |kind, flags| matches!(kind, RegType::PtrToMapValue { .. }) && flags == Flags::NONE,
};
static DYNPTR: Takes = Takes {
    expected: "fp, dynptr_ptr",
    fits: |kind, _| matches!(kind, RegType::PtrToStack { .. } | RegType::ConstPtrToDynptr),
};

/// A map's value or an object of the program's own.
fn is_field_place(kind: RegType, flags: Flags) -> bool {
    match kind {
        RegType::PtrToMapValue { .. } => flags == Flags::NONE,
        RegType::PtrToBtfId { .. } => flags == Flags::ALLOC,
        _ => false,
    }
}

impl Step<'_> {
    /// Checks the register's type, and for structures of the kernel which one it is.
    pub(super) fn check_type(
        &mut self,
        call: &Call,
        reg: Reg,
        arg: Arg,
        value: &RegState,
    ) -> Result<(), Reason> {
        let Some(takes) = takes(arg.kind) else { return Ok(()) };
        let mut flags = value.flags;
        if arg.has(ArgFlags::RDONLY) {
            flags = flags.without(Flags::RDONLY);
        }
        if arg.has(ArgFlags::OR_NULL) {
            flags = flags.without(Flags::MAYBE_NULL);
        }
        if arg.kind == ArgKind::Mem || matches!(arg.kind, ArgKind::FixedMem(_)) {
            flags = flags.without(Flags::PACKET_DATA);
        }
        if arg.kind == ArgKind::Kptr && flags.has(Flags::ALLOC) {
            flags = flags.without(Flags::ALLOC.with(Flags::PERCPU));
        }
        let found = value.type_name();
        if !(takes.fits)(value.kind, flags) {
            return Err(Reason::ArgumentType { reg, found, expected: takes.expected });
        }
        if !matches!(value.kind, RegType::PtrToBtfId { .. }) {
            return Ok(());
        }
        match arg.kind {
            ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem | ArgKind::FixedMem(_) => {
                if arg.has(ArgFlags::RDONLY) {
                    return Ok(());
                }
                Err(CallFault::MayWrite { function: call.helper.name(), reg, found }.into())
            }
            ArgKind::BtfId(name) => self.check_structure(call, reg, arg, value, name),
            ArgKind::BtfSockCommon => self.check_structure(call, reg, arg, value, "sock_common"),
            ArgKind::Kptr => {
                check_not_null(reg, arg, value)?;
                self.check_kptr_value(call, reg, value)
            }
            _ => Ok(()),
        }
    }

    fn check_structure(
        &mut self,
        call: &Call,
        reg: Reg,
        arg: Arg,
        value: &RegState,
        name: &'static str,
    ) -> Result<(), Reason> {
        check_not_null(reg, arg, value)?;
        // The one helper that releases structures of several types takes what begins with a socket.
        let strict = arg.has(ArgFlags::RELEASE) && call.helper.number != id::SK_RELEASE;
        self.check_structure_is(reg, value, name, strict)
    }

    /// Checks what was added to the pointer.
    pub(super) fn check_offset(&self, reg: Reg, arg: Arg, value: &RegState) -> Result<(), Reason> {
        if arg.has(ArgFlags::RELEASE) {
            let on_stack = matches!(value.kind, RegType::PtrToStack { .. });
            if matches!(arg.kind, ArgKind::Dynptr(_)) && on_stack {
                return Ok(());
            }
            if value.offset != 0 && value.is_pointer() {
                return Err(CallFault::ReleaseOffset { reg }.into());
            }
            return if value.is_pointer() { check_unmodified(reg, value, false) } else { Ok(()) };
        }
        match value.kind {
            kind if kind.may_be_moved() && !value.maybe_null() => Ok(()),
            RegType::PtrToBtfId { .. } => check_unmodified(reg, value, !value.maybe_null()),
            _ => check_unmodified(reg, value, false),
        }
    }
}

/// A pointer that may be NULL will do only if nothing is released by it.
fn check_not_null(reg: Reg, arg: Arg, value: &RegState) -> Result<(), Reason> {
    if value.maybe_null() && (!arg.has(ArgFlags::OR_NULL) || arg.has(ArgFlags::RELEASE)) {
        return Err(CallFault::PossiblyNull { reg }.into());
    }
    Ok(())
}
