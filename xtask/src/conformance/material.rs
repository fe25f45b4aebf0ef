//! The kernel's selftests, unpacked from a Debian package and compiled: nothing of them is in this repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// Changes when what is below changes, so that old results are made again.
const VERSION: &str = "1";
const CLANG: &str = "clang-22";
const SOURCE: &str = "linux-source-6.12";
/// What is installed when root runs the task and something is missing.
const PACKAGES: &[&str] =
    &[CLANG, "llvm-22", SOURCE, "libelf-dev", "zlib1g-dev", "gcc", "make", "python3", "xz-utils"];
/// What of the kernel's source is needed: the tests, libbpf's headers, and bpftool for `vmlinux.h`.
const SUBTREES: &[&str] = &[
    "tools/testing/selftests/bpf",
    "tools/lib",
    "tools/include",
    "tools/bpf",
    "tools/build",
    "tools/scripts",
    "tools/arch",
    "scripts",
    "kernel/bpf",
    "include/uapi/linux",
];
const FLAGS: &[&str] = &[
    "-g",
    "-O2",
    "--target=bpf",
    "-D__TARGET_ARCH_x86",
    "-mlittle-endian",
    "-Wno-compare-distinct-pointer-types",
    "-DENABLE_ATOMICS_TESTS",
    "-DBPF_NO_KFUNC_PROTOTYPES",
    "-w",
];

/// Where the compiled tests are.
#[derive(Debug)]
pub(crate) struct Material {
    /// Everything that was prepared.
    pub(crate) dir: PathBuf,
    /// Tests that could not be compiled, with the compiler's first error.
    pub(crate) uncompiled: Vec<(String, String)>,
}

/// `NAME.bpf.o` for `-mcpu=v4`, `v3/NAME.bpf.o` for v3, `progs/NAME.bpf.o` for other annotated programs.
pub(crate) fn objects(dir: &Path) -> PathBuf {
    dir.join("objects")
}

/// The tests of `test_verifier` as [`testkit::tables`] reads them.
pub(super) fn tables(dir: &Path) -> PathBuf {
    dir.join("tables.txt")
}

/// A file to compile.
struct Unit {
    name: String,
    source: PathBuf,
    object: PathBuf,
    cpu: &'static str,
}

/// Finds or makes everything; quick when it was made before.
pub(crate) fn prepare(root: &Path, install: bool) -> anyhow::Result<Material> {
    let dir = root.join("target/conformance");
    let objects = objects(&dir);
    require_packages(install)?;
    let stamp = stamp()?;
    let stamp_file = dir.join("stamp");
    if fs::read_to_string(&stamp_file).ok().as_deref() != Some(&stamp) {
        if dir.exists() {
            fs::remove_dir_all(&dir).context("removing old results")?;
        }
        fs::create_dir_all(&dir)?;
        unpack(&dir)?;
        fs::write(&stamp_file, &stamp)?;
    }
    let source = dir.join(SOURCE);
    helper_definitions(&source)?;
    let has_vmlinux = vmlinux_header(&dir, &source);
    if let Err(error) = &has_vmlinux {
        eprintln!("no vmlinux.h, so tests that include it are left out: {error:#}");
    }
    for part in ["v3", "progs"] {
        fs::create_dir_all(objects.join(part))?;
    }
    let uncompiled = compile_all(&dir, &source, &objects)?;
    print_tables(&dir, &source)?;
    Ok(Material { dir, uncompiled })
}

fn tarball() -> PathBuf {
    PathBuf::from(format!("/usr/src/{SOURCE}.tar.xz"))
}

fn require_packages(install: bool) -> anyhow::Result<()> {
    let missing = || {
        let mut missing = Vec::new();
        for (tool, package) in [(CLANG, CLANG), ("python3", "python3"), ("xz", "xz-utils")] {
            if !runs(tool) {
                missing.push(package);
            }
        }
        if !tarball().exists() {
            missing.push(SOURCE);
        }
        missing
    };
    if missing().is_empty() {
        return Ok(());
    }
    if install && is_root() {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--yes", "--no-install-recommends"]).args(PACKAGES);
        // A failure shows in what is still missing.
        let _ = apt.stdout(Stdio::null()).status();
    }
    let missing = missing();
    ensure!(missing.is_empty(), "missing Debian packages: {}", missing.join(" "));
    Ok(())
}

fn runs(tool: &str) -> bool {
    let output = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

pub(super) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// What the results depend on: compiler, source, flags, and the running kernel's types.
fn stamp() -> anyhow::Result<String> {
    let clang = Command::new(CLANG).arg("--version").output()?;
    let meta = fs::metadata(tarball())?;
    let kernel = fs::read_to_string("/proc/version").unwrap_or_default();
    let compiler = String::from_utf8_lossy(&clang.stdout).into_owned();
    Ok(format!("{VERSION}\n{compiler}{} bytes of source\n{kernel}{}\n", meta.len(), FLAGS.join(" ")))
}

fn unpack(dir: &Path) -> anyhow::Result<()> {
    eprintln!("unpacking the selftests from {}", tarball().display());
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(dir).arg("-xJf").arg(tarball());
    tar.args(SUBTREES.iter().map(|subtree| format!("{SOURCE}/{subtree}")));
    check("tar", &mut tar)
}

/// `bpf_helper_defs.h`, which libbpf's headers include and its build generates.
fn helper_definitions(source: &Path) -> anyhow::Result<()> {
    let file = source.join("tools/lib/bpf/bpf_helper_defs.h");
    if file.exists() {
        return Ok(());
    }
    let mut doc = Command::new("python3");
    doc.arg(source.join("scripts/bpf_doc.py")).arg("--header").arg("--file");
    doc.arg(source.join("tools/include/uapi/linux/bpf.h"));
    let output = doc.output().context("python3")?;
    ensure!(output.status.success(), "bpf_doc.py: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(file, output.stdout)?;
    Ok(())
}

/// `vmlinux.h` of the running kernel, by the source's own bpftool.
fn vmlinux_header(dir: &Path, source: &Path) -> anyhow::Result<()> {
    let file = dir.join("vmlinux.h");
    if file.exists() {
        return Ok(());
    }
    let btf = Path::new("/sys/kernel/btf/vmlinux");
    ensure!(btf.exists(), "the running kernel has no BTF");
    let build = dir.join("bpftool");
    fs::create_dir_all(&build)?;
    let mut make = Command::new("make");
    make.arg("-s").arg("-j2").arg("-C").arg(source.join("tools/bpf/bpftool"));
    make.arg(format!("OUTPUT={}/", build.display())).arg("bootstrap");
    check("make bpftool (needs gcc, libelf-dev, zlib1g-dev)", &mut make)?;
    let mut dump = Command::new(build.join("bootstrap/bpftool"));
    let output = dump.args(["btf", "dump", "file"]).arg(btf).args(["format", "c"]).output()?;
    ensure!(output.status.success(), "bpftool: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(file, output.stdout)?;
    Ok(())
}

fn compile_all(dir: &Path, source: &Path, objects: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let include = dir.join("include");
    fs::create_dir_all(&include)?;
    let link = include.join("bpf");
    if !link.exists() {
        std::os::unix::fs::symlink(source.join("tools/lib/bpf"), &link)?;
    }
    let has_vmlinux = dir.join("vmlinux.h").exists();
    let units = units(source, objects)?;
    let todo: Vec<&Unit> = units.iter().filter(|unit| !unit.object.exists()).collect();
    if todo.len() > 10 {
        eprintln!("compiling {} of {} selftests", todo.len(), units.len());
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failures = std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            while let Some(unit) = todo.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                match compile(dir, source, unit) {
                    Ok(None) => {}
                    Ok(Some(error)) => failures.push((unit.name.clone(), error)),
                    Err(error) => failures.push((unit.name.clone(), format!("{error:#}"))),
                }
            }
            failures
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().filter_map(|thread| thread.join().ok());
        results.flatten().collect::<Vec<_>>()
    });
    failures.sort();
    if has_vmlinux && failures.len() == units.len() {
        bail!("no selftest compiles; the first error: {:?}", failures.first());
    }
    Ok(failures)
}

/// The arena tests for v3 and v4; for v4 every `verifier_*.c`, what they need, and every other annotated file.
fn units(source: &Path, objects: &Path) -> anyhow::Result<Vec<Unit>> {
    let progs = source.join("tools/testing/selftests/bpf/progs");
    let mut units = Vec::new();
    let mut names: Vec<String> = fs::read_dir(&progs)
        .context("the selftests' programs")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".c").map(str::to_owned))
        .collect();
    names.sort();
    for name in names {
        let is_arena = name.starts_with("arena_") || name.starts_with("verifier_arena");
        let source = progs.join(format!("{name}.c"));
        if !(is_arena || name.starts_with("verifier_") || name == "btf__core_reloc_bitfields") {
            if is_annotated(&source) {
                let object = objects.join(format!("progs/{name}.bpf.o"));
                units.push(Unit { name, source, object, cpu: "v4" });
            }
            continue;
        }
        let unit = |cpu, object| Unit { name: name.clone(), source: source.clone(), object, cpu };
        if is_arena {
            units.push(unit("v3", objects.join(format!("v3/{name}.bpf.o"))));
        }
        units.push(unit("v4", objects.join(format!("{name}.bpf.o"))));
    }
    Ok(units)
}

/// The selftests whose programs are there to be long, compiled for v3 as the selftests' makefile does; gives their folder.
pub(crate) fn scale(dir: &Path) -> anyhow::Result<PathBuf> {
    let source = dir.join(SOURCE);
    let objects = objects(dir).join("scale");
    fs::create_dir_all(&objects)?;
    let progs = source.join("tools/testing/selftests/bpf/progs");
    for entry in fs::read_dir(&progs)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".c") else { continue };
        if !(name.starts_with("test_verif_scale") || name.starts_with("pyperf")) {
            continue;
        }
        let object = objects.join(format!("{name}.bpf.o"));
        let unit = Unit { name: name.to_owned(), source: progs.join(format!("{name}.c")), object, cpu: "v3" };
        if !unit.object.exists()
            && let Some(error) = compile(dir, &source, &unit)?
        {
            eprintln!("not compiled: {name}: {error}");
        }
    }
    Ok(objects)
}

/// The selftests of these names, which are there to be linked; gives their folder.
pub(crate) fn linked<'n>(dir: &Path, names: impl Iterator<Item = &'n str>) -> anyhow::Result<PathBuf> {
    let source = dir.join(SOURCE);
    let objects = objects(dir).join("linked");
    fs::create_dir_all(&objects)?;
    for name in names {
        let object = objects.join(format!("{name}.bpf.o"));
        let file = source.join(format!("tools/testing/selftests/bpf/progs/{name}.c"));
        let unit = Unit { name: name.to_owned(), source: file, object, cpu: "v4" };
        if !unit.object.exists()
            && let Some(error) = compile(dir, &source, &unit)?
        {
            eprintln!("not compiled: {name}: {error}");
        }
    }
    Ok(objects)
}

/// Whether programs of a source say what is expected of them.
fn is_annotated(source: &Path) -> bool {
    let text = fs::read_to_string(source).unwrap_or_default();
    ["__success", "__failure", "__msg("].iter().any(|annotation| text.contains(annotation))
}

/// Compiles one file; gives the compiler's first error if it does not compile.
fn compile(dir: &Path, source: &Path, unit: &Unit) -> anyhow::Result<Option<String>> {
    let selftests = source.join("tools/testing/selftests/bpf");
    let partial = unit.object.with_extension("partial");
    let mut clang = Command::new(CLANG);
    clang.args(FLAGS).arg(format!("-mcpu={}", unit.cpu));
    for include in [&dir.join("include"), dir, &selftests, &source.join("tools/include/uapi")] {
        clang.arg("-I").arg(include);
    }
    // Headers of the C library, for those tests that include them: the host's, of which BPF needs a 32-bit stub no one has.
    clang.args(["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"]);
    clang.arg("-c").arg(&unit.source).arg("-o").arg(&partial);
    let output = clang.output().context(CLANG)?;
    if output.status.success() {
        fs::rename(&partial, &unit.object)?;
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let error = text.lines().find(|line| line.contains("error:")).unwrap_or("clang failed");
    Ok(Some(error.to_owned()))
}

/// Prints the tables of `test_verifier`, by a program of ours compiled around them.
fn print_tables(dir: &Path, source: &Path) -> anyhow::Result<()> {
    const PROGRAM: &str = include_str!("print_tables.c");
    let printed = tables(dir);
    if printed.exists() {
        return Ok(());
    }
    let build = dir.join("tables");
    fs::create_dir_all(build.join("verifier"))?;
    let selftests = source.join("tools/testing/selftests/bpf");
    let mut tables: Vec<String> = fs::read_dir(selftests.join("verifier"))
        .context("the tables of test_verifier")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".c"))
        .collect();
    tables.sort();
    let include = |name: &String| {
        let path = selftests.join("verifier").join(name);
        format!("{{ .descr = \"@file {name}\" }},\n#include \"{}\"\n", path.display())
    };
    let header: String = tables.iter().map(include).collect();
    fs::write(build.join("verifier/tests.h"), format!("#ifdef FILL_ARRAY\n{header}#endif\n"))?;
    fs::write(build.join("print.c"), PROGRAM)?;
    let mut clang = Command::new(CLANG);
    // What loads and runs the tests there is never called, so libbpf is not linked.
    clang.args(["-w", "-static", "-Wl,--unresolved-symbols=ignore-all"]);
    let includes = ["tools/include", "tools/include/uapi", "tools/lib"].map(|part| source.join(part));
    for include in [&build, &selftests].into_iter().chain(&includes) {
        clang.arg("-I").arg(include);
    }
    clang.args(["-idirafter", "/usr/include/x86_64-linux-gnu"]);
    clang.arg(build.join("print.c")).arg("-o").arg(build.join("print"));
    check("the tables of test_verifier", &mut clang)?;
    let output = Command::new(build.join("print")).output().context("printing the tables")?;
    ensure!(output.status.success(), "printing the tables: {}", output.status);
    fs::write(printed, output.stdout)?;
    Ok(())
}

fn check(what: &str, command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| what.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = text.lines().rev().take(3).collect();
    bail!("{what}: {}", tail.into_iter().rev().collect::<Vec<_>>().join("; "))
}
