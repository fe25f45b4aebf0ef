//! Every limit on what a client may send, in one place. They are memcached's, so that clients tuned to it fit.

/// Longest key, in bytes, as it is stored (a base64 key is measured both before and after decoding).
pub const KEY_MAX: usize = 250;

/// A line of this many bytes without an end is a client gone wrong, unless it is a `get` of many keys.
pub const LINE_MAX: usize = 2048;

/// Where even a `get` of many keys ends.
pub const MULTIGET_LINE_MAX: usize = 1 << 20;

/// Leading spaces that are still taken for the beginning of a long `get`.
pub const LEADING_SPACES_MAX: usize = 100;

/// Words of a command that are looked at; further ones are ignored (`get` alone reads all its keys).
pub const TOKENS_MAX: usize = 23;

/// Words of a meta command, its name and key among them.
pub const META_TOKENS_MAX: usize = 19;

/// Longest `O` token of a meta command, its letter included.
pub const OPAQUE_MAX: usize = 32;

/// Times of expiry up to this many seconds are relative, later ones are points in time.
pub const RELATIVE_TIME_MAX: i64 = 60 * 60 * 24 * 30;

/// The frame header of a datagram.
pub const UDP_HEADER: usize = 8;

/// Payload of one answer datagram after its frame header.
pub const UDP_DATA_MAX: usize = 1400 - UDP_HEADER;

/// What an item of memcached's costs beside key and value; decides which values are "too large".
pub const ITEM_OVERHEAD: usize = 48 + 8 + 1;

/// An item's flags take this much more, unless they are zero.
pub const ITEM_FLAGS: usize = 4;
