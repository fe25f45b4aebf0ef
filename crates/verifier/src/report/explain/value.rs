//! What is known of a value, in words.

use bpf_object::{Btf, Program};

use crate::domain::scalar::Scalar;
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

/// The value as a noun with its article.
pub(super) fn describe(value: &RegState, program: &Program, kernel: Option<&Btf>) -> String {
    let what = match value.kind {
        RegType::NotInit => return "nothing: it was never written".to_owned(),
        RegType::Scalar => return number(&value.scalar),
        RegType::PtrToArena => return "a pointer into the arena".to_owned(),
        RegType::PtrToStack { .. } => return stack(value),
        RegType::PtrToFunc { subprog } => {
            let name = program.subprograms.get(subprog as usize).map_or("", |s| s.name.as_str());
            return format!("the address of function `{name}`");
        }
        RegType::PtrToCtx => "a pointer to the context".to_owned(),
        RegType::ConstPtrToMap { map } => format!("the map {}", map_name(program, map)),
        RegType::PtrToMapValue { map } => {
            let size = program.maps.get(map as usize).map_or(0, |m| m.value_size);
            format!("a pointer to a value of map {} ({size} bytes)", map_name(program, map))
        }
        RegType::PtrToMapKey { map } => format!("a pointer to a key of map {}", map_name(program, map)),
        RegType::PtrToMem { size } => format!("a pointer to {size} bytes of memory"),
        RegType::PtrToBuf | RegType::PtrToTpBuffer => "a pointer to a buffer".to_owned(),
        RegType::PtrToPacket => "a pointer into the packet".to_owned(),
        RegType::PtrToPacketMeta => "a pointer to the packet's metadata".to_owned(),
        RegType::PtrToPacketEnd => "the end of the packet".to_owned(),
        RegType::PtrToFlowKeys => "a pointer to the flow keys".to_owned(),
        RegType::PtrToSocket | RegType::PtrToSockCommon | RegType::PtrToTcpSock | RegType::PtrToXdpSock => {
            "a pointer to a socket".to_owned()
        }
        RegType::PtrToBtfId { of, ty } => {
            let btf = if of == BtfOwner::Kernel { kernel } else { program.btf.as_deref() };
            let name = btf.map_or("", |btf| btf.name(ty));
            format!("{} pointer to `struct {name}`", trust(value.flags))
        }
        RegType::ConstPtrToDynptr => "a pointer to a dynptr".to_owned(),
    };
    let mut text = what;
    if value.flags.has(Flags::RDONLY) {
        text += " that may only be read";
    }
    if let Some(offset) = offset(value) {
        text = format!("{text}, {offset}");
    }
    if value.maybe_null() {
        text += ", or NULL";
    }
    text
}

fn trust(flags: Flags) -> &'static str {
    if flags.has(Flags::UNTRUSTED) {
        "an untrusted"
    } else if flags.has(Flags::ALLOC) {
        "an allocated object:"
    } else if flags.has(Flags::RCU) {
        "an RCU"
    } else {
        "a"
    }
}

fn map_name(program: &Program, map: u32) -> String {
    program.maps.get(map as usize).map_or_else(|| format!("#{map}"), |m| format!("`{}`", m.name))
}

fn stack(value: &RegState) -> String {
    let fixed = i64::from(value.offset);
    match value.scalar.as_constant().map(|c| c.cast_signed().saturating_add(fixed)) {
        Some(0) => "the frame pointer".to_owned(),
        Some(below) if below < 0 => {
            format!("a pointer into the stack, {} bytes below the frame pointer", below.unsigned_abs())
        }
        Some(above) => format!("a pointer {above} bytes above the stack"),
        None => format!("a pointer into the stack at an offset that is {}", number(&value.scalar)),
    }
}

/// Where a pointer points into what it points to; `None` at its beginning.
fn offset(value: &RegState) -> Option<String> {
    let fixed = i64::from(value.offset);
    match value.scalar.as_constant() {
        Some(constant) => match constant.cast_signed().saturating_add(fixed) {
            0 => None,
            1 => Some("moved by 1 byte".to_owned()),
            offset => Some(format!("moved by {offset} bytes")),
        },
        None if fixed == 0 => Some(format!("moved by {}", bytes(&value.scalar))),
        None => Some(format!("moved by {fixed} bytes and by {}", bytes(&value.scalar))),
    }
}

/// A number, with its article.
pub(super) fn number(scalar: &Scalar) -> String {
    match scalar.as_constant() {
        Some(value) => format!("the number {}", value.cast_signed()),
        None => match range(scalar) {
            Some(range) => format!("a number {range}"),
            None => "a number that may be anything".to_owned(),
        },
    }
}

fn bytes(scalar: &Scalar) -> String {
    match range(scalar) {
        Some(range) => format!("a number of bytes {range}"),
        None => "any number of bytes".to_owned(),
    }
}

/// The bounds worth telling: those of the interval that says most.
fn range(scalar: &Scalar) -> Option<String> {
    let (umin, umax) = (scalar.wide.umin, scalar.wide.umax);
    let (smin, smax) = (scalar.wide.smin, scalar.wide.smax);
    // A bound in the upper half of all numbers is none that anybody set.
    let bounded = i64::try_from(umax).is_ok();
    if bounded && (smin >= 0 || umax - umin <= smax.abs_diff(smin)) {
        return Some(format!("from {umin} to {}", big(umax)));
    }
    let extreme = i64::MAX / 2;
    match (smin < -extreme, smax > extreme) {
        (true, true) if umin == 1 => Some("that is not 0".to_owned()),
        (true, true) => None,
        (true, false) => Some(format!("of at most {smax}, which may be negative")),
        (false, true) => Some(format!("of at least {smin}")),
        (false, false) => Some(format!("from {smin} to {smax}")),
    }
}

/// Large limits as programmers know them.
fn big(value: u64) -> String {
    match value {
        0xffff_ffff => "0xffffffff".to_owned(),
        0x7fff_ffff_ffff_ffff => "0x7fffffffffffffff".to_owned(),
        value if value > 0xffff => format!("{value:#x}"),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_their_tightest_bounds() {
        let text = |scalar| number(&scalar);
        assert_eq!(text(Scalar::constant(7)), "the number 7");
        assert_eq!(text(Scalar::UNKNOWN), "a number that may be anything");
        assert_eq!(text(Scalar::UNKNOWN.zero_extended(8)), "a number from 0 to 255");
        assert_eq!(text(Scalar::signed(-4, 12)), "a number from -4 to 12");
        assert_eq!(text(Scalar::signed(i64::MIN, 12)), "a number of at most 12, which may be negative");
    }
}
