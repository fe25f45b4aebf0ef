//! Messages that show the C source they are about.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};
use bpf_arena::Fault;
use bpf_arena::fault::Frame;
use bpf_object::{LineInfo, Program};
use isa::InsnIdx;

use crate::output;

/// A line of C with a label under it.
struct Excerpt<'a> {
    line: &'a LineInfo,
    label: String,
    primary: bool,
}

impl<'a> Excerpt<'a> {
    fn snippet(&'a self) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let source = self.line.source.as_ref();
        let code = source.trim_end();
        let start = match (self.line.column as usize).checked_sub(1) {
            // Columns count bytes; a wrong one marks the whole line.
            Some(start) if code.get(start..).is_some_and(|rest| !rest.is_empty()) => start,
            _ => code.len() - code.trim_start().len(),
        };
        let kind = if self.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        Snippet::source(code)
            .line_start(self.line.line as usize)
            .path(file_name(self.line))
            .annotation(kind.span(start..code.len().max(start)).label(self.label.as_str()))
    }
}

/// A file name without the `./` that compilers put in front of relative ones.
pub(crate) fn file_name(line: &LineInfo) -> &str {
    line.file.strip_prefix("./").unwrap_or(&line.file)
}

/// An error at an instruction, with the source line it comes from.
pub(crate) fn at_instruction(program: &Program, at: InsnIdx, title: &str, message: &str) -> String {
    let insn = program.code.get(at).map(|insn| insn.to_string()).unwrap_or_default();
    match program.line_at(at) {
        Some(line) => {
            let excerpt = Excerpt { line, label: message.to_owned(), primary: true };
            let note = format!("at instruction {at}: {insn}");
            let group = Level::ERROR.primary_title(title).element(excerpt.snippet());
            render(&[group.element(Level::NOTE.message(note.as_str()))])
        }
        None => {
            let note = format!("at instruction {at}: {insn}");
            let text = format!("{title}: {message}");
            render(&[Level::ERROR.primary_title(text.as_str()).element(Level::NOTE.message(note.as_str()))])
        }
    }
}

/// An arena fault, with the chain of calls that led to it.
pub(crate) fn fault(fault: &Fault) -> String {
    let kind = match fault.kind {
        codegen::AccessKind::Load => "load",
        codegen::AccessKind::Store => "store",
        codegen::AccessKind::Atomic => "atomic operation",
    };
    let effect = match fault.kind {
        codegen::AccessKind::Load => "it gave 0",
        codegen::AccessKind::Store | codegen::AccessKind::Atomic => "it was dropped",
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
