//! Many elements of a map in one call.

#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use super::error::BpfError;
use super::raw::{Attr, Command, address, address_mut, call, length};
use super::{Capability, Map};

/// Where a batch goes that is read.
#[derive(Debug)]
pub struct BatchRead<'b> {
    /// Where to go on, as an earlier call left it in `next`; `None` for the start.
    pub from: Option<&'b [u8]>,
    /// Where the next call goes on; at least [`Map::cursor_bytes`] long.
    pub next: &'b mut [u8],
    /// The keys, one after the other. Its length is the number of keys asked for.
    pub keys: &'b mut [u8],
    /// The values, one after the other; as many as there are keys.
    pub values: &'b mut [u8],
    /// `BPF_F_LOCK` or 0.
    pub flags: u64,
    /// Whether to remove what was read.
    pub delete: bool,
}

impl Map {
    /// Bytes of the cursor of a batch: a bucket's number or a key, whichever the map's type uses.
    #[must_use]
    pub fn cursor_bytes(&self) -> usize {
        self.key_bytes().max(size_of::<u32>())
    }

    /// Reads many elements at once. The number of elements read comes with the result: the kernel may have read some
    /// and then say why it read no more (ENOENT at the end, ENOSPC where a bucket does not fit).
    ///
    /// # Errors
    /// A buffer has the wrong size; the kernel's refusals are in the result.
    pub fn lookup_batch(&self, batch: &mut BatchRead<'_>) -> Result<(usize, Result<(), BpfError>), BpfError> {
        let count = self.count(batch.keys.len(), Some(batch.values.len()))?;
        let cursor = self.cursor_bytes();
        for given in batch.from.into_iter().map(<[u8]>::len).chain([batch.next.len()]) {
            if given < cursor {
                return Err(BpfError::Size { what: "cursor", expected: cursor, got: given });
            }
        }
        let attr = BatchLayout {
            in_batch: batch.from.map_or(0, address),
            out_batch: address_mut(batch.next),
            keys: address_mut(batch.keys),
            values: address_mut(batch.values),
            ..self.layout(count, batch.flags)
        };
        // The cursors are as long as the map's are, by the check above; keys and values by `count`.
        if batch.delete {
            Ok(run(BatchAttr::<{ Command::MapLookupAndDeleteBatch as i32 }>(attr)))
        } else {
            Ok(run(BatchAttr::<{ Command::MapLookupBatch as i32 }>(attr)))
        }
    }

    /// Stores many elements at once; gives how many were stored, with the refusal that ended it.
    ///
    /// # Errors
    /// A buffer has the wrong size; the kernel's refusals are in the result.
    pub fn update_batch(
        &self,
        keys: &[u8],
        values: &[u8],
        flags: u64,
    ) -> Result<(usize, Result<(), BpfError>), BpfError> {
        let count = self.count(keys.len(), Some(values.len()))?;
        let attr = BatchLayout { keys: address(keys), values: address(values), ..self.layout(count, flags) };
        Ok(run(BatchAttr::<{ Command::MapUpdateBatch as i32 }>(attr)))
    }

    /// Removes many elements at once; gives how many were removed, with the refusal that ended it.
    ///
    /// # Errors
    /// A buffer has the wrong size; the kernel's refusals are in the result.
    pub fn delete_batch(&self, keys: &[u8], flags: u64) -> Result<(usize, Result<(), BpfError>), BpfError> {
        let count = self.count(keys.len(), None)?;
        let attr = BatchLayout { keys: address(keys), ..self.layout(count, flags) };
        Ok(run(BatchAttr::<{ Command::MapDeleteBatch as i32 }>(attr)))
    }

    fn layout(&self, count: u32, elem_flags: u64) -> BatchLayout {
        let map_fd = self.as_fd().as_raw_fd().cast_unsigned();
        BatchLayout { count, map_fd, elem_flags, ..BatchLayout::default() }
    }

    /// How many elements buffers of these lengths hold.
    fn count(&self, keys: usize, values: Option<usize>) -> Result<u32, BpfError> {
        // A map without keys has no batches; the kernel says so.
        let count = keys.checked_div(self.key_bytes()).unwrap_or(0);
        let whole = count.saturating_mul(self.key_bytes());
        if whole != keys {
            return Err(BpfError::Size { what: "keys", expected: whole, got: keys });
        }
        let expected = count.saturating_mul(self.value_bytes());
        match values {
            Some(got) if got != expected => Err(BpfError::Size { what: "values", expected, got }),
            _ => Ok(length(count)),
        }
    }
}

/// Makes the call; how many elements the kernel says it handled, and its answer.
fn run<const COMMAND: i32>(mut attr: BatchAttr<COMMAND>) -> (usize, Result<(), BpfError>)
where
    BatchAttr<COMMAND>: Attr,
{
    let asked = attr.0.count;
    // SAFETY: the three callers hand over borrowed buffers of `count` keys and values of the map's sizes, and cursors as
    // long as the map's; what the kernel writes is writable.
    let result = unsafe { call(&mut attr) };
    let command = <BatchAttr<COMMAND> as Attr>::COMMAND;
    // Before it begins the kernel leaves the count alone; a success handled all it says.
    let untouched = result.as_ref().is_err_and(|&errno| errno != Errno::NOENT) && attr.0.count == asked;
    let count = if untouched { 0 } else { attr.0.count as usize };
    (count, result.map(drop).map_err(|errno| BpfError::from_errno(command, errno, &[Capability::Bpf])))
}

#[derive(Default)]
#[repr(C)]
struct BatchLayout {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The batch commands share one struct; which command is a parameter so that each keeps its own type.
#[repr(transparent)]
struct BatchAttr<const COMMAND: i32>(BatchLayout);

macro_rules! batch_commands {
    ($($name:ident)*) => {$(
        // SAFETY: the kernel's struct for the batch commands, without padding.
        unsafe impl Attr for BatchAttr<{ Command::$name as i32 }> {
            const COMMAND: Command = Command::$name;
        }
    )*};
}

batch_commands! { MapLookupBatch MapLookupAndDeleteBatch MapUpdateBatch MapDeleteBatch }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<BatchLayout>(), 56);
    }
}
