//! Handles to maps.

use std::sync::Arc;

use bpf_object::MapSpec;

use crate::Program;
use crate::backend::{BatchRead, LoadedMap};
use crate::error::MapError;

/// An update creates or replaces.
pub const BPF_ANY: u64 = 0;
/// An update only creates.
pub const BPF_NOEXIST: u64 = 1;
/// An update only replaces.
pub const BPF_EXIST: u64 = 2;
/// The value is read or written under the `struct bpf_spin_lock` in it.
pub const BPF_F_LOCK: u64 = 4;
/// A map's attribute: the host may not write it.
pub(crate) const BPF_F_RDONLY: u32 = 1 << 3;
/// A map's attribute: the host may not read it.
pub(crate) const BPF_F_WRONLY: u32 = 1 << 4;

/// A map of a loaded object. Cheap to clone, usable from any thread, on either engine.
///
/// Keys and values are bytes here, in the layout of their C types.
/// Values of per-CPU maps are those of all possible CPUs one after the other, each rounded up to 8 bytes, as
/// bpf(2) has them: see [`Map::value_bytes`].
#[derive(Clone)]
pub struct Map {
    pub(crate) inner: Arc<dyn LoadedMap>,
}

/// Who hears of what programs send: the CPU and the bytes.
pub(crate) type EventSink = Arc<dyn Fn(u32, &[u8]) + Send + Sync>;

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
    /// The kernel's flag.
    #[must_use]
    pub fn flag(self) -> u64 {
        match self {
            Self::Any => BPF_ANY,
            Self::NoExist => BPF_NOEXIST,
            Self::Exist => BPF_EXIST,
        }
    }
}

/// Where a batch of reads goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchCursor(Vec<u8>);

/// Elements that were read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The keys, one after the other.
    pub keys: Vec<u8>,
    /// Their values, one after the other.
    pub values: Vec<u8>,
    /// How many.
    pub count: usize,
    /// Where to go on; `None` at the map's end.
    pub next: Option<BatchCursor>,
}

/// A batch that was ended by an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after {done} elements: {error}")]
#[non_exhaustive]
pub struct BatchError {
    /// How many elements were stored or removed before.
    pub done: usize,
    /// Why not the next one.
    pub error: MapError,
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

    /// Bytes of a key.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.inner.key_bytes()
    }

    /// Bytes of a value as the host has it: for per-CPU maps the values of all possible CPUs, for maps of maps and
    /// programs 4.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.inner.value_bytes()
    }

    /// A copy of the value of `key`, `None` if there is none.
    ///
    /// # Errors
    /// The key has the wrong size, or maps of this type have no lookup.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.lookup_with(key, 0)
    }

    /// A copy of the value of `key`, `None` if there is none; `flags` is 0 or [`BPF_F_LOCK`].
    ///
    /// # Errors
    /// As [`Map::lookup`], or the flags are not allowed.
    pub fn lookup_with(&self, key: &[u8], flags: u64) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0; self.value_bytes()];
        Ok(found(self.inner.lookup(key, &mut value, flags))?.then_some(value))
    }

    /// Copies the value of `key` to `value`; `false` if there is none. Takes no allocation.
    ///
    /// # Errors
    /// As [`Map::lookup`], or `value` is not as long as the map's values.
    pub fn lookup_into(&self, key: &[u8], value: &mut [u8]) -> Result<bool, MapError> {
        found(self.inner.lookup(key, value, 0))
    }

    /// Inserts or replaces the value of `key`.
    ///
    /// # Errors
    /// Wrong sizes, a full map, a read-only map, or `mode` does not allow it.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.inner.update(key, value, mode.flag())
    }

    /// Inserts or replaces the value of `key`, with the kernel's flags: [`BPF_ANY`], [`BPF_NOEXIST`], [`BPF_EXIST`],
    /// [`BPF_F_LOCK`].
    ///
    /// # Errors
    /// As [`Map::update`], or the map's type does not take these flags.
    pub fn update_with(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.inner.update(key, value, flags)
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// There is no such key, or maps of this type have no removal.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.inner.delete(key)
    }

    /// Copies the value of `key` and removes it; `None` if there is none.
    ///
    /// # Errors
    /// As [`Map::lookup`] and [`Map::delete`].
    pub fn lookup_and_delete(&self, key: &[u8], flags: u64) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0; self.value_bytes()];
        Ok(found(self.inner.lookup_and_delete(key, &mut value, flags))?.then_some(value))
    }

    /// Appends a value to a queue or stack, or adds it to a bloom filter. With [`BPF_EXIST`] a full queue or stack drops
    /// its oldest value.
    ///
    /// # Errors
    /// The map is full or not of these types.
    pub fn push(&self, value: &[u8], flags: u64) -> Result<(), MapError> {
        self.inner.update(&[], value, flags)
    }

    /// Takes the next value of a queue or stack; `None` if it is empty.
    ///
    /// # Errors
    /// The map is not of these types.
    pub fn pop(&self) -> Result<Option<Vec<u8>>, MapError> {
        self.lookup_and_delete(&[], 0)
    }

    /// A copy of the next value of a queue or stack; `None` if it is empty.
    ///
    /// # Errors
    /// The map is not of these types.
    pub fn peek(&self) -> Result<Option<Vec<u8>>, MapError> {
        self.lookup(&[])
    }

    /// Whether a bloom filter may contain a value; `false` is certain.
    ///
    /// # Errors
    /// The map is no bloom filter.
    pub fn may_contain(&self, value: &[u8]) -> Result<bool, MapError> {
        let mut value = value.to_vec();
        found(self.inner.lookup(&[], &mut value, 0))
    }

    /// The map's keys, in its own order. Keys that come and go meanwhile may be missed.
    pub fn keys(&self) -> impl Iterator<Item = Result<Vec<u8>, MapError>> + '_ {
        let mut last: Option<Vec<u8>> = None;
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let next = self.next_key(last.as_deref()).transpose();
            match &next {
                Some(Ok(key)) => last = Some(key.clone()),
                None | Some(Err(_)) => ended = true,
            }
            next
        })
    }

    /// The key after `key` in the map's order, the first one for `None`; `None` at the end. What comes after a key that
    /// does not exist is up to the map's type: most begin again.
    ///
    /// # Errors
    /// The key has the wrong size, or maps of this type cannot be walked.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        let mut next = vec![0; self.key_bytes()];
        Ok(found(self.inner.next_key(key, &mut next))?.then_some(next))
    }

    /// Copies up to `most` elements at once, from the map's start or where an earlier batch ended. `flags` is 0 or
    /// [`BPF_F_LOCK`].
    ///
    /// # Errors
    /// Maps of this type have no batches, or [`MapError::NoSpace`]: `most` is too small to go on.
    pub fn lookup_batch(
        &self,
        from: Option<&BatchCursor>,
        most: usize,
        flags: u64,
    ) -> Result<Batch, MapError> {
        self.read_batch(from, most, flags, false)
    }

    /// As [`Map::lookup_batch`], and removes what it copies.
    ///
    /// # Errors
    /// As [`Map::lookup_batch`].
    pub fn lookup_and_delete_batch(
        &self,
        from: Option<&BatchCursor>,
        most: usize,
        flags: u64,
    ) -> Result<Batch, MapError> {
        self.read_batch(from, most, flags, true)
    }

    /// Inserts or replaces many elements: keys one after the other, values one after the other. `flags` is 0 or
    /// [`BPF_F_LOCK`].
    ///
    /// # Errors
    /// Maps of this type have no batches, or an element could not be stored; those before it are.
    pub fn update_batch(&self, keys: &[u8], values: &[u8], flags: u64) -> Result<usize, BatchError> {
        let (done, result) = self.inner.update_batch(keys, values, flags);
        result.map(|()| done).map_err(|error| BatchError { done, error })
    }

    /// Removes many elements: keys one after the other.
    ///
    /// # Errors
    /// Maps of this type have no batches, or an element could not be removed; those before it are.
    pub fn delete_batch(&self, keys: &[u8], flags: u64) -> Result<usize, BatchError> {
        let (done, result) = self.inner.delete_batch(keys, flags);
        result.map(|()| done).map_err(|error| BatchError { done, error })
    }

    /// Makes the map read-only for the host, for good. Programs may still write it, unless it was created otherwise.
    ///
    /// # Errors
    /// It is frozen already, being written, or its values have locks or other fields of the kernel's own.
    pub fn freeze(&self) -> Result<(), MapError> {
        self.inner.freeze()
    }

    /// Stores a map in this map of maps. Both have to belong to the same engine.
    ///
    /// # Errors
    /// This is no map of maps, the map does not fit what it holds, or `flags` do not allow it.
    pub fn set_map(&self, key: &[u8], map: &Map, flags: u64) -> Result<(), MapError> {
        self.inner.set_map(key, map, flags)
    }

    /// Stores a program in this program array, for tail calls. Both have to belong to the same engine.
    ///
    /// # Errors
    /// This is no program array, or the program does not fit those that it holds.
    pub fn set_program(&self, key: &[u8], program: &Program) -> Result<(), MapError> {
        self.inner.set_program(key, program, BPF_ANY)
    }

    /// Has what programs send to this perf event array (`bpf_perf_event_output`), on any CPU, call this function with the CPU's number and
    /// the bytes sent. It is called in the middle of the run that sends, by its thread.
    ///
    /// # Errors
    /// This is no perf event array of the user engine.
    pub fn on_event(&self, call: impl Fn(u32, &[u8]) + Send + Sync + 'static) -> Result<(), MapError> {
        self.inner.set_events(&(Arc::new(call) as EventSink))
    }

    /// Reads bytes of a data section (`.data`, `.bss`, ...) or of another array that can be mapped (`BPF_F_MMAPABLE`),
    /// while programs may write them. Elements lie at multiples of their size rounded up to 8.
    ///
    /// # Errors
    /// The range is outside of the values, or the map has no such memory.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), MapError> {
        self.inner.read_at(offset, bytes)
    }

    /// Writes bytes of a data section or of another array that can be mapped, while programs may use them.
    ///
    /// # Errors
    /// The range is outside of the values, the map is read-only, or it has no such memory.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), MapError> {
        self.inner.write_at(offset, bytes)
    }

    fn read_batch(
        &self,
        from: Option<&BatchCursor>,
        most: usize,
        flags: u64,
        delete: bool,
    ) -> Result<Batch, MapError> {
        let (key_bytes, value_bytes) = (self.key_bytes(), self.value_bytes());
        let mut next = vec![0; key_bytes.max(size_of::<u32>())];
        let mut keys = vec![0; most.saturating_mul(key_bytes)];
        let mut values = vec![0; most.saturating_mul(value_bytes)];
        let (count, result) = self.inner.lookup_batch(&mut BatchRead {
            from: from.map(|cursor| cursor.0.as_slice()),
            next: &mut next,
            keys: &mut keys,
            values: &mut values,
            flags,
            delete,
        });
        let more = found(result)?;
        keys.truncate(count.saturating_mul(key_bytes));
        values.truncate(count.saturating_mul(value_bytes));
        Ok(Batch { keys, values, count, next: more.then_some(BatchCursor(next)) })
    }
}

/// An absent element is an answer, not an error.
fn found(result: Result<(), MapError>) -> Result<bool, MapError> {
    match result {
        Ok(()) => Ok(true),
        Err(MapError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("spec", self.inner.spec()).finish_non_exhaustive()
    }
}
