//! Keys that are indices, as arrays have them.

use crate::error::MapError;

/// The index in a key.
pub(super) fn index_of(key: &[u8]) -> Result<u32, MapError> {
    let bytes = <[u8; 4]>::try_from(key).map_err(|_| MapError::KeySize { expected: 4, given: key.len() })?;
    Ok(u32::from_le_bytes(bytes))
}

/// Writes the index after a key's to `next`: the first one after no key, and after an index past the end.
pub(super) fn next_index(key: Option<&[u8]>, next: &mut [u8], len: u32) -> Result<(), MapError> {
    let index = match key.map(index_of).transpose()? {
        Some(index) if index < len => index + 1,
        _ => 0,
    };
    if index >= len {
        return Err(MapError::NotFound);
    }
    put(next, index);
    Ok(())
}

/// Writes a number of four bytes.
pub(super) fn put(to: &mut [u8], number: u32) {
    to.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
}
