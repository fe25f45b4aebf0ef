//! What an earlier instruction contributed to a value, in words.

use isa::{Imm64, Insn, Operand};

use super::{About, callee};
use crate::report::error::{Cause, Held, LoadedFrom};

/// What the instruction did; `None` if it only passed a value on.
pub(super) fn text(about: &About<'_>, made: &Cause) -> Option<String> {
    let (program, at) = (about.program, made.at);
    let nullable = about.rejection.register().and_then(|r| about.rejection.value(r));
    let nullable = nullable.is_some_and(|v| v.maybe_null());
    Some(match program.code.get(at)? {
        Insn::Call { .. } => {
            let name = callee(program, at)?;
            if uninitialised(about) {
                format!("this call of `{name}` leaves nothing in r1 to r5")
            } else if nullable {
                format!("`{name}` returned it here: NULL, if it has nothing to give")
            } else {
                format!("`{name}` returned it here")
            }
        }
        Insn::Mov { src: Operand::Reg(_), .. } => return None,
        Insn::Load { .. } | Insn::LoadAcquire { .. } => load(made.loaded).to_owned(),
        Insn::LoadPacket { .. } => "it was read from the packet here".to_owned(),
        Insn::Atomic { .. } => "it came out of an atomic operation here".to_owned(),
        Insn::Mov { src: Operand::Imm(value), .. } => format!("it was set to {value} here"),
        Insn::MovSx { from, .. } => format!("it was sign-extended from {} bits here", from.bits()),
        Insn::LoadImm64 { value, .. } => constant(about, value),
        Insn::AddrSpaceCast { dst_as: 1, .. } => {
            "it was cast to the address that user space uses here: a number to the verifier".to_owned()
        }
        Insn::AddrSpaceCast { .. } => "it was cast to a pointer into the arena here".to_owned(),
        Insn::Branch { .. } => "it was compared here".to_owned(),
        Insn::Alu { .. } | Insn::Neg { .. } | Insn::ByteSwap { .. } => "it was computed here".to_owned(),
        _ => return None,
    })
}

fn load(from: Option<LoadedFrom>) -> &'static str {
    match from {
        Some(LoadedFrom::Context) => "it was read from the context here",
        Some(LoadedFrom::Arena) => "it was read from the arena here: a number, whatever was stored",
        Some(LoadedFrom::Stack) => "it was read from the stack here, where no whole pointer lies",
        Some(LoadedFrom::Memory) | None => "it was read from memory here",
    }
}

fn uninitialised(about: &About<'_>) -> bool {
    matches!(about.rejection.reason(), crate::Reason::Uninitialised { .. })
}

fn constant(about: &About<'_>, value: Imm64) -> String {
    match value {
        Imm64::MapIdx(map) | Imm64::MapIdxValue { map, .. } => match about.program.maps.get(map as usize) {
            Some(map) => format!("its address in `{}` was taken here", map.name),
            None => "the address of a map was taken here".to_owned(),
        },
        _ => "it was set here".to_owned(),
    }
}

/// What was taken here and not given back.
pub(super) fn held(about: &About<'_>, held: &Held) -> String {
    match callee(about.program, held.at) {
        Some(name) => format!("{} here, by `{name}`", held.what),
        None => format!("{} here", held.what),
    }
}
