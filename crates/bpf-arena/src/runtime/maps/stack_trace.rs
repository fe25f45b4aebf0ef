//! `BPF_MAP_TYPE_STACK_TRACE`: call stacks, each known by a number that is made of its addresses.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bpf_object::MapSpec;

use super::hash::jhash;
use super::indexed::{index_of, put};
use super::slots::Slots;
use super::{MapCore, UserMap};
use crate::access::{BlockTable, Place};
use crate::backend::LoadedMap;
use crate::cpu::CpuSlot;
use crate::error::MapError;

/// A stack's frames are kept as build ids and offsets.
const BPF_F_STACK_BUILD_ID: u32 = 1 << 5;

/// What a build id says where there is none: the frame is an address (`BPF_STACK_BUILD_ID_IP`).
const ADDRESS_ONLY: u32 = 2;

/// Bytes of a frame as an address, and as a build id: status, 20 bytes of id, address.
const FRAME_BYTES: usize = 8;
const BUILD_ID_BYTES: usize = 32;

/// Stacks by number.
pub(crate) struct StackTraceMap {
    core: MapCore,
    stacks: Slots<Stack>,
    /// How many there are: at most `max_entries`, which may be fewer than there are numbers.
    used: AtomicU32,
}

/// A stack.
struct Stack {
    hash: u32,
    frames: Vec<u64>,
}

/// How a stack is compared with the one that has its number (`BPF_F_FAST_STACK_CMP`, `BPF_F_REUSE_STACKID`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compare {
    /// By the hash alone.
    pub(crate) fast: bool,
    /// A different stack makes room.
    pub(crate) replace: bool,
}

impl StackTraceMap {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let stacks = Slots::new(spec.max_entries.next_power_of_two())?;
        Ok(Self { core: MapCore::new(spec), stacks, used: AtomicU32::new(0) })
    }

    /// Most frames of a stack.
    pub(crate) fn depth(&self) -> usize {
        self.core.spec.value_size as usize / self.frame_bytes()
    }

    /// The number of a stack, which is kept.
    ///
    /// # Errors
    /// Another stack has that number, or there are as many stacks as there can be.
    pub(crate) fn number_of(&self, frames: Vec<u64>, compare: Compare) -> Result<u32, MapError> {
        let mut bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.to_le_bytes()).collect();
        let hash = jhash(Place::over(&mut bytes), 0);
        let number = hash & (self.core.spec.max_entries.next_power_of_two() - 1);
        let known = self.stacks.get(number);
        let same = known
            .as_ref()
            .is_some_and(|stack| stack.hash == hash && (compare.fast || stack.frames == frames));
        if same {
            return Ok(number);
        }
        if known.is_some() && !compare.replace {
            return Err(MapError::Exists);
        }
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (used < self.core.spec.max_entries).then_some(used + 1)
        });
        taken.map_err(|_| MapError::NoMemory { bytes: bytes.len() as u64 })?;
        self.put(number, Some(Arc::new(Stack { hash, frames })));
        Ok(number)
    }

    /// Replaces a stack, of whom there is one less then; whether there was one.
    fn put(&self, number: u32, stack: Option<Arc<Stack>>) -> bool {
        let old = self.stacks.replace(number, stack);
        if old.is_some() {
            self.used.fetch_sub(1, Ordering::Relaxed);
        }
        old.is_some()
    }

    fn frame_bytes(&self) -> usize {
        if self.core.spec.flags & BPF_F_STACK_BUILD_ID == 0 { FRAME_BYTES } else { BUILD_ID_BYTES }
    }

    fn first_from(&self, number: u32) -> Option<u32> {
        self.stacks.filled_from(number).next()
    }
}

impl LoadedMap for StackTraceMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        let stack = self.stacks.get(index_of(key)?).ok_or(MapError::NotFound)?;
        value.fill(0);
        for (to, frame) in value.chunks_exact_mut(self.frame_bytes()).zip(&stack.frames) {
            if to.len() == BUILD_ID_BYTES {
                put(to, ADDRESS_ONLY);
            }
            let from = to.len() - FRAME_BYTES;
            to.iter_mut().skip(from).zip(frame.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }

    fn update(&self, _: &[u8], _: &[u8], _: u64) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let number = index_of(key)?;
        if !self.stacks.has(number) {
            return Err(MapError::TooBig);
        }
        if self.put(number, None) { Ok(()) } else { Err(MapError::NotFound) }
    }

    fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError> {
        self.lookup(key, value, flags)?;
        self.delete(key)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        // A number without a stack starts over.
        let known = key.map(index_of).transpose()?.filter(|number| self.stacks.get(*number).is_some());
        put(next, self.first_from(known.map_or(0, |number| number + 1)).ok_or(MapError::NotFound)?);
        Ok(())
    }
}

impl UserMap for StackTraceMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn update_elem(&self, _: &CpuSlot, _: Place<'_>, _: Place<'_>, _: u64) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    fn delete_elem(&self, _: &CpuSlot, key: Place<'_>) -> Result<(), MapError> {
        self.delete(&key.to_vec())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use bpf_object::MapType;

    use super::*;

    fn map(flags: u32, value_size: u32) -> StackTraceMap {
        let sizes = MapSpec {
            key_size: 4,
            value_size,
            max_entries: 3,
            flags,
            ..MapSpec::new("s", MapType::StackTrace)
        };
        StackTraceMap::create(sizes).unwrap()
    }

    #[test]
    fn a_stack_keeps_its_number() {
        let map = map(0, 32);
        let number = map.number_of(vec![1, 2], Compare::default()).unwrap();
        assert_eq!(map.number_of(vec![1, 2], Compare::default()), Ok(number));
        let mut value = vec![9; 32];
        assert_eq!(map.lookup(&number.to_le_bytes(), &mut value, 0), Ok(()));
        assert_eq!(value[..17], [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut next = [0; 4];
        assert_eq!(map.next_key(None, &mut next), Ok(()));
        assert_eq!(next, number.to_le_bytes());
        assert_eq!(map.next_key(Some(&number.to_le_bytes()), &mut next), Err(MapError::NotFound));
        assert_eq!(map.delete(&number.to_le_bytes()), Ok(()));
        assert_eq!(map.delete(&number.to_le_bytes()), Err(MapError::NotFound));
        assert_eq!(map.delete(&[4, 0, 0, 0]), Err(MapError::TooBig));
    }

    #[test]
    fn another_stack_with_the_number_has_to_be_asked_for() {
        let map = map(0, 32);
        let number = map.number_of(vec![1], Compare::default()).unwrap();
        let twin =
            (2..).find(|frame| map.number_of(vec![*frame], Compare::default()) == Err(MapError::Exists));
        let twin = vec![twin.unwrap()];
        let replace = Compare { replace: true, ..Compare::default() };
        // Those that were found on the way take up room.
        for other in 0..4u32 {
            if other != number {
                let _ = map.delete(&other.to_le_bytes());
            }
        }
        let taken = map.number_of(twin.clone(), replace).unwrap();
        assert_eq!(map.number_of(twin, Compare::default()), Ok(taken));
    }

    #[test]
    fn build_ids_are_addresses() {
        let map = map(BPF_F_STACK_BUILD_ID, 64);
        assert_eq!(map.depth(), 2);
        let number = map.number_of(vec![0x1234], Compare::default()).unwrap();
        let mut value = vec![9; 64];
        assert_eq!(map.lookup(&number.to_le_bytes(), &mut value, 0), Ok(()));
        assert_eq!((value[0], value[24], value[25], value[32]), (2, 0x34, 0x12, 0));
    }
}
