//! Memory for the elements of maps.

use crate::access::Block;
use crate::error::MapError;

/// Most bytes of addresses that one map sets aside for elements it may never have: maps without preallocation give no
/// bound, or one that no machine could keep.
const MOST: u64 = 1 << 34;

/// How many elements of `stride` bytes a map that asks for `wanted` sets addresses aside for.
pub(super) fn affordable(wanted: u64, stride: u64) -> u64 {
    wanted.min(MOST / stride.max(1))
}

/// Zeroed memory of so many bytes, which takes none from the system until it is touched.
pub(super) fn reserve(bytes: u64) -> Result<Block, MapError> {
    usize::try_from(bytes).ok().and_then(Block::new).ok_or(MapError::NoMemory { bytes })
}
