//! The suites, each run in a process of its own: a suite that crashes says so and leaves the others alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bpf_arena::suite::{Answer, Judge, KernelJudge, Test, TestResult, UserJudge, Verdict};
use bpf_arena::{Engine, LoopLimit, Object, UserEngine};
use sys::bpf::{Capability, CapabilitySet, KernelVersion, WithoutCapabilities};
use testkit::selftests::CHECKS;

use super::outcome::{State, TestOutcome};
use super::{alike, answers, linked, material};

/// What runs the programs of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Jit,
    Interpreter,
    Kernel,
    /// Our verifier, which has to answer as the kernel does.
    Verifier,
}

/// What a suite consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Material {
    /// Arena objects at v3 and v4: our host code, and their own annotations.
    Arena,
    /// Every annotated `verifier_*` program.
    Verifier,
    /// Every other annotated program.
    Programs,
    /// The tables of `test_verifier`.
    Tables,
    /// Every annotated program, of both kinds, that says what it returns.
    Values,
    /// Objects that `bpftool gen object` links too.
    Linked,
}

/// A suite.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suite {
    name: &'static str,
    runs: Runs,
    material: Material,
    /// Run as an ordinary user (when the task is run by root).
    pub(super) unprivileged: bool,
}

/// All suites.
pub(super) const SUITES: &[Suite] = &[
    Suite { name: "arena-user-jit", runs: Runs::Jit, material: Material::Arena, unprivileged: false },
    Suite {
        name: "arena-user-interp",
        runs: Runs::Interpreter,
        material: Material::Arena,
        unprivileged: false,
    },
    Suite { name: "arena-user-jit-nobody", runs: Runs::Jit, material: Material::Arena, unprivileged: true },
    Suite {
        name: "arena-user-interp-nobody",
        runs: Runs::Interpreter,
        material: Material::Arena,
        unprivileged: true,
    },
    Suite { name: "arena-kernel", runs: Runs::Kernel, material: Material::Arena, unprivileged: false },
    Suite { name: "progs-kernel", runs: Runs::Kernel, material: Material::Programs, unprivileged: false },
    Suite { name: "verifier-kernel", runs: Runs::Kernel, material: Material::Verifier, unprivileged: false },
    Suite { name: "tables-kernel", runs: Runs::Kernel, material: Material::Tables, unprivileged: false },
    Suite { name: "linked", runs: Runs::Kernel, material: Material::Linked, unprivileged: false },
    Suite { name: "values-user-jit", runs: Runs::Jit, material: Material::Values, unprivileged: false },
    Suite {
        name: "values-user-interp",
        runs: Runs::Interpreter,
        material: Material::Values,
        unprivileged: false,
    },
    Suite { name: "verifier-user", runs: Runs::Verifier, material: Material::Verifier, unprivileged: false },
    Suite { name: "progs-user", runs: Runs::Verifier, material: Material::Programs, unprivileged: false },
    Suite { name: "tables-user", runs: Runs::Verifier, material: Material::Tables, unprivileged: false },
];

impl Suite {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The name in the expectation file: what a kernel answers depends on its version.
    pub(super) fn expectation_name(&self) -> String {
        match self.runs {
            Runs::Kernel | Runs::Verifier => format!("{}@{}", self.name, KernelVersion::running()),
            _ => self.name.to_owned(),
        }
    }

    /// Why the suite cannot be run here, if so.
    pub(super) fn impossible(&self) -> Option<String> {
        let needed = [Capability::Bpf, Capability::Perfmon, Capability::NetAdmin];
        match self.runs {
            Runs::Kernel | Runs::Verifier => {
                let missing = CapabilitySet::effective().first_missing(&needed)?;
                Some(format!("{missing} is missing"))
            }
            _ => None,
        }
    }

    /// Runs every test whose name contains `filter`.
    pub(super) fn run(&self, dir: &Path, filter: &str) -> anyhow::Result<Vec<TestOutcome>> {
        let objects = &material::objects(dir);
        let mut outcomes = Vec::new();
        match self.material {
            _ if self.runs == Runs::Verifier => return self.alike(dir, filter),
            Material::Linked => return linked::outcomes(dir, filter),
            Material::Tables => {
                let _privileges = privileges_of("tables")?;
                for test in tables(&material::tables(dir))?.iter().filter(|test| test.id.contains(filter)) {
                    outcomes.push(answers::of_table(test, None)?.as_expected());
                }
            }
            Material::Arena => {
                for (cpu, dir) in [("v3", objects.join("v3")), ("v4", objects.to_owned())] {
                    self.checks(&dir, cpu, filter, &mut outcomes)?;
                    for name in names(&dir, "verifier_arena")? {
                        self.annotated(&dir, &name, Some(cpu), filter, &mut outcomes)?;
                    }
                }
            }
            Material::Programs => {
                let dir = objects.join("progs");
                for name in names(&dir, "")? {
                    self.annotated(&dir, &name, None, filter, &mut outcomes)?;
                }
            }
            Material::Verifier => {
                for name in names(objects, "verifier_")? {
                    self.annotated(objects, &name, None, filter, &mut outcomes)?;
                }
            }
            Material::Values => {
                for (dir, prefix) in [(objects.clone(), "verifier_"), (objects.join("progs"), "")] {
                    for name in names(&dir, prefix)? {
                        self.annotated(&dir, &name, None, filter, &mut outcomes)?;
                    }
                }
            }
        }
        Ok(outcomes)
    }

    /// Our verifier beside the kernel's.
    fn alike(&self, dir: &Path, filter: &str) -> anyhow::Result<Vec<TestOutcome>> {
        let mut questions = Vec::new();
        match self.material {
            Material::Tables => {
                let tests = tables(&material::tables(dir))?;
                let answers = answers::kept(dir, "tables", || {
                    let _privileges = privileges_of("tables")?;
                    tests.iter().map(|test| answers::of_table(test, None)).collect()
                })?;
                questions
                    .extend(tests.into_iter().zip(answers).map(|(t, answer)| alike::of_table(t, answer)));
            }
            material => {
                let (part, prefix) =
                    if material == Material::Programs { ("progs", "") } else { ("", "verifier_") };
                let objects = material::objects(dir).join(part);
                for name in names(&objects, prefix)? {
                    let answers = answers::kept(dir, &format!("{part}-{name}"), || {
                        let privileges = part.is_empty().then(|| privileges_of(&name)).transpose()?;
                        let answers = answers::of_object(&objects, &name, None);
                        drop(privileges);
                        answers
                    })?;
                    questions.extend(alike::of_object(&objects, &name, answers)?);
                }
            }
        }
        questions.retain(|question| question.id.contains(filter));
        alike::ask(&questions)
    }

    fn engine(&self) -> Result<Engine, String> {
        match self.runs {
            Runs::Jit => Ok(user_engine().into()),
            Runs::Interpreter | Runs::Verifier => Ok(user_engine().interpreter().into()),
            Runs::Kernel => Engine::kernel().map(Engine::from).map_err(|error| error.to_string()),
        }
    }

    fn judge(&self) -> Box<dyn Judge> {
        match self.runs {
            Runs::Jit => Box::new(UserJudge::new(user_engine())),
            Runs::Interpreter | Runs::Verifier => Box::new(UserJudge::interpreter(user_engine())),
            Runs::Kernel => Box::new(KernelJudge),
        }
    }

    /// Our host code on the arena objects.
    fn checks(
        &self,
        dir: &Path,
        cpu: &str,
        filter: &str,
        outcomes: &mut Vec<TestOutcome>,
    ) -> anyhow::Result<()> {
        for check in CHECKS {
            let test = format!("{cpu}/{}/{}", check.object, check.name);
            if !test.contains(filter) {
                continue;
            }
            let path = dir.join(format!("{}.bpf.o", check.object));
            if !path.exists() {
                outcomes.push(TestOutcome {
                    test,
                    state: State::Skip,
                    detail: "not compiled".to_owned(),
                    verifier: None,
                });
                continue;
            }
            let object = Object::open(&path)?;
            let (state, detail) = match check.run(&object, &|| self.engine()) {
                Ok(()) => (State::Agree, String::new()),
                Err(error) => (State::Differ, one_line(&error.to_string())),
            };
            outcomes.push(TestOutcome { test, state, detail, verifier: None });
        }
        Ok(())
    }

    /// The annotated programs of one object.
    fn annotated(
        &self,
        dir: &Path,
        name: &str,
        cpu: Option<&str>,
        filter: &str,
        outcomes: &mut Vec<TestOutcome>,
    ) -> anyhow::Result<()> {
        let path = dir.join(format!("{name}.bpf.o"));
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let prefix = cpu.map_or_else(String::new, |cpu| format!("{cpu}/"));
        let object = match bpf_object::Object::parse(&bytes) {
            Ok(object) => Arc::new(object),
            Err(error) => {
                let (test, detail) = (format!("{prefix}{name}"), one_line(&error.to_string()));
                outcomes.push(TestOutcome { test, state: State::Differ, detail, verifier: None });
                return Ok(());
            }
        };
        let judge = self.judge();
        let _privileges = self.privileges_of(name)?;
        for (test, annotations) in tests(&object)? {
            let id = format!("{prefix}{name}/{}", test_name(&test));
            let returns = test.expected.return_value.is_some() && !test.unprivileged;
            if !id.contains(filter) || (self.material == Material::Values && !returns) {
                continue;
            }
            let test = prepare(test, name, annotations.as_deref(), dir)?;
            let (result, answer) = test.run(&object, judge.as_ref());
            outcomes.push(outcome(id, &test, result, answer.as_ref()));
        }
        Ok(())
    }

    /// The `verifier_*` tests are run without `CAP_SYS_ADMIN`, one of them without `CAP_PERFMON` too: pointers of the kernel are then
    /// not to be leaked, and some checks are stricter.
    fn privileges_of(&self, name: &str) -> anyhow::Result<Option<WithoutCapabilities>> {
        if self.runs != Runs::Kernel || self.material == Material::Programs {
            return Ok(None);
        }
        privileges_of(name)
    }
}

/// The tests of `test_verifier`.
fn tables(printed: &Path) -> anyhow::Result<Vec<testkit::tables::TableTest>> {
    let text = fs::read_to_string(printed).with_context(|| printed.display().to_string())?;
    testkit::tables::parse(&text).with_context(|| format!("{}: not understood", printed.display()))
}

/// Takes away what the tests of this `verifier_*` object are run without.
fn privileges_of(name: &str) -> anyhow::Result<Option<WithoutCapabilities>> {
    Ok(Some(WithoutCapabilities::take(without(name)).context("capset")?))
}

/// The capabilities that the tests of this `verifier_*` object are run without.
pub(super) fn without(name: &str) -> &'static [Capability] {
    match name {
        "verifier_mtu" => &[Capability::SysAdmin, Capability::Perfmon],
        _ => &[Capability::SysAdmin],
    }
}

fn user_engine() -> UserEngine {
    // A machine that is busy with other things is not what is tested; and no counter of 32 bits overflows in that time.
    let engine = Engine::user().loop_limit(LoopLimit::Time(Duration::from_millis(500)));
    // Types of kernel structures, for programs that read them; without BTF they are refused, as they would be anyway.
    match bpf_arena::kernel::running_btf() {
        Ok(btf) => {
            let env = engine.verifier_env().clone().with_kernel(Arc::clone(&btf));
            engine.env(env).target_btf(btf)
        }
        Err(_) => engine,
    }
}

/// An object's tests with the path of the BTF that each wants.
pub(super) fn tests(object: &bpf_object::Object) -> anyhow::Result<Vec<(Test, Option<String>)>> {
    let annotations = bpf_arena::suite::Annotations::of_object(object)?;
    let path_of = |program: &str| {
        let index = object.programs.iter().position(|p| p.name == program)?;
        annotations.get(index)?.as_ref()?.btf_path.clone()
    };
    let tests = Test::of_object(object)?;
    Ok(tests.into_iter().map(|test| (test.clone(), path_of(&test.program))).collect())
}

/// The program's name; `@unpriv` behind it keeps both forms apart.
fn test_name(test: &Test) -> String {
    let suffix = if test.unprivileged { "@unpriv" } else { "" };
    format!("{}{suffix}", test.program)
}

/// What the selftests' host code does before their programs are run.
pub(super) fn prepare(
    mut test: Test,
    object: &str,
    btf_path: Option<&str>,
    dir: &Path,
) -> anyhow::Result<Test> {
    let map = match object {
        "verifier_array_access" => Some("map_array_ro"),
        "verifier_value_ptr_arith" => Some("map_array_48b"),
        _ => None,
    };
    if let Some(map) = map {
        // struct test_val { unsigned int index; int foo[11]; }: the index is the offset of foo[6], which holds a mark.
        let mut value = [0_u8; 48];
        let (index, mark) = (7 * 4_u32, 0xabcd_ef12_u32);
        value.iter_mut().zip(index.to_le_bytes()).for_each(|(to, from)| *to = from);
        value.iter_mut().skip(28).zip(mark.to_le_bytes()).for_each(|(to, from)| *to = from);
        test.question.map_values.push((map.to_owned(), vec![0; 4], value.to_vec()));
    }
    if let Some(file) = btf_path {
        let bytes = fs::read(dir.join(file)).with_context(|| file.to_owned())?;
        test.question.target = Some(Arc::new(bpf_object::Object::parse(&bytes)?));
    }
    Ok(test)
}

fn outcome(test: String, of: &Test, result: TestResult, answer: Option<&Answer>) -> TestOutcome {
    let expected = match (of.expected.rejected, of.expected.return_value) {
        (true, _) => "refused".to_owned(),
        (false, Some(value)) => format!("accepted, {value:?}"),
        (false, None) => "accepted".to_owned(),
    };
    let got = match answer.map(|answer| &answer.verdict) {
        Some(Verdict::Accepted) => "accepted".to_owned(),
        Some(Verdict::Rejected { reason, .. }) => format!("refused ({})", one_line(reason)),
        _ => "no answer".to_owned(),
    };
    let mismatch = match result {
        TestResult::Passed => {
            return TestOutcome { test, state: State::Agree, detail: String::new(), verifier: None };
        }
        TestResult::Skipped(reason) => {
            return TestOutcome { test, state: State::Skip, detail: one_line(&reason), verifier: None };
        }
        TestResult::Failed(mismatch) => mismatch.to_string(),
        TestResult::Different(differences) => {
            differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
    };
    let detail = format!("expected: {expected}; got: {got}; {}", one_line(&mismatch));
    TestOutcome { test, state: State::Differ, detail, verifier: None }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes the kernel's answers for every annotated program, one file an object, and the verifier's logs beside them.
pub(super) fn write_answers(material: &material::Material, to: &Path, filter: &str) -> anyhow::Result<()> {
    let objects = &material::objects(&material.dir);
    let logs = to.join("logs");
    fs::create_dir_all(&logs)?;
    if "tables".contains(filter) {
        let _privileges = privileges_of("tables")?;
        let tests = tables(&material::tables(&material.dir))?;
        let answers: Vec<_> =
            tests.iter().map(|test| answers::of_table(test, Some(&logs))).collect::<anyhow::Result<_>>()?;
        fs::write(to.join("tables.json"), serde_json::to_vec_pretty(&answers)?)?;
        println!("tables: {}", answers.len());
    }
    let sets = [("", "verifier_"), ("progs", ""), ("v3", "verifier_arena")];
    for (part, prefix) in sets {
        let dir = objects.join(part);
        for name in names(&dir, prefix)?.into_iter().filter(|name| name.contains(filter)) {
            let _privileges = if part == "progs" { None } else { privileges_of(&name)? };
            let answers = answers::of_object(&dir, &name, Some(&logs))?;
            let file = if part.is_empty() { name.clone() } else { format!("{part}-{name}") };
            fs::write(to.join(format!("{file}.json")), serde_json::to_vec_pretty(&answers)?)?;
            println!("{file}: {}", answers.len());
        }
    }
    Ok(())
}

/// Names of the objects in a directory that begin so, sorted.
fn names(dir: &Path, prefix: &str) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".bpf.o"));
        names.extend(name.filter(|name| name.starts_with(prefix)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Runs a suite in a child process and reads what it found: one JSON object a line.
pub(super) fn run_in_child(suite: &Suite, dir: &Path, filter: &str) -> anyhow::Result<Vec<TestOutcome>> {
    let executable = std::env::current_exe()?;
    let mut copy = None;
    let mut command = if suite.unprivileged {
        let copied = Copied::new(&executable, &material::objects(dir))?;
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]);
        command.arg(&copied.executable).arg("conformance").arg("--material").arg(&copied.dir);
        copy = Some(copied);
        command
    } else {
        let mut command = std::process::Command::new(executable);
        command.arg("conformance").arg("--material").arg(dir);
        command
    };
    command.args(["--worker", suite.name(), "--filter", filter]);
    let output = command.output().context("running a suite")?;
    drop(copy);
    let text = String::from_utf8_lossy(&output.stdout);
    let mut outcomes = Vec::new();
    for line in text.lines() {
        outcomes.push(serde_json::from_str(line).with_context(|| format!("a suite's output: `{line}`"))?);
    }
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "suite {}: {} after {} tests; {}",
            suite.name(),
            output.status,
            outcomes.len(),
            one_line(&errors)
        );
    }
    Ok(outcomes)
}

/// Executable and objects where any user can read them. Removed on drop.
struct Copied {
    dir: PathBuf,
    executable: PathBuf,
    objects: PathBuf,
}

impl Copied {
    fn new(executable: &Path, objects: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("bpf-arena-conformance-{}", std::process::id()));
        // Fails if someone else has the name.
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        let copied = Self { executable: dir.join("xtask"), objects: dir.join("objects"), dir };
        fs::set_permissions(&copied.dir, fs::Permissions::from_mode(0o755))?;
        fs::copy(executable, &copied.executable)?;
        for (from, to) in
            [(objects.to_owned(), copied.objects.clone()), (objects.join("v3"), copied.objects.join("v3"))]
        {
            fs::create_dir(&to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                let name = entry.file_name();
                if name.to_string_lossy().contains("arena") && entry.file_type()?.is_file() {
                    fs::copy(entry.path(), to.join(name))?;
                }
            }
        }
        Ok(copied)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // A leftover in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
