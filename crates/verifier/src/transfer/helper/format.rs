//! Formats of `bpf_snprintf`: they are constant and are checked against the data (`check_bpf_snprintf_call`).

use isa::Reg;

use super::super::Step;
use crate::report::reason::{CallFault, Reason};
use crate::state::reg::RegType;

/// Bytes of one datum.
const DATUM: u64 = 8;

impl Step<'_> {
    /// The format in `R3` against the size of the data in `R5`.
    pub(super) fn check_format(&mut self) -> Result<(), Reason> {
        let (format, size) = (self.read(Reg::R3)?, self.read(Reg::R5)?);
        let bytes = size.scalar.bits.value();
        if bytes % DATUM != 0 {
            return Err(CallFault::FormatData.into());
        }
        let RegType::PtrToMapValue { map } = format.kind else {
            return Err(Reason::Internal { what: "a format outside a map" });
        };
        let offset = format.scalar.as_constant().unwrap_or(0).cast_signed();
        let start = usize::try_from(offset.saturating_add(i64::from(format.offset))).unwrap_or(usize::MAX);
        // Bytes past the initial ones are zero.
        let text = self.plan.map(map).and_then(|m| m.initial.get(start..)).unwrap_or_default();
        if is_format(text, bytes / DATUM) { Ok(()) } else { Err(CallFault::Format.into()) }
    }
}

/// Whether `text`, up to its first zero, is a format for at most `data` values of 64 bits.
fn is_format(text: &[u8], data: u64) -> bool {
    let text = text.split(|b| *b == 0).next().unwrap_or_default();
    let mut specifiers = 0;
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte.is_ascii() && !is_printable(byte) && !is_space(byte) {
            return false;
        }
        if byte != b'%' {
            continue;
        }
        if let Some(after) = rest.strip_prefix(b"%") {
            rest = after;
            continue;
        }
        if specifiers >= data {
            return false;
        }
        let Some(after) = conversion(rest) else { return false };
        rest = after;
        specifiers += 1;
    }
    true
}

/// What follows the conversion (without `%`) that `text` begins with; `None` if it is none.
fn conversion(text: &[u8]) -> Option<&[u8]> {
    let flags = text.iter().take_while(|b| b"0+- ".contains(b)).count();
    let mut text = text.get(flags..)?;
    if text.first().is_some_and(|b| (b'1'..=b'9').contains(b)) {
        text = text.get(text.iter().take_while(|b| b.is_ascii_digit()).count()..)?;
    }
    let (&kind, after) = text.split_first()?;
    match kind {
        b'p' => pointer(after),
        b's' => string_end(after),
        b'c' => Some(after),
        _ => {
            let long = text.iter().take(2).take_while(|b| **b == b'l').count();
            let (kind, after) = text.get(long..)?.split_first()?;
            b"iduxX".contains(kind).then_some(after)
        }
    }
}

/// What follows `%p`.
fn pointer(text: &[u8]) -> Option<&[u8]> {
    match text {
        [] => Some(text),
        [next, ..] if is_space(*next) || next.is_ascii_punctuation() => Some(text),
        [b'k' | b'u', b's', after @ ..] => string_end(after),
        [b'K' | b'x' | b's' | b'S' | b'B', after @ ..] => Some(after),
        [b'i' | b'I', b'4' | b'6', after @ ..] => Some(after),
        _ => None,
    }
}

/// A string ends with a space, a punctuation mark or the format.
fn string_end(text: &[u8]) -> Option<&[u8]> {
    match text.first() {
        Some(next) if !is_space(*next) && !next.is_ascii_punctuation() => None,
        _ => Some(text),
    }
}

fn is_space(byte: u8) -> bool {
    // `isspace` of the kernel takes the vertical tab and the hard space too.
    matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0)
}

fn is_printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::is_format;

    #[test]
    fn formats() {
        for (text, data) in [
            ("", 0),
            ("%%", 0),
            ("%d %u %x %i %X", 5),
            ("%ld %lld %llu", 3),
            ("%08x %-4d %+5i", 3),
            ("%p %pK %px %ps %pS %pB", 6),
            ("%pI4 %pi6", 2),
            ("%s, %pks %pus.", 3),
            ("%c%c", 2),
            ("%d\0%z", 1),
            ("caf\u{e9}", 0),
        ] {
            assert!(is_format(text.as_bytes(), data), "{text}");
        }
        for (text, data) in [
            ("%d", 0),
            ("%", 1),
            ("%z", 1),
            ("%lc", 1),
            ("%llld", 1),
            ("%sx", 1),
            ("%pksx", 1),
            ("%pz", 1),
            ("%pI5", 1),
            ("%1$d", 1),
            ("\u{1}", 0),
            ("%\u{e9}", 1),
        ] {
            assert!(!is_format(text.as_bytes(), data), "{text}");
        }
    }
}
