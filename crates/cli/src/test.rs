//! `bpf-arena test`: programs as tests, their own or with the annotations of the kernel's selftests.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bpf_arena::bpf_object::{Object, ProgType, ProgramInfo};
use bpf_arena::suite::{KernelJudge, Mismatch, Test, TestResult, UserJudge};
use bpf_arena::{Engine, LoopLimit};
use indicatif::{ProgressBar, ProgressStyle};
use regex::Regex;

use crate::args::{EngineArgs, EngineName, TestArgs};
use crate::engine::{self, Printed};
use crate::failure::Failure;
use crate::json::{self, Message};
use crate::output::{self, say};
use crate::{context, input, run};

/// Time that `may_goto` loops get in this process when the kernel is to give the same result.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs every test of every object.
pub(crate) fn run(args: &TestArgs) -> Result<(), Failure> {
    let filter =
        args.filter.as_deref().map(Regex::new).transpose().context("--filter").map_err(Failure::usage)?;
    if args.engine.engine != EngineName::User {
        Engine::kernel().map_err(Failure::usage)?;
    }
    let mut sum = json::TestSum { version: json::VERSION, passed: 0, failed: 0, skipped: 0 };
    for path in &args.objects {
        let object = Arc::new(input::object(path)?);
        let items: Vec<Item> = items(&object, path)?
            .into_iter()
            .filter(|item| filter.as_ref().is_none_or(|filter| filter.is_match(&item.name)))
            .collect();
        let bar = progress(items.len(), args.json);
        for item in items {
            bar.set_message(item.name.clone());
            let printed = Printed::default();
            let report = item.run(&object, args.engine, &printed);
            match report.result {
                "passed" => sum.passed += 1,
                "failed" => sum.failed += 1,
                _ => sum.skipped += 1,
            }
            bar.inc(1);
            bar.suspend(|| tell(args, item.name, report, printed.take()))?;
        }
        bar.finish_and_clear();
    }
    if args.json {
        output::json(&sum)?;
    } else {
        say!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped)?;
    }
    if sum.failed == 0 { Ok(()) } else { Err(Failure::Reported) }
}

/// A bar on a terminal, for people; nothing otherwise.
fn progress(tests: usize, json: bool) -> ProgressBar {
    if json || tests < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}");
    let bar = ProgressBar::new(tests as u64);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

/// A program that is a test, or might have been one.
struct Item {
    /// `OBJECT/PROGRAM`, with ` @unpriv` behind the unprivileged form.
    name: String,
    /// The test, or why there is none.
    test: Result<Test, String>,
    /// Without annotations: a test that cannot be done has failed.
    plain: bool,
}

/// What became of a test.
struct Report {
    /// `passed`, `failed` or `skipped`.
    result: &'static str,
    reason: Option<String>,
    /// The verifier's log, of a test that failed.
    log: Option<String>,
}

fn items(object: &Object, path: &Path) -> Result<Vec<Item>, Failure> {
    let tests = Test::of_object(object).map_err(Failure::refused)?;
    let annotated = tests.iter().any(|test| test.annotated);
    let mut items = Vec::new();
    for program in &object.programs {
        let name = format!("{}/{}", object_name(path), program.name);
        let mut found = tests.iter().filter(|test| test.program == program.name).peekable();
        if found.peek().is_none() && !annotated {
            items.push(Item { name: name.clone(), test: Err(no_test(program)), plain: true });
        }
        for test in found {
            let suffix = if test.unprivileged { " @unpriv" } else { "" };
            let mut test = test.clone();
            if !test.annotated {
                test.question.ctx = context::bytes(object, &program.name, None)?;
                if program.kind.optional {
                    items.push(Item { name: name.clone(), test: Err(no_test(program)), plain: true });
                    continue;
                }
            }
            let plain = !test.annotated;
            items.push(Item { name: format!("{name}{suffix}"), test: Ok(test), plain });
        }
    }
    Ok(items)
}

/// Why a program without annotations is no test.
fn no_test(program: &ProgramInfo) -> String {
    if program.kind.prog_type != Some(ProgType::Syscall) {
        return format!(
            "in SEC(\"{}\") and without annotations: only SEC(\"syscall\") programs are tests without them",
            program.section
        );
    }
    "its section is marked with `?`: not loaded unless asked for".to_owned()
}

/// The file's name without `.bpf.o`.
fn object_name(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".bpf.o").or_else(|| name.strip_suffix(".o"));
    stem.map(str::to_owned).unwrap_or(name)
}

impl Item {
    /// Runs the test on maps and an arena of its own.
    fn run(&self, object: &Arc<Object>, engine: EngineArgs, printed: &Printed) -> Report {
        let test = match &self.test {
            Ok(test) => test,
            Err(reason) => return Report::skipped(reason.clone()),
        };
        if let Some(reason) = &test.skip {
            return Report::skipped(reason.clone());
        }
        let mut user = engine::user(false, printed);
        if engine.engine == EngineName::Both {
            // Where loops end depends on the time an engine takes, which is not what is compared.
            user = user.loop_limit(LoopLimit::Time(PATIENCE));
        }
        user = engine::with_kernel_types(user.clone()).unwrap_or(user);
        let user = if engine.interp { UserJudge::interpreter(user) } else { UserJudge::new(user) };
        let (result, answer) = match engine.engine {
            EngineName::User => test.run(object, &user),
            EngineName::Kernel => test.run(object, &KernelJudge),
            EngineName::Both => test.run_both(object, &user, &KernelJudge),
        };
        let log = answer.and_then(|answer| answer.log);
        let failed = |reason| Report { result: "failed", reason: Some(reason), log };
        match result {
            TestResult::Passed => Report { result: "passed", reason: None, log: None },
            // With two engines it only means that there is nothing to compare.
            TestResult::Skipped(reason) if self.plain && engine.engine != EngineName::Both => failed(reason),
            TestResult::Skipped(reason) => Report::skipped(reason),
            TestResult::Failed(mismatch) => failed(self.reason(&mismatch)),
            TestResult::Different(differences) => {
                let listed: Vec<String> = differences.iter().map(|d| format!("\n  {d}")).collect();
                failed(format!("user engine and kernel differ:{}", listed.concat()))
            }
        }
    }

    fn reason(&self, mismatch: &Mismatch) -> String {
        match mismatch {
            Mismatch::ReturnValue { got, .. } if self.plain => format!("returned {}", got.cast_signed()),
            other => other.to_string(),
        }
    }
}

impl Report {
    fn skipped(reason: String) -> Self {
        Self { result: "skipped", reason: Some(reason), log: None }
    }
}

fn tell(args: &TestArgs, test: String, report: Report, output: Vec<Message>) -> Result<(), Failure> {
    let Report { result, reason, log } = report;
    let log = log.filter(|log| args.engine.log && !log.is_empty());
    if args.json {
        return output::json(&json::Test { version: json::VERSION, test, result, reason, log, output });
    }
    match reason {
        Some(reason) => say!("{test}: {result}: {reason}")?,
        None => say!("{test}: {result}")?,
    }
    if let Some(log) = log {
        output::note(log.trim_end());
    }
    // What a test printed matters when it failed.
    if result == "failed" { run::show_messages(&output) } else { Ok(()) }
}
