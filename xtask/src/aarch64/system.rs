//! A whole machine, emulated: its memory has a file system with the programs to run, and this program as its first process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

use super::{Job, LIBRARIES, root};

pub(super) const EMULATOR: &str = "qemu-system-aarch64";

/// The jobs, in the machine.
const JOBS: &str = "/jobs.json";
/// What the first process says at the end if all went well.
const PASSED: &str = "all jobs ended well";

/// What the programs are linked with.
const SHARED: [&str; 4] = ["ld-linux-aarch64.so.1", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];
/// What tests read.
const FIXTURES: [&str; 3] = ["bpf", "tests", "crates/codegen/tests"];

/// Boots the kernel and has it run the jobs.
pub(super) fn run(kernel: &Path, cpu: &str, jobs: &[Job]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let files = folder.path().join("files.cpio");
    fs::write(&files, archive(folder.path(), jobs)?)?;
    let mut emulator = Command::new(EMULATOR);
    emulator.args(["-machine", "virt", "-cpu", cpu, "-m", "2G", "-smp", "2"]);
    emulator.args(["-nographic", "-nic", "none", "-no-reboot"]);
    emulator.arg("-kernel").arg(kernel).arg("-initrd").arg(&files);
    emulator.args(["-append", "console=ttyAMA0 quiet panic=-1 -- aarch64 --init"]);
    let mut machine = emulator.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context(EMULATOR)?;
    let output = machine.stdout.take().context("the machine's console")?;
    let mut passed = false;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{cpu}: {}", line.trim_end());
        passed |= line.trim_end() == PASSED;
    }
    machine.wait()?;
    ensure!(passed, "on {cpu} not all jobs ended well");
    Ok(())
}

/// The first process: runs the jobs and switches the machine off.
pub(super) fn init() -> anyhow::Result<()> {
    for (kind, place) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp"), ("tmpfs", "/dev/shm")]
    {
        fs::create_dir_all(place)?;
        mount(kind, place, kind, MountFlags::empty(), None::<&std::ffi::CStr>)?;
    }
    let jobs: Vec<Job> = serde_json::from_slice(&fs::read(JOBS)?)?;
    let mut failed = 0;
    for job in &jobs {
        println!("{} {}", job.program.display(), job.args.join(" "));
        let status = Command::new(&job.program).args(&job.args).current_dir(&job.folder).status();
        if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
            failed += 1;
            println!("failed: {status:?}");
        }
    }
    if failed == 0 {
        println!("{PASSED}");
    }
    reboot(RebootCommand::PowerOff)?;
    Ok(())
}

/// The machine's files, in the format of `cpio` that kernels unpack ("newc").
fn archive(scratch: &Path, jobs: &[Job]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file(Path::new(JOBS), &serde_json::to_vec(jobs)?)?;
    for name in SHARED {
        let library = Path::new(LIBRARIES).join("lib").join(name);
        archive.file(
            &Path::new("/lib").join(name),
            &fs::read(&library).with_context(|| library.display().to_string())?,
        )?;
    }
    for job in jobs {
        let program = stripped(scratch, &job.program)?;
        archive.file(&job.program, &program)?;
        if job.program.ends_with("xtask") {
            archive.file(Path::new("/init"), &program)?;
        }
        archive.folder(&job.folder)?;
    }
    for folder in FIXTURES {
        archive.tree(&root()?.join(folder))?;
    }
    archive.entry("TRAILER!!!", 0, &[])?;
    Ok(archive.bytes)
}

/// A program without its symbols, which are most of it.
fn stripped(scratch: &Path, program: &Path) -> anyhow::Result<Vec<u8>> {
    let small = scratch.join("stripped");
    let mut strip = Command::new("aarch64-linux-gnu-strip");
    let status = strip.arg("-o").arg(&small).arg(program).status().context("aarch64-linux-gnu-strip")?;
    ensure!(status.success(), "aarch64-linux-gnu-strip: {status}");
    Ok(fs::read(&small)?)
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    folders: Vec<PathBuf>,
    entries: u32,
}

impl Archive {
    /// A file by its absolute path, with the folders above it.
    fn file(&mut self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        self.folder(path.parent().context("a file in a folder")?)?;
        self.entry(name(path)?, 0o100_755, content)
    }

    fn folder(&mut self, path: &Path) -> anyhow::Result<()> {
        let Some(above) = path.parent().filter(|_| !self.folders.iter().any(|known| known == path)) else {
            return Ok(());
        };
        self.folder(above)?;
        self.folders.push(path.to_owned());
        self.entry(name(path)?, 0o040_755, &[])
    }

    /// A folder with all that is in it.
    fn tree(&mut self, path: &Path) -> anyhow::Result<()> {
        self.folder(path)?;
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            if path.is_dir() {
                self.tree(&path)?;
            } else {
                self.file(&path, &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).context("a file of 4 GiB")?;
        let name_size = u32::try_from(name.len() + 1)?;
        // Number, mode, owner, group, links, time, size, two devices of two numbers, length of the name, check sum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").into_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The name of an absolute path in the archive.
fn name(path: &Path) -> anyhow::Result<&str> {
    path.strip_prefix("/").ok().and_then(Path::to_str).with_context(|| path.display().to_string())
}
