//! Messages that show the C source they are about.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};
use bpf_arena::Fault;
use bpf_arena::bpf_object::{LineInfo, Program};
use bpf_arena::fault::Frame;
use bpf_arena::kernel::KernelRejection;
use bpf_arena::verifier::{Env, Rejection};

use crate::output;

/// Most lines shown that led to a refusal.
const MAX_CAUSES: usize = 3;

/// A line of C with a label under it.
struct Excerpt<'a> {
    line: &'a LineInfo,
    label: String,
    primary: bool,
}

impl<'a> Excerpt<'a> {
    fn snippet(&'a self) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let source = self.line.source.trim_end();
        let kind = if self.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        Snippet::source(source)
            .line_start(self.line.line as usize)
            .path(file_name(self.line))
            .annotation(kind.span(code_range(source, self.line.column)).label(self.label.as_str()))
    }
}

/// The code that begins at a column (counted in bytes from 1; 0 is unknown): up to a comment or the end of a statement.
fn code_range(source: &str, column: u32) -> Range<usize> {
    let indent = source.len() - source.trim_start().len();
    let start =
        (column as usize).checked_sub(1).filter(|&at| source.get(at..).is_some_and(|rest| !rest.is_empty()));
    let start = start.unwrap_or(indent);
    let rest = source.get(start..).unwrap_or_default();
    let comment = ["/*", "//"].iter().filter_map(|mark| rest.find(mark)).min();
    let code = rest.get(..comment.unwrap_or(rest.len())).unwrap_or(rest).trim_end();
    let code = code.trim_end_matches(['{', ';']).trim_end();
    start..(start + code.len()).max(start + 1).min(source.len().max(start))
}

/// A file name without the `./` that compilers put in front of relative ones.
pub(crate) fn file_name(line: &LineInfo) -> &str {
    line.file.strip_prefix("./").unwrap_or(&line.file)
}

/// Why a program was refused: the line that broke a rule, and those that made the value that broke it.
pub(crate) fn refusal(program: &Program, rejection: &Rejection) -> String {
    let title = format!("program `{}` was refused", program.name);
    let reason = rejection.reason().to_string();
    let place = rejection.at().map(|at| {
        let insn = program.code.get(at).map(|insn| insn.to_string()).unwrap_or_default();
        format!("at instruction {at}: {insn}")
    });
    let mut excerpts = Vec::new();
    if let Some(line) = rejection.line() {
        excerpts.push(Excerpt { line, label: reason.clone(), primary: true });
    }
    for cause in rejection.causes().iter().take(MAX_CAUSES) {
        let Some(line) = &cause.line else { continue };
        // Compilers make several instructions of a line; it is shown once.
        if excerpts.iter().all(|e| (e.line.line, &e.line.file) != (line.line, &line.file)) {
            let label = match rejection.register() {
                Some(register) => format!("this is where r{} comes from", register.number()),
                None => "this is where the value comes from".to_owned(),
            };
            excerpts.push(Excerpt { line, label, primary: false });
        }
    }
    let title = if excerpts.is_empty() { format!("{title}: {reason}") } else { title };
    let mut group = Group::with_title(Level::ERROR.primary_title(title.as_str()));
    for excerpt in &excerpts {
        group = group.element(excerpt.snippet());
    }
    if let Some(place) = &place {
        group = group.element(Level::NOTE.message(place.as_str()));
    }
    render(&[group])
}

/// The same for people who do not know the verifier: what is wrong, where it comes from and what usually helps.
pub(crate) fn explanation(program: &Program, env: &Env, rejection: &Rejection) -> String {
    let explained = rejection.explain(program, env.kernel.as_deref());
    let mut excerpts = Vec::new();
    if let Some(line) = rejection.line() {
        excerpts.push(Excerpt { line, label: explained.label.clone(), primary: true });
    }
    for step in &explained.steps {
        if let Some(line) = &step.line {
            excerpts.push(Excerpt { line, label: step.text.clone(), primary: false });
        }
    }
    let title = format!("{} (in program `{}`)", explained.title, program.name);
    let mut notes = Vec::new();
    if rejection.line().is_none() {
        notes.push(explained.label.clone());
    }
    let without_line = explained.steps.iter().filter(|step| step.line.is_none());
    notes.extend(without_line.map(|step| format!("at instruction {}: {}", step.at, step.text)));
    if let Some(at) = rejection.at() {
        let insn = program.code.get(at).map(|insn| insn.to_string()).unwrap_or_default();
        let function = rejection.function().unwrap_or_default();
        notes.push(format!("the instruction is number {at}, in `{function}`: {insn}"));
    }
    notes.extend(explained.values);
    notes.push(format!("Linux says: {} ({})", rejection.reason(), rejection.errno_name()));
    let mut group = Group::with_title(Level::ERROR.primary_title(title.as_str()));
    for excerpt in &excerpts {
        group = group.element(excerpt.snippet());
    }
    for note in &notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    if let Some(help) = &explained.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    render(&[group])
}

/// Why the kernel refused a program: the last line of its verifier's log that says something, at the source line it was
/// looking at.
pub(crate) fn kernel_refusal(rejection: &KernelRejection) -> String {
    let reason = rejection.log.last_line().unwrap_or("no reason given").to_owned();
    let title = format!("the kernel refuses program `{}` ({})", rejection.program, rejection.errno);
    let title = if rejection.line.is_some() { title } else { format!("{title}: {reason}") };
    let excerpt = rejection.line.as_ref().map(|line| Excerpt { line, label: reason, primary: true });
    let mut group = Group::with_title(Level::ERROR.primary_title(title.as_str()));
    if let Some(excerpt) = &excerpt {
        group = group.element(excerpt.snippet());
    }
    let place = rejection
        .insn
        .map(|at| format!("at instruction {at}: {}", rejection.instruction.as_deref().unwrap_or_default()));
    if let Some(place) = &place {
        group = group.element(Level::NOTE.message(place.as_str()));
    }
    render(&[group.element(
        Level::HELP.message("`bpf-arena verify --engine kernel --log-level 2` shows the whole log"),
    )])
}

/// An arena fault, with the chain of calls that led to it.
pub(crate) fn fault(fault: &Fault) -> String {
    let kind = match fault.kind {
        bpf_arena::codegen::AccessKind::Load => "load",
        bpf_arena::codegen::AccessKind::Store => "store",
        bpf_arena::codegen::AccessKind::Atomic => "atomic operation",
    };
    let effect = match fault.kind {
        bpf_arena::codegen::AccessKind::Load => "it gave 0",
        bpf_arena::codegen::AccessKind::Store | bpf_arena::codegen::AccessKind::Atomic => "it was dropped",
    };
    let title = format!(
        "arena fault in `{}`: {}-byte {kind} at {:#x}, where no page is; {effect}",
        fault.program, fault.size, fault.address
    );
    let excerpts: Vec<Result<Excerpt<'_>, String>> =
        fault.frames.iter().enumerate().map(|(depth, frame)| excerpt(frame, depth)).collect();
    let mut group: Group<'_> = Group::with_title(Level::WARNING.primary_title(title.as_str()));
    for excerpt in &excerpts {
        group = match excerpt {
            Ok(excerpt) => group.element(excerpt.snippet()),
            Err(text) => group.element(Level::NOTE.message(text.as_str())),
        };
    }
    render(&[group])
}

fn excerpt(frame: &Frame, depth: usize) -> Result<Excerpt<'_>, String> {
    let verb = if depth == 0 { "accessed" } else { "called" };
    let label = format!("{verb} here, in `{}`", frame.function);
    match &frame.line {
        Some(line) => Ok(Excerpt { line, label, primary: depth == 0 }),
        None => Err(format!("{label}, instruction {}", frame.insn)),
    }
}

fn render(groups: &[Group<'_>]) -> String {
    let renderer = if output::colours() { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).render(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_at_a_column_ends_before_comments() {
        let line = "\treturn *at; /* a load */";
        assert_eq!(line.get(code_range(line, 9)), Some("*at"));
        assert_eq!(line.get(code_range(line, 0)), Some("return *at"));
        assert_eq!("int f() {".get(code_range("int f() {", 1)), Some("int f()"));
    }

    #[test]
    fn columns_that_do_not_exist_are_harmless() {
        assert_eq!(code_range("x;", 99), 0..1);
        assert_eq!(code_range("", 0), 0..0);
        assert_eq!(code_range("", 7), 0..0);
        assert_eq!(code_range("\u{e9}x", 2), 0..3);
        assert_eq!(code_range(";", 1), 0..1);
    }
}
