//! Internet checksums: `bpf_csum_diff`.

use super::registry::{Row, rows};
use super::{EINVAL, Invocation, errno, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(28), "bpf_csum_diff" => csum_diff;
};

/// `s64 bpf_csum_diff(__be32 *from, u32 from_size, __be32 *to, u32 to_size, __wsum seed)`: the seed's checksum after `to` came and
/// `from` went, in 16 bits.
fn csum_diff(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [from, from_size, to, to_size, seed] = args;
    let (from_size, to_size, seed) = (low32(from_size), low32(to_size), low32(seed));
    if (from_size | to_size) % 4 != 0 {
        return Ok(errno(EINVAL));
    }
    let bytes = |address, size: u32| match size {
        0 => Ok(Vec::new()),
        _ => Ok(run.memory(address, size.into(), false)?.to_vec()),
    };
    let (from, to) = (bytes(from, from_size)?, bytes(to, to_size)?);
    let sum = match (from_size, to_size) {
        (0, _) => partial(&to, seed),
        (_, 0) => !partial(&from, !seed),
        _ => add(partial(&to, seed), !partial(&from, 0)),
    };
    Ok(u64::from(fold(sum)))
}

/// The sum of the bytes' 32-bit words and `seed`, carries added back in (`csum_partial`). 0 only if all of them are.
pub(super) fn partial(bytes: &[u8], seed: u32) -> u32 {
    bytes.chunks(4).fold(seed, |sum, chunk| {
        let mut word = [0; 4];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        add(sum, u32::from_le_bytes(word))
    })
}

/// The sum of two such sums.
pub(super) fn add(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry.into())
}

/// The sum in 16 bits.
pub(super) fn fold(sum: u32) -> u16 {
    let [low, high] = [sum & 0xffff, sum >> 16];
    let sum = low + high;
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_sums_to_what_rfc_1071_says() {
        // Its example of section 3, in the order of bytes of this machine.
        let sum = fold(partial(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0));
        assert_eq!(sum.to_le_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn bytes_that_are_no_whole_word_count_as_if_zeroes_followed() {
        assert_eq!(partial(&[1, 2, 3, 4, 5], 0), partial(&[1, 2, 3, 4, 5, 0, 0, 0], 0));
        assert_eq!(partial(&[0xff; 4], 1), 1, "a carry comes back in");
    }
}
