//! Numbers as C's `strtol` and `strtoul` read them, which is what clients have come to rely on: leading white space
//! and a sign are fine, and white space ends the number whatever stands behind it. A NUL ends the text.

/// An unsigned number of 64 bits. Negative ones wrap as in C, and are refused if that makes them look large.
pub fn unsigned(text: &[u8]) -> Option<u64> {
    let text = text.split(|byte| *byte == 0).next()?;
    let Number { negative, magnitude } = scan(text)?;
    let value = if negative { magnitude.wrapping_neg() } else { magnitude };
    let looks_negative = value > u64::MAX / 2;
    if looks_negative && text.contains(&b'-') { None } else { Some(value) }
}

/// An unsigned number of 32 bits: read with 64, the upper half dropped.
pub fn unsigned32(text: &[u8]) -> Option<u32> {
    unsigned(text).map(low32)
}

/// A signed number of 32 bits: read with 64, the upper half dropped.
pub fn signed32(text: &[u8]) -> Option<i32> {
    let Number { negative, magnitude } = scan(text)?;
    let limit = i64::MAX.unsigned_abs() + u64::from(negative);
    if magnitude > limit {
        return None;
    }
    let value = if negative { magnitude.wrapping_neg() } else { magnitude };
    Some(low32(value).cast_signed())
}

struct Number {
    negative: bool,
    magnitude: u64,
}

fn scan(text: &[u8]) -> Option<Number> {
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if !is_space(*first) {
            break;
        }
        rest = tail;
    }
    let negative = rest.first() == Some(&b'-');
    if let [b'-' | b'+', tail @ ..] = rest {
        rest = tail;
    }
    let mut digits = 0;
    let mut magnitude = 0_u64;
    for byte in rest {
        if !byte.is_ascii_digit() {
            if is_space(*byte) {
                break;
            }
            return None;
        }
        digits += 1;
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (digits > 0).then_some(Number { negative, magnitude })
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[allow(clippy::cast_possible_truncation, reason = "dropping the upper half is the rule")]
fn low32(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::{signed32, unsigned, unsigned32};

    #[test]
    fn as_c_reads_them() {
        for (text, value) in [
            ("0", Some(0)),
            ("12", Some(12)),
            (" \t+12", Some(12)),
            ("12 x", Some(12)),
            ("12x", None),
            ("12\0x", Some(12)),
            ("", None),
            ("-", None),
            ("+ 1", None),
            ("-0", Some(0)),
            ("-1", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18446744073709551615 -", None),
            ("-18446744073709551615", Some(1)),
        ] {
            assert_eq!(unsigned(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn narrower_ones_wrap() {
        assert_eq!(unsigned32(b"4294967297"), Some(1));
        assert_eq!(signed32(b"4294967297"), Some(1));
        assert_eq!(signed32(b"-1"), Some(-1));
        assert_eq!(signed32(b"2147483648"), Some(i32::MIN));
        assert_eq!(signed32(b"9223372036854775808"), None);
        assert_eq!(signed32(b"-9223372036854775808"), Some(0));
    }
}
