//! Handles to maps.

use std::sync::Arc;

use bpf_object::MapSpec;

use crate::backend::LoadedMap;
use crate::error::MapError;

/// A map of a loaded object. Cheap to clone, usable from any thread, on either engine.
#[derive(Clone)]
pub struct Map {
    pub(crate) inner: Arc<dyn LoadedMap>,
}

/// When an update is to succeed (`BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateMode {
    /// Whether or not the key exists.
    #[default]
    Any,
    /// Only if it does not.
    NoExist,
    /// Only if it does.
    Exist,
}

impl UpdateMode {
    /// From the flags of an update; `None` if they are others than these.
    pub(crate) fn from_flags(flags: u64) -> Option<Self> {
        match flags {
            0 => Some(Self::Any),
            1 => Some(Self::NoExist),
            2 => Some(Self::Exist),
            _ => None,
        }
    }
}

impl Map {
    pub(crate) fn new(inner: Arc<dyn LoadedMap>) -> Self {
        Self { inner }
    }

    /// The map's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.spec().name
    }

    /// What the object says about it.
    #[must_use]
    pub fn spec(&self) -> &MapSpec {
        self.inner.spec()
    }

    /// A copy of the value of `key`, `None` if there is none.
    ///
    /// # Errors
    /// The key has the wrong size, or maps of this type have no lookup.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.inner.lookup(key)
    }

    /// Inserts or replaces the value of `key`.
    ///
    /// # Errors
    /// Wrong sizes, a full map, a read-only map, or `mode` does not allow it.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.inner.update(key, value, mode)
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// There is no such key, or maps of this type have no removal.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.inner.delete(key)
    }

    /// The map's keys, in its own order. Keys that come and go meanwhile may be missed.
    pub fn keys(&self) -> impl Iterator<Item = Result<Vec<u8>, MapError>> + '_ {
        let mut last: Option<Vec<u8>> = None;
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            match self.inner.next_key(last.as_deref()) {
                Ok(Some(key)) => {
                    last = Some(key.clone());
                    Some(Ok(key))
                }
                Ok(None) => None,
                Err(error) => {
                    ended = true;
                    Some(Err(error))
                }
            }
        })
    }

    /// Reads bytes of the only value of a global data map (`.data`, `.bss`, ...), while programs may write them.
    ///
    /// # Errors
    /// The range is outside of the value, or this is no data map.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MapError> {
        self.inner.read_at(offset, bytes)
    }

    /// Writes bytes of the only value of a global data map, while programs may use them.
    ///
    /// # Errors
    /// The range is outside of the value, the map is read-only, or this is no data map.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), MapError> {
        self.inner.write_at(offset, bytes)
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("spec", self.inner.spec()).finish_non_exhaustive()
    }
}
