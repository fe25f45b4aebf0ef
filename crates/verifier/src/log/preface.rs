//! Lines that stand in front of the final message of some faults.

use crate::reason::{BoundsFault, Reason};

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
        _ => None,
    }
}
