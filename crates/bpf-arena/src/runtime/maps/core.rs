//! What all maps have: what they were made from, and the structure that programs see of them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use bpf_object::{Btf, MapSpec};
use verifier::fields::Tag;

use super::fields::ValueFields;
use super::{UserMap, structs};
use crate::access::{Block, BlockTable};
use crate::error::MapError;

/// The common part of a map.
#[derive(Debug)]
pub(crate) struct MapCore {
    /// What it was created from.
    pub(crate) spec: MapSpec,
    /// Its number: maps have different ones as long as the process lives, unless it makes four thousand million.
    pub(crate) id: u32,
    image: OnceLock<Arc<Block>>,
    fields: OnceLock<ValueFields>,
}

impl MapCore {
    /// Of a map that is being created.
    pub(crate) fn new(spec: MapSpec) -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Self { spec, id, image: OnceLock::new(), fields: OnceLock::new() }
    }

    /// What programs know the map by: the address of the structure that they may read of it. 0 until the structure is made.
    pub(crate) fn handle(&self) -> u64 {
        self.image.get().map_or(0, |image| image.address())
    }

    /// Where the special field of this kind lies in a value.
    pub(crate) fn offset_of(&self, tag: Tag) -> Option<u32> {
        self.fields.get()?.offset_of(tag)
    }

    /// Says which special fields the values have.
    pub(super) fn set_fields(&self, btf: Option<&Btf>) {
        self.fields.get_or_init(|| ValueFields::of(&self.spec, btf));
    }

    /// Makes the structure, once the map is complete.
    ///
    /// # Errors
    /// There is no memory.
    pub(super) fn make_image(&self, map: &dyn UserMap) -> Result<(), MapError> {
        let image = structs::image(map).ok_or(MapError::NoMemory { bytes: structs::STRIDE })?;
        self.image.get_or_init(|| Arc::new(image));
        Ok(())
    }

    /// Lets programs read the structure.
    pub(crate) fn add_image(&self, table: &mut BlockTable) {
        if let Some(image) = self.image.get() {
            table.insert(Arc::clone(image), false);
        }
    }
}
