//! `bpf-arena verify`: the verdict of this project's verifier, of the running kernel's, or of both.

use bpf_arena::Engine;
use bpf_arena::bpf_object::{LinkError, Object, Program};
use bpf_arena::kernel::{KernelError, KernelObject, LoadOptions, LogMode};
use bpf_arena::verifier::Verified;

use crate::args::{EngineName, VerifyArgs};
use crate::engine;
use crate::failure::{self, Failure};
use crate::json;
use crate::output::{self, say};
use crate::{input, report};

/// Level of the kernel's log with `--log`: every instruction, and statistics.
const LOG_LEVEL: u32 = 2 | 4;

/// What a verifier says of a program.
struct Verdict {
    engine: &'static str,
    /// What accepting it took, or the reason why not.
    result: Result<Accepted, Refused>,
    /// The whole log, if it was asked for.
    log: Option<String>,
}

struct Accepted {
    text: String,
    insns_walked: Option<u64>,
}

struct Refused {
    reason: String,
    /// The reason in its source.
    report: String,
}

/// Verifies each program asked for.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let object = input::object(&args.object)?;
    let names = input::programs(&object, args.program.as_deref())?;
    let kernel = match args.engine {
        EngineName::User => None,
        EngineName::Kernel | EngineName::Both => Some(KernelObject::new(&object).map_err(kernel_failure)?),
    };
    let (mut refused, mut differences) = (0, 0);
    for name in &names {
        let mut verdicts = Vec::new();
        if args.engine != EngineName::Kernel {
            verdicts.push(user(&input::link(&object, name)?));
        }
        if let Some(kernel) = &kernel {
            verdicts.push(in_kernel(kernel, &object, name, args.log)?);
        }
        let accepted = verdicts.iter().filter(|v| v.result.is_ok()).count();
        differences += usize::from(accepted == 1 && verdicts.len() == 2);
        refused += usize::from(accepted < verdicts.len());
        for verdict in verdicts {
            if args.json {
                output::json(&to_json(name, &verdict))?
            } else {
                show(name, verdict, args.engine)?
            }
        }
    }
    if args.engine == EngineName::Both && !args.json {
        say!("{} programs, {differences} verdicts differ", names.len())?;
    }
    // Side by side, agreement is what counts.
    let fine = if args.engine == EngineName::Both { differences == 0 } else { refused == 0 };
    if fine { Ok(()) } else { Err(Failure::Reported) }
}

/// The proof that a program is safe, or a failure that says why it is not.
pub(crate) fn accept(program: &Program) -> Result<Verified, Failure> {
    bpf_arena::verifier::verify(program, Engine::user().verifier_env()).map_err(|rejection| {
        output::note(&report::refusal(program, &rejection));
        Failure::Reported
    })
}

fn user(program: &Program) -> Verdict {
    let result = match bpf_arena::verifier::verify(program, Engine::user().verifier_env()) {
        Ok(verified) => {
            let stats = verified.stats();
            let text = format!(
                "{} instructions walked, {} states, {} bytes of stack",
                stats.insns_walked, stats.total_states, stats.max_stack_bytes
            );
            Ok(Accepted { text, insns_walked: Some(stats.insns_walked) })
        }
        Err(rejection) => {
            Err(Refused { reason: rejection.to_string(), report: report::refusal(program, &rejection) })
        }
    };
    Verdict { engine: "user", result, log: None }
}

fn in_kernel(kernel: &KernelObject, object: &Object, name: &str, log: bool) -> Result<Verdict, Failure> {
    let linked = kernel.link(object, name).map_err(kernel_failure)?;
    let log_mode = if log { LogMode::Always(LOG_LEVEL) } else { LogMode::OnRejection };
    let (result, text) = match kernel.load(&linked, &LoadOptions { log: log_mode, flags: 0 }) {
        Ok((_, log)) => {
            // The last line is `processed 123 insns (limit ..) ..`.
            let text = log.text().lines().last().unwrap_or("by the running kernel").to_owned();
            let walked = text.split(' ').nth(1).and_then(|number| number.parse().ok());
            (Ok(Accepted { text, insns_walked: walked }), log.text().to_owned())
        }
        Err(KernelError::Rejected(rejection)) => {
            let reason = rejection.log.last_line().unwrap_or("no reason given").to_owned();
            let report = report::kernel_refusal(&rejection);
            (Err(Refused { reason, report }), rejection.log.text().to_owned())
        }
        Err(other) => return Err(kernel_failure(other)),
    };
    Ok(Verdict { engine: "kernel", result, log: log.then_some(text) })
}

/// Whether it is the kernel, the object or the question that is wrong.
fn kernel_failure(error: KernelError) -> Failure {
    match &error {
        KernelError::Link { source: LinkError::NoSuchProgram { .. }, .. } => Failure::usage(error),
        _ if engine::is_environment(&error) => Failure::usage(error),
        _ => Failure::Refused(anyhow::anyhow!(failure::message(&error.into()))),
    }
}

fn show(name: &str, verdict: Verdict, engine: EngineName) -> Result<(), Failure> {
    let by = if engine == EngineName::Both { format!(" by {}", verdict.engine) } else { String::new() };
    if let Some(log) = &verdict.log {
        say!("{}", log.trim_end())?;
    }
    match verdict.result {
        Ok(accepted) => say!("{name}: accepted{by} ({})", accepted.text),
        Err(refused) => {
            say!("{name}: refused{by}")?;
            output::note(&refused.report);
            Ok(())
        }
    }
}

fn to_json(name: &str, verdict: &Verdict) -> json::Verdict {
    json::Verdict {
        version: json::VERSION,
        program: name.to_owned(),
        engine: verdict.engine,
        accepted: verdict.result.is_ok(),
        reason: verdict.result.as_ref().err().map(|refused| refused.reason.clone()),
        insns_walked: verdict.result.as_ref().ok().and_then(|accepted| accepted.insns_walked),
        log: verdict.log.clone(),
    }
}
