//! What a run left in the memory that programs and host share, for comparing engines byte for byte.

use std::collections::BTreeMap;
use std::fmt;

use bpf_object::{MapOrigin, MapType};

use crate::Map;
use crate::arena::{Arena, ArenaOffset, PageCount, UserAddr};

const PAGE_BYTES: u64 = 4096;

/// Arenas of the kernel up to this size are read whole; of larger ones the pages that were asked for. Reading makes pages
/// exist.
const WHOLE_ARENA: PageCount = PageCount::new(4096);

/// Copies of the arena and the data sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Where the arena lies and how long it is, in bytes.
    arena: Option<(UserAddr, u64)>,
    /// Pages that are not all zero, by number. A missing page reads as zero and is not told from one that is.
    pages: BTreeMap<u64, Vec<u8>>,
    /// Data sections by name.
    sections: BTreeMap<String, Vec<u8>>,
}

/// A place where two memories differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `arena`, or the name of a data section.
    pub region: String,
    /// Page of the arena, counted from its first.
    pub page: Option<u64>,
    /// Byte offset, in the page or section, of the first word that differs.
    pub offset: u64,
    /// The eight bytes there (fewer at the end), in the first memory.
    pub first: u64,
    /// And in the second.
    pub second: u64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        if let Some(page) = self.page {
            write!(f, " page {page}")?;
        }
        write!(f, " offset {:#x}: {:#x} and {:#x}", self.offset, self.first, self.second)
    }
}

impl Memory {
    /// Copies what `maps` and `arena` hold now. `pages` are page numbers to look at in an arena that is too large to be
    /// looked at whole.
    #[must_use]
    pub fn copy_of(maps: &[Map], arena: Option<&Arena>, pages: &[u64]) -> Self {
        let mut memory = Self::default();
        for map in maps {
            let spec = map.spec();
            // Constants are the loader's, and kernel configuration differs by design.
            let writable = matches!(spec.origin, MapOrigin::Data { read_only: false, .. });
            if writable && spec.map_type == MapType::Array {
                let mut bytes = vec![0; spec.value_size as usize];
                if map.read_at(0, &mut bytes).is_ok() {
                    memory.sections.insert(spec.name.clone(), bytes);
                }
            }
        }
        if let Some(arena) = arena {
            memory.copy_arena(arena, pages);
        }
        memory
    }

    fn copy_arena(&mut self, arena: &Arena, pages: &[u64]) {
        self.arena = Some((arena.user_vm_start(), arena.page_count().bytes()));
        let mut keep = |page: u64, bytes: Vec<u8>| {
            if bytes.iter().any(|&b| b != 0) {
                self.pages.insert(page, bytes);
            }
        };
        if let Ok(snapshot) = arena.snapshot() {
            for (at, bytes) in snapshot {
                if let Some(offset) = arena.offset_of(at) {
                    keep(offset.page(), bytes);
                }
            }
            return;
        }
        // An arena of the kernel: its pages cannot be listed.
        let all: Vec<u64> = if arena.page_count() <= WHOLE_ARENA {
            (0..u64::from(arena.page_count().get())).collect()
        } else {
            pages.to_vec()
        };
        for page in all {
            let mut bytes = vec![0; 4096];
            let at = arena.addr_of(ArenaOffset::new(page.saturating_mul(PAGE_BYTES)));
            if at.is_some_and(|at| arena.read_bytes(at, &mut bytes).is_ok()) {
                keep(page, bytes);
            }
        }
    }

    /// Numbers of the pages that are not all zero.
    #[must_use]
    pub fn pages(&self) -> Vec<u64> {
        self.pages.keys().copied().collect()
    }

    /// Where two memories differ: the first word of each page and section. A word that points into its own memory's arena
    /// is compared by where in the arena it points, for arenas may lie at different addresses.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let empty = Vec::new();
        let mut compare = |region: &str, page, first: &Vec<u8>, second: &Vec<u8>| {
            if let Some((offset, first, second)) = self.first_difference(first, other, second) {
                let region = region.to_owned();
                differences.push(Difference { region, page, offset, first, second });
            }
        };
        for (name, first) in &self.sections {
            compare(name, None, first, other.sections.get(name).unwrap_or(&empty));
        }
        for (name, second) in other.sections.iter().filter(|(name, _)| !self.sections.contains_key(*name)) {
            compare(name, None, &empty, second);
        }
        for (&page, first) in &self.pages {
            compare("arena", Some(page), first, other.pages.get(&page).unwrap_or(&empty));
        }
        for (&page, second) in other.pages.iter().filter(|(page, _)| !self.pages.contains_key(page)) {
            compare("arena", Some(page), &empty, second);
        }
        differences
    }

    /// Missing bytes count as zero.
    fn first_difference(&self, bytes: &[u8], other: &Self, others: &[u8]) -> Option<(u64, u64, u64)> {
        let words = bytes.len().max(others.len()).div_ceil(8);
        (0..words).find_map(|index| {
            let (first, second) = (word(bytes, index), word(others, index));
            let same = first == second || self.place(first).is_some_and(|p| other.place(second) == Some(p));
            (!same).then_some((index as u64 * 8, first, second))
        })
    }

    /// Where in the arena a word points, if it does: as a user pointer, or by its low half, as programs hold pointers.
    fn place(&self, word: u64) -> Option<u64> {
        let (start, len) = self.arena?;
        let inside = |start: u64| word.checked_sub(start).filter(|&offset| offset < len);
        inside(start.get()).or_else(|| inside(start.low32().into()))
    }
}

fn word(bytes: &[u8], index: usize) -> u64 {
    let rest = bytes.get(index * 8..).unwrap_or_default();
    let mut word = [0; 8];
    word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(start: u64, words: &[u64]) -> Memory {
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.resize(4096, 0);
        Memory {
            arena: Some((UserAddr::new(start), 1 << 20)),
            pages: BTreeMap::from([(3, bytes)]),
            sections: BTreeMap::from([(".bss".to_owned(), vec![1, 2, 3])]),
        }
    }

    #[test]
    fn pointers_are_compared_by_where_they_point() {
        let (first, second) = (0x1_0000_0000, 0x5_0000_0000);
        let left = memory(first, &[7, first + 16]);
        assert_eq!(left.differences(&memory(second, &[7, second + 16])), []);
        let (lower, higher) = (0x1_0001_0000, 0x1_0005_0000);
        assert_eq!(memory(lower, &[0x1_0010]).differences(&memory(higher, &[0x5_0010])), []);
        let differences = left.differences(&memory(second, &[7, second + 24]));
        assert_eq!(
            differences,
            [Difference {
                region: "arena".to_owned(),
                page: Some(3),
                offset: 8,
                first: first + 16,
                second: second + 24
            }]
        );
        assert_eq!(differences[0].to_string(), "arena page 3 offset 0x8: 0x100000010 and 0x500000018");
    }

    #[test]
    fn a_missing_page_is_zero() {
        let (left, mut right) = (memory(0, &[]), memory(0, &[]));
        right.pages.clear();
        assert_eq!(left.differences(&right), []);
        right.sections.insert(".data".to_owned(), vec![0, 0, 9]);
        assert_eq!(left.differences(&right).len(), 1);
        assert_eq!(memory(0, &[0, 1]).differences(&right).len(), 2);
    }
}
