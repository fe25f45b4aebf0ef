//! The linked object as an ELF file.

use object::elf;
use object::endian::Endianness;
use object::write::StringId;
use object::write::elf::{FileHeader, Rel, SectionHeader, SectionIndex, Sym, Writer};

use super::error::StaticLinkError;
use super::sections::OutSection;
use super::symbols::{Binding, OutPlace, OutSymbol};

/// Writes the file: the sections in their order, their relocations, then the tables. Local symbols come first, as the ELF
/// format wants it.
pub(super) fn elf(sections: &[OutSection], symbols: &[OutSymbol]) -> Result<Vec<u8>, StaticLinkError> {
    let failed = |error: object::write::Error| StaticLinkError::Write(error.to_string());
    let order = order(symbols);
    let rel_names: Vec<Vec<u8>> = sections.iter().map(|s| [b".rel", s.name.as_bytes()].concat()).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(Endianness::Little, true, &mut bytes);

    writer.reserve_file_header();
    writer.reserve_null_section_index();
    let mut plans = Vec::with_capacity(sections.len());
    for section in sections {
        let name = writer.add_section_name(section.name.as_bytes());
        let index = writer.reserve_section_index();
        let length = section.data.len() as u64;
        let offset = writer.reserve(length, section.align);
        plans.push(Plan { name, index, offset, relocations: None });
    }
    for ((section, plan), rel_name) in sections.iter().zip(&mut plans).zip(&rel_names) {
        if section.relocations.is_empty() {
            continue;
        }
        let name = writer.add_section_name(rel_name);
        writer.reserve_section_index();
        let offset = writer.reserve_relocations(section.relocations.len(), false);
        plan.relocations = Some((name, offset));
    }
    let names: Vec<_> = order.new_to_old.iter().map(|&old| symbols.get(old)).collect();
    writer.reserve_null_symbol_index();
    let mut name_ids = Vec::with_capacity(names.len());
    for symbol in names.iter().copied().flatten() {
        name_ids.push((!symbol.name.is_empty()).then(|| writer.add_string(symbol.name.as_bytes())));
        writer.reserve_symbol_index(None);
    }
    writer.reserve_symtab_section_index();
    writer.reserve_symtab();
    writer.reserve_strtab_section_index();
    writer.reserve_strtab().map_err(failed)?;
    writer.reserve_shstrtab_section_index();
    writer.reserve_shstrtab().map_err(failed)?;
    writer.reserve_section_headers();

    writer
        .write_file_header(&FileHeader {
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            e_type: elf::ET_REL,
            e_machine: elf::EM_BPF,
            e_entry: 0,
            e_flags: elf::FileFlags(0),
        })
        .map_err(failed)?;
    for (section, plan) in sections.iter().zip(&plans) {
        writer.pad_until(plan.offset);
        writer.write(&section.data);
    }
    for (section, _) in sections.iter().zip(&plans).filter(|(_, plan)| plan.relocations.is_some()) {
        writer.write_align_relocation();
        for relocation in &section.relocations {
            writer.write_relocation(
                false,
                &Rel {
                    r_offset: relocation.offset,
                    r_sym: order.new_index(relocation.symbol),
                    r_type: elf::RelocationType(relocation.kind),
                    r_addend: 0,
                },
            );
        }
    }
    writer.write_null_symbol();
    for (symbol, name) in names.iter().copied().flatten().zip(name_ids) {
        let name = writer.string_offset(name);
        writer.write_symbol(&sym(symbol, name, &plans));
    }
    writer.write_strtab();
    writer.write_shstrtab();

    section_headers(&mut writer, sections, &plans);
    writer.write_symtab_section_header(order.locals + 1);
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
    debug_assert_eq!(writer.reserved_len(), writer.len(), "what was reserved was written");
    Ok(bytes)
}

/// Headers of the sections, then of those of their relocations.
fn section_headers(writer: &mut Writer<'_>, sections: &[OutSection], plans: &[Plan]) {
    writer.write_null_section_header();
    for (section, plan) in sections.iter().zip(plans) {
        let sh_name = writer.section_name_offset(Some(plan.name));
        writer.write_section_header(&SectionHeader {
            sh_name,
            sh_type: elf::SectionType(section.raw_kind),
            sh_flags: elf::SectionFlags(section.flags),
            sh_addr: 0,
            sh_offset: plan.offset,
            sh_size: section.size,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: section.align,
            sh_entsize: section.entry_size,
        });
    }
    let symtab = writer.symtab_index();
    for (section, plan) in sections.iter().zip(plans) {
        let Some((name, offset)) = plan.relocations else { continue };
        writer.write_relocation_section_header(
            name,
            plan.index,
            symtab,
            offset,
            section.relocations.len(),
            false,
        );
    }
}

/// Where a section of the linked object lies in the file.
struct Plan {
    name: StringId,
    index: SectionIndex,
    offset: u64,
    /// Name and offset of its relocations.
    relocations: Option<(StringId, u64)>,
}

/// The order of symbols in the file.
struct Order {
    new_to_old: Vec<usize>,
    old_to_new: Vec<u32>,
    locals: u32,
}

impl Order {
    /// Index in the file, where a null symbol is the first.
    fn new_index(&self, old: usize) -> u32 {
        self.old_to_new.get(old).map_or(0, |new| new + 1)
    }
}

fn order(symbols: &[OutSymbol]) -> Order {
    let mut new_to_old: Vec<usize> = (0..symbols.len()).collect();
    let is_local = |&old: &usize| symbols.get(old).is_some_and(|s| s.binding == Binding::Local);
    new_to_old.sort_by_key(|old| !is_local(old));
    let mut old_to_new = vec![0; symbols.len()];
    for (new, &old) in (0u32..).zip(&new_to_old) {
        old_to_new.get_mut(old).into_iter().for_each(|slot| *slot = new);
    }
    let locals = new_to_old.iter().filter(|old| is_local(old)).count();
    Order { new_to_old, old_to_new, locals: u32::try_from(locals).unwrap_or(u32::MAX) }
}

fn sym(symbol: &OutSymbol, name: u32, plans: &[Plan]) -> Sym {
    let binding = match symbol.binding {
        Binding::Local => elf::STB_LOCAL,
        Binding::Weak => elf::STB_WEAK,
        Binding::Global => elf::STB_GLOBAL,
    };
    let visibility = if symbol.hidden { elf::STV_HIDDEN } else { elf::STV_DEFAULT };
    let section = match symbol.place {
        OutPlace::Section(index) => plans.get(index).map(|plan| plan.index.0),
        OutPlace::Undefined | OutPlace::Special(_) => None,
    };
    let st_shndx = match symbol.place {
        OutPlace::Special(number) => elf::SymbolSection(number),
        _ => elf::SHN_UNDEF,
    };
    Sym {
        section,
        st_name: name,
        st_info: elf::SymbolInfo::new(binding, elf::SymbolType(symbol.raw_kind)),
        st_other: visibility.into(),
        st_shndx,
        st_value: symbol.value,
        st_size: symbol.size,
    }
}
