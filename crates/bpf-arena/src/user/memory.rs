//! What programs of this process find in "user space".

use std::fmt;

/// Memory that `bpf_probe_read_user`, `bpf_copy_from_user` and their kin read, besides the arena at its user addresses.
///
/// Called on the thread that runs the program. Any `Fn(u64, &mut [u8]) -> bool` is one.
pub trait UserMemory: Send + Sync {
    /// Fills `bytes` from `address` on; `false`, with whatever in `bytes`, if any of them is not there.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;
}

impl<F: Fn(u64, &mut [u8]) -> bool + Send + Sync> UserMemory for F {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        self(address, bytes)
    }
}

impl fmt::Debug for dyn UserMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserMemory")
    }
}

/// Bytes of this process at the address that they really have: what a program of either engine reads there.
///
/// ```
/// use bpf_arena::{OfferedBytes, UserMemory};
///
/// let offered = OfferedBytes::new(b"hello".to_vec());
/// let mut bytes = [0; 2];
/// assert!(offered.read(offered.address() + 1, &mut bytes));
/// assert_eq!(&bytes, b"el");
/// assert!(!offered.read(offered.address() + 4, &mut bytes));
/// ```
#[derive(Debug)]
pub struct OfferedBytes {
    bytes: Box<[u8]>,
}

impl OfferedBytes {
    /// Offers these bytes, which then never change.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into_boxed_slice() }
    }

    /// Address of the first byte, to be given to programs.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.bytes.as_ptr().addr() as u64
    }
}

impl UserMemory for OfferedBytes {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let from = address.checked_sub(self.address()).and_then(|offset| usize::try_from(offset).ok());
        let found = from.and_then(|from| self.bytes.get(from..from.checked_add(bytes.len())?));
        found.map(|found| bytes.copy_from_slice(found)).is_some()
    }
}
