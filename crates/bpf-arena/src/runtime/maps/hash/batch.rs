//! Reading a hash map bucket by bucket.

use super::HashMap;
use crate::backend::{BatchRead, LoadedMap};
use crate::error::MapError;

/// Bytes of a place to go on from: the number of a bucket.
const CURSOR: usize = size_of::<u32>();

impl HashMap {
    /// Copies whole buckets while there is room, and empties them if asked to: how many elements. The end of the map is
    /// [`MapError::NotFound`], and a first bucket that has no room [`MapError::NoSpace`].
    pub(super) fn read_buckets(&self, batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        let (key_bytes, value_bytes) = (self.key_bytes(), self.value_bytes());
        let room = batch.keys.len().checked_div(key_bytes).unwrap_or(0);
        if room == 0 {
            return (0, Ok(()));
        }
        let mut bucket = match batch.from.map(|from| from.first_chunk::<CURSOR>()) {
            None => 0,
            Some(Some(cursor)) => u32::from_le_bytes(*cursor),
            Some(None) => return (0, Err(MapError::Invalid)),
        };
        if bucket >= self.table.buckets() {
            return (0, Err(MapError::NotFound));
        }
        let mut total = 0;
        let mut result = Err(MapError::NotFound);
        while bucket < self.table.buckets() {
            if self.table.first_in(bucket).is_some() {
                let keys = tail(batch.keys, total * key_bytes).chunks_exact_mut(key_bytes);
                let values = tail(batch.values, total * value_bytes).chunks_exact_mut(value_bytes);
                let (flags, delete) = (batch.flags, batch.delete);
                let Some(count) = self.read_bucket(bucket, keys.zip(values), flags, delete) else {
                    result = if total == 0 { Err(MapError::NoSpace) } else { Ok(()) };
                    break;
                };
                total += count;
            }
            bucket += 1;
        }
        batch.next.iter_mut().zip(bucket.to_le_bytes()).for_each(|(to, from)| *to = from);
        (total, result)
    }

    /// Copies all elements of a bucket, and removes them if asked to: how many. `None` if there is not room for all.
    fn read_bucket<'b>(
        &self,
        bucket: u32,
        room: impl ExactSizeIterator<Item = (&'b mut [u8], &'b mut [u8])>,
        flags: u64,
        delete: bool,
    ) -> Option<usize> {
        let locked = self.table.lock(bucket)?;
        let elements: Vec<_> = locked.elements().collect();
        if elements.len() > room.len() {
            return None;
        }
        for (element, (key, value)) in elements.iter().zip(room) {
            if let Some(from) = self.table.key(*element) {
                from.read(key);
            }
            self.load(*element, value, flags);
            if delete {
                locked.remove(*element);
            }
        }
        drop(locked);
        if delete {
            let cpu = self.host_cpu();
            elements.iter().for_each(|element| self.give(cpu, *element));
        }
        Some(elements.len())
    }
}

fn tail(bytes: &mut [u8], from: usize) -> &mut [u8] {
    bytes.get_mut(from..).unwrap_or_default()
}
