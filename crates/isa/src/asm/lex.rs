//! One line of assembly into tokens.

use super::AsmErrorKind;

/// A token. Words are names, registers and keywords alike: what they are depends on the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    Number { value: u64, hex: bool },
    Op(&'static str),
}

impl core::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Word(word) => f.write_str(word),
            Self::Number { value, hex: true } => write!(f, "{value:#x}"),
            Self::Number { value, hex: false } => write!(f, "{value}"),
            Self::Op(op) => f.write_str(op),
        }
    }
}

/// A token and where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spanned<'a> {
    pub(crate) token: Token<'a>,
    /// Counted from 1, in characters.
    pub(crate) column: usize,
}

/// Longest first, so that the first match is the longest. Those that begin with `s` are signed operations.
const OPS: [&str; 34] = [
    "s>>=", "<<=", ">>=", "s/=", "s%=", "s>=", "s<=", "s>", "s<", "+=", "-=", "*=", "/=", "%=", "|=", "&=",
    "^=", "==", "!=", ">=", "<=", ">", "<", "=", "(", ")", "[", "]", "+", "-", "*", ",", "&", ":",
];

/// Single characters that only names of calls use.
const MARKS: [&str; 2] = ["#", "@"];

/// Splits a line whose first character is in the given column. A comment starts with `;` or `//` and ends with
/// the line.
pub(crate) fn lex(line: &str, mut column: usize) -> Result<Vec<Spanned<'_>>, (usize, AsmErrorKind)> {
    let mut tokens = Vec::new();
    let mut rest = line;
    loop {
        let trimmed = rest.trim_start();
        column += rest.chars().count() - trimmed.chars().count();
        rest = trimmed;
        let Some(first) = rest.chars().next() else { break };
        if first == ';' || rest.starts_with("//") {
            break;
        }
        let op = OPS.iter().chain(&MARKS).find(|op| rest.starts_with(**op));
        let (token, after) = if let Some(op) = op {
            (Token::Op(op), rest.get(op.len()..).unwrap_or_default())
        } else if is_word(first) {
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            let token = if first.is_ascii_digit() { number(word) } else { Ok(Token::Word(word)) };
            (token.map_err(|kind| (column, kind))?, after)
        } else {
            return Err((column, AsmErrorKind::Character(first)));
        };
        tokens.push(Spanned { token, column });
        column += rest.chars().count() - after.chars().count();
        rest = after;
    }
    Ok(tokens)
}

/// Whether the character may stand in a name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')
}

fn number(text: &str) -> Result<Token<'static>, AsmErrorKind> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let value = match digits {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let value = value.map_err(|_| AsmErrorKind::Number(text.to_owned()))?;
    Ok(Token::Number { value, hex: digits.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_operators_are_not_names() {
        let tokens: Vec<_> = lex("if r1 s>= sum s>>= s", 1).expect("lexes").iter().map(|s| s.token).collect();
        assert_eq!(
            tokens,
            [
                Token::Word("if"),
                Token::Word("r1"),
                Token::Op("s>="),
                Token::Word("sum"),
                Token::Op("s>>="),
                Token::Word("s"),
            ]
        );
    }

    #[test]
    fn columns_count_characters_and_comments_end_the_line() {
        let tokens = lex("  r1 =  -0x10 // é ; x", 1).expect("lexes");
        assert_eq!(tokens.iter().map(|s| s.column).collect::<Vec<_>>(), [3, 6, 9, 10]);
        assert_eq!(lex("é", 1), Err((1, AsmErrorKind::Character('é'))));
        assert_eq!(lex("r1 = 09z", 1), Err((6, AsmErrorKind::Number("09z".into()))));
        assert_eq!(lex("0x1ffffffffffffffff", 1).unwrap_err().0, 1);
    }
}
