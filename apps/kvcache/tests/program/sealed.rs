//! Values that say whose they are, which they are, and whether they are whole.

/// The value of a key with this number.
pub(crate) fn seal(key: &[u8], number: u64, filler: usize) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(8 + filler, number as u8 | 0x80);
    let sum = checksum(key, &value);
    value.extend(sum.to_le_bytes());
    value
}

/// The number of a value of this key; `None` if it is not whole, or another key's.
pub(crate) fn unseal(key: &[u8], value: &[u8]) -> Option<u64> {
    let (bytes, sum) = value.split_last_chunk::<8>()?;
    let number = u64::from_le_bytes(*bytes.first_chunk()?);
    (u64::from_le_bytes(*sum) == checksum(key, bytes)).then_some(number)
}

/// FNV-1a, over the key and what is in front of the sum.
fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let bytes = key.iter().chain(&[0xff]).chain(value);
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
