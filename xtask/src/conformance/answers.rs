//! The running kernel's answer for each annotated program: verdict, error number, the verifier's own words and its counters.
//!
//! Level 4 of the verifier's log has no instructions, only what the verifier says of the program and what it cost. That
//! makes these loads as cheap as those without a log.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bpf_arena::kernel::{KernelError, KernelObject, LoadOptions, LogMode};
use bpf_object::Object;
use serde::{Deserialize, Serialize};

use testkit::tables::TableTest;

use super::outcome::{State, TestOutcome};
use super::suites;

/// Log level: counters and nothing of the walk.
const STATISTICS: u32 = 4;
/// Log level: every instruction.
const INSTRUCTIONS: u32 = 2;

/// The kernel's answer for one program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct KernelAnswer {
    pub(super) program: String,
    pub(super) section: String,
    /// `BPF_PROG_TYPE_*` as this project names it.
    pub(super) prog_type: String,
    /// `BPF_F_*` beside those that the section implies.
    pub(super) flags: u32,
    /// `__btf_path` of the program.
    pub(super) btf_path: Option<String>,
    pub(super) expected_rejected: bool,
    pub(super) expected_messages: Vec<String>,
    /// `accepted`, `rejected` or `undecided`.
    pub(super) verdict: String,
    /// 0 when accepted.
    pub(super) errno: i32,
    /// The verifier's last line.
    pub(super) message: String,
    /// Everything it said before the counters.
    pub(super) words: Vec<String>,
    /// `processed`, `total_states`, `peak_states`, ..., as the verifier names them.
    pub(super) counters: KernelCounters,
    /// The log of level 2, when it was asked for.
    pub(super) log: Option<String>,
}

/// Asks the kernel about every annotated program of one object, for the form with all privileges.
pub(super) fn of_object(dir: &Path, name: &str, logs: Option<&Path>) -> anyhow::Result<Vec<KernelAnswer>> {
    let path = dir.join(format!("{name}.bpf.o"));
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let object = Arc::new(bpf_object::Object::parse(&bytes)?);
    let mut answers = Vec::new();
    for (test, btf_path) in suites::tests(&object)? {
        if test.unprivileged || !test.annotated {
            continue;
        }
        let info = object.programs.iter().find(|p| p.name == test.program);
        let prog_type = info.and_then(|p| p.kind.prog_type);
        let patterns = test.expected.messages.iter().filter(|m| !m.absent);
        let mut answer = KernelAnswer {
            program: test.program.clone(),
            section: info.map(|p| p.section.clone()).unwrap_or_default(),
            prog_type: prog_type.map_or_else(String::new, |kind| format!("{kind:?}")),
            flags: test.question.flags,
            btf_path: btf_path.clone(),
            expected_rejected: test.expected.rejected,
            expected_messages: patterns.map(|m| m.pattern.text().to_owned()).collect(),
            ..KernelAnswer::default()
        };
        if let Some(reason) = &test.skip {
            (answer.verdict, answer.message) = ("undecided".to_owned(), reason.clone());
            answers.push(answer);
            continue;
        }
        let test = suites::prepare(test, name, btf_path.as_deref(), dir)?;
        let target = test.question.target.as_ref().and_then(|t| t.btf.clone());
        answer.ask(
            logs.map(|logs| logs.join(format!("{name}.{}.log", test.program))).as_deref(),
            |level| {
                let kernel = KernelObject::with_target(&object, target.clone())?;
                let linked = kernel.link(&object, &test.program)?;
                let options = LoadOptions { log: LogMode::Always(level), flags: test.question.flags };
                Ok(kernel.load(&linked, &options)?.1.text().to_owned())
            },
        )?;
        answers.push(answer);
    }
    Ok(answers)
}

/// Asks the kernel about a test of `test_verifier`.
pub(super) fn of_table(test: &TableTest, logs: Option<&Path>) -> anyhow::Result<KernelAnswer> {
    let kind = &test.linked.kind;
    let mut answer = KernelAnswer {
        program: test.id.clone(),
        section: test.description.clone(),
        prog_type: kind.prog_type.map_or_else(String::new, |kind| format!("{kind:?}")),
        flags: test.flags,
        expected_rejected: test.expected == testkit::tables::Expected::Reject,
        expected_messages: test.messages.clone(),
        ..KernelAnswer::default()
    };
    let object = Object::of_maps(test.linked.maps.clone(), test.linked.btf.clone());
    answer.ask(
        logs.map(|logs| logs.join(format!("table.{}.log", test.id.replace('/', "#")))).as_deref(),
        |level| {
            let kernel = KernelObject::new(&object)?;
            let options = LoadOptions { log: LogMode::Always(level), flags: test.flags };
            Ok(kernel.load(&test.linked, &options)?.1.text().to_owned())
        },
    )?;
    Ok(answer)
}

/// The answers that were kept from an earlier run on this kernel, or new ones.
pub(super) fn kept(
    dir: &Path,
    name: &str,
    ask: impl FnOnce() -> anyhow::Result<Vec<KernelAnswer>>,
) -> anyhow::Result<Vec<KernelAnswer>> {
    let file = dir.join("answers").join(format!("{name}.json"));
    if let Some(answers) = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(answers);
    }
    let answers = ask()?;
    fs::create_dir_all(dir.join("answers"))?;
    fs::write(&file, serde_json::to_vec(&answers)?)?;
    Ok(answers)
}

impl KernelAnswer {
    /// How the answer compares with what the test expects.
    pub(super) fn as_expected(&self) -> TestOutcome {
        let said = self.words.join("\n");
        let rejected = self.verdict == "rejected";
        let state = match self.verdict.as_str() {
            "undecided" => State::Skip,
            _ if rejected != self.expected_rejected => State::Differ,
            _ if rejected && self.expected_messages.iter().any(|m| !said.contains(m.trim())) => {
                State::Wording
            }
            _ => State::Agree,
        };
        let detail = format!("{}: {} {} ({})", self.section, self.verdict, self.message, self.errno);
        TestOutcome { test: self.program.clone(), state, detail, verifier: None }
    }

    /// Takes the answer from a load with a log of this level; keeps the whole log in `file` if there is one.
    fn ask(
        &mut self,
        file: Option<&Path>,
        load: impl Fn(u32) -> Result<String, KernelError>,
    ) -> anyhow::Result<()> {
        self.take(load(STATISTICS));
        let Some(file) = file.filter(|_| self.verdict != "undecided") else { return Ok(()) };
        let text = match load(INSTRUCTIONS | STATISTICS) {
            Ok(text) => text,
            Err(error) => error.log().map(|log| log.text().to_owned()).unwrap_or_default(),
        };
        fs::write(file, text)?;
        self.log = Some(file.display().to_string());
        Ok(())
    }

    fn take(&mut self, result: Result<String, KernelError>) {
        let log = match result {
            Ok(log) => {
                self.verdict = "accepted".to_owned();
                log
            }
            Err(error) => {
                self.verdict = if is_verdict(&error) { "rejected" } else { "undecided" }.to_owned();
                self.errno = error.errno().map_or(0, |errno| errno.raw_os_error());
                match error.log() {
                    Some(log) => log.text().to_owned(),
                    None => error.to_string(),
                }
            }
        };
        for line in log.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            if line.starts_with("processed ") {
                self.counters = KernelCounters::of_line(line);
            } else if !["verification time ", "stack depth "].iter().any(|start| line.starts_with(start)) {
                self.words.push(line.to_owned());
            }
        }
        // A few objections do not end their line, so that the statistics follow in it.
        for line in &mut self.words {
            if let Some((objection, _)) = line.split_once("verification time ") {
                *line = objection.to_owned();
            }
        }
        // Behind an objection there may be the source line, and the states of a loop that does not end.
        let aside = ["; ", "cur state:", "old state:"];
        let objection =
            self.words.iter().rev().find(|line| !aside.iter().any(|start| line.starts_with(start)));
        self.message = objection.cloned().unwrap_or_default();
    }
}

/// Whether this is the verifier's own word, and not the host's or the loader's.
fn is_verdict(error: &KernelError) -> bool {
    match error {
        KernelError::MissingCapability { .. }
        | KernelError::Feature(_)
        | KernelError::MissingExtern { .. }
        | KernelError::NoStructOps { .. }
        | KernelError::NoAttachTarget { .. } => false,
        KernelError::Rejected(rejection) => !rejection.is_policy(),
        _ => error.errno().is_some(),
    }
}

/// What the verifier counts: `processed N insns (limit N) max_states_per_insn N total_states N peak_states N mark_read N`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KernelCounters(BTreeMap<String, u64>);

impl KernelCounters {
    /// The counters at the end of a log.
    pub(crate) fn of_log(log: &str) -> Self {
        log.lines().rev().find(|line| line.starts_with("processed ")).map(Self::of_line).unwrap_or_default()
    }

    fn of_line(line: &str) -> Self {
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || c == '(' || c == ')').collect();
        let pairs = words.windows(2);
        let pair = |pair: &[&str]| match pair {
            [name, number] => Some(((*name).to_owned(), number.parse().ok()?)),
            _ => None,
        };
        Self(pairs.filter_map(pair).collect())
    }

    /// One of them; 0 if it is not there.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}
