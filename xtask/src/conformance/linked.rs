//! Objects linked by us and by `bpftool gen object`: the same sections, symbols and relocations.
//!
//! Every compiled selftest is linked alone, those that belong together are linked together, and so are this repository's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use bpf_arena::{Engine, Object as BpfObject};
use bpf_object::Linker;
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SymbolFlags,
};

use super::material;
use super::outcome::{State, TestOutcome};

/// Selftests that are linked together.
const GROUPS: &[(&str, &[&str])] = &[
    ("linked_funcs", &["linked_funcs1", "linked_funcs2"]),
    ("linked_maps", &["linked_maps1", "linked_maps2"]),
    ("linked_vars", &["linked_vars1", "linked_vars2"]),
    ("test_static_linked", &["test_static_linked1", "test_static_linked2"]),
    ("test_subskeleton", &["test_subskeleton", "test_subskeleton_lib", "test_subskeleton_lib2"]),
];

/// Every comparison whose name contains `filter`.
pub(super) fn outcomes(dir: &Path, filter: &str) -> anyhow::Result<Vec<TestOutcome>> {
    let mut outcomes = Vec::new();
    let scratch = dir.join("linked");
    fs::create_dir_all(&scratch)?;
    for (name, paths) in inputs(dir)?.into_iter().filter(|(name, _)| name.contains(filter)) {
        let missing = paths.iter().find(|path| !path.exists());
        let (state, detail) = match missing {
            Some(path) => (State::Skip, format!("{} is not compiled", path.display())),
            None => match compare(dir, &scratch, &paths) {
                Ok(()) => (State::Agree, String::new()),
                Err(error) => (State::Differ, format!("{error:#}").replace('\n', " ")),
            },
        };
        outcomes.push(TestOutcome { test: name, state, detail, verifier: None });
    }
    Ok(outcomes)
}

/// What is linked, by name.
fn inputs(dir: &Path) -> anyhow::Result<Vec<(String, Vec<PathBuf>)>> {
    let linked = material::linked(dir, GROUPS.iter().flat_map(|(_, parts)| parts.iter().copied()))?;
    let mut inputs: Vec<(String, Vec<PathBuf>)> = GROUPS
        .iter()
        .map(|(name, parts)| {
            let paths = parts.iter().map(|part| linked.join(format!("{part}.bpf.o")));
            ((*name).to_owned(), paths.collect())
        })
        .collect();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    inputs.push(("bpf/sched".to_owned(), object_files(&own.join("bpf/sched"))?));
    let tests = own.join("crates/object/tests/bpf");
    let parts = ["linked_main", "linked_library"].map(|name| tests.join(format!("{name}.bpf.o")));
    inputs.push(("main and library".to_owned(), parts.to_vec()));
    let objects = material::objects(dir);
    for folder in [objects.join("progs"), objects, linked, own.join("bpf")] {
        for path in object_files(&folder)? {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            inputs.push((format!("alone/{name}"), vec![path]));
        }
    }
    Ok(inputs)
}

/// The objects of a folder, by name.
fn object_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.to_string_lossy().ends_with(".bpf.o"));
    paths.sort();
    Ok(paths)
}

/// Links with both, and compares what they give; of several objects, the kernel has to load both or neither.
fn compare(dir: &Path, scratch: &Path, paths: &[PathBuf]) -> anyhow::Result<()> {
    let theirs = bpftool(dir, scratch, paths);
    let ours = ours(paths);
    let (theirs, ours) = match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => (theirs, ours),
        // Neither links them.
        (Err(_), Err(_)) => return Ok(()),
        (Ok(_), Err(error)) => return Err(error.context("only bpftool links them")),
        (Err(error), Ok(_)) => return Err(error.context("bpftool does not link them")),
    };
    let (expected, found) = (Shape::read(&theirs)?, Shape::read(&ours)?);
    expected.compare(&found)?;
    if paths.len() > 1 {
        let loads = |bytes: &[u8]| -> anyhow::Result<()> {
            BpfObject::parse(bytes)?.load(Engine::kernel()?)?;
            Ok(())
        };
        loads(&ours).context("the kernel does not load what we linked")?;
    }
    Ok(())
}

fn bpftool(dir: &Path, scratch: &Path, paths: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let out = scratch.join("theirs.o");
    let mut command = Command::new(dir.join("bpftool/bootstrap/bpftool"));
    let output = command.args(["gen", "object"]).arg(&out).args(paths).output().context("bpftool")?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", message.trim());
    Ok(fs::read(out)?)
}

fn ours(paths: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let files = paths.iter().map(|path| Ok((path.display().to_string(), fs::read(path)?)));
    let files: Vec<_> = files.collect::<std::io::Result<_>>()?;
    let mut linker = Linker::new();
    for (name, bytes) in &files {
        linker = linker.add(name, bytes)?;
    }
    Ok(linker.finish()?)
}

/// What must be the same in two objects.
struct Shape {
    /// Flags, alignment, size and bytes by name; of type information nothing but that it is there.
    sections: BTreeMap<String, (String, u64, u64, Vec<u8>)>,
    /// Sorted: one line a symbol.
    symbols: Vec<String>,
    /// Sorted: section, offset, type and symbol.
    relocations: Vec<String>,
    types: usize,
}

impl Shape {
    fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let file = ElfFile::<FileHeader64<LittleEndian>>::parse(bytes)?;
        let mut shape =
            Self { sections: BTreeMap::new(), symbols: Vec::new(), relocations: Vec::new(), types: 0 };
        let section_name = |index| {
            let section = file.section_by_index(index).ok();
            section.and_then(|s| s.name().ok().map(str::to_owned)).unwrap_or_default()
        };
        let describe = |symbol: &object::read::elf::ElfSymbol<'_, '_, FileHeader64<LittleEndian>>| {
            let section = symbol.section_index().map(section_name).unwrap_or_default();
            let SymbolFlags::Elf { st_info, st_other } = symbol.flags() else { return String::new() };
            let name = symbol.name().unwrap_or_default();
            let (at, size) = (symbol.address(), symbol.size());
            format!("{name} in {section:?} at {at:#x}, {size} bytes, {st_info:?} {st_other:?}")
        };
        for section in file.sections() {
            let name = section.name()?.to_owned();
            if [".symtab", ".strtab", ".shstrtab"].contains(&name.as_str()) || name.starts_with(".rel") {
                continue;
            }
            let is_type_information = name == ".BTF" || name == ".BTF.ext";
            let data = if is_type_information { Vec::new() } else { section.data()?.to_vec() };
            let size = if is_type_information { 0 } else { section.size() };
            if name == ".BTF" {
                shape.types = bpf_object::Btf::parse(section.data()?)?.types().count();
            }
            for (offset, relocation) in section.relocations() {
                let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
                let RelocationTarget::Symbol(index) = relocation.target() else { continue };
                let symbol = describe(&file.symbol_by_index(index)?);
                shape.relocations.push(format!("{name}+{offset:#x}: type {r_type:?} of {symbol}"));
            }
            let flags = format!("{:?} {:?}", section.kind(), section.flags());
            shape.sections.insert(name, (flags, section.align(), size, data));
        }
        shape.symbols = file.symbols().map(|symbol| describe(&symbol)).collect();
        shape.symbols.sort();
        shape.relocations.sort();
        Ok(shape)
    }

    /// The first difference. Fewer types are as good.
    fn compare(&self, found: &Self) -> anyhow::Result<()> {
        for (name, expected) in &self.sections {
            let found = found.sections.get(name).with_context(|| format!("section `{name}` is missing"))?;
            ensure!(expected.0 == found.0, "section `{name}`: {} and {}", expected.0, found.0);
            ensure!(expected.1 == found.1, "section `{name}`: alignment {} and {}", expected.1, found.1);
            ensure!(expected.2 == found.2, "section `{name}`: {} and {} bytes", expected.2, found.2);
            let differs = expected.3.iter().zip(&found.3).position(|(a, b)| a != b);
            ensure!(differs.is_none(), "section `{name}` differs at {differs:x?}");
        }
        let more = found.sections.keys().find(|name| !self.sections.contains_key(*name));
        ensure!(more.is_none(), "a section too many: {more:?}");
        for (what, expected, found) in
            [("symbol", &self.symbols, &found.symbols), ("relocation", &self.relocations, &found.relocations)]
        {
            let differs = expected.iter().zip(found).find(|(a, b)| a != b);
            if let Some((expected, found)) = differs {
                anyhow::bail!("{what}: {expected}; ours: {found}");
            }
            ensure!(expected.len() == found.len(), "{} and {} {what}s", expected.len(), found.len());
        }
        ensure!(found.types <= self.types, "{} types, ours: {}", self.types, found.types);
        Ok(())
    }
}
