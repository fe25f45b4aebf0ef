//! The file that holds an arena: its pages, and behind them the state that all processes share.
//!
//! A page exists once the file has it. Everyone who maps the file sees pages come and go at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    fstatfs, ftruncate, memfd_create, seek,
};
use rustix::io::{Errno, pread};
use rustix::process::{Resource, getrlimit};

use crate::{OsError, PAGE_SIZE, WindowError};

/// Bytes asked for in one call: a signal undoes the whole call, so calls are kept to about a millisecond.
const CHUNK: u64 = 2048 * PAGE_SIZE;

const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The file of an arena.
#[derive(Debug)]
pub(crate) struct Backing {
    fd: OwnedFd,
}

impl Backing {
    /// Anonymous memory of `len` bytes, none of it existing yet, whose size never changes again.
    pub(crate) fn anonymous(len: u64) -> Result<Self, WindowError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match memfd_create(c"bpf-arena", flags | MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3 the flag is unknown.
            Err(Errno::INVAL) => memfd_create(c"bpf-arena", flags),
            other => other,
        };
        let backing = Self { fd: fd.map_err(OsError::of("memfd_create"))? };
        backing.resize(len)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&backing.fd, seals).map_err(OsError::of("fcntl(F_ADD_SEALS)"))?;
        Ok(backing)
    }

    /// The caller's file on tmpfs, emptied.
    pub(crate) fn of_file(fd: OwnedFd, len: u64) -> Result<Self, WindowError> {
        let system = fstatfs(&fd).map_err(OsError::of("fstatfs"))?;
        #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
        if system.f_type as i64 != TMPFS_MAGIC {
            return Err(WindowError::NotTmpfs);
        }
        let backing = Self { fd };
        backing.resize(0)?;
        backing.resize(len)?;
        Ok(backing)
    }

    /// Another process's arena.
    pub(crate) fn attach(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes in the file, existing or not.
    pub(crate) fn len(&self) -> Result<u64, OsError> {
        let stat = fstat(&self.fd).map_err(OsError::of("fstat"))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Whether nobody can cut the file short under a mapping of it.
    pub(crate) fn cannot_shrink(&self) -> bool {
        fcntl_get_seals(&self.fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
    }

    /// Reads bytes; `false` if they are not all there.
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> bool {
        let wanted = out.len();
        matches!(pread(&self.fd, out, at), Ok(count) if count == wanted)
    }

    /// Makes a range exist, zeroed where it did not. On failure a part of it may exist.
    pub(crate) fn populate(&self, start: u64, len: u64) -> Result<(), OsError> {
        let (mut at, end, mut chunk) = (start, start + len, CHUNK);
        while at < end {
            let now = chunk.min(end - at);
            match fallocate(&self.fd, FallocateFlags::KEEP_SIZE, at, now) {
                Ok(()) => at += now,
                // A signal undid this call. Smaller steps get through between signals that come often.
                Err(Errno::INTR) => chunk = (chunk / 2).next_multiple_of(PAGE_SIZE),
                Err(errno) => return Err(OsError { call: "fallocate", errno }),
            }
        }
        Ok(())
    }

    /// Takes a range away from every mapping of every process.
    pub(crate) fn punch(&self, start: u64, len: u64) -> Result<(), OsError> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match fallocate(&self.fd, mode, start, len) {
                Err(Errno::INTR) => {}
                other => return other.map_err(OsError::of("fallocate(FALLOC_FL_PUNCH_HOLE)")),
            }
        }
    }

    /// First byte in `[from, end)` of a page that exists and was touched. Pages populated and not yet touched are not
    /// seen (the system counts them as holes).
    pub(crate) fn next_touched(&self, from: u64, end: u64) -> Option<u64> {
        // The file offset that this moves is of no use to anyone.
        let found = seek(&self.fd, SeekFrom::Data(from)).ok()?;
        (found < end).then_some(found)
    }

    fn resize(&self, len: u64) -> Result<(), WindowError> {
        // Beyond the limit the call would raise SIGXFSZ, which kills.
        let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        if len > limit {
            return Err(WindowError::FileSizeLimit { needed: len, limit });
        }
        Ok(ftruncate(&self.fd, len).map_err(OsError::of("ftruncate"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_and_go() {
        let backing = Backing::anonymous(64 * PAGE_SIZE).unwrap();
        assert!(backing.cannot_shrink());
        assert_eq!(backing.len().unwrap(), 64 * PAGE_SIZE);
        backing.populate(PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
        assert_eq!(backing.next_touched(0, 64 * PAGE_SIZE), None);
        rustix::io::pwrite(&backing.fd, &[7], PAGE_SIZE + 5).unwrap();
        assert_eq!(backing.next_touched(0, 64 * PAGE_SIZE), Some(PAGE_SIZE));
        assert_eq!(backing.next_touched(0, PAGE_SIZE), None);
        backing.punch(0, 64 * PAGE_SIZE).unwrap();
        assert_eq!(backing.next_touched(0, 64 * PAGE_SIZE), None);
        let mut byte = [1];
        assert!(backing.read(PAGE_SIZE + 5, &mut byte));
        assert_eq!(byte, [0]);
    }

    #[test]
    fn nobody_can_cut_the_file() {
        let backing = Backing::anonymous(PAGE_SIZE).unwrap();
        assert_eq!(ftruncate(&backing.fd, 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&backing.fd, 2 * PAGE_SIZE), Err(Errno::PERM));
    }

    #[test]
    fn only_files_on_tmpfs_will_do() {
        let elsewhere = std::fs::File::open("/proc/self/stat").unwrap();
        assert!(matches!(Backing::of_file(elsewhere.into(), 4096), Err(WindowError::NotTmpfs)));
    }
}
