//! What a run keeps alive, because the program may still use it.

use std::sync::Arc;

use codegen::abi::STACK_BYTES;
use elsa::FrozenVec;

use super::Signal;
use super::maps::UserMap;
use crate::access::{Block, BlockTable, Joined};
use crate::user::Loaded;

/// Maps that were found inside of others, programs that were tail-called, and memory that joined.
///
/// Everything stays until the run ends, so that the program's pointers remain good although the host may put something else in its
/// place at any moment.
#[derive(Default)]
pub(crate) struct Held {
    maps: FrozenVec<Box<Arc<dyn UserMap>>>,
    #[allow(
        clippy::redundant_allocation,
        reason = "the list lends what its boxes hold: the `Arc`, which can be cloned"
    )]
    programs: FrozenVec<Box<Arc<Loaded>>>,
    blocks: FrozenVec<Arc<Block>>,
    /// Stacks of programs that were tail-called, outermost first; kept for the next run.
    stacks: FrozenVec<Box<Block>>,
    pub(crate) memory: Joined,
    /// What others have to say to the run.
    pub(crate) signal: Arc<Signal>,
}

impl Held {
    /// Keeps a map, and lets the program access its memory.
    pub(crate) fn map(&self, map: Arc<dyn UserMap>) -> &dyn UserMap {
        let handle = map.core().handle();
        if let Some(known) = self.map_of(handle) {
            return known;
        }
        let mut table = BlockTable::default();
        map.add_memory(&mut table);
        map.core().add_image(&mut table);
        self.memory.add(table);
        &**self.maps.push_get(Box::new(map))
    }

    /// The map with this handle, if the run keeps it.
    pub(crate) fn map_of(&self, handle: u64) -> Option<&dyn UserMap> {
        self.maps.iter().find(|map| map.core().handle() == handle).map(|map| &**map)
    }

    /// The same, to be kept for longer.
    pub(crate) fn arc_of(&self, handle: u64) -> Option<Arc<dyn UserMap>> {
        self.maps.iter().find(|map| map.core().handle() == handle).map(Arc::clone)
    }

    /// Keeps a program.
    pub(crate) fn program(&self, program: Arc<Loaded>) -> &Arc<Loaded> {
        self.programs.push_get(Box::new(program))
    }

    /// The programs it keeps.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &Arc<Loaded>> {
        self.programs.iter()
    }

    /// Keeps memory, and lets the program read it, and write it if `writable`.
    pub(crate) fn block(&self, block: Arc<Block>, writable: bool) -> &Block {
        let mut table = BlockTable::default();
        table.insert(Arc::clone(&block), writable);
        self.memory.add(table);
        self.blocks.push_get(block)
    }

    /// The stack of the program that was tail-called at this depth; `None` if there is no memory.
    pub(crate) fn stack(&self, depth: usize) -> Option<&Block> {
        while self.stacks.len() <= depth {
            self.stacks.push(Box::new(Block::new(STACK_BYTES)?));
        }
        self.stacks.get(depth)
    }

    /// Lets go of everything, once the run is over.
    pub(crate) fn clear(&mut self) {
        self.signal.lower();
        self.memory.clear();
        self.maps.as_mut().clear();
        self.programs.as_mut().clear();
        self.blocks.as_mut().clear();
    }
}
