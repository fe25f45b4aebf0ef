//! The files in which Linux `perf` looks for the names of code that was made at run time.
//!
//! Their names are known before they exist, in folders that others may write. So links are not followed, a file must be a
//! regular one of the calling user that has no other name, and nobody else may write it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::arena::to_usize;
use crate::{Errno, OsError, PAGE_SIZE, host};

/// Why such a file cannot be had or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Os {
        /// The file.
        path: PathBuf,
        /// What it answered.
        source: OsError,
    },
    /// Something of this name exists that is no plain file of the calling user alone.
    #[error("{} is not a plain file of this user alone", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
}

/// `/tmp/perf-PID.map` of this process: lines of address, size and name. Other code generators in the process may use the
/// same file, so it is only ever appended to.
#[derive(Debug)]
pub struct PerfMap {
    file: File,
    path: PathBuf,
}

impl PerfMap {
    /// Opens the file of this process, and empties it if it is older than the process.
    ///
    /// # Errors
    /// The file cannot be made, or it is not this user's own.
    pub fn open() -> Result<Self, ProfileError> {
        Self::open_at(PathBuf::from(format!("/tmp/perf-{}.map", std::process::id())))
    }

    fn open_at(path: PathBuf) -> Result<Self, ProfileError> {
        let failed = |call| {
            let path = path.clone();
            move |errno: Errno| ProfileError::Os { path, source: OsError { call, errno } }
        };
        // Non-blocking: opening a pipe that somebody put there would wait for its reader.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK | SAFE;
        let file = rustix::fs::open(&path, flags, PRIVATE).map_err(failed("open"))?;
        let stat = rustix::fs::fstat(&file).map_err(failed("fstat"))?;
        if !is_ours(&stat) {
            return Err(ProfileError::NotOurs { path });
        }
        if is_stale(&stat) {
            rustix::fs::ftruncate(&file, 0).map_err(failed("ftruncate"))?;
        }
        Ok(Self { file: File::from(file), path })
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// They could not be written.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), ProfileError> {
        self.file.write_all(lines).map_err(|error| written(&self.path, &error))
    }
}

/// `jit-PID.dump` in a folder: what `perf inject --jit` reads. `perf record` learns of it by a mapping of its first page, which
/// lives as long as this value.
#[derive(Debug)]
pub struct JitDump {
    file: File,
    path: PathBuf,
    // Invariant: the address of a mapping of one page that is this value's.
    mark: u64,
}

impl JitDump {
    /// Makes the file, in place of one that an earlier process of this number left, and writes its header.
    ///
    /// # Errors
    /// The folder cannot be written, its file system forbids executable mappings, or the file is somebody else's.
    pub fn create(folder: &Path, header: &[u8]) -> Result<Self, ProfileError> {
        let path = folder.join(format!("jit-{}.dump", std::process::id()));
        let failed = |call| {
            let path = path.clone();
            move |errno: Errno| ProfileError::Os { path, source: OsError { call, errno } }
        };
        match rustix::fs::lstat(&path) {
            Ok(stat) if is_ours(&stat) => rustix::fs::unlink(&path).map_err(failed("unlink"))?,
            Ok(_) => return Err(ProfileError::NotOurs { path }),
            Err(_) => {}
        }
        let mut options = File::options();
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        options.read(true).append(true).create_new(true).mode(0o600).custom_flags(flags.bits().cast_signed());
        let mut file = options.open(&path).map_err(|error| written(&path, &error))?;
        file.write_all(header).map_err(|error| written(&path, &error))?;
        let (page, flags) = (to_usize(PAGE_SIZE), ProtFlags::READ | ProtFlags::EXEC);
        // SAFETY: no address is asked for, so nothing can be replaced; nobody reads or executes the page.
        let mark = unsafe { mmap(core::ptr::null_mut(), page, flags, MapFlags::PRIVATE, &file, 0) };
        let mark = mark.map_err(failed("mmap"))?.expose_provenance() as u64;
        Ok(Self { file, path, mark })
    }

    /// Appends whole records.
    ///
    /// # Errors
    /// They could not be written.
    pub fn append(&mut self, records: &[u8]) -> Result<(), ProfileError> {
        self.file.write_all(records).map_err(|error| written(&self.path, &error))
    }
}

impl Drop for JitDump {
    fn drop(&mut self) {
        let mark = core::ptr::with_exposed_provenance_mut(to_usize(self.mark));
        // SAFETY: by the invariant; nobody uses the page.
        let result = unsafe { munmap(mark, to_usize(PAGE_SIZE)) };
        debug_assert!(result.is_ok(), "munmap of an owned range");
    }
}

const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

fn written(path: &Path, error: &std::io::Error) -> ProfileError {
    let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
    ProfileError::Os { path: path.to_owned(), source: OsError { call: "write", errno } }
}

/// Whether nobody but the calling user can have a hand in this file.
fn is_ours(stat: &Stat) -> bool {
    let others = Mode::WGRP.union(Mode::WOTH);
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_nlink == 1
        && !Mode::from_raw_mode(stat.st_mode).intersects(others)
}

/// Whether a file was written last before this process began, by one that had the same number.
fn is_stale(stat: &Stat) -> bool {
    let Some(age) = host::process_age_ns() else { return false };
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = now.tv_sec.saturating_sub(stat.st_mtime);
    // Times of files are a little behind the clock, and a process's age is told in hundredths of a second.
    u64::try_from(seconds).is_ok_and(|seconds| seconds > age / 1_000_000_000 + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn lines_are_appended_to_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("perf-1.map");
        let mut map = PerfMap::open_at(path.clone()).unwrap();
        map.append(b"1000 10 one\n").unwrap();
        PerfMap::open_at(path.clone()).unwrap().append(b"2000 10 two\n").unwrap();
        map.append(b"3000 10 three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1000 10 one\n2000 10 two\n3000 10 three\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_an_earlier_process_left_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("perf-1.map");
        fs::write(&path, "1000 10 old\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000_000);
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        PerfMap::open_at(path.clone()).unwrap().append(b"2000 10 new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2000 10 new\n");
    }

    #[test]
    fn traps_are_not_stepped_into() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("perf-1.map");
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();

        symlink(&victim, &path).unwrap();
        let refused = PerfMap::open_at(path.clone()).unwrap_err();
        let looped = OsError { call: "open", errno: Errno::LOOP };
        assert_eq!(refused, ProfileError::Os { path: path.clone(), source: looped });
        fs::remove_file(&path).unwrap();

        fs::hard_link(&victim, &path).unwrap();
        assert_eq!(PerfMap::open_at(path.clone()).unwrap_err(), ProfileError::NotOurs { path: path.clone() });
        fs::remove_file(&path).unwrap();

        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(PerfMap::open_at(path.clone()).unwrap_err(), ProfileError::NotOurs { path: path.clone() });
        fs::remove_file(&path).unwrap();

        let dump = folder.path().join(format!("jit-{}.dump", std::process::id()));
        symlink(&victim, &dump).unwrap();
        assert_eq!(
            JitDump::create(folder.path(), b"header").unwrap_err(),
            ProfileError::NotOurs { path: dump.clone() }
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn a_dump_is_mapped_as_code_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("jit-{}.dump", std::process::id()));
        fs::write(&path, "left by another").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mapped = || {
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().any(|line| line.contains(" r-xp ") && line.ends_with(path.to_str().unwrap()))
        };
        let mut dump = JitDump::create(folder.path(), b"header").unwrap();
        dump.append(b" record").unwrap();
        assert!(mapped());
        drop(dump);
        assert!(!mapped());
        assert_eq!(fs::read_to_string(&path).unwrap(), "header record");
    }
}
