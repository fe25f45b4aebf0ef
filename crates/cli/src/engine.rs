//! Loading for execution.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use bpf_arena::kernel::KernelError;
use bpf_arena::{App, Engine, LoadError, Object, Stream, UserEngine};

use crate::args::{EngineArgs, EngineName};
use crate::failure::Failure;
use crate::json::Message;
use crate::{output, report};

/// What programs printed and nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Printed(Arc<Mutex<Vec<Message>>>);

impl Printed {
    fn push(&self, stream: Stream, message: &[u8]) {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            _ => "trace",
        };
        let text = String::from_utf8_lossy(message).into_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Message { stream, text });
    }

    /// What was printed since the last time.
    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Loads the programs `names` of an object; other programs of it are not looked at.
pub(crate) fn load(
    object: &Object,
    names: &[&str],
    args: EngineArgs,
    printed: &Printed,
) -> Result<App, Failure> {
    try_load(object, names, args, printed)?.map_err(|error| refuse(object, error, args.log))
}

/// As [`load`]; that the engine refuses the object is a result, not a failure.
pub(crate) fn try_load(
    object: &Object,
    names: &[&str],
    args: EngineArgs,
    printed: &Printed,
) -> Result<Result<App, LoadError>, Failure> {
    let result = match args.engine {
        EngineName::User => load_here(object, for_run(args, printed).only(names)),
        EngineName::Kernel => match Engine::kernel() {
            Ok(engine) => object.load(engine.only(names)),
            Err(error) => return Err(Failure::usage(error)),
        },
        EngineName::Both => {
            return Err(Failure::usage(anyhow!("`--engine both` is for `run`, `test` and `verify`")));
        }
    };
    match result {
        Err(LoadError::Kernel(error)) if is_environment(&error) => Err(Failure::usage(*error)),
        other => Ok(other),
    }
}

/// Loads into this process. What it takes a kernel's types to understand gets those of this machine's; reading them is not for
/// every start.
fn load_here(object: &Object, engine: UserEngine) -> Result<App, LoadError> {
    let first = match object.load(engine.clone()) {
        Err(error @ (LoadError::Rejected { .. } | LoadError::Unsupported(_) | LoadError::Link(_))) => error,
        other => return other,
    };
    match with_kernel_types(engine) {
        Some(engine) => object.load(engine),
        None => Err(first),
    }
}

/// The engine with the types of this machine's kernel, if it tells them.
pub(crate) fn with_kernel_types(engine: UserEngine) -> Option<UserEngine> {
    let btf = bpf_arena::kernel::running_btf().ok()?;
    let env = engine.verifier_env().clone().with_kernel(Arc::clone(&btf));
    Some(engine.env(env).target_btf(btf))
}

/// The engine of this process.
pub(crate) fn user(interp: bool, printed: &Printed) -> UserEngine {
    let sink = printed.clone();
    let engine = Engine::user().output(move |stream: Stream, message: &[u8]| sink.push(stream, message));
    if interp { engine.interpreter() } else { engine }
}

/// The engine of this process as its options say.
pub(crate) fn for_run(args: EngineArgs, printed: &Printed) -> UserEngine {
    let mut engine = user(args.interp, printed);
    if args.symbols.perf_map {
        engine = engine.perf_map();
    }
    if args.symbols.jitdump {
        engine = engine.jitdump(".");
    }
    if args.symbols.gdb {
        engine = engine.gdb();
    }
    engine
}

/// Whether the kernel, not the object, is what an error is about.
pub(crate) fn is_environment(error: &KernelError) -> bool {
    matches!(
        error,
        KernelError::MissingCapability { .. }
            | KernelError::Feature(_)
            | KernelError::NoKernelBtf(_)
            | KernelError::KernelBtf(_)
    )
}

/// Says why an object was not loaded, with its source where a program was refused.
fn refuse(object: &Object, error: LoadError, whole_log: bool) -> Failure {
    if let LoadError::Kernel(kernel) = &error
        && let Some(log) = kernel.log().filter(|_| whole_log)
    {
        output::note(log.text().trim_end());
    }
    match &error {
        LoadError::Rejected { program, source } => match object.link(program) {
            Ok(linked) => {
                output::note(&report::refusal(&linked, source));
                Failure::Reported
            }
            Err(_) => Failure::refused(error),
        },
        LoadError::Kernel(kernel) => match kernel.as_ref() {
            KernelError::Rejected(rejection) => {
                output::note(&report::kernel_refusal(rejection));
                Failure::Reported
            }
            _ => Failure::refused(error),
        },
        _ => Failure::refused(error),
    }
}

/// The name of an engine, for people and JSON.
pub(crate) fn name(args: EngineArgs) -> &'static str {
    match (args.engine, args.interp) {
        (EngineName::User, false) => "user",
        (EngineName::User, true) => "user (interpreter)",
        (EngineName::Kernel, _) => "kernel",
        (EngineName::Both, _) => "both",
    }
}
