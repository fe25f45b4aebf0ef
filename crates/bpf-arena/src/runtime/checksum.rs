//! Internet checksums: `bpf_csum_diff`.

use super::packets::checksum::Sum;
use super::registry::{Row, rows};
use super::{Invocation, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(28), "bpf_csum_diff" => csum_diff;
};

/// `s64 bpf_csum_diff(__be32 *from, u32 from_size, __be32 *to, u32 to_size, __wsum seed)`: the seed's checksum after `to` came and
/// `from` went, in 16 bits.
fn csum_diff(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [from, from_size, to, to_size, seed] = args;
    let (from_size, to_size, seed) = (low32(from_size), low32(to_size), Sum(low32(seed)));
    let bytes = |address, size: u32| match size {
        0 => Ok(Vec::new()),
        _ => Ok(run.memory(address, size.into(), false)?.to_vec()),
    };
    let (from, to) = (bytes(from, from_size)?, bytes(to, to_size)?);
    let sum = match (from_size, to_size) {
        (0, 0) => seed,
        (0, _) => Sum::of(&to, seed),
        (_, 0) => Sum::of(&from, seed.not()).not(),
        _ => Sum::of(&to, seed).sub(Sum::of(&from, Sum::default())),
    };
    // A field has the complement.
    Ok(u64::from(!sum.fold()))
}
