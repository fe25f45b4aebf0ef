//! `bpf-arena run`.

use anyhow::{Context as _, anyhow};
use bpf_arena::suite::Memory;
use bpf_arena::typed::value::Value;
use bpf_arena::typed::{GlobalError, variable_names};
use bpf_arena::{App, Object, Outcome, RunError};
use serde_json::Map;

use crate::args::{EngineArgs, EngineName, RunArgs};
use crate::engine::{self, Printed};
use crate::failure::Failure;
use crate::json::{self, Message, ProgramRun};
use crate::limits::Limits;
use crate::output::{self, say};
use crate::{context, input, report};

/// What is to be done.
struct Plan {
    object: Object,
    /// Programs, each with its context.
    runs: Vec<(String, Vec<u8>)>,
    repeat: u32,
    print: Vec<String>,
    lists: Vec<(String, String)>,
    engine: EngineArgs,
    limits: Limits,
}

/// Runs programs and prints what they left.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut plan = plan(args)?;
    let both = plan.engine.engine == EngineName::Both;
    if both {
        plan.engine.engine = EngineName::User;
    }
    let before = plan.runs.clone();
    let printed = Printed::default();
    let names: Vec<&str> = plan.runs.iter().map(|(name, _)| name.as_str()).collect();
    let app = engine::load(&plan.object, &names, plan.engine, &printed)?;
    let mut runs = Vec::new();
    for (name, ctx) in &mut plan.runs {
        let outcome = execute(&app, name, ctx, plan.repeat, Some(&plan.limits))?;
        let messages = printed.take();
        if !args.json {
            show(name, &outcome, plan.repeat, &messages)?;
        }
        runs.push(ProgramRun::new(name, &outcome, plan.repeat, ctx, messages));
    }
    let values = values(&app, &plan)?;
    let lists = lists(&app, &plan)?;
    let arena = arena(&app);
    let differences = if both { Some(in_kernel(&plan, app, before, &runs)?) } else { None };
    let verdict = match &differences {
        Some(found) if !found.is_empty() => Err(Failure::Reported),
        _ => Ok(()),
    };
    if !args.json {
        values.iter().try_for_each(|(name, value)| say!("{name} = {value:#}"))?;
        for (name, nodes) in &lists {
            say!("{name}: {} nodes", nodes.len())?;
            nodes.iter().try_for_each(|node| say!("  {node}"))?;
        }
        if let Some(found) = &differences {
            found.iter().try_for_each(|difference| say!("user and kernel differ: {difference}"))?;
            say!("{} differences between user and kernel", found.len())?;
        }
        return verdict;
    }
    output::json(&json::Run {
        version: json::VERSION,
        object: args.object.display().to_string(),
        engine: if both { "both" } else { engine::name(plan.engine) }.to_owned(),
        runs,
        globals: values.iter().map(|(name, value)| (name.clone(), json::value(value))).collect(),
        lists: lists
            .iter()
            .map(|(name, nodes)| (name.clone(), nodes.iter().map(json::value).collect()))
            .collect::<Map<_, _>>(),
        arena,
        differences,
    })?;
    verdict
}

/// Runs the plan again in the kernel, and says what is different from what `app` gave and left behind. One app at a time:
/// both arenas want the same addresses.
fn in_kernel(
    plan: &Plan,
    app: App,
    mut contexts: Vec<(String, Vec<u8>)>,
    runs: &[ProgramRun],
) -> Result<Vec<String>, Failure> {
    let left = Memory::copy_of(app.maps(), app.arena().ok(), &[]);
    drop(app);
    let engine = EngineArgs { engine: EngineName::Kernel, ..plan.engine };
    let names: Vec<&str> = plan.runs.iter().map(|(name, _)| name.as_str()).collect();
    let app = engine::load(&plan.object, &names, engine, &Printed::default())?;
    let mut differences = Vec::new();
    for ((name, ctx), user) in contexts.iter_mut().zip(runs) {
        let value = execute(&app, name, ctx, plan.repeat, None)?.return_value.cast_signed();
        if value != user.return_value {
            differences.push(format!("`{name}` returned {} and {value}", user.return_value));
        }
        let bytes = context::to_hex(ctx);
        if bytes != user.context {
            differences.push(format!("`{name}` left the contexts {} and {bytes}", user.context));
        }
    }
    let right = Memory::copy_of(app.maps(), app.arena().ok(), &left.pages());
    differences.extend(left.differences(&right).iter().map(ToString::to_string));
    Ok(differences)
}

fn plan(args: &RunArgs) -> Result<Plan, Failure> {
    let mut object = input::object(&args.object)?;
    input::set(&mut object, &args.set)?;
    let programs =
        if args.programs.is_empty() { vec![only_program(&object)?] } else { args.programs.clone() };
    let mut runs = Vec::new();
    for name in programs {
        input::known(&object, &name)?;
        let ctx = context::bytes(&object, &name, args.ctx.as_deref())?;
        runs.push((name, ctx));
    }
    let mut lists = Vec::new();
    for list in &args.list {
        let (head, link) = list
            .split_once(':')
            .ok_or_else(|| Failure::usage(anyhow!("--list {list}: expected HEAD:MEMBER")))?;
        lists.push((head.to_owned(), link.to_owned()));
    }
    let print = match args.print.iter().any(|name| name == "all") {
        true => variable_names(&object),
        false => args.print.clone(),
    };
    Ok(Plan {
        object: object.into(),
        runs,
        repeat: args.repeat,
        print,
        lists,
        engine: args.engine,
        limits: Limits::begin(args.time_limit)?,
    })
}

/// The only program of an object.
pub(crate) fn only_program(object: &bpf_arena::bpf_object::Object) -> Result<String, Failure> {
    match object.programs.as_slice() {
        [only] => Ok(only.name.clone()),
        [] => Err(Failure::usage(anyhow!("the object has no programs"))),
        several => {
            let names: Vec<&str> = several.iter().map(|p| p.name.as_str()).collect();
            Err(Failure::usage(anyhow!("which program? The object has {}", names.join(", "))))
        }
    }
}

/// Runs one program.
pub(crate) fn execute(
    app: &App,
    name: &str,
    ctx: &mut Vec<u8>,
    repeat: u32,
    limits: Option<&Limits>,
) -> Result<Outcome, Failure> {
    let program = app.program(name).map_err(Failure::refused)?;
    let program = limits.map_or_else(|| Ok(program.clone()), |limits| limits.of(program))?;
    let result = if repeat > 1 { program.repeat(ctx, repeat) } else { program.run(ctx) };
    result.with_context(|| format!("program `{name}`")).map_err(|error| {
        // A context that does not fit is the caller's mistake, not the program's.
        match error.downcast_ref::<RunError>() {
            Some(RunError::ContextTooSmall { .. } | RunError::ContextTooLarge { .. }) => {
                Failure::Usage(error)
            }
            _ => Failure::Refused(error),
        }
    })
}

/// Prints what a run gave.
pub(crate) fn show(name: &str, outcome: &Outcome, repeat: u32, messages: &[Message]) -> Result<(), Failure> {
    show_messages(messages)?;
    for fault in &outcome.faults {
        output::note(&report::fault(fault));
    }
    let unseen = outcome.faults.total() - outcome.faults.records().len() as u64;
    if unseen > 0 {
        output::note(&format!("warning: {unseen} more arena faults in `{name}`"));
    }
    let value = outcome.return_value.cast_signed();
    match outcome.duration.filter(|_| repeat > 1) {
        Some(time) => {
            let mean = time.as_secs_f64() * 1e9 / f64::from(repeat);
            say!("{name}: returned {value}; {repeat} runs, {mean:.1} ns each")
        }
        None => say!("{name}: returned {value}"),
    }
}

/// Passes on what programs printed: their standard output to ours, the rest to standard error.
pub(crate) fn show_messages(messages: &[Message]) -> Result<(), Failure> {
    for message in messages {
        let text = message.text.trim_end_matches('\n');
        if message.stream == "stdout" { say!("{text}")? } else { output::note(text) }
    }
    Ok(())
}

/// The variables asked for.
fn values(app: &App, plan: &Plan) -> Result<Vec<(String, Value)>, Failure> {
    let mut values = Vec::new();
    for name in &plan.print {
        let value = if name == "ctx" { last_context(plan) } else { global(app, name)? };
        values.push((name.clone(), value));
    }
    Ok(values)
}

/// A global variable for `--print`.
pub(crate) fn global(app: &App, name: &str) -> Result<Value, Failure> {
    app.global_value(name).map_err(|error| judge(error, &format!("--print {name}")))
}

/// Whether it is the question that is wrong, or what the program left.
fn judge(error: GlobalError, asked: &str) -> Failure {
    let wrong_answer =
        matches!(error, GlobalError::Arena { .. } | GlobalError::Map { .. } | GlobalError::Endless { .. });
    let error = anyhow::Error::new(error).context(asked.to_owned());
    if wrong_answer { Failure::Refused(error) } else { Failure::Usage(error) }
}

fn last_context(plan: &Plan) -> Value {
    let Some((program, bytes)) = plan.runs.last() else { return Value::Bytes(Vec::new()) };
    context::value(plan.object.spec(), program, bytes).unwrap_or_else(|| Value::Bytes(bytes.clone()))
}

/// The nodes of the lists asked for.
fn lists(app: &App, plan: &Plan) -> Result<Vec<(String, Vec<Value>)>, Failure> {
    let mut lists = Vec::new();
    for (head, link) in &plan.lists {
        let nodes = app.list_values(head, link);
        let nodes = nodes.map_err(|error| judge(error, &format!("--list {head}:{link}")))?;
        lists.push((format!("{head}:{link}"), nodes));
    }
    Ok(lists)
}

/// Use of the object's arena.
pub(crate) fn arena(app: &App) -> Option<json::Arena> {
    let arena = app.arena().ok()?;
    Some(json::Arena {
        address: arena.user_vm_start().get(),
        pages: arena.page_count().get(),
        pages_in_use: arena.pages_in_use().get(),
    })
}
