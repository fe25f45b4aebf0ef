//! The text of a table row, taken apart: what the disassembler prints and the assembler matches.

use std::sync::LazyLock;

use crate::Form;
use crate::asm::lex::{Token, lex};

/// A `{hole}` of a row's syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hole {
    /// `{dst}`, `{src}`: a register number. The letter before it is `r` or `w`.
    Dst,
    Src,
    /// `{off}`: the offset of a memory access, always with its sign.
    Off,
    /// `{imm}`: a signed 32-bit number. `{imm32}`: the same, and `0x80000000` to `0xffffffff` may be written
    /// for the negative ones, which are not extended to 64 bits. `{int}`: as `{imm}`.
    Imm,
    Imm32,
    /// `{dec}`: as `{imm}`, but a hexadecimal number belongs to the 64-bit load, as in the kernel's text.
    Dec,
    /// `{hex}`: as `{imm32}`, printed in hexadecimal.
    Hex,
    /// `{uint}`, `{next}`: an unsigned number in the first or second `imm`.
    Uint,
    Next,
    /// `{wide}`: 64 bits in hexadecimal; `{any64}` takes any number.
    Wide,
    Any64,
    DstAs,
    SrcAs,
    /// `{near}`, `{far}`: a jump target by `offset` or by `imm`: `pc+3`, or a label.
    Near,
    Far,
    /// `{func}`: the same as `{far}`, without the `pc`.
    Func,
    /// `{helper}`: `name#number`. `{kfunc}`: `kernel-function#id`, `name#id`, and `@module` if not 0.
    Helper,
    Kfunc,
}

impl Hole {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "dst" => Self::Dst,
            "src" => Self::Src,
            "off" => Self::Off,
            "imm" | "int" => Self::Imm,
            "imm32" => Self::Imm32,
            "dec" => Self::Dec,
            "hex" => Self::Hex,
            "uint" => Self::Uint,
            "next" => Self::Next,
            "wide" => Self::Wide,
            "any64" => Self::Any64,
            "dst_as" => Self::DstAs,
            "src_as" => Self::SrcAs,
            "near" => Self::Near,
            "far" => Self::Far,
            "func" => Self::Func,
            "helper" => Self::Helper,
            "kfunc" => Self::Kfunc,
            _ => return None,
        })
    }
}

/// What the disassembler writes, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece {
    Text(&'static str),
    Hole(Hole),
}

/// The pieces of a row's text. A brace that opens no known hole is text; a test keeps the table free of those.
pub(crate) fn pieces(syntax: &'static str) -> impl Iterator<Item = Piece> {
    let mut rest = syntax;
    std::iter::from_fn(move || {
        let (piece, after) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, after)) => (Hole::named(name).map_or(Piece::Text(name), Piece::Hole), after),
            None if rest.is_empty() => return None,
            None => {
                let end = rest.find('{').filter(|&at| at > 0).unwrap_or(rest.len());
                let (text, after) = rest.split_at_checked(end)?;
                (Piece::Text(text), after)
            }
        };
        rest = after;
        Some(piece)
    })
}

/// What the assembler matches, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Token(Token<'static>),
    /// A register written with this letter.
    Reg(char, Hole),
    Hole(Hole),
}

/// One spelling of a form.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) form: &'static Form,
    pub(crate) expects: Vec<Expect>,
}

/// Every spelling of every form, the kernel's before LLVM's.
pub(crate) static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    Form::all()
        .flat_map(|form| std::iter::once(&form.syntax).chain(form.aliases).map(move |text| (form, text)))
        .map(|(form, text)| Pattern { form, expects: expects(text) })
        .collect()
});

fn expects(syntax: &'static str) -> Vec<Expect> {
    let mut out = Vec::new();
    for piece in pieces(syntax) {
        match piece {
            Piece::Hole(hole @ (Hole::Dst | Hole::Src)) => {
                // The letter before a register hole was lexed as a word of its own.
                let letter = match out.pop() {
                    Some(Expect::Token(Token::Word("w"))) => 'w',
                    _ => 'r',
                };
                out.push(Expect::Reg(letter, hole));
            }
            Piece::Hole(hole) => out.push(Expect::Hole(hole)),
            Piece::Text(text) => {
                out.extend(lex(text, 1).into_iter().flatten().map(|spanned| Expect::Token(spanned.token)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hole_of_the_table_has_a_meaning() {
        for pattern in PATTERNS.iter() {
            for text in std::iter::once(&pattern.form.syntax).chain(pattern.form.aliases) {
                let holes = pieces(text).filter(|p| matches!(p, Piece::Hole(_))).count();
                assert_eq!(holes, text.matches('{').count(), "{text}");
            }
        }
    }

    #[test]
    fn registers_take_their_letter() {
        assert_eq!(
            expects("w{dst} += r{src}"),
            [Expect::Reg('w', Hole::Dst), Expect::Token(Token::Op("+=")), Expect::Reg('r', Hole::Src),]
        );
    }
}
