//! The stages of compilation, one behind the other.

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::{CodegenError, Context};
use cranelift_frontend::FunctionBuilderContext;

use crate::flow::Body;
use crate::machine::{Effort, Machine};
use crate::source::Source;
use crate::{CompileError, Compiled, Options, Pass, limits, link, lower, passes, x86};

/// Compiles a program.
pub(crate) fn compile(source: Source<'_>, options: &Options) -> Result<Compiled, CompileError> {
    let machine = Machine::host(options.baseline)?;
    limits::check(0, "instructions", source.program().code.len() as u64, limits::PROGRAM_INSNS)?;
    let mut bodies = Vec::new();
    for subprogram in reached(source) {
        bodies.push(Body::build(source, subprogram)?);
    }
    let mut chosen = options.passes;
    if options.calls_all {
        // Functions of the host may stand for those that these passes know.
        chosen = chosen.without(Pass::Calls).without(Pass::Callbacks);
    }
    if options.checked_arena {
        // The runtime is asked about each access.
        chosen = chosen.without(Pass::Wide);
    }
    let changes = passes::run(&mut bodies, source, chosen);
    let mut backend = Backend::new(machine, options.baseline)?;
    let unit = lower::Unit::new(source, options, machine, backend.full.frontend_config());
    let mut imports = lower::Imports::default();
    let mut text = link::Text::new(machine);
    let mut scratch = FunctionBuilderContext::new();
    let mut stack_bytes = 0;
    for mut body in bodies {
        let subprogram = body.subprogram;
        let inlined = core::mem::take(&mut body.inlined);
        let effort = limits::effort(&body);
        if x86::can_compile(machine, options, effort)
            && let Some(written) = x86::function(&unit, &body, &mut imports)
        {
            stack_bytes += written.stack;
            limits::check(subprogram, "bytes of native stack", stack_bytes, limits::STACK_BYTES)?;
            text.append(source, subprogram, &written.code, &inlined)?;
            continue;
        }
        lower::function(&unit, &body, &mut imports, backend.empty(), &mut scratch)?;
        drop(body);
        backend.compile(subprogram, effort)?;
        if let Some(code) = backend.context.compiled_code() {
            stack_bytes += code.buffer.frame_layout().map_or(0, |f| u64::from(f.frame_to_fp_offset));
            limits::check(subprogram, "bytes of native stack", stack_bytes, limits::STACK_BYTES)?;
            let code = link::Code::of(subprogram, code, &backend.context.func.params)?;
            text.append(source, subprogram, &code, &inlined)?;
        }
    }
    let mut number = 0;
    while let Some(stub) = imports.numbered_stub(number) {
        lower::stub::function(&unit, stub, &mut imports, backend.empty(), &mut scratch);
        backend.compile(0, Effort::Full)?;
        if let Some(code) = backend.context.compiled_code() {
            text.append_stub(stub.import(), &link::Code::of(0, code, &backend.context.func.params)?)?;
        }
        number += 1;
    }
    let uses_cpu = imports.uses_cpu;
    Ok(Compiled { uses_cpu, changes, ..text.finish(imports.into_order())? })
}

/// The subprograms that are executed, the entry first.
fn reached(source: Source<'_>) -> impl Iterator<Item = usize> + '_ {
    let frames = source.frames().iter().enumerate().skip(1);
    core::iter::once(0).chain(frames.filter(|(_, f)| f.reached).map(|(i, _)| i))
}

/// The backend at work on one function after the other.
struct Backend {
    machine: Machine,
    baseline: bool,
    full: OwnedTargetIsa,
    /// Rarely needed, so made when it is.
    linear: Option<OwnedTargetIsa>,
    context: Context,
}

impl Backend {
    fn new(machine: Machine, baseline: bool) -> Result<Self, CompileError> {
        let full = machine.backend(Effort::Full, baseline)?;
        Ok(Self { machine, baseline, full, linear: None, context: Context::new() })
    }

    /// A function to lower into.
    fn empty(&mut self) -> &mut cranelift_codegen::ir::Function {
        self.context.clear();
        &mut self.context.func
    }

    /// Compiles what was lowered.
    fn compile(&mut self, subprogram: usize, effort: Effort) -> Result<(), CompileError> {
        let backend = match effort {
            Effort::Full => &self.full,
            Effort::Linear => match self.linear.take() {
                Some(made) => self.linear.insert(made),
                None => self.linear.insert(self.machine.backend(Effort::Linear, self.baseline)?),
            },
        };
        let refused = |error: &CodegenError| CompileError::Backend { subprogram, message: error.to_string() };
        self.context.compile(&**backend, &mut ControlPlane::default()).map_err(|e| refused(&e.inner))?;
        Ok(())
    }
}
