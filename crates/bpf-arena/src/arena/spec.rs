//! What to create, and why it is refused: the kernel's rules for `BPF_MAP_CREATE` of an arena.

use bpf_object::{BPF_F_MMAPABLE, BPF_F_NO_USER_CONV, BPF_F_SEGV_ON_FAULT, MapSpec};
use sys::Errno;

use super::PageCount;

const FOUR_GIB: u64 = 1 << 32;

/// Attributes of an arena, named as the kernel's map attributes. Plain data: nothing is checked or created yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaSpec {
    /// Pages.
    pub max_entries: u32,
    /// `BPF_F_*`; `BPF_F_MMAPABLE` is required.
    pub map_flags: u32,
    /// User address of the first page, or 0 for anywhere.
    pub map_extra: u64,
    /// Must be 0.
    pub key_size: u32,
    /// Must be 0.
    pub value_size: u32,
}

/// What an object declares of an arena map.
impl From<&MapSpec> for ArenaSpec {
    fn from(spec: &MapSpec) -> Self {
        Self {
            max_entries: spec.max_entries,
            map_flags: spec.flags,
            map_extra: spec.extra,
            key_size: spec.key_size,
            value_size: spec.value_size,
        }
    }
}

impl ArenaSpec {
    /// An arena of that many pages, anywhere, lazily populated.
    #[must_use]
    pub fn new(pages: PageCount) -> Self {
        Self { max_entries: pages.get(), map_flags: BPF_F_MMAPABLE, map_extra: 0, key_size: 0, value_size: 0 }
    }

    /// Checks the attributes as the kernel does, in its order.
    ///
    /// # Errors
    /// The first rule they break.
    pub fn check(&self) -> Result<(), SpecError> {
        let known = BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV;
        let bytes = PageCount::new(self.max_entries).bytes();
        if self.key_size != 0 {
            return Err(SpecError::KeySize { key_size: self.key_size });
        }
        if self.value_size != 0 {
            return Err(SpecError::ValueSize { value_size: self.value_size });
        }
        if self.max_entries == 0 {
            return Err(SpecError::NoPages);
        }
        if self.map_flags & BPF_F_MMAPABLE == 0 {
            return Err(SpecError::NotMmapable);
        }
        if self.map_flags & !known != 0 {
            return Err(SpecError::UnknownFlags { flags: self.map_flags & !known });
        }
        if !self.map_extra.is_multiple_of(sys::PAGE_SIZE) {
            return Err(SpecError::Unaligned { map_extra: self.map_extra });
        }
        if bytes > FOUR_GIB {
            return Err(SpecError::TooBig { pages: PageCount::new(self.max_entries) });
        }
        let last = self.map_extra.wrapping_add(bytes - 1);
        if last / FOUR_GIB != self.map_extra / FOUR_GIB {
            return Err(SpecError::CrossesBoundary { map_extra: self.map_extra });
        }
        Ok(())
    }
}

/// A rule that [`ArenaSpec`] breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Arenas have no keys.
    #[error("the key size of an arena is 0, not {key_size}")]
    KeySize {
        /// What was given.
        key_size: u32,
    },
    /// Arenas have no values.
    #[error("the value size of an arena is 0, not {value_size}")]
    ValueSize {
        /// What was given.
        value_size: u32,
    },
    /// `max_entries` is 0.
    #[error("an arena has at least one page (max_entries is 0)")]
    NoPages,
    /// `BPF_F_MMAPABLE` is missing.
    #[error("an arena needs BPF_F_MMAPABLE in its map_flags")]
    NotMmapable,
    /// Flags that arenas do not have.
    #[error("map_flags {flags:#x} mean nothing for an arena")]
    UnknownFlags {
        /// The unknown ones.
        flags: u32,
    },
    /// `map_extra` is not a multiple of the page size.
    #[error("map_extra {map_extra:#x}, the address of the arena, is not a multiple of 4096")]
    Unaligned {
        /// What was given.
        map_extra: u64,
    },
    /// More than 4 GiB.
    #[error("{pages} are more than 4 GiB")]
    TooBig {
        /// What was asked.
        pages: PageCount,
    },
    /// The arena would not lie in one 4 GiB window.
    #[error("an arena at {map_extra:#x} would cross a 4 GiB boundary")]
    CrossesBoundary {
        /// What was given.
        map_extra: u64,
    },
}

impl SpecError {
    /// What the kernel answers.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Self::TooBig { .. } => Errno::TOOBIG,
            Self::CrossesBoundary { .. } => Errno::RANGE,
            _ => Errno::INVAL,
        }
    }
}
