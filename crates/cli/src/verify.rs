//! `bpf-arena verify`: the verdict of this project's verifier, of the running kernel's, or of both.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bpf_arena::Engine;
use bpf_arena::bpf_object::{Btf, LinkError, LinkOptions, Object, Program};
use bpf_arena::kernel::{KernelError, KernelObject, LoadOptions, LogMode};
use bpf_arena::verifier::log::{KernelLog, LogLevel};
use bpf_arena::verifier::{Env, Rejection, Stats, Verified, errno_name};

use crate::args::{EngineName, VerifyArgs};
use crate::engine;
use crate::failure::{self, Failure};
use crate::json;
use crate::output::{self, say};
use crate::{input, report};

/// Where a kernel tells of its types.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What a verifier says of a program.
struct Verdict {
    engine: &'static str,
    /// What accepting it took, or the reason why not.
    result: Result<Accepted, Refused>,
    /// What it cost, as far as it is known.
    cost: Option<Cost>,
    /// The log, if it was asked for.
    log: Option<String>,
}

struct Accepted {
    text: String,
    insns_walked: Option<u64>,
}

struct Refused {
    /// The final message, with the place.
    reason: String,
    /// The final message alone.
    message: String,
    errno: i32,
    errno_name: &'static str,
    /// The reason in its source.
    report: String,
}

/// What our verifier took for a verdict.
struct Cost {
    stats: Stats,
    time: Duration,
}

/// Verifies each program asked for.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let object = input::object(&args.object)?;
    let names = input::programs(&object, args.program.as_deref())?;
    let kernel = match args.engine {
        EngineName::User => None,
        EngineName::Kernel | EngineName::Both => Some(KernelObject::new(&object).map_err(kernel_failure)?),
    };
    let target = Target::new(args.btf.as_deref())?;
    let (mut refused, mut differences) = (0, 0);
    for name in &names {
        let mut verdicts = Vec::new();
        if args.engine != EngineName::Kernel {
            verdicts.push(user(&target.link(&object, name)?, &target.env, args));
        }
        if let Some(kernel) = &kernel {
            verdicts.push(in_kernel(kernel, &object, name, args.log_level)?);
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

/// What programs are verified against.
struct Target {
    env: Env,
    /// How programs are linked first, and how if that does not do.
    options: Vec<LinkOptions>,
}

impl Target {
    /// With the types in a file; without one with this machine's kernel, if it tells.
    ///
    /// Programs are then linked as they run in this process. Only those that cannot be, because they ask for types of the
    /// kernel, are linked for the kernel.
    fn new(btf: Option<&Path>) -> Result<Self, Failure> {
        let engine = Engine::user();
        let env = engine.verifier_env().clone();
        let for_kernel =
            |btf: &Arc<Btf>| LinkOptions { target_btf: Some(Arc::clone(btf)), ..engine.link_options() };
        if let Some(path) = btf {
            let bytes =
                std::fs::read(path).with_context(|| path.display().to_string()).map_err(Failure::usage)?;
            let btf =
                kernel_types(&bytes).with_context(|| path.display().to_string()).map_err(Failure::usage)?;
            return Ok(Self { options: vec![for_kernel(&btf)], env: env.with_kernel(btf) });
        }
        let machine = std::fs::read(KERNEL_BTF).ok().and_then(|bytes| kernel_types(&bytes).ok());
        let mut options = vec![engine.link_options()];
        options.extend(machine.as_ref().map(for_kernel));
        Ok(Self { options, env: machine.map_or(env.clone(), |btf| env.with_kernel(btf)) })
    }

    fn link(&self, object: &Object, name: &str) -> Result<Program, Failure> {
        let mut first = None;
        for options in &self.options {
            match object.link_with(name, options) {
                Ok(program) => return Ok(program),
                Err(error) => first = first.or(Some(error)),
            }
        }
        match first {
            Some(error) => Err(Failure::refused(error)),
            None => input::link(object, name),
        }
    }
}

/// The types in a file: BTF alone, as a kernel gives it, or an ELF file with BTF in it.
fn kernel_types(bytes: &[u8]) -> anyhow::Result<Arc<Btf>> {
    if bytes.starts_with(b"\x7fELF") {
        return Object::parse(bytes)?.btf.context("no BTF");
    }
    Ok(Arc::new(Btf::parse(bytes)?))
}

fn user(program: &Program, env: &Env, args: &VerifyArgs) -> Verdict {
    let level = args.log_level.and_then(LogLevel::from_bits);
    let start = Instant::now();
    let (result, log) = match level {
        Some(level) => {
            let mut log = KernelLog::new(program, env, level);
            let result = bpf_arena::verifier::verify_with(program, env, &mut log);
            let text = log.finish(&result, start.elapsed());
            (result, Some(text))
        }
        None => (bpf_arena::verifier::verify(program, env), None),
    };
    let time = start.elapsed();
    let stats = match &result {
        Ok(verified) => verified.stats(),
        Err(rejection) => rejection.stats(),
    };
    let result = match result {
        Ok(_) => Ok(Accepted { text: accepted_text(&stats, time), insns_walked: Some(stats.insns_walked) }),
        Err(rejection) => Err(refused(program, env, &rejection, args.explain)),
    };
    Verdict { engine: "user", result, cost: Some(Cost { stats, time }), log }
}

fn refused(program: &Program, env: &Env, rejection: &Rejection, explain: bool) -> Refused {
    let report = if explain {
        report::explanation(program, env, rejection)
    } else {
        report::refusal(program, rejection)
    };
    Refused {
        reason: rejection.to_string(),
        message: rejection.reason().to_string(),
        errno: rejection.errno(),
        errno_name: rejection.errno_name(),
        report,
    }
}

fn accepted_text(stats: &Stats, time: Duration) -> String {
    format!(
        "{} instructions walked, {} states, {} at once, {} bytes of stack, {}, {}",
        stats.insns_walked,
        stats.total_states,
        stats.peak_states,
        stats.max_stack_bytes,
        bytes_text(stats.peak_bytes),
        time_text(time)
    )
}

fn bytes_text(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

fn time_text(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1000 => format!("{micros} us"),
        1000..10_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{} s", time.as_secs()),
    }
}

fn in_kernel(
    kernel: &KernelObject,
    object: &Object,
    name: &str,
    level: Option<u32>,
) -> Result<Verdict, Failure> {
    let linked = kernel.link(object, name).map_err(kernel_failure)?;
    let log = level.map_or(LogMode::OnRejection, LogMode::Always);
    let (result, text) = match kernel.load(&linked, &LoadOptions { log, flags: 0 }) {
        Ok((_, log)) => {
            // The last line is `processed 123 insns (limit ..) ..`.
            let text = log.text().lines().last().unwrap_or("by the running kernel").to_owned();
            let walked = text.split(' ').nth(1).and_then(|number| number.parse().ok());
            (Ok(Accepted { text, insns_walked: walked }), log.text().to_owned())
        }
        Err(KernelError::Rejected(rejection)) => {
            let reason = rejection.log.last_line().unwrap_or("no reason given").to_owned();
            let refused = Refused {
                message: reason.clone(),
                reason,
                errno: rejection.errno.raw_os_error(),
                errno_name: errno_name(rejection.errno.raw_os_error()),
                report: report::kernel_refusal(&rejection),
            };
            (Err(refused), rejection.log.text().to_owned())
        }
        Err(other) => return Err(kernel_failure(other)),
    };
    Ok(Verdict { engine: "kernel", result, cost: None, log: level.map(|_| text) })
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
            say!("{name}: refused{by} ({}): {}", refused.errno_name, refused.message)?;
            output::note(&refused.report);
            Ok(())
        }
    }
}

fn to_json(name: &str, verdict: &Verdict) -> json::Verdict {
    let refused = verdict.result.as_ref().err();
    let cost = verdict.cost.as_ref();
    let accepted_walk = verdict.result.as_ref().ok().and_then(|accepted| accepted.insns_walked);
    json::Verdict {
        version: json::VERSION,
        program: name.to_owned(),
        engine: verdict.engine,
        accepted: verdict.result.is_ok(),
        errno: refused.map(|refused| refused.errno),
        message: refused.map(|refused| refused.message.clone()),
        reason: refused.map(|refused| refused.reason.clone()),
        insns_walked: cost.map(|cost| cost.stats.insns_walked).or(accepted_walk),
        states: cost.map(|cost| cost.stats.total_states),
        peak_states: cost.map(|cost| cost.stats.peak_states),
        stack_bytes: cost.map(|cost| cost.stats.max_stack_bytes),
        memory_bytes: cost.map(|cost| cost.stats.peak_bytes),
        time_ns: cost.map(|cost| u64::try_from(cost.time.as_nanos()).unwrap_or(u64::MAX)),
        log: verdict.log.clone(),
    }
}
