//! What an arena is made of, from the bottom up: address ranges ([`mapping`]), the file that holds its pages
//! ([`backing`]), the watch on missing pages ([`uffd`]), the state that all processes share ([`meta`], [`lock`]) and the
//! page allocator over it ([`search`], [`pages`]).

pub(crate) mod backing;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod meta;
pub(crate) mod pages;
pub(crate) mod search;
pub(crate) mod uffd;

const _: () = assert!(usize::BITS == 64, "a 4 GiB window needs 64-bit addresses");

/// A 64-bit address or length as the system takes it.
#[allow(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
pub(crate) const fn to_usize(value: u64) -> usize {
    value as usize
}
