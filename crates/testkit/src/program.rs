//! Programs that come without an object.

use bpf_object::{Linkage, Subprogram};
use isa::{InsnIdx, RawInsn};

const CALL: u8 = 0x85;
const CALL_LOCAL: u8 = 1;
const LDDW: u8 = 0x18;
const FUNC: u8 = 4;

/// The functions of a stream of slots, as the kernel finds them: the first slot, and wherever a call of a function or a
/// reference to one leads. Targets outside of the stream are left out.
#[must_use]
pub fn subprograms(slots: &[RawInsn]) -> Vec<Subprogram> {
    let end = u32::try_from(slots.len()).unwrap_or(u32::MAX);
    let mut starts = vec![0];
    let mut wide = false;
    for (at, slot) in (0_i64..).zip(slots) {
        // The second half of a wide instruction is none of its own.
        let second = wide;
        wide = !second && slot.opcode == LDDW;
        let refers = matches!((slot.opcode, slot.src_reg), (CALL, CALL_LOCAL) | (LDDW, FUNC));
        let target = u32::try_from(at + 1 + i64::from(slot.imm)).ok();
        if let Some(target) = target.filter(|&t| refers && !second && t < end) {
            starts.push(target);
        }
    }
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().copied().skip(1).chain([end]);
    let bounds: Vec<(u32, u32)> = starts.iter().copied().zip(ends).collect();
    let named = |(number, (start, end)): (usize, (u32, u32))| Subprogram {
        name: if number == 0 { "entry".to_owned() } else { format!("function_{number}") },
        start: InsnIdx(start),
        end: InsnIdx(end),
        btf_func: None,
        linkage: if number == 0 { Linkage::Global } else { Linkage::Static },
    };
    bounds.into_iter().enumerate().map(named).collect()
}
