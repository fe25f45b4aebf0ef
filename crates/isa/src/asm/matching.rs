//! One statement against the spellings of the table.

use super::lex::{Spanned, Token};
use super::{AsmErrorKind, Symbols};
use crate::form::Fields;
use crate::helpers::helper_number;
use crate::template::{Expect, Hole, PATTERNS, Pattern};
use crate::{CallTarget, Form, Reg};

/// An error and its column.
type Failure = (usize, AsmErrorKind);

/// A statement whose form is known.
#[derive(Debug)]
pub(super) struct Matched {
    pub(super) form: &'static Form,
    pub(super) fields: Fields,
    pub(super) fixup: Option<Fixup>,
}

/// A label to be written into a field once all labels are known.
#[derive(Debug)]
pub(super) struct Fixup {
    pub(super) hole: Hole,
    pub(super) label: String,
    pub(super) column: usize,
}

/// Finds the form of a statement.
///
/// On failure the error is that of the spelling which got farthest; if several got equally far, what each of
/// them wanted next is put together.
pub(super) fn match_statement(tokens: &[Spanned<'_>], symbols: &impl Symbols) -> Result<Matched, Failure> {
    let mut farthest = 0;
    let mut misses: Vec<Miss> = Vec::new();
    for pattern in PATTERNS.iter() {
        let mut matcher = Matcher {
            tokens,
            next: 0,
            symbols,
            matched: Matched { form: pattern.form, fields: pattern.form.fixed, fixup: None },
        };
        match matcher.run(pattern) {
            Ok(()) => return Ok(matcher.matched),
            Err(miss) if matcher.next >= farthest => {
                if matcher.next > farthest {
                    farthest = matcher.next;
                    misses.clear();
                }
                misses.push(miss);
            }
            Err(_) => {}
        }
    }
    let column = tokens.get(farthest).map_or_else(
        || tokens.last().map_or(1, |last| last.column + last.token.to_string().chars().count()),
        |token| token.column,
    );
    Err((column, explain(misses, farthest, tokens.get(farthest))))
}

/// What a spelling wanted where the statement does not follow it. Most spellings miss at their first token, so that
/// this must cost nothing.
#[derive(Debug)]
enum Miss {
    Wants(&'static str),
    WantsToken(Token<'static>),
    /// An error of its own, which says more than a list of tokens.
    Other(AsmErrorKind),
}

fn explain(misses: Vec<Miss>, farthest: usize, found: Option<&Spanned<'_>>) -> AsmErrorKind {
    let mut expected: Vec<String> = Vec::new();
    for miss in misses {
        let wanted = match miss {
            Miss::Other(kind) => return kind,
            Miss::Wants(what) => what.to_owned(),
            Miss::WantsToken(token) => token.to_string(),
        };
        if !expected.contains(&wanted) {
            expected.push(wanted);
        }
    }
    if farthest == 0 {
        expected = vec!["an instruction".to_owned()];
    }
    let found = found.map_or_else(|| "end of line".to_owned(), |spanned| spanned.token.to_string());
    AsmErrorKind::Expected { expected, found }
}

struct Matcher<'t, 'a, S> {
    tokens: &'t [Spanned<'a>],
    // The first token not yet matched. After a failure: the token that did not fit.
    next: usize,
    symbols: &'t S,
    matched: Matched,
}

impl<'t, 'a, S: Symbols> Matcher<'t, 'a, S> {
    fn run(&mut self, pattern: &Pattern) -> Result<(), Miss> {
        for expect in &pattern.expects {
            match *expect {
                Expect::Token(token) => self.token(token)?,
                Expect::Reg(letter, hole) => self.register(letter, hole)?,
                Expect::Hole(hole) => self.hole(hole)?,
            }
        }
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Miss::Wants("end of line")),
        }
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|spanned| spanned.token)
    }

    fn accept(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    fn token(&mut self, token: Token<'static>) -> Result<(), Miss> {
        if self.accept(token) { Ok(()) } else { Err(Miss::WantsToken(token)) }
    }

    fn register(&mut self, letter: char, hole: Hole) -> Result<(), Miss> {
        let what = if letter == 'w' { "w0 to w10" } else { "r0 to r10" };
        let Some(Token::Word(word)) = self.peek() else { return Err(Miss::Wants(what)) };
        let Some(reg) = word.strip_prefix(letter).and_then(register_number) else {
            return Err(Miss::Wants(what));
        };
        let place = match hole {
            Hole::Src => &mut self.matched.fields.raw.src_reg,
            _ => &mut self.matched.fields.raw.dst_reg,
        };
        *place = reg.number();
        self.next += 1;
        Ok(())
    }

    fn hole(&mut self, hole: Hole) -> Result<(), Miss> {
        const I32: (i128, i128) = (i32::MIN as i128, i32::MAX as i128);
        const U32: (i128, i128) = (0, u32::MAX as i128);
        const EITHER: (i128, i128) = (i32::MIN as i128, u32::MAX as i128);
        match hole {
            // The rows have registers only behind a letter.
            Hole::Dst | Hole::Src => return Err(Miss::Wants("a register")),
            Hole::Off => {
                if !matches!(self.peek(), Some(Token::Op("+" | "-"))) {
                    return Err(Miss::Wants("+ or -"));
                }
                let value = self.number((i16::MIN.into(), i16::MAX.into()))?;
                self.matched.fields.raw.offset = i16::try_from(value).unwrap_or_default();
            }
            Hole::Dec if self.at_hex() => return Err(Miss::Wants("a decimal number")),
            Hole::Imm | Hole::Dec => self.set_imm(I32)?,
            Hole::Imm32 | Hole::Hex => self.set_imm(EITHER)?,
            Hole::Uint => self.set_imm(U32)?,
            Hole::Next => {
                let value = self.number(U32)?;
                self.matched.fields.next_imm = low_word(value);
            }
            Hole::Wide if !self.at_hex() => return Err(Miss::Wants("a hexadecimal number")),
            Hole::Wide | Hole::Any64 => {
                let value = self.number((i64::MIN.into(), u64::MAX.into()))?;
                self.matched.fields.raw.imm = low_word(value);
                self.matched.fields.next_imm = low_word(value >> 32);
            }
            Hole::DstAs => {
                let value = self.number((0, u16::MAX.into()))?;
                self.matched.fields.raw.imm |= low_word(value << 16);
            }
            Hole::SrcAs => {
                let value = self.number((0, u16::MAX.into()))?;
                self.matched.fields.raw.imm |= low_word(value);
            }
            Hole::Near | Hole::Far | Hole::Func => self.target(hole)?,
            Hole::Helper => self.helper()?,
            Hole::Kfunc => self.kfunc()?,
        }
        Ok(())
    }

    fn at_hex(&self) -> bool {
        matches!(self.peek(), Some(Token::Number { hex: true, .. }))
    }

    fn set_imm(&mut self, range: (i128, i128)) -> Result<(), Miss> {
        let value = self.number(range)?;
        self.matched.fields.raw.imm = low_word(value);
        Ok(())
    }

    /// A number with an optional sign. On failure the cursor stays on the sign.
    fn number(&mut self, (min, max): (i128, i128)) -> Result<i128, Miss> {
        let sign = match self.peek() {
            Some(Token::Op("-")) => Some(-1),
            Some(Token::Op("+")) => Some(1),
            _ => None,
        };
        let digits = self.next + usize::from(sign.is_some());
        let Some(Token::Number { value, .. }) = self.tokens.get(digits).map(|s| s.token) else {
            return Err(Miss::Wants("a number"));
        };
        let value = i128::from(value) * sign.unwrap_or(1);
        if value < min || value > max {
            return Err(Miss::Other(AsmErrorKind::Range { value, min, max }));
        }
        self.next = digits + 1;
        Ok(value)
    }

    /// `pc+3`, `+3` or a label.
    fn target(&mut self, hole: Hole) -> Result<(), Miss> {
        let start = self.next;
        let is_call = matches!(self.tokens.first().map(|s| s.token), Some(Token::Word("call")));
        let signed_follows =
            |at: usize| matches!(self.tokens.get(at).map(|s| s.token), Some(Token::Op("+" | "-")));
        if let Some(Token::Word(word)) = self.peek()
            && !(word == "pc" && signed_follows(start + 1))
        {
            let distance = match if is_call { self.callee(word) } else { None } {
                Some(CallTarget::Local(distance)) => distance,
                Some(_) => return Err(Miss::Wants("a label")),
                None => {
                    let column = self.tokens.get(start).map_or(1, |s| s.column);
                    self.matched.fixup = Some(Fixup { hole, label: word.to_owned(), column });
                    0
                }
            };
            // A branch keeps the number it compares with in `imm`.
            if hole != Hole::Near {
                self.matched.fields.raw.imm = distance;
            }
            self.next += 1;
            return Ok(());
        }
        self.accept(Token::Word("pc"));
        // A bare `call -1` means nothing: LLVM prints so what is left to be relocated.
        if !signed_follows(self.next) || (is_call && self.next == start) {
            return Err(Miss::Wants("a label or a distance"));
        }
        if hole == Hole::Near {
            let value = self.number((i16::MIN.into(), i16::MAX.into()))?;
            self.matched.fields.raw.offset = i16::try_from(value).unwrap_or_default();
        } else {
            self.matched.fields.raw.imm = low_word(self.number((i32::MIN.into(), i32::MAX.into()))?);
        }
        Ok(())
    }

    /// What a name after `call` stands for, unless it is a label.
    fn callee(&self, name: &str) -> Option<CallTarget> {
        self.symbols.call(name).or_else(|| helper_number(name).map(CallTarget::Helper))
    }

    /// `name#1`, `name` or `1`.
    fn helper(&mut self) -> Result<(), Miss> {
        const WHAT: &str = "a helper";
        if let Some(Token::Word(name)) = self.peek() {
            let start = self.next;
            self.next += 1;
            if self.accept(Token::Op("#")) {
                self.set_imm((i32::MIN.into(), i32::MAX.into()))?;
                let given = self.matched.fields.raw.imm.cast_unsigned();
                let known = helper_number(name);
                let foreign = self.symbols.call(name).is_some_and(|t| !matches!(t, CallTarget::Helper(_)));
                if foreign || known.is_some_and(|number| number != given) {
                    self.next = start;
                }
                return match known {
                    _ if foreign => Err(Miss::Wants(WHAT)),
                    Some(number) if number != given => {
                        Err(Miss::Other(AsmErrorKind::HelperNumber { name: name.to_owned(), number }))
                    }
                    _ => Ok(()),
                };
            }
            self.next = start;
            let Some(CallTarget::Helper(number)) = self.callee(name) else { return Err(Miss::Wants(WHAT)) };
            self.matched.fields.raw.imm = number.cast_signed();
            self.next += 1;
            return Ok(());
        }
        if !matches!(self.peek(), Some(Token::Number { .. })) {
            return Err(Miss::Wants(WHAT));
        }
        self.set_imm((0, u32::MAX.into()))
    }

    /// `kernel-function#12`, `name#12`, `name`; `@3` names a module's BTF.
    fn kfunc(&mut self) -> Result<(), Miss> {
        const WHAT: &str = "a kernel function";
        let start = self.next;
        let Some(Token::Word(name)) = self.peek() else { return Err(Miss::Wants(WHAT)) };
        self.next += 1;
        let anonymous =
            name == "kernel" && self.accept(Token::Op("-")) && self.accept(Token::Word("function"));
        let raw = match self.symbols.call(name) {
            Some(CallTarget::Kfunc { btf_id, module }) => Some((btf_id, module)),
            _ => None,
        };
        if !anonymous && raw.is_none() {
            self.next = start;
            return Err(Miss::Wants(WHAT));
        }
        let fields = &mut self.matched.fields.raw;
        (fields.imm, fields.offset) = raw.unwrap_or_default();
        if self.accept(Token::Op("#")) {
            self.set_imm((i32::MIN.into(), i32::MAX.into()))?;
            self.matched.fields.raw.offset = 0;
        } else if anonymous {
            return Err(Miss::Wants("#"));
        }
        if self.accept(Token::Op("@")) {
            let module = self.number((i16::MIN.into(), i16::MAX.into()))?;
            self.matched.fields.raw.offset = i16::try_from(module).unwrap_or_default();
        }
        Ok(())
    }
}

/// `10` but neither `010` nor `11`.
fn register_number(digits: &str) -> Option<Reg> {
    let reg = Reg::new(digits.parse().ok()?)?;
    (reg.number().to_string() == digits).then_some(reg)
}

/// The low 32 bits, whatever the sign.
#[allow(clippy::cast_possible_truncation, reason = "truncation is the purpose")]
fn low_word(value: i128) -> i32 {
    value as i32
}
