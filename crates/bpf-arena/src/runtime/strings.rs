//! Numbers in text (`bpf_strtol`, `bpf_strtoul`), `bpf_strncmp`, and the string functions that are kfuncs.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::memory::{Bytes, Space, nothing_at};
use super::registry::{Row, rows};
use super::{E2BIG, EINVAL, ENOENT, ERANGE, Invocation, errno, errno32, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(105), "bpf_strtol" => strtol;
    Some(106), "bpf_strtoul" => strtoul;
    Some(182), "bpf_strncmp" => strncmp;
    None, "bpf_strcasecmp" => strcasecmp;
    None, "bpf_strchr" => strchr;
    None, "bpf_strchrnul" => strchrnul;
    None, "bpf_strcmp" => strcmp;
    None, "bpf_strcspn" => strcspn;
    None, "bpf_strlen" => strlen;
    None, "bpf_strnchr" => strnchr;
    None, "bpf_strnlen" => strnlen;
    None, "bpf_strnstr" => strnstr;
    None, "bpf_strrchr" => strrchr;
    None, "bpf_strspn" => strspn;
    None, "bpf_strstr" => strstr;
};

/// Bits of the flags of `bpf_strtol` that say the base.
const BASE: u64 = 0x1f;

/// Most characters of a number that are looked at, sign and spaces aside.
const MAX_DIGITS: usize = 63;

/// Most characters of a string that the kfuncs look at (`XATTR_SIZE_MAX`).
const MAX_STRING: u64 = 65536;

/// `long bpf_strtol(const char *buf, size_t buf_len, u64 flags, long *res)`: the characters used.
fn strtol(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    convert(run, args, |number| {
        let value = if number.negative { number.magnitude.wrapping_neg() } else { number.magnitude };
        let fits = if number.negative { value.cast_signed() <= 0 } else { value.cast_signed() >= 0 };
        if fits { Ok(value) } else { Err(ERANGE) }
    })
}

/// `long bpf_strtoul(const char *buf, size_t buf_len, u64 flags, unsigned long *res)`.
fn strtoul(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    convert(run, args, |number| if number.negative { Err(EINVAL) } else { Ok(number.magnitude) })
}

fn convert(
    run: &Invocation<'_>,
    args: [u64; 5],
    accept: impl Fn(&Number) -> Result<u64, i32>,
) -> Result<u64, TrapKind> {
    let [text, len, flags, result, _] = args;
    let text = run.memory(text, len, false)?.to_vec();
    let result = run.memory(result, 8, true)?;
    result.store(Size::DW, 0, Relaxed);
    let number = parse(&text, flags).and_then(|number| Ok((accept(&number)?, number.used)));
    Ok(match number {
        Ok((value, used)) => {
            result.store(Size::DW, value, Relaxed);
            used as u64
        }
        Err(error) => errno(error),
    })
}

/// A number at the start of a text.
struct Number {
    negative: bool,
    magnitude: u64,
    /// Characters it takes, with the spaces in front.
    used: usize,
}

/// Reads a number: spaces, a minus, a prefix where the base allows it, digits.
fn parse(text: &[u8], flags: u64) -> Result<Number, i32> {
    let base = flags & BASE;
    if flags & !BASE != 0 || !matches!(base, 0 | 8 | 10 | 16) {
        return Err(EINVAL);
    }
    // The kernel's table of characters is Latin-1's, which has one more space.
    let spaces = text.iter().take_while(|byte| matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0)).count();
    let rest = text.get(spaces..).unwrap_or_default();
    let (negative, rest) = rest.strip_prefix(b"-").map_or((false, rest), |rest| (true, rest));
    let mut digits = rest.get(..rest.len().min(MAX_DIGITS)).unwrap_or_default();
    let mut used = spaces + usize::from(negative);
    let hexadecimal = matches!(digits, [b'0', b'x' | b'X', ..]);
    let base = match (base, digits) {
        (0, [b'0', b'x' | b'X', digit, ..]) if digit.is_ascii_hexdigit() => 16,
        (0, [b'0', ..]) => 8,
        (0, _) => 10,
        (base, _) => base,
    };
    if base == 16 && hexadecimal {
        digits = digits.get(2..).unwrap_or_default();
        used += 2;
    }
    let (mut magnitude, mut overflow, mut count) = (0_u64, false, 0);
    for byte in digits {
        let Some(digit) = char::from(*byte).to_digit(16).map(u64::from).filter(|digit| *digit < base) else {
            break;
        };
        let next = magnitude.checked_mul(base).and_then(|product| product.checked_add(digit));
        overflow |= next.is_none();
        magnitude = next.unwrap_or(magnitude);
        count += 1;
    }
    match count {
        0 => Err(EINVAL),
        _ if overflow => Err(ERANGE),
        _ => Ok(Number { negative, magnitude, used: used + count }),
    }
}

/// `long bpf_strncmp(const char *s1, u32 s1_sz, const char *s2)`: -1, 0 or 1.
fn strncmp(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [first, size, second, _, _] = args;
    let first = run.memory(first, u64::from(low32(size)), false)?.to_vec();
    let mut second = Bytes::new(run, Space::Kernel, second);
    for (index, a) in (0..).zip(first) {
        let b = second.get(index).unwrap_or(0);
        if a != b {
            return Ok(if a < b { errno(1) } else { 1 });
        }
        if a == 0 {
            break;
        }
    }
    Ok(0)
}

/// What a string function comes to: a position or the result of a comparison, or an error number.
type Found = Result<i64, i32>;

/// The result of a kfunc of type `int`.
fn int(found: Found) -> u64 {
    match found {
        Ok(value) => u64::from(low32(value.cast_unsigned())),
        Err(error) => errno32(error),
    }
}

/// The string at an address, which must be one that a kernel's memory could have: others are `ERANGE` before they are read.
fn text<'a, 'r>(run: &'a Invocation<'r>, address: u64) -> Result<Bytes<'a, 'r>, i32> {
    let mut bytes = Bytes::new(run, Space::Kernel, address);
    match bytes.get(0) {
        Err(_) if nothing_at(address) == ERANGE => Err(ERANGE),
        _ => Ok(bytes),
    }
}

/// `int bpf_strcmp(const char *s1__ign, const char *s2__ign)`: -1, 0 or 1.
fn strcmp(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [first, second, ..] = args;
    Ok(int(compare(run, first, second, |byte| byte)))
}

/// `int bpf_strcasecmp(const char *s1__ign, const char *s2__ign)`.
fn strcasecmp(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [first, second, ..] = args;
    Ok(int(compare(run, first, second, lower)))
}

fn compare(run: &Invocation<'_>, first: u64, second: u64, folded: impl Fn(u8) -> u8) -> Found {
    let (mut first, mut second) = (text(run, first)?, text(run, second)?);
    for index in 0..MAX_STRING {
        let (a, b) = (folded(first.get(index)?), folded(second.get(index)?));
        if a != b {
            return Ok(if a < b { -1 } else { 1 });
        }
        if a == 0 {
            return Ok(0);
        }
    }
    Err(E2BIG)
}

/// The small letter, in Latin-1 as the kernel's `tolower`.
fn lower(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte + 0x20,
        _ => byte,
    }
}

/// `int bpf_strchr(const char *s__ign, char c)`: where it is first.
fn strchr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, wanted, ..] = args;
    Ok(int(find(run, string, MAX_STRING, wanted)))
}

/// `int bpf_strnchr(const char *s__ign, size_t count, char c)`.
fn strnchr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, count, wanted, _, _] = args;
    Ok(int(find(run, string, count, wanted)))
}

fn find(run: &Invocation<'_>, string: u64, count: u64, wanted: u64) -> Found {
    let mut string = text(run, string)?;
    let wanted = low8(wanted);
    for index in 0..count.min(MAX_STRING) {
        match string.get(index)? {
            byte if byte == wanted => return Ok(position(index)),
            0 => return Err(ENOENT),
            _ => {}
        }
    }
    Err(if count < MAX_STRING { ENOENT } else { E2BIG })
}

/// `int bpf_strchrnul(const char *s__ign, char c)`: where it is first, or the string's end.
fn strchrnul(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, wanted, ..] = args;
    let wanted = low8(wanted);
    Ok(int(end(run, string, MAX_STRING, |byte| byte == wanted)))
}

/// `int bpf_strlen(const char *s__ign)`.
fn strlen(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, ..] = args;
    Ok(int(end(run, string, MAX_STRING, |_| false)))
}

/// `int bpf_strnlen(const char *s__ign, size_t count)`.
fn strnlen(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, count, ..] = args;
    Ok(int(end(run, string, count, |_| false)))
}

/// Where the string ends, or has a byte that `ends` it; after `count` bytes at the latest.
fn end(run: &Invocation<'_>, string: u64, count: u64, ends: impl Fn(u8) -> bool) -> Found {
    let mut string = text(run, string)?;
    for index in 0..count.min(MAX_STRING) {
        let byte = string.get(index)?;
        if byte == 0 || ends(byte) {
            return Ok(position(index));
        }
    }
    if count < MAX_STRING { Ok(position(count)) } else { Err(E2BIG) }
}

/// `int bpf_strrchr(const char *s__ign, int c)`: where it is last.
fn strrchr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, wanted, ..] = args;
    Ok(int(find_last(run, string, low32(wanted))))
}

fn find_last(run: &Invocation<'_>, string: u64, wanted: u32) -> Found {
    let mut string = text(run, string)?;
    let mut last = Err(ENOENT);
    for index in 0..MAX_STRING {
        let byte = string.get(index)?;
        if u32::from(byte) == wanted {
            last = Ok(position(index));
        }
        if byte == 0 {
            return last;
        }
    }
    Err(E2BIG)
}

/// `int bpf_strspn(const char *s__ign, const char *accept__ign)`: how many bytes at the start are in the set.
fn strspn(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, set, ..] = args;
    Ok(int(span(run, string, set, true)))
}

/// `int bpf_strcspn(const char *s__ign, const char *reject__ign)`: how many bytes at the start are not in the set.
fn strcspn(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, set, ..] = args;
    Ok(int(span(run, string, set, false)))
}

fn span(run: &Invocation<'_>, string: u64, set: u64, inside: bool) -> Found {
    let (mut string, mut set) = (text(run, string)?, text(run, set)?);
    for index in 0..MAX_STRING {
        let byte = string.get(index)?;
        if byte == 0 || contains(&mut set, byte)? != inside {
            return Ok(position(index));
        }
    }
    Err(E2BIG)
}

/// Whether a byte that is not NUL is in a string.
fn contains(set: &mut Bytes<'_, '_>, wanted: u8) -> Result<bool, i32> {
    for index in 0..MAX_STRING {
        match set.get(index)? {
            0 => return Ok(false),
            byte if byte == wanted => return Ok(true),
            _ => {}
        }
    }
    Err(E2BIG)
}

/// `int bpf_strstr(const char *s1__ign, const char *s2__ign)`: where the second begins in the first.
fn strstr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, part, ..] = args;
    Ok(int(find_part(run, string, part, MAX_STRING)))
}

/// `int bpf_strnstr(const char *s1__ign, const char *s2__ign, size_t len)`: in the first `len` bytes.
fn strnstr(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [string, part, len, _, _] = args;
    Ok(int(find_part(run, string, part, len)))
}

fn find_part(run: &Invocation<'_>, string: u64, part: u64, len: u64) -> Found {
    let (mut string, mut part) = (text(run, string)?, text(run, part)?);
    for start in 0..MAX_STRING {
        let mut index = 0;
        // One byte of the part behind the last that may match is looked at: its end, where it is a suffix.
        while start.saturating_add(index) <= len && index < MAX_STRING {
            let wanted = part.get(index)?;
            if wanted == 0 {
                return Ok(position(start));
            }
            if start + index == len {
                break;
            }
            match string.get(start + index)? {
                0 => return Err(ENOENT),
                byte if byte != wanted => break,
                _ => index += 1,
            }
        }
        if index == MAX_STRING {
            return Err(E2BIG);
        }
        if start.saturating_add(index) == len {
            return Err(ENOENT);
        }
    }
    Err(E2BIG)
}

/// The argument of type `char`.
fn low8(register: u64) -> u8 {
    let [low, ..] = register.to_le_bytes();
    low
}

/// A position in a string: below [`MAX_STRING`].
fn position(index: u64) -> i64 {
    index.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &[u8], flags: u64) -> Result<(bool, u64, usize), i32> {
        parse(text, flags).map(|number| (number.negative, number.magnitude, number.used))
    }

    #[test]
    fn numbers_end_where_their_digits_do() {
        assert_eq!(number(b"42", 0), Ok((false, 42, 2)));
        assert_eq!(number(b" \t\n-42x", 10), Ok((true, 42, 6)));
        assert_eq!(number(b"0x1fg", 0), Ok((false, 0x1f, 4)));
        assert_eq!(number(b"0x1F", 16), Ok((false, 0x1f, 4)));
        assert_eq!(number(b"1f", 16), Ok((false, 0x1f, 2)));
        assert_eq!(number(b"017", 0), Ok((false, 0o17, 3)));
        assert_eq!(number(b"019", 0), Ok((false, 1, 2)));
        assert_eq!(number(b"0xg", 0), Ok((false, 0, 1)), "the digit 0 in base 8");
        assert_eq!(number(b"0xg", 16), Err(EINVAL), "a prefix without digits");
        assert_eq!(number(b"18446744073709551615", 10), Ok((false, u64::MAX, 20)));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [&b""[..], b" ", b"-", b"--1", b"+1", b"x", b"- 1"] {
            assert_eq!(number(text, 0), Err(EINVAL), "{text:?}");
        }
        for flags in [1, 2, 7, 17, 31, 32, 1 << 40] {
            assert_eq!(number(b"1", flags), Err(EINVAL), "{flags}");
        }
        assert_eq!(number(b"18446744073709551616", 10), Err(ERANGE));
        assert_eq!(number(&[b'0'; 200], 10), Ok((false, 0, MAX_DIGITS)));
    }

    #[test]
    fn letters_of_latin_1_have_small_ones() {
        let changed: Vec<u8> = (0..=u8::MAX).filter(|byte| lower(*byte) != *byte).collect();
        assert_eq!(changed.len(), 26 + 30);
        assert_eq!((lower(0xd7), lower(0xc4), lower(b'Q')), (0xd7, 0xe4, b'q'));
    }
}
