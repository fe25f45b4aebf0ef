//! The ELF file as this crate needs it: sections with their bytes and relocations, and symbols, all bounds checked.

use std::collections::HashMap;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, Rel, SectionHeader, SectionTable, Sym};

use crate::error::{ObjectError, SectionFault};
use crate::limits::{MAX_NAME_BYTES, MAX_OBJECT_BYTES, MAX_SYMBOL_NAMES};

type Header = elf::FileHeader64<LE>;

/// `R_BPF_64_64`: a 64-bit immediate.
pub(crate) const R_BPF_64_64: u32 = 1;
/// `R_BPF_64_ABS64`: 64 bits of data.
pub(crate) const R_BPF_64_ABS64: u32 = 2;
/// `R_BPF_64_ABS32`: 32 bits of data.
pub(crate) const R_BPF_64_ABS32: u32 = 3;
/// `R_BPF_64_32`: the immediate of a call.
pub(crate) const R_BPF_64_32: u32 = 10;

/// An ELF file, borrowed from its bytes.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    /// By section index; index 0 is the null section.
    pub(crate) sections: Vec<Section<'a>>,
    /// By symbol index; index 0 is the null symbol.
    pub(crate) symbols: Vec<Symbol>,
    /// First section of each name.
    by_name: HashMap<&'a str, usize>,
    /// Symbols by section.
    by_section: HashMap<usize, Vec<usize>>,
}

#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: SectionKind,
    /// `sh_type`, for what `kind` does not tell apart.
    pub(crate) raw_kind: u32,
    /// `sh_flags`.
    pub(crate) flags: u64,
    /// `sh_addralign`; 0 and 1 are the same.
    pub(crate) align: u64,
    /// `sh_entsize`.
    pub(crate) entry_size: u64,
    pub(crate) size: u64,
    /// Empty without contents (`.bss`).
    pub(crate) data: &'a [u8],
    /// By ascending offset.
    pub(crate) relocations: Vec<Relocation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionKind {
    /// Instructions.
    Text,
    /// Contents in the file.
    Data,
    /// Zeroes (`SHT_NOBITS`).
    Zero,
    /// Tables of the file format.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relocation {
    pub(crate) offset: u64,
    pub(crate) kind: u32,
    pub(crate) symbol: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) kind: SymbolKind,
    /// `STT_*`, for what `kind` does not tell apart.
    pub(crate) raw_kind: u8,
    pub(crate) local: bool,
    pub(crate) weak: bool,
    /// `STV_HIDDEN` or `STV_INTERNAL`.
    pub(crate) hidden: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Undefined,
    Section(usize),
    /// Absolute, common and other reserved indices (`SHN_*`).
    Special(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SymbolKind {
    Function,
    Section,
    /// `STT_NOTYPE` and `STT_OBJECT`.
    Data,
    Other,
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ObjectError> {
        if bytes.len() > MAX_OBJECT_BYTES {
            return Err(ObjectError::TooLarge { what: "object file", limit: MAX_OBJECT_BYTES as u64 });
        }
        // Class and byte order come first, so that the answer names them and not a field read the wrong way.
        let ident = bytes.first_chunk::<6>().filter(|i| i.starts_with(&[0x7f, b'E', b'L', b'F']));
        match ident.ok_or_else(|| bad_elf("no ELF header"))? {
            [.., 1, _] => return Err(bad_elf("32-bit file")),
            [.., 2, 2] => return Err(ObjectError::BigEndian),
            _ => {}
        }
        let header = Header::parse(bytes).map_err(elf_error)?;
        if header.e_machine(LE) != elf::EM_BPF {
            return Err(ObjectError::NotBpf { machine: header.e_machine(LE).0 });
        }
        if header.e_type(LE) != elf::ET_REL {
            return Err(ObjectError::NotRelocatable { found: header.e_type(LE).0 });
        }
        let table = header.sections(LE, bytes).map_err(elf_error)?;
        let symbols = read_symbols(&table, bytes)?;
        let mut sections = Vec::new();
        // Contents of sections do not overlap, so that together they are no longer than the file.
        let mut total = 0u64;
        for header in table.iter() {
            let section = read_section(&table, header, bytes)?;
            let length = if header.sh_type(LE) == elf::SHT_REL {
                header.sh_size(LE)
            } else {
                section.data.len() as u64
            };
            total = total.saturating_add(length);
            if total > bytes.len() as u64 {
                return Err(bad_elf("sections overlap"));
            }
            sections.push(section);
        }
        attach_relocations(&table, bytes, &mut sections, symbols.len())?;
        let mut by_name = HashMap::new();
        for (index, section) in sections.iter().enumerate() {
            by_name.entry(section.name).or_insert(index);
        }
        let mut by_section: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, symbol) in symbols.iter().enumerate() {
            if let Place::Section(section) = symbol.place {
                by_section.entry(section).or_default().push(index);
            }
        }
        Ok(Self { sections, symbols, by_name, by_section })
    }

    /// The first section with this name.
    pub(crate) fn section(&self, name: &str) -> Option<(usize, &Section<'a>)> {
        let index = *self.by_name.get(name)?;
        Some((index, self.sections.get(index)?))
    }

    /// Symbols in a section, with their index.
    pub(crate) fn symbols_in(&self, section: usize) -> impl Iterator<Item = (usize, &Symbol)> {
        let indices = self.by_section.get(&section).map_or(&[][..], Vec::as_slice);
        indices.iter().filter_map(|&i| Some((i, self.symbols.get(i)?)))
    }

    /// What to call a symbol in messages: a section symbol goes by its section's name.
    pub(crate) fn symbol_label(&self, index: usize) -> String {
        match self.symbols.get(index) {
            Some(Symbol { kind: SymbolKind::Section, place: Place::Section(section), .. }) => {
                self.sections.get(*section).map_or_else(String::new, |s| s.name.to_owned())
            }
            Some(symbol) => symbol.name.clone(),
            None => String::new(),
        }
    }
}

fn elf_error(error: object::Error) -> ObjectError {
    ObjectError::Elf(error.to_string())
}

fn bad_elf(reason: &str) -> ObjectError {
    ObjectError::Elf(reason.to_owned())
}

fn read_section<'a>(
    table: &SectionTable<'a, Header>,
    header: &'a elf::SectionHeader64<LE>,
    bytes: &'a [u8],
) -> Result<Section<'a>, ObjectError> {
    let name = table.section_name(LE, header).map_err(elf_error)?;
    let name = core::str::from_utf8(name)
        .ok()
        .filter(|n| n.len() <= MAX_NAME_BYTES)
        .ok_or_else(|| bad_elf("a section's name is too long or not UTF-8"))?;
    let kind = match header.sh_type(LE) {
        elf::SHT_PROGBITS if header.sh_flags(LE).0 & elf::SHF_EXECINSTR.0 != 0 => SectionKind::Text,
        elf::SHT_PROGBITS => SectionKind::Data,
        elf::SHT_NOBITS => SectionKind::Zero,
        _ => SectionKind::Other,
    };
    let data = match kind {
        SectionKind::Text | SectionKind::Data => header.data(LE, bytes).map_err(|_| {
            ObjectError::BadSection { section: name.to_owned(), reason: SectionFault::OutsideFile }
        })?,
        SectionKind::Zero | SectionKind::Other => &[],
    };
    Ok(Section {
        name,
        kind,
        raw_kind: header.sh_type(LE).0,
        flags: header.sh_flags(LE).0,
        align: header.sh_addralign(LE),
        entry_size: header.sh_entsize(LE),
        size: header.sh_size(LE),
        data,
        relocations: Vec::new(),
    })
}

fn read_symbols(table: &SectionTable<'_, Header>, bytes: &[u8]) -> Result<Vec<Symbol>, ObjectError> {
    let symbols = table.symbols(LE, bytes, elf::SHT_SYMTAB).map_err(elf_error)?;
    let mut name_bytes = 0;
    let mut out = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let bad_name = || ObjectError::BadSection {
            section: ".symtab".to_owned(),
            reason: SectionFault::BadName { index: index.0 },
        };
        let name = symbols.symbol_name(LE, symbol).map_err(|_| bad_name())?;
        if name.len() > MAX_NAME_BYTES {
            return Err(bad_name());
        }
        name_bytes += name.len();
        if name_bytes > MAX_SYMBOL_NAMES {
            return Err(ObjectError::TooLarge {
                what: "length of all symbol names",
                limit: MAX_SYMBOL_NAMES as u64,
            });
        }
        let place = match symbol.st_shndx(LE) {
            elf::SHN_UNDEF => Place::Undefined,
            _ => match symbols.symbol_section(LE, symbol, index).map_err(elf_error)? {
                Some(section) => Place::Section(section.0),
                None => Place::Special(symbol.st_shndx(LE).0),
            },
        };
        out.push(Symbol {
            name: core::str::from_utf8(name).map_err(|_| bad_name())?.to_owned(),
            place,
            value: symbol.st_value(LE),
            size: symbol.st_size(LE),
            kind: match symbol.st_type() {
                elf::STT_FUNC => SymbolKind::Function,
                elf::STT_SECTION => SymbolKind::Section,
                elf::STT_NOTYPE | elf::STT_OBJECT => SymbolKind::Data,
                _ => SymbolKind::Other,
            },
            raw_kind: symbol.st_type().0,
            local: symbol.st_bind() == elf::STB_LOCAL,
            weak: symbol.st_bind() == elf::STB_WEAK,
            hidden: matches!(symbol.st_visibility(), elf::STV_HIDDEN | elf::STV_INTERNAL),
        });
    }
    Ok(out)
}

fn attach_relocations(
    table: &SectionTable<'_, Header>,
    bytes: &[u8],
    sections: &mut [Section<'_>],
    symbols: usize,
) -> Result<(), ObjectError> {
    for header in table.iter() {
        let Some((rows, _)) = header.rel(LE, bytes).map_err(elf_error)? else { continue };
        let Some(target) = sections.get_mut(header.info_link(LE).0) else {
            return Err(bad_elf("a relocation section applies to no section"));
        };
        for row in rows {
            let relocation = Relocation {
                offset: row.r_offset(LE),
                kind: row.r_type(LE).0,
                symbol: row.r_sym(LE) as usize,
            };
            if relocation.symbol >= symbols || relocation.offset >= target.size {
                return Err(ObjectError::BadSection {
                    section: target.name.to_owned(),
                    reason: SectionFault::BadRelocation {
                        offset: relocation.offset,
                        symbol: relocation.symbol,
                    },
                });
            }
            target.relocations.push(relocation);
        }
    }
    for section in sections {
        section.relocations.sort_by_key(|r| r.offset);
    }
    Ok(())
}
