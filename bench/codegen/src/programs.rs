//! The programs: C sources of a folder, and what each is called with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

/// `struct ctx` of `bench.h`: what a program is called with, and what it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Ctx {
    /// Address of the memory it works in.
    pub(crate) mem: u64,
    /// Size of its problem.
    pub(crate) n: u64,
    /// How often it goes over it.
    pub(crate) iters: u64,
    /// Its checksum.
    pub(crate) ret: u64,
    /// 0, which compilers do not know.
    pub(crate) zero: u64,
}

impl Ctx {
    /// Its bytes, which are the same on every target.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.mem, self.n, self.iters, self.ret, self.zero]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    /// The checksum in a context's bytes.
    pub(crate) fn answer(bytes: &[u8]) -> anyhow::Result<u64> {
        let word = bytes.get(24..32).context("a context has five words")?;
        Ok(u64::from_le_bytes(word.try_into()?))
    }
}

/// Arguments of a program: an entry of the folder's `programs.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Size {
    /// [`Ctx::n`].
    pub(crate) n: Option<u64>,
    /// [`Ctx::iters`]. Where it is missing, it is chosen so that a native run takes a while.
    pub(crate) iters: Option<u64>,
}

impl Size {
    /// `n` where nothing says otherwise.
    pub(crate) const DEFAULT_N: u64 = 65536;
}

/// One program.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Name of the file without its ending.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// What it is called with.
    pub(crate) size: Size,
}

/// The sources of `folder`, by name; only those of `only` unless it is empty.
pub(crate) fn find(folder: &Path, only: &[String]) -> anyhow::Result<Vec<Source>> {
    let mut sizes = sizes(folder)?;
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        let Some(name) = name.filter(|_| path.extension().is_some_and(|end| end == "c")) else { continue };
        let size = sizes.remove(&name).unwrap_or_default();
        if only.is_empty() || only.contains(&name) {
            sources.push(Source { name, path, size });
        }
    }
    if let Some(name) = sizes.keys().next() {
        anyhow::bail!("{}: there is no program `{name}`", folder.join(SIZES).display());
    }
    for name in only {
        ensure!(sources.iter().any(|s| s.name == *name), "{}: there is no {name}.c", folder.display());
    }
    ensure!(!sources.is_empty(), "{}: no programs", folder.display());
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

const SIZES: &str = "programs.toml";

/// What the folder says of its programs. A folder without the file is fine.
fn sizes(folder: &Path) -> anyhow::Result<BTreeMap<String, Size>> {
    let path = folder.join(SIZES);
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    parse_sizes(&text).with_context(|| path.display().to_string())
}

fn parse_sizes(text: &str) -> Result<BTreeMap<String, Size>, toml::de::Error> {
    toml::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_by_name() {
        let sizes = parse_sizes("[list]\nn = 100\niters = 3\n\n[num]\nn = 7\n").unwrap();
        assert_eq!(sizes["list"], Size { n: Some(100), iters: Some(3) });
        assert_eq!(sizes["num"], Size { n: Some(7), iters: None });
    }

    #[test]
    fn what_is_no_argument_is_refused() {
        assert!(parse_sizes("[list]\nrounds = 3\n").is_err());
        assert!(parse_sizes("list = 3\n").is_err());
    }
}
