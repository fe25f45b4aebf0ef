//! What outsiders are told of a program's machine code: functions by name, and the source line of each stretch.

use std::ops::Range;

use bpf_object::Program;
use codegen::{Compiled, FrameStep};

/// Names are cut to this many bytes; they come from the object, which may hold anything.
const NAME_BYTES: usize = 255;

/// The machine code of a program where it lies in memory.
#[derive(Debug)]
pub(super) struct CodeTable<'a> {
    /// The program's name.
    pub(super) program: String,
    /// Address of the first byte of code.
    pub(super) start: u64,
    /// The functions, by ascending address.
    pub(super) functions: Vec<CodeFunction<'a>>,
}

/// The code of one subprogram, or of a stub, which has no lines.
#[derive(Debug)]
pub(super) struct CodeFunction<'a> {
    /// The subprogram's name.
    pub(super) name: String,
    /// Its instructions, without the constants behind them.
    pub(super) code: &'a [u8],
    /// Address of the first.
    pub(super) start: u64,
    /// The stretches of its code, by ascending address.
    pub(super) places: Vec<Place>,
    /// How it builds its frame; offsets from `start`.
    pub(super) frame: Vec<FrameStep>,
}

/// The code from `address` on was made of this source line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: u64,
    /// `None` for what has no line.
    pub(super) line: Option<SourceLine>,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceLine {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl<'a> CodeTable<'a> {
    /// The code of `program`, whose text lies at `start`.
    pub(super) fn new(program: &Program, compiled: &'a Compiled, start: u64) -> Self {
        let functions = compiled.functions.iter().map(|function| {
            let subprogram = program.subprograms.get(function.subprogram);
            let name = subprogram.map_or_else(|| "?".to_owned(), |s| printable(&s.name));
            let code = code(compiled, start, name, function.start..function.end, &function.frame);
            CodeFunction { places: places(program, compiled, function, start), ..code }
        });
        let stubs = compiled.stubs.iter().map(|stub| {
            let name = printable(&format!("stub.{:?}", stub.import));
            code(compiled, start, name, stub.start..stub.end, &stub.frame)
        });
        Self { program: printable(&program.name), start, functions: functions.chain(stubs).collect() }
    }

    /// Bytes from the first function's start to the last one's end.
    pub(super) fn len(&self) -> u64 {
        self.functions.last().map_or(0, |f| f.end().saturating_sub(self.start))
    }
}

impl CodeFunction<'_> {
    /// Address after the last instruction.
    pub(super) fn end(&self) -> u64 {
        self.start.wrapping_add(self.code.len() as u64)
    }
}

/// A function without lines.
fn code<'a>(
    compiled: &'a Compiled,
    start: u64,
    name: String,
    range: Range<u32>,
    frame: &[FrameStep],
) -> CodeFunction<'a> {
    let steps = frame.iter().map(|step| FrameStep { offset: step.offset - range.start, ..*step });
    CodeFunction {
        name,
        code: compiled.text.get(range.start as usize..range.end as usize).unwrap_or_default(),
        start: start.wrapping_add(u64::from(range.start)),
        places: Vec::new(),
        frame: steps.collect(),
    }
}

/// The stretches of a function; neighbours are of different lines.
fn places(program: &Program, compiled: &Compiled, function: &codegen::Function, start: u64) -> Vec<Place> {
    let after = compiled.lines.partition_point(|line| line.offset < function.start);
    let lines = compiled.lines.get(after..).unwrap_or_default();
    let mut places: Vec<Place> = Vec::new();
    for stretch in lines.iter().take_while(|line| line.offset < function.end) {
        let line = program.line_at(stretch.insn).map(|line| SourceLine {
            file: printable(&line.file),
            line: line.line,
            column: line.column,
        });
        if places.last().is_none_or(|last| last.line != line) {
            places.push(Place { address: start.wrapping_add(u64::from(stretch.offset)), line });
        }
    }
    places
}

/// A name as it can stand in a line of text and in a table of strings: not empty, on one line, without spaces, not endless.
fn printable(name: &str) -> String {
    let visible = name.chars().map(|c| if c.is_control() || c.is_whitespace() { '?' } else { c });
    let mut text = String::new();
    for c in visible {
        if text.len() + c.len_utf8() > NAME_BYTES {
            break;
        }
        text.push(c);
    }
    if text.is_empty() { "?".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_a_table() {
        assert_eq!(printable("walk.1"), "walk.1");
        assert_eq!(printable(""), "?");
        assert_eq!(printable("a\n1000 20 b\0c"), "a?1000?20?b?c");
        assert_eq!(printable(&"é".repeat(1000)).len(), NAME_BYTES - 1);
    }
}
