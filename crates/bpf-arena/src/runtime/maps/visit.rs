//! The keys that callbacks of `bpf_for_each_map_elem` are given for an array, which itself has none in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use isa::Size;

use crate::access::Block;
use crate::cpu;
use crate::error::MapError;

/// Walks inside of each other on one CPU that have keys of their own. There cannot be more: a program has eight frames,
/// and each walk and its callback need one.
const WALKS: u32 = 16;
/// Bytes of a key's place.
const SLOT: u64 = 8;

/// Memory for the current key of every walk over one map.
pub(super) struct Indices {
    block: Arc<Block>,
    walks: Box<[AtomicU32]>,
}

/// The current key of one walk.
pub(super) struct Index<'m> {
    indices: &'m Indices,
    cpu: u32,
    slot: u64,
}

impl Indices {
    /// Memory for all CPUs.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn new() -> Result<Self, MapError> {
        let cpus = cpu::possible();
        let bytes = SLOT * u64::from(WALKS) * cpus as u64;
        let block = usize::try_from(bytes).ok().and_then(Block::new).ok_or(MapError::NoMemory { bytes })?;
        Ok(Self { block: Arc::new(block), walks: (0..cpus).map(|_| AtomicU32::new(0)).collect() })
    }

    /// The memory, which programs may read.
    pub(super) fn memory(&self) -> &Arc<Block> {
        &self.block
    }

    /// Begins a walk on a CPU.
    pub(super) fn begin(&self, cpu: u32) -> Index<'_> {
        // A CPU belongs to one thread while a program runs on it, so this counts the walks of one program.
        let walk = self.walks.get(cpu as usize).map_or(0, |walks| walks.fetch_add(1, Ordering::Relaxed));
        let slot = u64::from(cpu) * u64::from(WALKS) + u64::from(walk % WALKS);
        Index { indices: self, cpu, slot: slot * SLOT }
    }
}

impl Index<'_> {
    /// Sets the key: the address it has.
    pub(super) fn set(&self, index: u32) -> Option<u64> {
        let place = self.indices.block.place(self.slot, SLOT)?;
        place.store(Size::W, u64::from(index), Ordering::Relaxed);
        Some(place.address())
    }
}

impl Drop for Index<'_> {
    fn drop(&mut self) {
        if let Some(walks) = self.indices.walks.get(self.cpu as usize) {
            walks.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
