//! The format strings of `bpf_trace_printk`, `bpf_trace_vprintk` and `bpf_stream_vprintk`.
//!
//! The kernel accepts a subset of `printf`: flags `0`, `+`, `-` and space, a width, no precision; `%d %i %u %x %X`
//! with `l` and `ll`, `%c`, `%s` and `%pks` `%pus`, `%p` `%px` `%pK` `%ps` `%pS` `%pB`, `%pI4` `%pi4` `%pI6` `%pi6`, `%%`.
//! Everything else is EINVAL, and so are control characters. Differences: `%p` is not hashed here, and addresses have no symbols.

/// Most bytes of a formatted message, as in the kernel.
pub(crate) const MAX_MESSAGE: usize = 1024 - 1;

/// Most bytes read for one `%s`.
pub(crate) const MAX_STRING: usize = 512 - 1;

/// A format string that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Value(Conversion),
}

/// One `%` conversion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Conversion {
    zero: bool,
    plus: bool,
    minus: bool,
    space: bool,
    width: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Char,
    Text,
    Signed(Bits),
    Unsigned(Bits),
    Hex(Bits),
    UpperHex(Bits),
    /// 16 hexadecimal digits.
    Pointer,
    /// `0x` and hexadecimal digits: what the kernel prints for an address without a symbol.
    Symbol,
    Ip {
        v6: bool,
        /// `%pi4` and `%pi6`: leading zeros, no colons.
        plain: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    B32,
    B64,
}

/// The string is none that the kernel accepts (`EINVAL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadFormat;

/// Reads memory that arguments point to.
pub(crate) trait Source {
    /// The bytes at `address` up to a NUL, at most `max`; `None` if there is no memory.
    fn string(&self, address: u64, max: usize) -> Option<Vec<u8>>;
    /// Exactly `bytes.len()` bytes at `address`; `false` if there is no memory.
    fn bytes(&self, address: u64, bytes: &mut [u8]) -> bool;
}

impl Template {
    /// Reads a format string, without its terminating NUL.
    pub(crate) fn parse(format: &[u8]) -> Result<Self, BadFormat> {
        let mut cursor = Cursor { rest: format };
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        while let Some(byte) = cursor.next() {
            if byte.is_ascii_control() && !byte.is_ascii_whitespace() && byte != 0x0b {
                return Err(BadFormat);
            }
            if byte != b'%' || cursor.take(b"%") {
                text.push(byte);
                continue;
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Value(conversion(&mut cursor)?));
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { pieces })
    }

    /// Number of arguments the conversions take.
    pub(crate) fn arguments(&self) -> usize {
        self.pieces.iter().filter(|p| matches!(p, Piece::Value(_))).count()
    }

    /// Formats `arguments`, of which there are enough; cut at [`MAX_MESSAGE`] bytes.
    pub(crate) fn render(&self, arguments: &[u64], source: &impl Source) -> Vec<u8> {
        let mut message = Vec::new();
        let mut arguments = arguments.iter().copied();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => message.extend_from_slice(text),
                Piece::Value(conversion) => {
                    conversion.render(arguments.next().unwrap_or(0), source, &mut message);
                }
            }
            message.truncate(MAX_MESSAGE);
        }
        message
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn take(&mut self, prefix: &[u8]) -> bool {
        self.rest.strip_prefix(prefix).map(|rest| self.rest = rest).is_some()
    }

    /// Whether a conversion that must end here does.
    fn at_boundary(&self) -> bool {
        self.peek().is_none_or(|b| b.is_ascii_whitespace() || b == 0x0b || b.is_ascii_punctuation())
    }
}

/// Reads a conversion, after its `%`.
fn conversion(cursor: &mut Cursor<'_>) -> Result<Conversion, BadFormat> {
    let mut conversion = Conversion::default();
    loop {
        match cursor.peek() {
            Some(b'0') => conversion.zero = true,
            Some(b'+') => conversion.plus = true,
            Some(b'-') => conversion.minus = true,
            Some(b' ') => conversion.space = true,
            _ => break,
        }
        cursor.next();
    }
    while let Some(digit @ b'0'..=b'9') = cursor.peek() {
        let width = conversion.width.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
        conversion.width = width.min(MAX_MESSAGE);
        cursor.next();
    }
    conversion.kind = match cursor.next() {
        Some(b'c') => Kind::Char,
        Some(b's') if cursor.at_boundary() => Kind::Text,
        Some(b'p') => pointer(cursor)?,
        Some(b'l') => {
            cursor.take(b"l");
            integer(cursor.next(), Bits::B64)?
        }
        other => integer(other, Bits::B32)?,
    };
    Ok(conversion)
}

fn integer(letter: Option<u8>, bits: Bits) -> Result<Kind, BadFormat> {
    match letter {
        Some(b'd' | b'i') => Ok(Kind::Signed(bits)),
        Some(b'u') => Ok(Kind::Unsigned(bits)),
        Some(b'x') => Ok(Kind::Hex(bits)),
        Some(b'X') => Ok(Kind::UpperHex(bits)),
        _ => Err(BadFormat),
    }
}

/// Reads what follows `%p`.
fn pointer(cursor: &mut Cursor<'_>) -> Result<Kind, BadFormat> {
    if cursor.at_boundary() {
        return Ok(Kind::Pointer);
    }
    if cursor.take(b"ks") || cursor.take(b"us") {
        return if cursor.at_boundary() { Ok(Kind::Text) } else { Err(BadFormat) };
    }
    let ip = |v6, plain| Kind::Ip { v6, plain };
    let kinds: [(&[u8], Kind); 9] = [
        (b"K", Kind::Pointer),
        (b"x", Kind::Pointer),
        (b"s", Kind::Symbol),
        (b"S", Kind::Symbol),
        (b"B", Kind::Symbol),
        (b"I4", ip(false, false)),
        (b"i4", ip(false, true)),
        (b"I6", ip(true, false)),
        (b"i6", ip(true, true)),
    ];
    kinds.into_iter().find(|(letters, _)| cursor.take(letters)).map(|(_, kind)| kind).ok_or(BadFormat)
}

impl Conversion {
    #[allow(clippy::cast_possible_truncation, reason = "a 32-bit conversion prints the low half")]
    fn render(self, value: u64, source: &impl Source, out: &mut Vec<u8>) {
        let low = value as u32;
        match self.kind {
            Kind::Char => self.pad(&[value as u8], out),
            Kind::Text => self.pad(&source.string(value, MAX_STRING).unwrap_or_default(), out),
            Kind::Signed(Bits::B32) => {
                self.number(low.cast_signed() < 0, low.cast_signed().unsigned_abs().to_string(), out)
            }
            Kind::Signed(Bits::B64) => {
                self.number(value.cast_signed() < 0, value.cast_signed().unsigned_abs().to_string(), out);
            }
            Kind::Unsigned(Bits::B32) => self.unsigned(low.to_string(), out),
            Kind::Unsigned(Bits::B64) => self.unsigned(value.to_string(), out),
            Kind::Hex(Bits::B32) => self.unsigned(format!("{low:x}"), out),
            Kind::Hex(Bits::B64) => self.unsigned(format!("{value:x}"), out),
            Kind::UpperHex(Bits::B32) => self.unsigned(format!("{low:X}"), out),
            Kind::UpperHex(Bits::B64) => self.unsigned(format!("{value:X}"), out),
            Kind::Pointer => self.pad(format!("{value:016x}").as_bytes(), out),
            Kind::Symbol => self.pad(format!("{value:#x}").as_bytes(), out),
            Kind::Ip { v6: false, plain } => {
                let mut bytes = [0; 4];
                source.bytes(value, &mut bytes);
                let parts = bytes.map(|b| if plain { format!("{b:03}") } else { b.to_string() });
                self.pad(parts.join(".").as_bytes(), out);
            }
            Kind::Ip { v6: true, plain } => {
                let mut bytes = [0; 16];
                source.bytes(value, &mut bytes);
                let address = u128::from_be_bytes(bytes);
                let groups: Vec<String> =
                    (0..8).rev().map(|i| format!("{:04x}", (address >> (i * 16)) & 0xffff)).collect();
                self.pad(groups.join(if plain { "" } else { ":" }).as_bytes(), out);
            }
        }
    }

    fn unsigned(self, digits: String, out: &mut Vec<u8>) {
        Self { plus: false, space: false, ..self }.number(false, digits, out);
    }

    fn number(self, negative: bool, digits: String, out: &mut Vec<u8>) {
        let sign = match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            (false, false, false) => "",
        };
        if self.zero && !self.minus {
            let zeros = self.width.saturating_sub(sign.len() + digits.len());
            out.extend_from_slice(sign.as_bytes());
            out.extend(std::iter::repeat_n(b'0', zeros));
            out.extend_from_slice(digits.as_bytes());
        } else {
            self.pad(format!("{sign}{digits}").as_bytes(), out);
        }
    }

    /// Appends `text`, padded with spaces to the width.
    fn pad(self, text: &[u8], out: &mut Vec<u8>) {
        let spaces = std::iter::repeat_n(b' ', self.width.saturating_sub(text.len()));
        if self.minus {
            out.extend_from_slice(text);
            out.extend(spaces);
        } else {
            out.extend(spaces);
            out.extend_from_slice(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Strings;

    impl Source for Strings {
        fn string(&self, address: u64, max: usize) -> Option<Vec<u8>> {
            (address == 1).then(|| b"text"[..max.min(4)].to_vec())
        }

        fn bytes(&self, address: u64, bytes: &mut [u8]) -> bool {
            if address == 1 {
                (0..).zip(bytes.iter_mut()).for_each(|(i, b)| *b = i);
            }
            address == 1
        }
    }

    fn format(format: &str, arguments: &[u64]) -> String {
        let template = Template::parse(format.as_bytes()).unwrap();
        assert_eq!(template.arguments(), arguments.len(), "{format}");
        String::from_utf8(template.render(arguments, &Strings)).unwrap()
    }

    #[test]
    fn conversions_print_what_the_kernel_prints() {
        let rows: [(&str, &[u64], &str); 24] = [
            ("plain\n", &[], "plain\n"),
            ("100%%", &[], "100%"),
            ("%d %i", &[u64::MAX, 7], "-1 7"),
            ("%d", &[1 << 32], "0"),
            ("%ld %lld", &[1 << 32, u64::MAX], "4294967296 -1"),
            ("%u", &[u64::MAX], "4294967295"),
            ("%lu %llu", &[u64::MAX, 5], "18446744073709551615 5"),
            ("%x %X %lx %llX", &[0xab, 0xab, 0xab_0000_0000, 0xcd], "ab AB ab00000000 CD"),
            ("[%5d][%-5d][%05d]", &[42, 42, 42], "[   42][42   ][00042]"),
            ("[%+d][% d][%05d]", &[42, 42, u64::MAX], "[+42][ 42][-0001]"),
            ("[%+u]", &[42], "[42]"),
            ("[%-05d]", &[42], "[42   ]"),
            ("%c%c", &[u64::from(b'o'), u64::from(b'k')], "ok"),
            ("[%s]", &[1], "[text]"),
            ("[%6s][%-6s]", &[1, 1], "[  text][text  ]"),
            ("[%s]", &[2], "[]"),
            ("[%pks] [%pus]", &[1, 1], "[text] [text]"),
            ("%p", &[0xabc], "0000000000000abc"),
            ("%px %pK", &[0xabc, 0xabc], "0000000000000abc 0000000000000abc"),
            ("%ps %pS %pB", &[0xabc, 0xabc, 0xabc], "0xabc 0xabc 0xabc"),
            ("%pI4", &[1], "0.1.2.3"),
            ("%pi4", &[1], "000.001.002.003"),
            ("%pI6", &[1], "0001:0203:0405:0607:0809:0a0b:0c0d:0e0f"),
            ("%pi6 %pI4", &[1, 9], "000102030405060708090a0b0c0d0e0f 0.0.0.0"),
        ];
        for (text, arguments, expected) in rows {
            assert_eq!(format(text, arguments), expected, "{text}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        for text in
            ["%", "%5", "%f", "%lf", "%llld", "%hd", "%.3d", "%#x", "%sx", "%pz", "%pI5", "%n", "%l", "\x01"]
        {
            assert_eq!(Template::parse(text.as_bytes()), Err(BadFormat), "{text:?}");
        }
    }

    #[test]
    fn messages_are_bounded() {
        let wide = Template::parse(b"%999999999999999999999d%9999999d").unwrap();
        assert_eq!(wide.render(&[1, 2], &Strings).len(), MAX_MESSAGE);
    }
}
