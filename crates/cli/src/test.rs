//! `bpf-arena test`: programs as tests.

use std::path::Path;

use bpf_arena::Object;
use bpf_object::{ProgType, ProgramKind};

use crate::args::{EngineArgs, TestArgs};
use crate::engine::{self, Printed};
use crate::failure::{self, Failure};
use crate::json::{self, Message};
use crate::output::{self, say};
use crate::{context, input, run};

/// What became of a test.
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Runs every test of every object.
pub(crate) fn run(args: &TestArgs) -> Result<(), Failure> {
    let mut sum = json::TestSum { version: json::VERSION, passed: 0, failed: 0, skipped: 0 };
    for path in &args.objects {
        let object = Object::from(input::object(path)?);
        for program in &object.spec().programs {
            let test = format!("{}/{}", object_name(path), program.name);
            if args.filter.as_ref().is_some_and(|filter| !test.contains(filter.as_str())) {
                continue;
            }
            let printed = Printed::default();
            let verdict = one(&object, &program.name, &program.kind, args.engine, &printed)?;
            match verdict {
                Verdict::Passed => sum.passed += 1,
                Verdict::Failed(_) => sum.failed += 1,
                Verdict::Skipped(_) => sum.skipped += 1,
            }
            tell(args.json, test, verdict, printed.take())?;
        }
    }
    if args.json {
        output::json(&sum)?;
    } else {
        say!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped)?;
    }
    if sum.failed == 0 { Ok(()) } else { Err(Failure::Reported) }
}

/// The file's name without `.bpf.o`.
fn object_name(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".bpf.o").or_else(|| name.strip_suffix(".o"));
    stem.map(str::to_owned).unwrap_or(name)
}

/// Runs one program on maps and an arena of its own.
fn one(
    object: &Object,
    name: &str,
    kind: &ProgramKind,
    engine: EngineArgs,
    printed: &Printed,
) -> Result<Verdict, Failure> {
    if kind.prog_type != Some(ProgType::Syscall) {
        return Ok(Verdict::Skipped("only SEC(\"syscall\") programs are run as tests".to_owned()));
    }
    if kind.optional {
        return Ok(Verdict::Skipped(
            "its section is marked with `?`: not loaded unless asked for".to_owned(),
        ));
    }
    let app = match engine::try_load(object, &[name], engine, printed)? {
        Ok(app) => app,
        Err(error) => return Ok(Verdict::Failed(failure::message(&error.into()))),
    };
    let mut ctx = context::bytes(object.spec(), name, None)?;
    match run::execute(&app, name, &mut ctx, 1) {
        Ok(outcome) if outcome.return_value != 0 => {
            Ok(Verdict::Failed(format!("returned {}", outcome.return_value.cast_signed())))
        }
        Ok(_) => Ok(Verdict::Passed),
        Err(Failure::Refused(error) | Failure::Usage(error)) => Ok(Verdict::Failed(failure::message(&error))),
        Err(other) => Err(other),
    }
}

fn tell(json: bool, test: String, verdict: Verdict, output: Vec<Message>) -> Result<(), Failure> {
    let (result, reason) = match verdict {
        Verdict::Passed => ("passed", None),
        Verdict::Failed(reason) => ("failed", Some(reason)),
        Verdict::Skipped(reason) => ("skipped", Some(reason)),
    };
    if json {
        return output::json(&json::Test { version: json::VERSION, test, result, reason, output });
    }
    match reason {
        Some(reason) => say!("{test}: {result}: {reason}")?,
        None => say!("{test}: {result}")?,
    }
    // What a test printed matters when it failed.
    if result == "failed" { run::show_messages(&output) } else { Ok(()) }
}
