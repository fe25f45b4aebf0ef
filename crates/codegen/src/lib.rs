//! Machine code for verified programs.
//!
//! ```text
//! Verified -> flow::Body (blocks of BPF instructions, facts applied) -> lower (Cranelift's form)
//!          -> Cranelift -> link::Text (functions joined, fault table, lines) -> Compiled
//! ```
//!
//! The code trusts the verifier and nothing else: not the values a program reads, not the presence of arena pages.
//! It is position-independent and refers to no address of the process; see [`abi`] for how it is entered.
#![forbid(unsafe_code)]

pub mod abi;
mod compiled;
mod error;
mod faults;
mod flow;
mod limits;
mod link;
mod listing;
mod lower;
mod machine;
mod source;
// The other machines have no code to look at.
#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests;

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::{CodegenError, Context};
use cranelift_frontend::FunctionBuilderContext;
use machine::Effort;
use source::Source;
use verifier::Verified;

pub use compiled::{AccessKind, Compiled, FaultSite, Function, Import, Line};
pub use error::CompileError;
pub use listing::MachineInsn;

/// How to compile.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Call the runtime for each arena access instead of relying on faults.
    pub checked_arena: bool,
}

/// Compiles a verified program for the machine it runs on.
///
/// # Errors
/// The machine is not supported, the program has an instruction that no engine executes, or a limit is exceeded.
pub fn compile(verified: &Verified, options: &Options) -> Result<Compiled, CompileError> {
    compile_source(Source::from(verified), options)
}

fn compile_source(source: Source<'_>, options: &Options) -> Result<Compiled, CompileError> {
    let machine = machine::Machine::host()?;
    limits::check(0, "instructions", source.program().code.len() as u64, limits::PROGRAM_INSNS)?;
    let full = machine.backend(Effort::Full)?;
    let mut linear = None;
    let unit = lower::Unit { source, options, machine, frontend: full.frontend_config() };
    let mut imports = lower::Imports::default();
    let mut text = link::Text::default();
    let mut context = Context::new();
    let mut scratch = FunctionBuilderContext::new();
    let mut stack_bytes = 0;
    for subprogram in reached(source) {
        let body = flow::Body::build(source, subprogram)?;
        context.clear();
        lower::function(&unit, &body, &mut imports, &mut context.func, &mut scratch)?;
        let backend = match limits::effort(&body) {
            Effort::Full => &full,
            // Rarely needed, so made when it is.
            Effort::Linear => match linear.take() {
                Some(made) => linear.insert(made),
                None => linear.insert(machine.backend(Effort::Linear)?),
            },
        };
        drop(body);
        let refused = |error: &CodegenError| CompileError::Backend { subprogram, message: error.to_string() };
        context.compile(&**backend, &mut ControlPlane::default()).map_err(|e| refused(&e.inner))?;
        if let Some(code) = context.compiled_code() {
            stack_bytes += code.buffer.frame_layout().map_or(0, |f| u64::from(f.frame_to_fp_offset));
            limits::check(subprogram, "bytes of native stack", stack_bytes, limits::STACK_BYTES)?;
            text.append(source, subprogram, code, &context.func.params)?;
        }
    }
    let uses_cpu = imports.uses_cpu;
    Ok(Compiled { uses_cpu, ..text.finish(imports.into_order())? })
}

/// The subprograms that are executed, the entry first.
fn reached(source: Source<'_>) -> impl Iterator<Item = usize> + '_ {
    let frames = source.frames().iter().enumerate().skip(1);
    core::iter::once(0).chain(frames.filter(|(_, f)| f.reached).map(|(i, _)| i))
}
