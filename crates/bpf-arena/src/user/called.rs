//! Runs of programs that take arguments.

use bpf_object::ProgType;

use super::image::Instance;
use crate::Outcome;
use crate::error::RunError;
use crate::host::argument::{self, Argument};

/// Most arguments of a traced function (`MAX_BPF_FUNC_ARGS`).
const MAX_ARGUMENTS: usize = 12;

impl Instance {
    /// Calls a program that takes arguments. The objects among them are the program's to look at until it returns.
    ///
    /// # Errors
    /// There are others than the function it stands for has, it takes none, or the run was ended.
    pub fn call(&self, arguments: &[Argument]) -> Result<Outcome, RunError> {
        let program = self.program();
        let takes_arguments = matches!(
            program.kind.prog_type,
            Some(
                ProgType::StructOps
                    | ProgType::Tracing
                    | ProgType::Lsm
                    | ProgType::RawTracepoint
                    | ProgType::RawTracepointWritable
            )
        );
        if !takes_arguments {
            return Err(RunError::NotCalled { program: program.name.clone() });
        }
        let options = &self.inner.image.options;
        argument::check(program, options.env.kernel.as_deref(), arguments)?;
        let mut context = Vec::with_capacity(8 * MAX_ARGUMENTS);
        for argument in arguments {
            context.extend(argument.bits().to_ne_bytes());
        }
        // What it does not ask for by number of arguments, it may ask for by offset.
        context.resize(context.len().max(8 * MAX_ARGUMENTS), 0);
        let objects = || arguments.iter().filter_map(Argument::image);
        objects().for_each(|image| options.world.hand_out(image, true));
        let outcome = self.run(&mut context);
        objects().for_each(|image| {
            options.world.release(image);
        });
        outcome
    }
}
