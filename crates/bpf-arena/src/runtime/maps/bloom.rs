//! `BPF_MAP_TYPE_BLOOM_FILTER`: a set that may find what was never put into it, and never misses what was.
//!
//! With `BPF_F_ZERO_SEED` what it finds is a promise, so that size and hash functions are the kernel's.

use std::any::Any;
use std::sync::atomic::Ordering;

use bpf_object::MapSpec;
use isa::{AtomicOp, Size};

use super::attributes::BPF_F_ZERO_SEED;
use super::hash::jhash;
use super::{MapCore, UserMap, memory};
use crate::access::{Block, BlockTable, Place};
use crate::backend::LoadedMap;
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::BPF_ANY;

/// Hash functions of a filter that does not say how many.
const DEFAULT_FUNCTIONS: u32 = 5;

/// Bits of a word.
const WORD: u64 = 64;

/// A Bloom filter.
pub(super) struct BloomFilter {
    core: MapCore,
    bits: Block,
    /// Number of bits, less one.
    mask: u32,
    seed: u32,
    functions: u32,
}

impl BloomFilter {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let functions = match spec.extra {
            0 => DEFAULT_FUNCTIONS,
            count => u32::try_from(count & 0xf).unwrap_or(DEFAULT_FUNCTIONS),
        };
        let mask = mask(spec.max_entries, functions);
        let seed = if spec.flags & BPF_F_ZERO_SEED == 0 { fastrand::u32(..) } else { 0 };
        let bits = memory::reserve((u64::from(mask) + 1) / 8)?;
        Ok(Self { core: MapCore::new(spec), bits, mask, seed, functions })
    }

    /// The words and bits of a value.
    fn bits_of(&self, value: Place<'_>) -> impl Iterator<Item = (Place<'_>, u64)> {
        (0..self.functions).filter_map(move |index| {
            let bit = u64::from(jhash(value, self.seed.wrapping_add(index)) & self.mask);
            Some((self.bits.place(bit / WORD * 8, 8)?, 1 << (bit % WORD)))
        })
    }

    fn push(&self, value: Place<'_>, flags: u64) -> Result<(), MapError> {
        if flags != BPF_ANY {
            return Err(MapError::Invalid);
        }
        self.bits_of(value).for_each(|(word, bit)| {
            word.fetch(Size::DW, AtomicOp::Or, bit, 0);
        });
        Ok(())
    }

    fn find(&self, value: Place<'_>) -> Result<(), MapError> {
        let found = self.bits_of(value).all(|(word, bit)| word.load(Size::DW, Ordering::Relaxed) & bit != 0);
        if found { Ok(()) } else { Err(MapError::NotFound) }
    }
}

/// The number of bits, a power of two, less one: about 7/5 for each entry and function.
fn mask(entries: u32, functions: u32) -> u32 {
    let bits = entries.checked_mul(functions).and_then(|bits| (bits / 5).checked_mul(7));
    match bits.filter(|bits| *bits <= 1 << 31) {
        Some(bits) => bits.max(64).next_power_of_two() - 1,
        None => u32::MAX,
    }
}

impl LoadedMap for BloomFilter {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, _: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        self.find(Place::over(value))
    }

    fn update(&self, _: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.push(Place::over(&mut value.to_vec()), flags)
    }

    fn delete(&self, _: &[u8]) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }
}

impl UserMap for BloomFilter {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn update_elem(&self, _: &CpuSlot, _: Place<'_>, _: Place<'_>, _: u64) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn push_elem(&self, value: Place<'_>, flags: u64) -> Result<(), MapError> {
        self.push(value, flags)
    }

    fn peek_elem(&self, value: Place<'_>) -> Result<(), MapError> {
        self.find(value)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use bpf_object::MapType;

    use super::*;

    #[test]
    fn as_many_bits_as_the_kernel_has() {
        assert_eq!(mask(1, 1), 63);
        assert_eq!(mask(100, 5), 1023);
        assert_eq!(mask(1000, 3), 8191);
        assert_eq!(mask(u32::MAX, 1), u32::MAX);
        assert_eq!(mask(1 << 29, 15), u32::MAX);
    }

    #[test]
    fn what_was_pushed_is_found() {
        for flags in [0, BPF_F_ZERO_SEED] {
            let spec = MapSpec {
                value_size: 5,
                max_entries: 1000,
                flags,
                ..MapSpec::new("b", MapType::BloomFilter)
            };
            let filter = BloomFilter::create(spec).unwrap();
            let value = |number: u32| [&number.to_le_bytes()[..], &[7]].concat();
            for number in 0..1000 {
                filter.update(&[], &value(number), BPF_ANY).unwrap();
            }
            assert!((0..1000).all(|number| filter.lookup(&[], &mut value(number), 0).is_ok()));
            let wrong = (1000..11_000).filter(|number| filter.lookup(&[], &mut value(*number), 0).is_ok());
            assert!(wrong.count() < 1000);
            assert_eq!(filter.update(&[], &value(1), 1), Err(MapError::Invalid));
            assert_eq!(filter.delete(&[]), Err(MapError::Unsupported));
        }
    }
}
