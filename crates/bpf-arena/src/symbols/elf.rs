//! A program's machine code as debuggers read it: an ELF file with symbols and DWARF, but without the code itself, which
//! lies in memory where the file says.

use codegen::FrameChange;
use gimli::write::{
    Address, AttributeValue, CallFrameInstruction, CommonInformationEntry, DwarfUnit, EndianVec, FileId,
    FrameDescriptionEntry, FrameTable, LineProgram, LineString, Sections,
};
use gimli::{Encoding, Format, LineEncoding, LittleEndian};
use object::elf;
use object::endian::Endianness;
use object::write::elf::{FileHeader, SectionHeader, Sym, Writer};

use super::machine::{self, FRAME};
use super::table::{CodeFunction, CodeTable};

/// DWARF 4, which every debugger of the last decade reads.
const ENCODING: Encoding = Encoding { format: Format::Dwarf32, version: 4, address_size: 8 };

/// Why the file could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebugFileError {
    /// As ELF.
    #[error("the ELF file for debuggers: {0}")]
    Elf(#[from] object::write::Error),
    /// As DWARF.
    #[error("the DWARF tables for debuggers: {0}")]
    Dwarf(#[from] gimli::write::Error),
}

/// The file for a program.
pub(super) fn file(table: &CodeTable<'_>) -> Result<Vec<u8>, DebugFileError> {
    let mut debug = Sections::new(EndianVec::new(LittleEndian));
    unit(table).write(&mut debug)?;
    frames(table).write_debug_frame(&mut debug.debug_frame)?;
    let mut sections: Vec<(&'static [u8], Vec<u8>)> = Vec::new();
    debug.for_each_mut(|id, section| {
        let data = section.take();
        if !data.is_empty() {
            sections.push((id.name().as_bytes(), data));
        }
        Ok::<_, gimli::write::Error>(())
    })?;
    elf(table, &sections)
}

/// The functions, in a namespace that has the program's name, and their source lines.
fn unit(table: &CodeTable<'_>) -> DwarfUnit {
    let mut dwarf = DwarfUnit::new(ENCODING);
    dwarf.unit.line_program = LineProgram::new(
        ENCODING,
        LineEncoding::default(),
        LineString::String(b".".to_vec()),
        None,
        LineString::String(table.program.clone().into_bytes()),
        None,
    );
    let root = dwarf.unit.root();
    let of_string = |text: &str| AttributeValue::String(text.as_bytes().to_vec());
    let name = table.functions.iter().find_map(|f| f.places.iter().find_map(|p| p.line.as_ref()));
    let unit = dwarf.unit.get_mut(root);
    unit.set(gimli::DW_AT_producer, of_string(concat!("bpf-arena ", env!("CARGO_PKG_VERSION"))));
    // The language that has names of this form.
    unit.set(gimli::DW_AT_language, AttributeValue::Language(gimli::DW_LANG_C_plus_plus));
    unit.set(gimli::DW_AT_name, of_string(name.map_or(&table.program, |line| &line.file)));
    unit.set(gimli::DW_AT_comp_dir, of_string("."));
    unit.set(gimli::DW_AT_low_pc, AttributeValue::Address(Address::Constant(table.start)));
    unit.set(gimli::DW_AT_high_pc, AttributeValue::Udata(table.len()));
    let namespace = dwarf.unit.add(root, gimli::DW_TAG_namespace);
    dwarf.unit.get_mut(namespace).set(gimli::DW_AT_name, of_string(&table.program));
    for function in &table.functions {
        let declared = lines(&mut dwarf.unit.line_program, function);
        let id = dwarf.unit.add(namespace, gimli::DW_TAG_subprogram);
        let entry = dwarf.unit.get_mut(id);
        entry.set(gimli::DW_AT_name, of_string(&function.name));
        entry.set(gimli::DW_AT_external, AttributeValue::Flag(true));
        entry.set(gimli::DW_AT_low_pc, AttributeValue::Address(Address::Constant(function.start)));
        entry.set(gimli::DW_AT_high_pc, AttributeValue::Udata(function.code.len() as u64));
        if let Some((file, line)) = declared {
            entry.set(gimli::DW_AT_decl_file, AttributeValue::FileIndex(Some(file)));
            entry.set(gimli::DW_AT_decl_line, AttributeValue::Udata(line));
        }
    }
    dwarf
}

/// Adds the lines of a function; the result is the place of its first.
fn lines(program: &mut LineProgram, function: &CodeFunction<'_>) -> Option<(FileId, u64)> {
    let mut declared = None;
    let folder = program.default_directory();
    program.begin_sequence(Some(Address::Constant(function.start)));
    for place in &function.places {
        // Line 0: what belongs to no line.
        let (line, column) = match &place.line {
            Some(source) => {
                let name = LineString::String(source.file.clone().into_bytes());
                let file = program.add_file(name, folder, None);
                program.row().file = file;
                declared = declared.or(Some((file, u64::from(source.line))));
                (u64::from(source.line), u64::from(source.column))
            }
            None => (0, 0),
        };
        let row = program.row();
        row.address_offset = place.address.saturating_sub(function.start);
        row.line = line;
        row.column = column;
        program.generate_row();
    }
    program.end_sequence(function.code.len() as u64);
    declared
}

/// How to find each function's caller. What ends a function is not described, as compilers do: debuggers know it by its
/// instructions.
fn frames(table: &CodeTable<'_>) -> FrameTable {
    let mut frames = FrameTable::default();
    let mut common = CommonInformationEntry::new(ENCODING, 1, -8, FRAME.return_address);
    common.add_instruction(CallFrameInstruction::Cfa(FRAME.stack_pointer, FRAME.pushed_by_call));
    if !FRAME.saves_return_address {
        let at = CallFrameInstruction::Offset(FRAME.return_address, -FRAME.pushed_by_call);
        common.add_instruction(at);
    }
    let common = frames.add_cie(common);
    for function in &table.functions {
        let length = u32::try_from(function.code.len()).unwrap_or(u32::MAX);
        let mut entry = FrameDescriptionEntry::new(Address::Constant(function.start), length);
        for step in &function.frame {
            let bytes = |below: u32| i32::try_from(below).unwrap_or(i32::MAX);
            match step.change {
                FrameChange::Pushed { below } => {
                    let below = bytes(below);
                    entry.add_instruction(step.offset, CallFrameInstruction::CfaOffset(below));
                    let saved = CallFrameInstruction::Offset(FRAME.frame_pointer, -below);
                    entry.add_instruction(step.offset, saved);
                    if FRAME.saves_return_address {
                        let saved = CallFrameInstruction::Offset(FRAME.return_address, 8 - below);
                        entry.add_instruction(step.offset, saved);
                    }
                }
                FrameChange::Established => {
                    let register = CallFrameInstruction::CfaRegister(FRAME.frame_pointer);
                    entry.add_instruction(step.offset, register);
                }
                FrameChange::Saved { register, below } => {
                    let register = machine::register(register);
                    let saved = CallFrameInstruction::Offset(register, -bytes(below));
                    entry.add_instruction(step.offset, saved);
                }
                _ => {}
            }
        }
        frames.add_fde(common, entry);
    }
    frames
}

fn elf(table: &CodeTable<'_>, sections: &[(&'static [u8], Vec<u8>)]) -> Result<Vec<u8>, DebugFileError> {
    let names: Vec<String> =
        table.functions.iter().map(|f| format!("{}::{}", table.program, f.name)).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(Endianness::Little, true, &mut bytes);
    writer.reserve_file_header();
    writer.reserve_null_section_index();
    let text_name = writer.add_section_name(b".text");
    let text = writer.reserve_section_index();
    let mut plans = Vec::with_capacity(sections.len());
    for (name, data) in sections {
        let name = writer.add_section_name(name);
        writer.reserve_section_index();
        plans.push((name, writer.reserve(data.len() as u64, 1), data));
    }
    writer.reserve_null_symbol_index();
    let ids: Vec<_> = names.iter().map(|name| writer.add_string(name.as_bytes())).collect();
    for _ in &ids {
        writer.reserve_symbol_index(Some(text));
    }
    writer.reserve_symtab_section_index();
    writer.reserve_symtab();
    writer.reserve_strtab_section_index();
    writer.reserve_strtab()?;
    writer.reserve_shstrtab_section_index();
    writer.reserve_shstrtab()?;
    writer.reserve_section_headers();

    writer.write_file_header(&FileHeader {
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        // Its addresses are those of the process.
        e_type: elf::ET_EXEC,
        e_machine: machine::ELF_MACHINE,
        e_entry: 0,
        e_flags: elf::FileFlags(0),
    })?;
    for (_, offset, data) in &plans {
        writer.pad_until(*offset);
        writer.write(data);
    }
    writer.write_null_symbol();
    for (function, id) in table.functions.iter().zip(ids) {
        let st_name = writer.string_offset(Some(id));
        writer.write_symbol(&Sym {
            section: Some(text.0),
            st_name,
            st_info: elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_FUNC),
            st_other: elf::STV_DEFAULT.into(),
            st_shndx: elf::SHN_UNDEF,
            st_value: function.start,
            st_size: function.code.len() as u64,
        });
    }
    writer.write_strtab();
    writer.write_shstrtab();

    writer.write_null_section_header();
    let sh_name = writer.section_name_offset(Some(text_name));
    writer.write_section_header(&SectionHeader {
        sh_name,
        sh_type: elf::SHT_NOBITS,
        sh_flags: elf::SHF_ALLOC | elf::SHF_EXECINSTR,
        sh_addr: table.start,
        sh_offset: 0,
        sh_size: table.len(),
        sh_link: 0,
        sh_info: 0,
        sh_addralign: 16,
        sh_entsize: 0,
    });
    for (name, offset, data) in &plans {
        let sh_name = writer.section_name_offset(Some(*name));
        writer.write_section_header(&SectionHeader {
            sh_name,
            sh_type: elf::SHT_PROGBITS,
            sh_flags: elf::SectionFlags(0),
            sh_addr: 0,
            sh_offset: *offset,
            sh_size: data.len() as u64,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        });
    }
    // All symbols but the null symbol are global.
    writer.write_symtab_section_header(1);
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
    Ok(bytes)
}
