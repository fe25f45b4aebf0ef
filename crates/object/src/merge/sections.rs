//! Sections of the same name, one behind the other.

use std::collections::HashMap;

use object::elf;

use super::error::{LinkedSectionFault, SectionProperty, StaticLinkError};
use super::input::Input;
use crate::elf::{Section, SectionKind};
use crate::layout::TEXT_SECTION;
use crate::limits::{MAX_DATA_BYTES, MAX_LINKED_ALIGN, MAX_LINKED_SECTIONS, MAX_OBJECT_BYTES};

/// Clang's table of symbols whose address matters.
const SHT_LLVM_ADDRSIG: u32 = 0x6fff_4c03;

/// A section of the linked object.
#[derive(Debug)]
pub(super) struct OutSection {
    pub(super) name: String,
    pub(super) kind: SectionKind,
    pub(super) raw_kind: u32,
    pub(super) flags: u64,
    pub(super) align: u64,
    pub(super) entry_size: u64,
    pub(super) size: u64,
    /// Empty without contents (`.bss`).
    pub(super) data: Vec<u8>,
    pub(super) relocations: Vec<OutRelocation>,
    /// The object that had it first.
    first: usize,
}

/// A relocation of the linked object.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutRelocation {
    pub(super) offset: u64,
    pub(super) kind: u32,
    /// Index in the table of symbols.
    pub(super) symbol: usize,
}

/// Where a section of an object went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// Index of the section of the linked object.
    pub(super) section: usize,
    /// Offset of its first byte there.
    pub(super) offset: u64,
}

/// Sections of the linked object, and where those of each object went.
#[derive(Debug)]
pub(super) struct Sections {
    pub(super) out: Vec<OutSection>,
    placements: Vec<Vec<Option<Placement>>>,
}

impl Sections {
    /// Joins the sections of all objects, in their order.
    pub(super) fn join(inputs: &[Input<'_>]) -> Result<Self, StaticLinkError> {
        let mut joined = Self { out: Vec::new(), placements: Vec::new() };
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        let mut total = 0u64;
        for (object, input) in inputs.iter().enumerate() {
            let mut placements = vec![None; input.elf.sections.len()];
            for (section, placement) in input.elf.sections.iter().zip(&mut placements) {
                if !is_carried(input, section)? {
                    continue;
                }
                let index = match by_name.get(section.name) {
                    Some(&known) => known,
                    None => {
                        by_name.insert(section.name, joined.out.len());
                        joined.add(section, object)?
                    }
                };
                let Some(out) = joined.out.get_mut(index) else { continue };
                if !out.accepts(section, object, inputs)? {
                    continue;
                }
                let offset = out.append(section, &mut total)?;
                *placement = Some(Placement { section: index, offset });
            }
            joined.placements.push(placements);
        }
        Ok(joined)
    }

    /// Where a section of an object went; `None` if it is not part of the linked object.
    pub(super) fn placement(&self, object: usize, section: usize) -> Option<Placement> {
        *self.placements.get(object)?.get(section)?
    }

    /// Adds type information.
    pub(super) fn add_table(&mut self, name: &str, data: Vec<u8>) {
        self.out.push(OutSection {
            name: name.to_owned(),
            kind: SectionKind::Data,
            raw_kind: elf::SHT_PROGBITS.0,
            flags: 0,
            align: 8,
            entry_size: 0,
            size: data.len() as u64,
            data,
            relocations: Vec::new(),
            first: 0,
        });
    }

    fn add(&mut self, section: &Section<'_>, object: usize) -> Result<usize, StaticLinkError> {
        if self.out.len() >= MAX_LINKED_SECTIONS {
            let limit = MAX_LINKED_SECTIONS as u64;
            return Err(StaticLinkError::TooLarge { what: "the number of sections", limit });
        }
        self.out.push(OutSection {
            name: section.name.to_owned(),
            kind: section.kind,
            raw_kind: section.raw_kind,
            flags: section.flags,
            align: section.align.max(1),
            entry_size: section.entry_size,
            size: 0,
            data: Vec::new(),
            relocations: Vec::new(),
            first: object,
        });
        Ok(self.out.len() - 1)
    }
}

impl OutSection {
    /// Whether a section of the same name is to be appended: `license` and `version` are there once, and must be the same.
    fn accepts(
        &self,
        section: &Section<'_>,
        object: usize,
        inputs: &[Input<'_>],
    ) -> Result<bool, StaticLinkError> {
        let once = matches!(section.name, "license" | "version") && self.first != object;
        let what = if self.raw_kind != section.raw_kind {
            SectionProperty::Kind
        } else if self.flags != section.flags {
            SectionProperty::Flags
        } else if self.entry_size != section.entry_size {
            SectionProperty::EntrySize
        } else if once && self.data != section.data {
            SectionProperty::Contents
        } else {
            return Ok(!once);
        };
        let name = |object: usize| inputs.get(object).map_or_else(String::new, |i| i.name.clone());
        Err(StaticLinkError::SectionMismatch {
            section: section.name.to_owned(),
            what,
            first: name(self.first),
            second: name(object),
        })
    }

    /// Appends the section at its alignment and gives its offset. `total` counts the bytes of all sections.
    fn append(&mut self, section: &Section<'_>, total: &mut u64) -> Result<u64, StaticLinkError> {
        self.align = self.align.max(section.align);
        let offset = self.size.next_multiple_of(self.align);
        let end = offset.saturating_add(section.size);
        if end > MAX_DATA_BYTES {
            return Err(StaticLinkError::TooLarge { what: "a section", limit: MAX_DATA_BYTES });
        }
        if self.kind != SectionKind::Zero {
            *total += end - self.size;
            if *total > MAX_OBJECT_BYTES as u64 {
                return Err(StaticLinkError::TooLarge { what: "the size", limit: MAX_OBJECT_BYTES as u64 });
            }
            self.data.resize(usize::try_from(offset).unwrap_or(usize::MAX), 0);
            self.data.extend_from_slice(section.data);
        }
        self.size = end;
        Ok(offset)
    }
}

/// Whether the section becomes part of the linked object: code, data and zeroes do. Tables of the file format and type
/// information are made anew, debug information is left behind, and so is the empty `.text` of an object that has programs
/// only.
fn is_carried(input: &Input<'_>, section: &Section<'_>) -> Result<bool, StaticLinkError> {
    let bad = |fault| StaticLinkError::BadSection {
        object: input.name.clone(),
        section: section.name.to_owned(),
        fault,
    };
    let debug = |name: &str| name.starts_with(".debug_");
    if debug(section.name) || section.name.strip_prefix(".rel").is_some_and(debug) {
        return Ok(false);
    }
    if section.kind == SectionKind::Other {
        let tables = [elf::SHT_NULL, elf::SHT_SYMTAB, elf::SHT_STRTAB, elf::SHT_REL].map(|kind| kind.0);
        return match tables.contains(&section.raw_kind) || section.raw_kind == SHT_LLVM_ADDRSIG {
            true => Ok(false),
            false => Err(bad(LinkedSectionFault::UnknownKind { kind: section.raw_kind })),
        };
    }
    if matches!(section.name, ".BTF" | ".BTF.ext") || (section.name == TEXT_SECTION && section.size == 0) {
        return Ok(false);
    }
    if section.name.is_empty() {
        return Err(bad(LinkedSectionFault::NoName));
    }
    if section.align > MAX_LINKED_ALIGN || !section.align.max(1).is_power_of_two() {
        return Err(bad(LinkedSectionFault::BadAlignment { align: section.align }));
    }
    if section.kind == SectionKind::Text && !section.size.is_multiple_of(8) {
        return Err(bad(LinkedSectionFault::OddLength { size: section.size }));
    }
    Ok(true)
}
