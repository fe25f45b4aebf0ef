//! Lines that stand in front of the final message of some faults.

use crate::report::reason::{BoundsFault, ContextFault, FunctionFault, Reason};

/// What the kernel says before its final message.
pub(super) fn preface(reason: &Reason) -> Option<String> {
    match reason {
        // Which access failed; then for which end of the range of offsets.
        Reason::Bounds {
            fault: BoundsFault::Min | BoundsFault::Max, found, region, offset, size, ..
        } => {
            let (what, measure) = match found.base() {
                "map_value" => ("map value", "value_size"),
                "map_key" => ("map key", "key_size"),
                _ => ("memory", "mem_size"),
            };
            Some(format!("invalid access to {what}, {measure}={region} off={offset} size={size}"))
        }
        Reason::Context(ContextFault::PacketBounds { reg, id, offset, size, range }) if *range >= 0 => {
            let reg = reg.number();
            Some(format!(
                "invalid access to packet, off={offset} size={size}, R{reg}(id={id},off={offset},r={range})"
            ))
        }
        Reason::Function(FunctionFault::SleepingGlobal { .. }) => {
            let first = "global functions that may sleep are not allowed in non-sleepable context,";
            Some(format!("{first}\ni.e., in a RCU/IRQ/preempt-disabled section, or in"))
        }
        Reason::UnreleasedReference { id, at, .. } => {
            Some(format!("Unreleased reference id={id} alloc_insn={at}"))
        }
        _ => None,
    }
}
