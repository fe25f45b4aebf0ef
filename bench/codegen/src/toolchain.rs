//! One C source, compiled for every target.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

/// The compiler of all targets, so that what is compared is not two versions of it.
const CLANG: &str = "clang-22";
/// The linker for WebAssembly that comes with it, which the compiler finds by itself.
const WASM_LD: &str = "wasm-ld-22";

/// What a source is compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A BPF object for this version of the instruction set.
    Bpf(u8),
    /// A shared library at `-O2`.
    NativeO2,
    /// A shared library at `-O3 -march=native`.
    NativeO3,
    /// A WebAssembly module.
    Wasm,
}

impl Target {
    fn file(self, name: &str) -> String {
        match self {
            Self::Bpf(version) => format!("{name}.v{version}.bpf.o"),
            Self::NativeO2 => format!("{name}.o2.so"),
            Self::NativeO3 => format!("{name}.o3.so"),
            Self::Wasm => format!("{name}.wasm"),
        }
    }

    fn flags(self) -> Vec<String> {
        let flags: &[&str] = match self {
            // Jump tables are for kernels from 6.19 on.
            Self::Bpf(version) => {
                let cpu = format!("-mcpu=v{version}");
                return ["--target=bpf", &cpu, "-O2", "-g", "-fno-jump-tables", "-c"]
                    .map(str::to_owned)
                    .into();
            }
            Self::NativeO2 => &["-O2", "-shared", "-fPIC", "-fvisibility=hidden"],
            Self::NativeO3 => &["-O3", "-march=native", "-shared", "-fPIC", "-fvisibility=hidden"],
            Self::Wasm => &[
                "--target=wasm32",
                "-O2",
                // Atomic operations are real ones, as everywhere else.
                "-matomics",
                "-nostdlib",
                "-fvisibility=hidden",
                "-Wl,--no-entry",
                "-Wl,--export=__heap_base",
            ],
        };
        flags.iter().map(|&flag| flag.to_owned()).collect()
    }
}

/// Compiles a source into `folder`.
pub(crate) fn compile(source: &Path, name: &str, target: Target, folder: &Path) -> anyhow::Result<PathBuf> {
    if target == Target::Wasm {
        require(WASM_LD, "lld-22")?;
    }
    let path = folder.join(target.file(name));
    if is_newer(&path, source) {
        return Ok(path);
    }
    // Put in place as a whole: somebody else may be reading it.
    let new = folder.join(format!("{}.{}", target.file(name), std::process::id()));
    let output = Command::new(CLANG).args(target.flags()).arg("-o").arg(&new).arg(source).output();
    let output = output.map_err(|error| missing(error, CLANG, CLANG))?;
    if !output.status.success() {
        bail!("{} for {target:?}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    fs::rename(&new, &path)?;
    Ok(path)
}

/// Whether a compiled file is newer than everything in the folder of its source, and than this program, which knows the
/// flags.
fn is_newer(compiled: &Path, source: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let Some(compiled) = time(compiled) else { return false };
    let folder = source.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten();
    let files = folder.flatten().map(|entry| entry.path()).chain(std::env::current_exe().ok());
    files.filter_map(|path| time(&path)).all(|time| time < compiled)
}

fn require(tool: &str, package: &str) -> anyhow::Result<()> {
    Command::new(tool).arg("--version").output().map_err(|error| missing(error, tool, package))?;
    Ok(())
}

fn missing(error: io::Error, tool: &str, package: &str) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return anyhow::anyhow!("`{tool}` is not installed (Debian package {package})");
    }
    anyhow::Error::new(error).context(tool.to_owned())
}
