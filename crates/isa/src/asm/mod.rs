//! From text to instructions.

pub(crate) mod lex;
mod matching;

use std::collections::BTreeMap;

use crate::template::Hole;
use crate::{CallTarget, Code, Form, Insn, InsnIdx, form::Fields};
use lex::{Spanned, Token, lex};
use matching::{Fixup, match_statement};

/// Names an assembly text may use that are not labels of its own.
pub trait Symbols {
    /// What `call NAME` calls. Asked before the labels of the text and the names of Linux's helpers.
    fn call(&self, name: &str) -> Option<CallTarget> {
        let _ = name;
        None
    }
}

impl Symbols for () {}

impl<F: Fn(&str) -> Option<CallTarget>> Symbols for F {
    fn call(&self, name: &str) -> Option<CallTarget> {
        self(name)
    }
}

/// An assembled text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembly {
    /// The instructions.
    pub code: Code,
    /// Where each label points. A label at the end of the text points behind the last instruction.
    pub labels: BTreeMap<String, InsnIdx>,
    /// The line of the text, counted from 1, that each slot comes from.
    pub lines: Vec<u32>,
}

/// What is wrong with an assembly text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {kind}")]
pub struct AsmError {
    /// Line, counted from 1.
    pub line: u32,
    /// Column, counted from 1 in characters.
    pub column: usize,
    /// What is wrong.
    pub kind: AsmErrorKind,
}

/// What can be wrong with an assembly text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AsmErrorKind {
    /// No token begins with this character.
    #[error("unexpected character {0:?}")]
    Character(char),
    /// Not a decimal or `0x` number of 64 bits.
    #[error("{0} is not a number of 64 bits")]
    Number(String),
    /// No instruction goes on like this.
    #[error("found {found}, expected {}", expected.join(" or "))]
    Expected {
        /// What could have stood here.
        expected: Vec<String>,
        /// What stands here: a token, or `end of line`.
        found: String,
    },
    /// The number does not fit the field.
    #[error("{value} is outside {min} to {max}")]
    Range {
        /// The number.
        value: i128,
        /// Least value that fits.
        min: i128,
        /// Greatest value that fits.
        max: i128,
    },
    /// Two labels of one name.
    #[error("label {0} is defined twice")]
    DuplicateLabel(String),
    /// Neither a label nor a symbol.
    #[error("no label or function is called {0}")]
    UnknownName(String),
    /// The label is too far away for the field. `gotol` reaches farther than `goto`.
    #[error("label {label} is {distance} instructions away: too far")]
    TooFar {
        /// The label.
        label: String,
        /// Slots between the next instruction and the label.
        distance: i64,
    },
    /// `name#number`, where that helper has another number.
    #[error("helper {name} has number {number}")]
    HelperNumber {
        /// Name of the helper.
        name: String,
        /// Its number.
        number: u32,
    },
    /// More instructions than can be counted.
    #[error("too many instructions")]
    TooLong,
}

/// Assembles a text with no names but its own labels and Linux's helpers.
///
/// The language is the disassembler's, one instruction per line, and most of LLVM's. `name:` defines a label,
/// alone or before an instruction; jumps, calls and `subprog[..]` take labels. `;` and `//` begin comments. A
/// number and an opcode before an instruction, as in a verifier log, are read over.
///
/// ```
/// let text = "
///     r0 = 0
/// loop:
///     r0 += 1
///     if r0 < 10 goto loop    ; backwards
///     exit
/// ";
/// let program = bpf_arena_isa::assemble(text)?;
/// assert_eq!(program.code.len(), 4);
/// assert_eq!(program.labels["loop"].0, 1);
/// assert_eq!(bpf_arena_isa::assemble(&program.code.to_string())?.code, program.code);
///
/// let error = bpf_arena_isa::assemble("r0 = 0\nr0 ~= 1").unwrap_err();
/// assert_eq!((error.line, error.column), (2, 4));
/// # Ok::<(), bpf_arena_isa::AsmError>(())
/// ```
///
/// # Errors
/// At the first statement that is no instruction, or the first name that is unknown.
pub fn assemble(text: &str) -> Result<Assembly, AsmError> {
    assemble_with(text, &())
}

/// Assembles a text that may call functions by name.
///
/// ```
/// use bpf_arena_isa::{assemble_with, CallTarget, Insn, InsnIdx};
///
/// let kfuncs = |name: &str| {
///     (name == "bpf_arena_free_pages").then_some(CallTarget::Kfunc { btf_id: 3, module: 0 })
/// };
/// let program = assemble_with("call bpf_arena_free_pages", &kfuncs)?;
/// let target = CallTarget::Kfunc { btf_id: 3, module: 0 };
/// assert_eq!(program.code.get(InsnIdx(0)), Some(Insn::Call { target }));
/// # Ok::<(), bpf_arena_isa::AsmError>(())
/// ```
///
/// # Errors
/// As [`assemble`].
pub fn assemble_with(text: &str, symbols: &impl Symbols) -> Result<Assembly, AsmError> {
    let mut labels = BTreeMap::new();
    let mut statements = Vec::new();
    let mut slots: u32 = 0;
    for (number, line) in (1u32..).zip(text.lines()) {
        let error = |(column, kind)| AsmError { line: number, column, kind };
        let rest = without_log_prefix(line);
        let column = 1 + line.chars().count().saturating_sub(rest.chars().count());
        let tokens = lex(rest, column).map_err(error)?;
        let mut rest = tokens.as_slice();
        while let [
            Spanned { token: Token::Word(name), column },
            Spanned { token: Token::Op(":"), .. },
            after @ ..,
        ] = rest
        {
            if labels.insert((*name).to_owned(), InsnIdx(slots)).is_some() {
                return Err(error((*column, AsmErrorKind::DuplicateLabel((*name).to_owned()))));
            }
            rest = after;
        }
        if rest.is_empty() {
            continue;
        }
        let matched = match_statement(rest, symbols).map_err(error)?;
        let size = u32::try_from(matched.form.slots()).unwrap_or(1);
        statements.push((number, InsnIdx(slots), matched));
        slots = slots.checked_add(size).ok_or_else(|| error((1, AsmErrorKind::TooLong)))?;
    }
    let mut assembly = Assembly { labels, ..Assembly::default() };
    for (line, at, mut matched) in statements {
        let error = |(column, kind)| AsmError { line, column, kind };
        if let Some(fixup) = matched.fixup {
            resolve(&fixup, at, &assembly.labels, &mut matched.fields).map_err(error)?;
        }
        let insn = read(matched.form, &matched.fields).ok_or_else(|| error((1, AsmErrorKind::TooLong)))?;
        assembly.code.push(insn);
        assembly.lines.resize(assembly.code.len(), line);
    }
    Ok(assembly)
}

impl core::str::FromStr for Insn {
    type Err = AsmError;

    /// Assembles a single instruction, without labels.
    fn from_str(text: &str) -> Result<Self, AsmError> {
        let Assembly { code, .. } = assemble(text)?;
        let mut insns = code.iter();
        match (insns.next(), insns.next()) {
            (Some((_, insn)), None) => Ok(insn),
            (first, _) => Err(AsmError {
                line: 1,
                column: 1,
                kind: AsmErrorKind::Expected {
                    expected: vec!["one instruction".to_owned()],
                    found: if first.is_some() { "several" } else { "none" }.to_owned(),
                },
            }),
        }
    }
}

/// Reads over `12: ` and `(b7) `, which the tokens have no form for. Gives the rest of the line.
fn without_log_prefix(line: &str) -> &str {
    let rest = line.trim_start();
    let rest = match rest.split_once(':') {
        Some((number, after)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            after.trim_start()
        }
        _ => rest,
    };
    match rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
        Some((opcode, after)) if opcode.len() == 2 && u8::from_str_radix(opcode, 16).is_ok() => after,
        _ => rest,
    }
}

/// The tokens gave every operand a value in range, so that reading the fields cannot fail.
fn read(form: &Form, fields: &Fields) -> Option<Insn> {
    (form.read)(fields).ok()
}

/// Writes the distance to a label into the field that the hole stands for.
fn resolve(
    fixup: &Fixup,
    at: InsnIdx,
    labels: &BTreeMap<String, InsnIdx>,
    fields: &mut Fields,
) -> Result<(), (usize, AsmErrorKind)> {
    let label = &fixup.label;
    let target = labels.get(label).ok_or_else(|| (fixup.column, AsmErrorKind::UnknownName(label.clone())))?;
    let distance = i64::from(target.0) - i64::from(at.0) - 1;
    let too_far = || (fixup.column, AsmErrorKind::TooFar { label: label.clone(), distance });
    if fixup.hole == Hole::Near {
        fields.raw.offset = i16::try_from(distance).map_err(|_| too_far())?;
    } else {
        fields.raw.imm = i32::try_from(distance).map_err(|_| too_far())?;
    }
    Ok(())
}
