//! Tells Linux `perf` and debuggers what the machine code of programs is called, and of which source lines it was made.
//!
//! A process has one file of names for `perf`, so what was written is kept here for all engines together. A child made by `fork`
//! begins files of its own.

mod elf;
mod jitdump;
mod machine;
mod table;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bpf_object::Program;
use codegen::Compiled;
use sys::code::CodeMemory;
use sys::gdb::Registration;
use sys::profile::{JitDump, PerfMap, ProfileError};

pub use elf::DebugFileError;
use table::{CodeFunction, CodeTable};

/// The environment variable by which a user asks for symbols: words with commas between them.
pub(crate) const VARIABLE: &str = "BPF_ARENA_SYMBOLS";

/// Why nobody could be told of a program's machine code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolsError {
    /// A file for `perf`.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A file for debuggers.
    #[error(transparent)]
    DebugFile(#[from] DebugFileError),
    /// The environment asks for something that there is not.
    #[error("{VARIABLE} has `{word}`; known are `perf-map`, `jitdump`, `jitdump=FOLDER` and `gdb`")]
    Word {
        /// The word that is not known.
        word: String,
    },
}

/// Who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbols {
    /// `perf`, by `/tmp/perf-PID.map`.
    pub(crate) perf_map: bool,
    /// `perf inject --jit`, by `jit-PID.dump` in this folder.
    pub(crate) jitdump: Option<PathBuf>,
    /// GDB and LLDB.
    pub(crate) gdb: bool,
}

impl Symbols {
    /// These, and those that the environment asks for.
    ///
    /// # Errors
    /// The variable has a word that is not known.
    pub(crate) fn or_environment(&self) -> Result<Self, SymbolsError> {
        match std::env::var_os(VARIABLE) {
            Some(words) if !sys::host::is_privileged() => self.clone().with(words),
            _ => Ok(self.clone()),
        }
    }

    fn with(mut self, words: OsString) -> Result<Self, SymbolsError> {
        for word in words.into_vec().split(|&byte| byte == b',').filter(|word| !word.is_empty()) {
            match word {
                b"perf-map" => self.perf_map = true,
                b"gdb" => self.gdb = true,
                b"jitdump" => self.jitdump = self.jitdump.or_else(|| Some(PathBuf::from("."))),
                _ => match word.strip_prefix(b"jitdump=") {
                    Some(folder) => self.jitdump = Some(OsString::from_vec(folder.to_vec()).into()),
                    None => {
                        let word = String::from_utf8_lossy(word).into_owned();
                        return Err(SymbolsError::Word { word });
                    }
                },
            }
        }
        Ok(self)
    }

    /// Prepares the memory of code of which somebody will be told.
    pub(crate) fn prepare(&self, memory: &mut CodeMemory) {
        // A map has no means to say that a function is gone.
        if self.perf_map {
            memory.retire_addresses();
        }
    }

    /// Tells of the machine code of a program, whose text lies at `start`.
    ///
    /// # Errors
    /// A file could not be made or written.
    pub(crate) fn announce(
        &self,
        program: &Program,
        compiled: &Compiled,
        start: u64,
    ) -> Result<Announced, SymbolsError> {
        if *self == Self::default() {
            return Ok(Announced::default());
        }
        let table = CodeTable::new(program, compiled, start);
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        let files = files.of_this_process();
        if self.perf_map {
            files.append_map(&perf_map(&table))?;
        }
        if let Some(folder) = &self.jitdump {
            files.append_dump(folder, &table)?;
        }
        let gdb =
            if self.gdb { Some(Registration::new(elf::file(&table)?.into_boxed_slice())) } else { None };
        Ok(Announced { _gdb: gdb })
    }
}

/// Machine code that somebody was told of. To be dropped before the code is.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    _gdb: Option<Registration>,
}

/// What a function is called in profiles, among all the functions of the process.
fn full_name(program: &str, function: &CodeFunction<'_>) -> String {
    format!("bpf_arena::{program}::{}", function.name)
}

/// The lines of a map: address and size in hexadecimal, and the name.
fn perf_map(table: &CodeTable<'_>) -> String {
    let mut lines = String::new();
    for function in &table.functions {
        let name = full_name(&table.program, function);
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{:x} {:x} {name}", function.start, function.code.len());
    }
    lines
}

static FILES: Mutex<Files> = Mutex::new(Files { pid: 0, map: None, dumps: BTreeMap::new() });

/// The files that a process writes.
#[derive(Debug)]
struct Files {
    /// Whose they are.
    pid: u32,
    map: Option<PerfMap>,
    dumps: BTreeMap<PathBuf, Dump>,
}

/// A jitdump file, and how many functions it has.
#[derive(Debug)]
struct Dump {
    file: JitDump,
    functions: u64,
}

impl Files {
    /// Forgets those of the process that this one was forked from.
    fn of_this_process(&mut self) -> &mut Self {
        let pid = std::process::id();
        if self.pid != pid {
            *self = Self { pid, map: None, dumps: BTreeMap::new() };
        }
        self
    }

    fn append_map(&mut self, lines: &str) -> Result<(), ProfileError> {
        let map = match self.map.take() {
            Some(map) => map,
            None => PerfMap::open()?,
        };
        self.map.insert(map).append(lines.as_bytes())
    }

    fn append_dump(&mut self, folder: &Path, table: &CodeTable<'_>) -> Result<(), ProfileError> {
        let moment =
            jitdump::Moment { pid: self.pid, tid: sys::host::thread_id(), time: sys::host::monotonic_ns() };
        // One file has several names where folders do.
        let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let dump = match self.dumps.entry(folder) {
            Entry::Occupied(dump) => dump.into_mut(),
            Entry::Vacant(slot) => {
                let file = JitDump::create(slot.key(), &jitdump::header(moment.pid, moment.time))?;
                slot.insert(Dump { file, functions: 0 })
            }
        };
        let records = jitdump::records(table, dump.functions, moment);
        dump.functions += table.functions.len() as u64;
        dump.file.append(&records)
    }
}

#[cfg(test)]
mod tests;
