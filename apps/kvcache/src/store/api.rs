//! What callers of the store hold in their hands.

/// Most bytes of a key.
pub const KEY_MAX: usize = 250;

/// How the store is made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Most bytes of the arena that may be in use, everything counted.
    pub memory: u64,
    /// Most bytes of a value.
    pub item_max: u32,
    /// Whether to make room by evicting what was not used lately. Otherwise a full store refuses.
    pub evict: bool,
}

impl Default for Options {
    /// 64 MiB, values of up to 1 MiB, as memcached.
    fn default() -> Self {
        Self { memory: 64 << 20, item_max: 1 << 20, evict: true }
    }
}

impl Options {
    /// The same with another limit of memory.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: bytes, ..self }
    }

    /// The same with another limit of a value.
    #[must_use]
    pub fn item_max(self, bytes: u32) -> Self {
        Self { item_max: bytes, ..self }
    }

    /// The same, evicting or not.
    #[must_use]
    pub fn evict(self, evict: bool) -> Self {
        Self { evict, ..self }
    }
}

/// When an item ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// It does not.
    #[default]
    Never,
    /// When [`Store::now`](super::Store::now) reaches this second.
    At(u32),
}

/// What is known of an item beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The client's.
    pub flags: u32,
    /// Changes with each change of the value; what `gets` gives.
    pub cas: u64,
    /// When it ends.
    pub expires: Expiry,
    /// Bytes of the value.
    pub size: u32,
    /// Whether it was read since it was stored, before this read.
    pub fetched: bool,
    /// The second of the last use before this one; of storing, if there was none.
    pub last_access: u32,
    /// It was invalidated, and is served until somebody stores a new value (meta commands).
    pub stale: bool,
    /// Somebody was told to store a new value (meta commands).
    pub won: bool,
}

/// What an update asks of the item that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Set,
    /// That there is none.
    Add,
    /// That there is one.
    Replace,
    /// That there is one: the value goes behind its own, which keeps flags and expiry.
    Append,
    /// That there is one: the value goes in front of its own, which keeps flags and expiry.
    Prepend,
    /// That there is one with this number.
    Cas(u64),
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Stored,
    /// There is one, or none, against the mode.
    NotStored,
    /// It has another number.
    Exists,
    /// There is none, whose number could be compared.
    NotFound,
}

/// What became of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Done.
    Deleted,
    /// There is none.
    NotFound,
    /// It has another number.
    Exists,
}

/// What [`Store::update_with`](super::Store::update_with) is to do with an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Keep,
    /// Change what can be changed while the value stays; the item keeps its number unless `cas` is given.
    Mark {
        /// When it ends.
        expires: Expiry,
        /// See [`Meta::stale`].
        stale: bool,
        /// See [`Meta::won`].
        won: bool,
    },
    /// Replace it, or store a first one.
    Store {
        /// The new value.
        value: Vec<u8>,
        /// The client's flags.
        flags: u32,
        /// When it ends.
        expires: Expiry,
        /// The item's number; a new one for `None`.
        cas: Option<u64>,
        /// See [`Meta::stale`].
        stale: bool,
        /// See [`Meta::won`].
        won: bool,
    },
    /// Remove it.
    Delete,
}

/// Why something could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The key is longer than [`KEY_MAX`], or empty.
    #[error("a key has 1 to {KEY_MAX} bytes, not {len}")]
    Key {
        /// Its bytes.
        len: usize,
    },
    /// The value is longer than the store takes.
    #[error("a value of {len} bytes is too large: the limit is {limit}")]
    TooLarge {
        /// Bytes of the value.
        len: usize,
        /// Most bytes of one.
        limit: u32,
    },
    /// There is no memory, and nothing could be evicted.
    #[error("out of memory")]
    OutOfMemory,
}

/// How full the store is, and what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Items now, those that expired unnoticed among them.
    pub items: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// Items stored since the store was opened.
    pub stored: u64,
    /// Items evicted to make room.
    pub evictions: u64,
    /// Of these, never read.
    pub evicted_unfetched: u64,
    /// Items removed because they had expired or been flushed.
    pub reclaimed: u64,
    /// Most bytes of memory.
    pub limit: u64,
    /// Bytes of pages in use, everything counted.
    pub memory: u64,
    /// Buckets of the hash table.
    pub buckets: u64,
    /// Slabs in use.
    pub slabs: u64,
}
