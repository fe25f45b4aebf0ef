//! What an engine gives the public handles: one trait object per loaded program and map.

use std::sync::Arc;

use bpf_object::MapSpec;

use crate::error::{MapError, RunError};
use crate::kernel::{KernelMap, KernelProgram};
use crate::map::{EventSink, Map};
use crate::runtime::maps::UserMap;
use crate::socket::{SocketError, SocketRun};
use crate::{Outcome, PacketOutcome, PacketRun, Program};

/// A program that an engine has loaded.
pub(crate) trait LoadedProgram: Send + Sync {
    /// Runs it once with this context.
    fn run(&self, ctx: &mut [u8]) -> Result<Outcome, RunError>;

    /// Runs it `count` times with the same context and gives the last outcome, with the time of all runs.
    fn repeat(&self, ctx: &mut [u8], count: u32) -> Result<Outcome, RunError> {
        let begin = std::time::Instant::now();
        let mut outcome = self.run(ctx)?;
        for _ in 1..count {
            outcome = self.run(ctx)?;
        }
        outcome.duration = Some(begin.elapsed());
        Ok(outcome)
    }

    /// Runs it with a packet.
    fn run_packet(&self, run: &mut PacketRun<'_>) -> Result<PacketOutcome, RunError>;

    /// Runs it with a socket.
    fn run_socket(&self, run: &mut SocketRun<'_>) -> Result<Outcome, RunError> {
        if run.socket.is_some() || !run.data.is_empty() {
            return Err(SocketError::ProgramType.into());
        }
        self.run(run.ctx)
    }

    /// The program as the kernel engine has it, if that loaded it.
    fn kernel(&self) -> Option<&KernelProgram> {
        None
    }

    /// The program as the user engine has it, if that loaded it.
    fn user(&self) -> Option<&crate::Instance> {
        None
    }
}

/// A map that an engine has created, as the host uses it. The methods mean what the commands of bpf(2) mean, errors
/// included; `flags` are the kernel's.
///
/// The user engine's maps implement what is particular to their type (what the kernel has in its `struct bpf_map_ops`);
/// what is common to all types - sizes, permissions, freezing, which flags an operation takes - is checked before, in
/// [`runtime::maps::hosted`](crate::runtime::maps). So an implementation may rely on: keys of `key_bytes`, values of
/// `value_bytes`, and `BPF_F_LOCK` only where the value has a lock.
pub(crate) trait LoadedMap: Send + Sync {
    /// Its specification.
    fn spec(&self) -> &MapSpec;

    /// Bytes of a key.
    fn key_bytes(&self) -> usize {
        self.spec().key_size as usize
    }

    /// Bytes of a value as the host has it: per-CPU maps have one value, rounded up to 8 bytes, for each possible CPU;
    /// maps of maps, programs and the like have 4 bytes.
    fn value_bytes(&self) -> usize {
        let spec = self.spec();
        sys::bpf::host_value_bytes(spec.map_type as u32, spec.value_size, crate::cpu::possible())
    }

    /// Copies the value of `key`. Queues and stacks (without a key) give the next value and keep it; a bloom filter
    /// says whether it may have `value`. [`MapError::NotFound`] if there is none.
    fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), MapError>;

    /// Inserts or replaces. Queues, stacks and bloom filters (without a key) push.
    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError>;

    /// Removes.
    fn delete(&self, key: &[u8]) -> Result<(), MapError>;

    /// Copies the key after this one in the map's order, the first one for `None`. [`MapError::NotFound`] at the end.
    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError>;

    /// Copies the value of `key` and removes it. Queues and stacks (without a key) pop.
    fn lookup_and_delete(&self, _key: &[u8], _value: &mut [u8], _flags: u64) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    /// Copies many elements, and removes them if it says so. Maps that have batches one by one use
    /// [`batch::lookup_each`].
    fn lookup_batch(&self, _batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        (0, Err(MapError::NoOperation))
    }

    /// Inserts or replaces many elements; how many, and what ended it. Maps that have batches use [`batch::update_each`].
    fn update_batch(&self, _keys: &[u8], _values: &[u8], _flags: u64) -> (usize, Result<(), MapError>) {
        (0, Err(MapError::NoOperation))
    }

    /// Removes many elements; how many, and what ended it. Maps that have batches use [`batch::delete_each`].
    fn delete_batch(&self, _keys: &[u8], _flags: u64) -> (usize, Result<(), MapError>) {
        (0, Err(MapError::NoOperation))
    }

    /// Makes the map read-only for the host, for good.
    fn freeze(&self) -> Result<(), MapError> {
        Err(MapError::NoOperation)
    }

    /// Stores a map in a map of maps.
    fn set_map(&self, _key: &[u8], _map: &Map, _flags: u64) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    /// Stores a program in a program array.
    fn set_program(&self, _key: &[u8], _program: &Program, _flags: u64) -> Result<(), MapError> {
        Err(MapError::Invalid)
    }

    /// Has a perf event array send what programs output on any CPU to this function.
    fn set_events(&self, _sink: &EventSink) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// The memory of a ring buffer, for its host side.
    fn ring(&self) -> Result<Arc<dyn RingMemory>, MapError> {
        Err(MapError::Invalid)
    }

    /// Copies bytes out of the values where they lie: of data sections and other arrays that can be mapped.
    fn read_at(&self, _offset: u64, _bytes: &mut [u8]) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// Writes bytes into the values where they lie: of data sections and other arrays that can be mapped.
    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// Whether values have a `struct bpf_spin_lock` (for `BPF_F_LOCK`).
    fn has_lock(&self) -> bool {
        false
    }

    /// Whether values have fields of the kernel's own: locks, timers, pointers, lists, trees.
    fn has_fields(&self) -> bool {
        false
    }

    /// The map as the kernel engine has it, if that created it.
    fn kernel(&self) -> Option<&KernelMap> {
        None
    }

    /// The map as the user engine has it, if that created it: the handle that programs share, not this wrapper.
    fn user(&self) -> Option<&Arc<dyn UserMap>> {
        None
    }
}

/// Where a batch goes that is read.
#[derive(Debug)]
pub(crate) struct BatchRead<'b> {
    /// Where to go on, as an earlier call left it in `next`; `None` for the start.
    pub(crate) from: Option<&'b [u8]>,
    /// Where the next call goes on: as long as a key, at least 4 bytes.
    pub(crate) next: &'b mut [u8],
    /// The keys, one after the other, as many as are asked for.
    pub(crate) keys: &'b mut [u8],
    /// As many values.
    pub(crate) values: &'b mut [u8],
    /// `BPF_F_LOCK` or 0.
    pub(crate) flags: u64,
    /// Whether to remove what was read.
    pub(crate) delete: bool,
}

/// The memory of a ring buffer, laid out as the kernel maps it: a page with the consumer's position, a page with the
/// producer's position, and the data, which is a power of two pages and may be read on past its end (it wraps).
///
/// Programs and other threads write it at any moment, so what is read may be anything.
pub(crate) trait RingMemory: Send + Sync {
    /// Bytes of data.
    fn data_bytes(&self) -> u64;

    /// Reads an aligned 64-bit word with acquire order; 0 outside.
    fn load_u64(&self, offset: u64) -> u64;

    /// Writes an aligned 64-bit word with release order.
    fn store_u64(&self, offset: u64, value: u64);

    /// Reads an aligned 32-bit word with acquire order; 0 outside.
    fn load_u32(&self, offset: u64) -> u32;

    /// Writes an aligned 32-bit word with release order.
    fn store_u32(&self, offset: u64, value: u32);

    /// Copies bytes out; `false` if they do not lie inside.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool;

    /// Copies bytes in; `false` if they do not lie inside.
    fn write(&self, offset: u64, bytes: &[u8]) -> bool;

    /// Waits until a program has announced data (ring buffer) or drained some (user ring buffer), at most so long.
    /// Whether that happened.
    fn wait(&self, timeout: std::time::Duration) -> bool;
}

/// Batches made of single operations, as the kernel has them for the types without batches of their own
/// (`generic_map_lookup_batch` and its like).
pub(crate) mod batch {
    use super::{BatchRead, LoadedMap};
    use crate::error::MapError;

    /// Elements in the map's order; the cursor is the last key.
    pub(crate) fn lookup_each(
        map: &dyn LoadedMap,
        batch: &mut BatchRead<'_>,
    ) -> (usize, Result<(), MapError>) {
        let (key_bytes, value_bytes) = (map.key_bytes(), map.value_bytes());
        let mut last = batch.from.and_then(|from| from.get(..key_bytes)).map(<[u8]>::to_vec);
        let mut next = vec![0; key_bytes];
        let mut count = 0;
        let slots = batch
            .keys
            .chunks_exact_mut(key_bytes.max(1))
            .zip(batch.values.chunks_exact_mut(value_bytes.max(1)));
        for (key, value) in slots {
            loop {
                if let Err(error) = map.next_key(last.as_deref(), &mut next) {
                    keep(batch.next, last.as_deref().filter(|_| count > 0));
                    return (count, Err(error));
                }
                last = Some(next.clone());
                match map.lookup(&next, value, batch.flags) {
                    Ok(()) => break,
                    Err(MapError::NotFound) => {}
                    // The kernel then leaves the count at 0.
                    Err(error) => return (0, Err(error)),
                }
            }
            key.copy_from_slice(&next);
            count += 1;
        }
        keep(batch.next, last.as_deref().filter(|_| count > 0));
        (count, Ok(()))
    }

    /// One update after the other, until one fails.
    pub(crate) fn update_each(
        map: &dyn LoadedMap,
        keys: &[u8],
        values: &[u8],
        flags: u64,
    ) -> (usize, Result<(), MapError>) {
        let pairs =
            keys.chunks_exact(map.key_bytes().max(1)).zip(values.chunks_exact(map.value_bytes().max(1)));
        until_error(pairs.map(|(key, value)| map.update(key, value, flags)))
    }

    /// One removal after the other, until one fails.
    pub(crate) fn delete_each(map: &dyn LoadedMap, keys: &[u8]) -> (usize, Result<(), MapError>) {
        until_error(keys.chunks_exact(map.key_bytes().max(1)).map(|key| map.delete(key)))
    }

    fn until_error(results: impl Iterator<Item = Result<(), MapError>>) -> (usize, Result<(), MapError>) {
        let mut done = 0;
        for result in results {
            if let Err(error) = result {
                return (done, Err(error));
            }
            done += 1;
        }
        (done, Ok(()))
    }

    fn keep(cursor: &mut [u8], key: Option<&[u8]>) {
        cursor.iter_mut().zip(key.unwrap_or_default()).for_each(|(to, from)| *to = *from);
    }
}
