//! A ring buffer's memory inside this process.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::MapMemory;

/// The pages of a ring buffer as the kernel gives them: one with the consumer's position, one with the producer's, the data
/// twice in a row. This process may write its own side's: the first page of a ring buffer, all but the first of a
/// user ring buffer.
#[derive(Debug)]
pub struct RingPages {
    fd: OwnedFd,
    consumer: MapMemory,
    /// Producer's position and data.
    rest: MapMemory,
    data_bytes: usize,
    host_produces: bool,
}

impl RingPages {
    pub(super) fn new(fd: OwnedFd, data_bytes: usize, host_produces: bool) -> Result<Self, Errno> {
        use std::os::fd::AsFd;
        let page = super::page_size();
        let rest = data_bytes.checked_mul(2).and_then(|data| data.checked_add(page)).ok_or(Errno::INVAL)?;
        let consumer = MapMemory::part(fd.as_fd(), 0, page, !host_produces)?;
        let rest = MapMemory::part(fd.as_fd(), page as u64, rest, host_produces)?;
        Ok(Self { fd, consumer, rest, data_bytes, host_produces })
    }

    /// Bytes of data.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes as u64
    }

    /// Reads an aligned 64-bit word with acquire order; 0 outside.
    #[must_use]
    pub fn load_u64(&self, offset: u64) -> u64 {
        let (memory, at) = self.at(offset);
        memory.load_u64(at).unwrap_or(0)
    }

    /// Reads an aligned 32-bit word with acquire order; 0 outside.
    #[must_use]
    pub fn load_u32(&self, offset: u64) -> u32 {
        let (memory, at) = self.at(offset);
        memory.load_u32(at).unwrap_or(0)
    }

    /// Writes an aligned 64-bit word with release order; nothing outside of this side's pages.
    pub fn store_u64(&self, offset: u64, value: u64) {
        let (memory, at) = self.at(offset);
        memory.store_u64(at, value);
    }

    /// Writes an aligned 32-bit word with release order; nothing outside of this side's pages.
    pub fn store_u32(&self, offset: u64, value: u32) {
        let (memory, at) = self.at(offset);
        memory.store_u32(at, value);
    }

    /// Copies bytes out; `false` if they are not all inside.
    #[must_use]
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let (memory, at) = self.at(offset);
        memory.read(at, bytes)
    }

    /// Copies bytes in; `false` if they do not all lie in this side's pages.
    #[must_use]
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let (memory, at) = self.at(offset);
        memory.write(at, bytes)
    }

    /// Waits until there is data (room, in a user ring buffer), at most so long; whether there is.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let flags = if self.host_produces { PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&self.fd, flags)];
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    fn at(&self, offset: u64) -> (&MapMemory, usize) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match offset.checked_sub(super::page_size()) {
            Some(offset) => (&self.rest, offset),
            None => (&self.consumer, offset),
        }
    }
}
