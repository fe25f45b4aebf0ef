//! Loads, stores and atomics.

use isa::{AtomicOp, Operand, Reg, Size};

use super::Step;
use super::region::Region;
use crate::domain::scalar::Scalar;
use crate::domain::tnum::Tnum;
use crate::report::reason::{Access, ContextFault, MemoryFault, Reason};
use crate::rules::maps;
use crate::rules::programs::Gives;
use crate::state::reg::{Flags, RegState, RegType};
use crate::walk::explore::Stop;

/// `BPF_F_WRONLY_PROG`: programs may not read the map.
const BPF_F_WRONLY_PROG: u32 = 1 << 8;

/// One access to memory by an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) reg: Reg,
    pub(super) offset: i16,
    pub(super) size: Size,
    pub(super) access: Access,
    /// Atomics must be aligned wherever they are.
    pub(super) atomic: bool,
    /// A load that extends the sign.
    pub(super) sign_extend: bool,
}

impl Place {
    pub(super) fn new(reg: Reg, offset: i16, size: Size, access: Access) -> Self {
        Self { reg, offset, size, access, atomic: false, sign_extend: false }
    }

    fn atomic(reg: Reg, offset: i16, size: Size, access: Access) -> Self {
        Self { atomic: true, ..Self::new(reg, offset, size, access) }
    }
}

impl Step<'_> {
    pub(super) fn load(
        &mut self,
        size: Size,
        sx: bool,
        dst: Reg,
        base: Reg,
        offset: i16,
    ) -> Result<(), Stop> {
        let place = Place { sign_extend: sx, ..Place::new(base, offset, size, Access::Read) };
        self.load_from(place, dst)
    }

    pub(super) fn load_acquire(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) -> Result<(), Stop> {
        self.atomic_target(base)?;
        self.load_from(Place::atomic(base, offset, size, Access::Read), dst)
    }

    fn load_from(&mut self, place: Place, dst: Reg) -> Result<(), Stop> {
        let pointer = self.read(place.reg)?;
        if dst == Reg::R10 {
            return Err(Reason::FramePointerWrite.into());
        }
        let mut value = self.fetch(place, &pointer)?;
        if value.is_scalar() && place.size != Size::DW {
            let bits = u32::from(place.size.bits());
            let cut = if place.sign_extend {
                value.scalar.sign_extended(bits)
            } else {
                value.scalar.zero_extended(bits)
            };
            // Another number if a sign was extended into it. (The kernel keeps the link even so, which is not sound.)
            let same = !place.sign_extend || value.scalar.bit_width() < bits;
            value = if same { RegState { scalar: cut, ..value } } else { self.number(cut, &[value.origin]) };
        }
        self.note_access(&pointer)?;
        Ok(self.write(dst, value)?)
    }

    pub(super) fn store(&mut self, size: Size, base: Reg, offset: i16, src: Operand) -> Result<(), Stop> {
        let value = self.operand(src)?;
        let pointer = self.read(base)?;
        let place = Place::new(base, offset, size, Access::Write);
        self.store_to(place, &pointer, &value, src)
    }

    pub(super) fn store_release(&mut self, size: Size, base: Reg, offset: i16, src: Reg) -> Result<(), Stop> {
        self.atomic_target(base)?;
        let value = self.read(src)?;
        let pointer = self.read(base)?;
        let place = Place::atomic(base, offset, size, Access::Write);
        self.store_to(place, &pointer, &value, Operand::Reg(src))
    }

    fn store_to(
        &mut self,
        place: Place,
        pointer: &RegState,
        value: &RegState,
        src: Operand,
    ) -> Result<(), Stop> {
        self.check_place(place, pointer)?;
        if let Some(field) = self.accessed_kptr(place, pointer)? {
            self.store_kptr(field, value, src)?;
        }
        if let RegType::PtrToStack { frame } = pointer.kind {
            self.stack_write(frame, place, pointer, Some((value, src)))?;
        }
        Ok(self.note_access(pointer)?)
    }

    pub(super) fn atomic(
        &mut self,
        size: Size,
        op: AtomicOp,
        fetch: bool,
        base: Reg,
        offset: i16,
        src: Reg,
    ) -> Result<(), Stop> {
        self.read(src)?;
        self.read(base)?;
        let returns = if op == AtomicOp::CmpXchg {
            self.read(Reg::R0)?;
            Some(Reg::R0)
        } else {
            fetch.then_some(src)
        };
        self.atomic_target(base)?;
        if returns == Some(Reg::R10) {
            return Err(Reason::FramePointerWrite.into());
        }
        let mut pointer = self.read(base)?;
        if returns == Some(base) {
            // The kernel takes the result as written before it looks at the address, which then is a number.
            pointer = self.unknown(&[pointer.origin]);
        }
        let place = Place::atomic(base, offset, size, Access::Read);
        self.check_fixed(place, &pointer)?;
        let mut value = self.fetch(place, &pointer)?;
        if value.is_scalar() && size == Size::W {
            value = RegState { scalar: value.scalar.zero_extended(32), ..value };
        }
        let write = Place { access: Access::Write, ..place };
        self.check_place(write, &pointer)?;
        if let RegType::PtrToStack { frame } = pointer.kind {
            self.stack_write(frame, write, &pointer, None)?;
        }
        self.note_access(&pointer)?;
        let Some(to) = returns else { return Ok(()) };
        if pointer.is_arena() {
            // On a missing page the register stays what it was, whatever the width of the access.
            let before = self.read(to)?;
            let narrow = size == Size::DW || (before.is_scalar() && before.scalar.bit_width() <= 32);
            if !narrow {
                value = self.unknown(&[]);
            }
        }
        Ok(self.write(to, value)?)
    }

    /// Records whose memory the instruction accesses.
    fn note_access(&mut self, pointer: &RegState) -> Result<(), Reason> {
        self.facts.access(self.at, pointer.kind, pointer.flags)
    }

    /// On the stack, atomics work at known offsets only.
    fn check_fixed(&mut self, place: Place, pointer: &RegState) -> Result<(), Reason> {
        let RegType::PtrToStack { frame } = pointer.kind else { return Ok(()) };
        if pointer.scalar.as_constant().is_some() {
            return Ok(());
        }
        self.check_alignment(place, pointer)?;
        let (reg, size) = (place.reg, u32::from(place.size.bytes()));
        self.stack_bounds(frame, reg, pointer, i64::from(place.offset), u64::from(size), place.access)?;
        let offset = i64::from(pointer.offset) + i64::from(place.offset);
        let bits = pointer.scalar.bits.into();
        Err(MemoryFault::StackVariableAtomic { reg, bits, offset, size }.into())
    }

    /// Atomics work on memory whose bytes are what the program sees.
    fn atomic_target(&self, base: Reg) -> Result<(), Reason> {
        let pointer = self.read(base)?;
        let kind = pointer.kind;
        let other = kind == RegType::PtrToCtx || kind == RegType::PtrToFlowKeys;
        if !pointer.maybe_null() && (other || kind.is_packet() || kind.is_socket()) {
            return Err(Reason::AtomicTarget { reg: base, found: pointer.type_name() });
        }
        Ok(())
    }

    /// What a read of this place gives, before truncation or extension.
    fn fetch(&mut self, place: Place, pointer: &RegState) -> Result<RegState, Reason> {
        if let Some(found) = self.fetch_typed(place, pointer)? {
            return Ok(found);
        }
        let gives = self.check_place(place, pointer)?;
        if let Some(field) = self.accessed_kptr(place, pointer)? {
            return self.load_kptr(field);
        }
        match pointer.kind {
            RegType::PtrToCtx => self.field_value(gives, place),
            RegType::PtrToStack { frame } => self.stack_read(frame, place, pointer),
            RegType::PtrToMapValue { map } => match self.constant_value(map, place, pointer) {
                Some(value) => Ok(self.number(Scalar::constant(value), &[])),
                None => Ok(self.number(Scalar::of_size(place.size), &[])),
            },
            _ => Ok(self.number(Scalar::of_size(place.size), &[])),
        }
    }

    /// Checks an access that is made with a fixed size; gives what a load of the context would give.
    pub(super) fn check_place(&mut self, place: Place, pointer: &RegState) -> Result<Gives, Reason> {
        let (reg, size) = (place.reg, u32::from(place.size.bytes()));
        let offset = i64::from(place.offset);
        self.check_alignment(place, pointer)?;
        if pointer.maybe_null() {
            return Err(Reason::InvalidAccess { reg, found: pointer.type_name() });
        }
        match pointer.kind {
            RegType::PtrToArena => Ok(()),
            RegType::PtrToStack { frame } => {
                self.stack_bounds(frame, reg, pointer, offset, u64::from(size), place.access).map(|_| ())
            }
            RegType::PtrToCtx => return self.check_ctx(place, pointer),
            RegType::ConstPtrToMap { map } => self.check_map_struct(map, place, pointer),
            RegType::PtrToBtfId { of, ty } => self.access_structure(of, ty, place, pointer).map(|_| ()),
            kind if kind.is_packet() => {
                self.access_packet(reg, pointer, offset, u64::from(size), place.access)
            }
            kind if kind.is_socket() => self.access_socket(place, pointer),
            RegType::PtrToFlowKeys => self.access_flow_keys(place, pointer),
            // Loads from anywhere are guarded.
            RegType::PtrToMem { .. }
                if place.access == Access::Read
                    && pointer.flags.has(Flags::RDONLY.with(Flags::UNTRUSTED)) =>
            {
                Ok(())
            }
            _ => {
                self.check_region(reg, pointer, offset, u64::from(size), place.access)?;
                self.check_field_access(reg, pointer, offset, u64::from(size), true)
            }
        }?;
        Ok(Gives::Number)
    }

    /// Checks `size` bytes of a map's value or key, or of other memory of known size.
    pub(super) fn check_region(
        &mut self,
        reg: Reg,
        pointer: &RegState,
        offset: i64,
        size: u64,
        access: Access,
    ) -> Result<(), Reason> {
        let found = pointer.type_name();
        match pointer.kind {
            RegType::PtrToMapValue { map } => {
                let region = Region { size: self.plan.value_size(map) };
                let forbidden = match access {
                    Access::Write => self.is_read_only(map),
                    Access::Read => self.plan.map(map).is_some_and(|m| m.flags & BPF_F_WRONLY_PROG != 0),
                };
                if forbidden {
                    let (map, value_size) = (self.plan.map_name(map), region.size);
                    let offset = offset + i64::from(pointer.offset);
                    return Err(Reason::MapPermission { access, map, value_size, offset, size });
                }
                region.check(reg, pointer, offset, size)
            }
            RegType::PtrToMem { .. } if access == Access::Write && pointer.flags.has(Flags::RDONLY) => {
                Err(Reason::ReadOnly { reg, found })
            }
            RegType::PtrToMapKey { .. } if access == Access::Write => {
                Err(ContextFault::MapKeyWrite { reg }.into())
            }
            RegType::PtrToMapKey { map } => {
                let size_of_key = self.plan.map(map).map_or(0, |m| m.key_size);
                Region { size: size_of_key }.check(reg, pointer, offset, size)
            }
            RegType::PtrToTpBuffer | RegType::PtrToBuf => {
                self.check_buffer(reg, pointer, offset, size, access)
            }
            RegType::PtrToMem { size: region } => Region { size: region }.check(reg, pointer, offset, size),
            _ => Err(Reason::InvalidAccess { reg, found }),
        }
    }

    pub(super) fn is_read_only(&self, map: u32) -> bool {
        self.plan.map(map).is_some_and(|m| maps::is_read_only(m) || maps::is_frozen(m))
    }

    /// The bytes a read-only data section holds there: nobody changes them once the program is loaded.
    fn constant_value(&self, map: u32, place: Place, pointer: &RegState) -> Option<u64> {
        let spec = self.plan.map(map)?;
        if !maps::is_frozen(spec) {
            return None;
        }
        let offset = pointer.scalar.as_constant()?.cast_signed();
        let start = offset.checked_add(i64::from(pointer.offset))?.checked_add(i64::from(place.offset))?;
        let start = usize::try_from(start).ok()?;
        let mut value = 0;
        for i in (0..usize::from(place.size.bytes())).rev() {
            let byte = spec.initial.get(start.checked_add(i)?).copied().unwrap_or(0);
            value = value << 8 | u64::from(byte);
        }
        Some(value)
    }

    /// Whether the address is a multiple of the access's size, where that is asked for: on the stack, of atomics, and of
    /// everything if the program was loaded that way (`check_ptr_alignment`).
    pub(super) fn check_alignment(&self, place: Place, pointer: &RegState) -> Result<(), Reason> {
        let flags = self.plan.env.flags;
        let stack = matches!(pointer.kind, RegType::PtrToStack { .. });
        if stack || place.atomic || (flags.strict_alignment && !flags.any_alignment) {
            let size = u32::from(place.size.bytes());
            self.check_aligned(place.reg, pointer, i64::from(place.offset), size)?;
        }
        Ok(())
    }

    /// Whether the address is a multiple of `size`.
    pub(super) fn check_aligned(
        &self,
        reg: Reg,
        pointer: &RegState,
        offset: i64,
        size: u32,
    ) -> Result<(), Reason> {
        if size == 1 || pointer.is_arena() {
            return Ok(());
        }
        let fixed = i64::from(pointer.offset);
        let packet = pointer.kind.is_packet();
        let start = fixed + offset + if packet { NET_IP_ALIGN } else { 0 };
        let address = pointer.scalar.bits.add(Tnum::constant(start.cast_unsigned()));
        if address.is_aligned(0, u64::from(size)) {
            return Ok(());
        }
        let bits = pointer.scalar.bits.into();
        Err(Reason::from(if packet {
            MemoryFault::MisalignedPacket { reg, bits, fixed, offset, size }
        } else {
            let area = area(pointer);
            MemoryFault::Misaligned { reg, area, bits, fixed, offset, size }
        }))
    }
}

/// What packets are taken to be off from an aligned address.
const NET_IP_ALIGN: i64 = 2;

/// What an unaligned access is said to be into. Pointers that may be NULL have no name.
fn area(pointer: &RegState) -> &'static str {
    if pointer.maybe_null() {
        return "";
    }
    match pointer.kind {
        RegType::PtrToFlowKeys => "flow keys ",
        RegType::PtrToMapKey { .. } => "key ",
        RegType::PtrToMapValue { .. } => "value ",
        RegType::PtrToCtx => "context ",
        RegType::PtrToStack { .. } => "stack ",
        RegType::PtrToSocket => "sock ",
        RegType::PtrToSockCommon => "sock_common ",
        RegType::PtrToTcpSock => "tcp_sock ",
        RegType::PtrToXdpSock => "xdp_sock ",
        _ => "",
    }
}
