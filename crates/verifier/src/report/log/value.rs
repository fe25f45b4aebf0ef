//! Registers and stack slots as the kernel's log prints them.

use std::fmt::{self, Display, Write};

use bpf_object::{Btf, MapSpec, Program};
use isa::Reg;

use super::touched::Touched;
use crate::domain::scalar::Scalar;
use crate::report::view::{CallbackTime, FrameView, SlotView, StateView};
use crate::rules::kfuncs::ITERS;
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};
use crate::state::stack::{Dynptr, Iterator, SlotByte};

/// Bytes of a map's name that the kernel keeps.
const MAP_NAME: usize = 15;

/// Where names come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) program: &'a Program,
    pub(super) kernel: Option<&'a Btf>,
}

impl<'a> Names<'a> {
    pub(super) fn function(&self, subprog: u32) -> &'a str {
        self.program.subprograms.get(subprog as usize).map_or("", |s| &s.name)
    }

    fn map(&self, map: u32) -> Option<&'a MapSpec> {
        self.program.maps.get(map as usize)
    }

    fn btf(&self, of: BtfOwner) -> Option<&'a Btf> {
        match of {
            BtfOwner::Kernel => self.kernel,
            BtfOwner::Object => self.program.btf.as_deref(),
        }
    }
}

/// One frame: registers, stack, what is held. Starts with a space.
pub(super) struct FrameText<'a> {
    pub(super) frame: FrameView<'a>,
    pub(super) state: StateView<'a>,
    /// Nothing but these, if given.
    pub(super) only: Option<Touched>,
    pub(super) names: &'a Names<'a>,
}

impl Display for FrameText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.frame.number();
        if number > 0 {
            write!(f, " frame{number}:")?;
        }
        let value = |reg| ValueText { reg, frame: number, names: self.names };
        for reg in Reg::ALL {
            let state = self.frame.register(reg).state();
            if state.kind != RegType::NotInit && self.only.as_ref().is_none_or(|t| t.register(reg)) {
                write!(f, " R{}={}", reg.number(), value(state))?;
            }
        }
        for (offset, slot) in self.frame.slots() {
            if self.only.as_ref().is_none_or(|t| t.slot(offset)) {
                self.slot(f, offset, slot)?;
            }
        }
        // Locks that need no identity have none; with such a lock as the first nothing is printed at all.
        let mut separator = " refs=";
        let anything = self.state.references().next().is_some_and(|first| first != 0);
        for reference in self.state.references().filter(|id| anything && *id != 0) {
            write!(f, "{separator}{reference}")?;
            separator = ",";
        }
        f.write_str(match self.frame.callback() {
            Some(CallbackTime::Now) => " cb",
            Some(CallbackTime::Later) => " async_cb",
            None => "",
        })
    }
}

impl FrameText<'_> {
    fn slot(&self, f: &mut fmt::Formatter<'_>, offset: i32, slot: SlotView<'_>) -> fmt::Result {
        let bytes = slot.bytes();
        if bytes.iter().all(|b| *b == SlotByte::Invalid) {
            return Ok(());
        }
        // Of objects that take several slots, the one at the lowest address speaks for all.
        if let Some(iterator) = slot.slot().iter {
            if iterator.id == 0 {
                return Ok(());
            }
            return write_iterator(f, offset, &iterator);
        }
        if let Some(dynptr) = slot.slot().dynptr {
            return if dynptr.first { write_dynptr(f, offset, &dynptr) } else { Ok(()) };
        }
        write!(f, " fp{offset}=")?;
        // From the highest address down. What is above a spilled part of a register is printed in front of it.
        let spilled = slot.spilled().filter(|_| bytes.first() == Some(&SlotByte::Spill));
        for byte in bytes.iter().rev() {
            match byte {
                SlotByte::Spill if spilled.is_some() => break,
                SlotByte::Spill => f.write_char('r')?,
                SlotByte::Invalid => f.write_char('?')?,
                SlotByte::Misc => f.write_char('m')?,
                SlotByte::Zero => f.write_char('0')?,
                SlotByte::Iter => f.write_char('i')?,
                SlotByte::Dynptr => f.write_char('d')?,
                SlotByte::IrqFlag => f.write_char('f')?,
            }
        }
        let Some(value) = spilled else { return Ok(()) };
        ValueText { reg: value.state(), frame: self.frame.number(), names: self.names }.fmt(f)
    }
}

fn write_iterator(f: &mut fmt::Formatter<'_>, offset: i32, iterator: &Iterator) -> fmt::Result {
    let name = ITERS.get(usize::from(iterator.kind)).map_or("", |k| k.name);
    let state = if iterator.active { "active" } else { "drained" };
    write!(f, " fp{offset}=iter_{name}(ref_id={},state={state},depth={})", iterator.id, iterator.depth)
}

fn write_dynptr(f: &mut fmt::Formatter<'_>, offset: i32, dynptr: &Dynptr) -> fmt::Result {
    write!(f, " fp{offset}=dynptr_{}(id={}", dynptr.kind.name(), dynptr.id)?;
    if dynptr.ref_id != 0 {
        write!(f, ",ref_id={}", dynptr.ref_id)?;
    }
    // The mark of the first slot shares its place with this field.
    f.write_str(",dynptr_id=1)")
}

/// One value. Pointers into a stack name their frame where it is not this one.
pub(super) struct ValueText<'a> {
    pub(super) reg: &'a RegState,
    pub(super) frame: u8,
    pub(super) names: &'a Names<'a>,
}

impl Display for ValueText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reg = self.reg;
        let constant = reg.scalar.as_constant().map(u64::cast_signed);
        match (reg.kind, constant) {
            (RegType::Scalar, Some(value)) => return Signed(value).fmt(f),
            (RegType::PtrToArena, _) => return f.write_str("arena"),
            (RegType::PtrToStack { frame }, constant) => {
                f.write_str("fp")?;
                if frame != self.frame {
                    write!(f, "[{frame}]")?;
                }
                if let Some(value) = constant {
                    return Signed(value.wrapping_add(i64::from(reg.offset))).fmt(f);
                }
            }
            (RegType::PtrToBtfId { of, ty }, _) => {
                let name = self.names.btf(of).map_or("", |btf| btf.name(ty));
                write!(f, "{}{name}", reg.type_name())?;
            }
            _ => reg.type_name().fmt(f)?,
        }
        f.write_char('(')?;
        let mut list = List { f, empty: true };
        self.identity(&mut list)?;
        self.target(&mut list)?;
        match constant {
            Some(0) => {}
            Some(value) => list.add(format_args!("imm={}", Signed(value)))?,
            None => {
                ranges(&mut list, &reg.scalar)?;
                let (value, mask) = (reg.scalar.bits.value(), reg.scalar.bits.mask());
                if mask != u64::MAX {
                    list.add(format_args!("var_off=({value:#x}; {mask:#x})"))?;
                }
            }
        }
        f.write_char(')')
    }
}

impl ValueText<'_> {
    fn identity(&self, list: &mut List<'_, '_>) -> fmt::Result {
        let reg = self.reg;
        if reg.id != 0 {
            if reg.is_displaced() {
                list.add(format_args!("id={}{:+}", reg.id, reg.offset))?;
            } else {
                list.add(format_args!("id={}", reg.id))?;
            }
        }
        if reg.ref_id != 0 {
            list.add(format_args!("ref_obj_id={}", reg.ref_id))?;
        }
        if reg.flags.has(Flags::NON_OWN_REF) {
            list.add(format_args!("non_own_ref"))?;
        }
        Ok(())
    }

    /// What it points to, and where into that.
    fn target(&self, list: &mut List<'_, '_>) -> fmt::Result {
        let reg = self.reg;
        if let RegType::ConstPtrToMap { map } | RegType::PtrToMapValue { map } | RegType::PtrToMapKey { map } =
            reg.kind
            && let Some(map) = self.names.map(map)
        {
            let name = map.name.get(..MAP_NAME).unwrap_or(&map.name);
            if !name.is_empty() {
                list.add(format_args!("map={name}"))?;
            }
            list.add(format_args!("ks={},vs={}", map.key_size, map.value_size))?;
        }
        if !reg.is_scalar() && reg.offset != 0 {
            list.add(format_args!("off={}", Signed(i64::from(reg.offset))))?;
        }
        if reg.kind.is_packet() {
            list.add(format_args!("r={}", Unsigned(i64::from(reg.range).cast_unsigned())))?;
        }
        if let RegType::PtrToMem { size } = reg.kind {
            list.add(format_args!("sz={}", Unsigned(u64::from(size))))?;
        }
        if reg.kind == RegType::ConstPtrToDynptr {
            // What the kernel hands out is always of this kind.
            list.add(format_args!("type=local"))?;
        }
        Ok(())
    }
}

/// Attributes, separated by commas.
struct List<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    empty: bool,
}

impl List<'_, '_> {
    fn add(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::replace(&mut self.empty, false) {
            self.f.write_char(',')?;
        }
        self.f.write_fmt(text)
    }
}

/// One end of one of the intervals.
#[derive(Clone, Copy)]
struct Bound {
    name: &'static str,
    signed: bool,
    /// As it is printed: a negative 32-bit number that is printed in hexadecimal has eight digits.
    value: u64,
    /// It says something.
    told: bool,
}

/// The intervals; ends that are the same number are named together.
fn ranges(list: &mut List<'_, '_>, scalar: &Scalar) -> fmt::Result {
    let narrow = |value: i32| {
        let wide = i64::from(value);
        if is_short(wide) { wide.cast_unsigned() } else { u64::from(value.cast_unsigned()) }
    };
    let signed = |name, value, told| Bound { name, signed: true, value, told };
    let unsigned = |name, value, told| Bound { name, signed: false, value, told };
    let (wide, low) = (scalar.wide, scalar.low);
    let bounds = [
        signed("smin", wide.smin.cast_unsigned(), wide.smin != i64::MIN),
        signed("smax", wide.smax.cast_unsigned(), wide.smax != i64::MAX),
        unsigned("umin", wide.umin, wide.umin != 0),
        unsigned("umax", wide.umax, wide.umax != u64::MAX),
        signed("smin32", narrow(low.smin), low.smin != i32::MIN),
        signed("smax32", narrow(low.smax), low.smax != i32::MAX),
        unsigned("umin32", u64::from(low.umin), low.umin != 0),
        unsigned("umax32", u64::from(low.umax), low.umax != u32::MAX),
    ];
    let negative = |b: &Bound| b.signed && b.value.cast_signed() < 0;
    let mut done = [false; 8];
    for (i, bound) in bounds.iter().enumerate() {
        if !bound.told || done.get(i) == Some(&true) {
            continue;
        }
        let mut names = format!("{}=", bound.name);
        // The same end (minima are at even places) of the other intervals.
        for (j, other) in bounds.iter().enumerate().skip(i + 2).step_by(2) {
            let Some(done) = done.get_mut(j) else { continue };
            if other.told && !*done && other.value == bound.value && negative(other) == negative(bound) {
                *done = true;
                let _ = write!(names, "{}=", other.name);
            }
        }
        if bound.signed {
            list.add(format_args!("{names}{}", Signed(bound.value.cast_signed())))?;
        } else {
            list.add(format_args!("{names}{}", Unsigned(bound.value)))?;
        }
    }
    Ok(())
}

/// Numbers of 16 bits are printed in decimal.
fn is_short(value: i64) -> bool {
    i16::try_from(value).is_ok()
}

/// A number that may be negative.
struct Signed(i64);

impl Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_short(self.0) { write!(f, "{}", self.0) } else { write!(f, "{:#x}", self.0) }
    }
}

/// A number that may not.
struct Unsigned(u64);

impl Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if u16::try_from(self.0).is_ok() { write!(f, "{}", self.0) } else { write!(f, "{:#x}", self.0) }
    }
}
