//! Random numbers from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// 64 random bits, to seed a generator with. 0 where the kernel gives none (a sandbox without `getrandom`).
#[must_use]
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}
