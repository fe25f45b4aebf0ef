//! `cargo xtask objects`: the committed BPF objects and the sources they come from.
//!
//! Objects are committed so that building and testing needs no clang. Each is compiled from the repository's root with
//! relative names, so that the same compiler makes the same bytes on every machine. A source may ask for more flags in a
//! line `// flags: -mcpu=v3`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

/// The one compiler whose output is committed.
const CLANG: &str = "clang-22";

const FLAGS: &[&str] = &[
    "-g",
    "-O2",
    "--target=bpf",
    "-mcpu=v4",
    // Large switches would become `gotox`, which Linux before 6.19 cannot load.
    "-fno-jump-tables",
    // Line information names files relative to the repository's root.
    "-fdebug-compilation-dir=.",
    "-Wall",
    "-Werror",
    "-I",
    "bpf/include",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare with the committed objects instead of replacing them.
    #[arg(long)]
    check: bool,
}

/// Builds every object, or says which differ from what is committed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    if !has_clang()? {
        ensure!(args.check, "{CLANG} is not installed (Debian package {CLANG})");
        println!("skipped: {CLANG} is not installed");
        return Ok(());
    }
    let mut sources = Vec::new();
    find_sources(root, Path::new(""), &mut sources)?;
    sources.sort();

    let mut stale = Vec::new();
    for source in &sources {
        let object = source.with_extension("o");
        let built = compile(root, source)?;
        if fs::read(root.join(&object)).ok().as_ref() == Some(&built) {
            continue;
        }
        if !args.check {
            fs::write(root.join(&object), &built).with_context(|| object.display().to_string())?;
        }
        stale.push(object.display().to_string());
    }
    let verb = if args.check { "differ" } else { "updated" };
    println!("{} objects, {} {verb}", sources.len(), stale.len());
    for object in &stale {
        println!("  {object}");
    }
    ensure!(!args.check || stale.is_empty(), "run `cargo xtask objects` and commit the result");
    Ok(())
}

fn has_clang() -> anyhow::Result<bool> {
    match Command::new(CLANG).arg("--version").output() {
        Ok(output) => Ok(output.status.success()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(CLANG),
    }
}

/// Collects `*.bpf.c` below `root`/`folder`, as names relative to `root`.
fn find_sources(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join(folder)).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let path = folder.join(&name);
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.starts_with('.') {
                find_sources(root, &path, found)?;
            }
        } else if name.ends_with(".bpf.c") {
            found.push(path);
        }
    }
    Ok(())
}

fn compile(root: &Path, source: &Path) -> anyhow::Result<Vec<u8>> {
    let text = fs::read_to_string(root.join(source)).with_context(|| source.display().to_string())?;
    let own_flags = text.lines().filter_map(|line| line.strip_prefix("// flags: "));
    let output = Command::new(CLANG)
        .current_dir(root)
        .args(FLAGS)
        .args(own_flags.flat_map(str::split_whitespace))
        .args(["-o", "-", "-c"])
        .arg(source)
        .output()
        .context(CLANG)?;
    if !output.status.success() {
        bail!("{}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}
