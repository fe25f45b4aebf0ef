//! Our verifier beside the running kernel's, program by program: verdict, error number, final message, and how many
//! instructions each walked.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bpf_object::{LinkError, LinkOptions, Linked, Object};
use sys::bpf::Capability;
use testkit::tables::TableTest;
use verifier::{Env, LoadFlags};

use super::answers::KernelAnswer;
use super::outcome::{Likeness, State, TestOutcome};
use super::suites::without;

/// Bytes of stack for the threads that verify: bound by the limits of the verifier, not by its callers' threads.
const STACK_BYTES: usize = 64 << 20;

/// A program with the kernel's answer.
pub(super) struct Question {
    pub(super) id: String,
    kernel: KernelAnswer,
    /// The kernel answered for someone without `CAP_PERFMON`.
    without_perfmon: bool,
    source: Source,
}

/// Where the program comes from.
enum Source {
    Object { object: Arc<Object>, options: Arc<LinkOptions> },
    Table(Box<Linked>),
}

/// The programs of an object that the kernel was asked about.
pub(super) fn of_object(dir: &Path, name: &str, answers: Vec<KernelAnswer>) -> anyhow::Result<Vec<Question>> {
    let parse = |file: &str| -> anyhow::Result<Object> {
        let bytes = fs::read(dir.join(file)).with_context(|| file.to_owned())?;
        Ok(Object::parse(&bytes)?)
    };
    let object = Arc::new(parse(&format!("{name}.bpf.o"))?);
    let running = Arc::new(bpf_arena::kernel::link_options()?);
    let without_perfmon = without(name).contains(&Capability::Perfmon);
    let mut questions = Vec::new();
    for kernel in answers {
        let options = match &kernel.btf_path {
            Some(file) => {
                let target_btf = parse(file)?.btf;
                Arc::new(LinkOptions { target_btf, module_btfs: Vec::new(), ..(*running).clone() })
            }
            None => Arc::clone(&running),
        };
        let source = Source::Object { object: Arc::clone(&object), options };
        let id = format!("{name}/{}", kernel.program);
        questions.push(Question { id, kernel, without_perfmon, source });
    }
    Ok(questions)
}

/// A test of the tables that the kernel was asked about.
pub(super) fn of_table(test: TableTest, kernel: KernelAnswer) -> Question {
    let source = Source::Table(Box::new(test.linked));
    Question { id: test.id, kernel, without_perfmon: false, source }
}

/// Asks our verifier, on every processor.
pub(super) fn ask(questions: &[Question]) -> anyhow::Result<Vec<TestOutcome>> {
    let env = Env::default().with_kernel(bpf_arena::kernel::running_btf()?);
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::new());
    let work = || {
        while let Some(question) = questions.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = question.outcome(&env);
            answers.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| -> std::io::Result<()> {
        for _ in 0..workers {
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
        }
        Ok(())
    })?;
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by(|a, b| a.test.cmp(&b.test));
    Ok(answers)
}

/// What our verifier says.
#[derive(Default)]
struct Ours {
    accepted: bool,
    errno: i32,
    message: String,
    walked: u64,
}

impl Question {
    fn outcome(&self, env: &Env) -> TestOutcome {
        let outcome =
            |state, detail, verifier| TestOutcome { test: self.id.clone(), state, detail, verifier };
        if self.kernel.verdict == "undecided" {
            return outcome(State::Skip, one_line(&self.kernel.message), None);
        }
        let ours = match catch_unwind(AssertUnwindSafe(|| self.verify(env))) {
            Ok(ours) => ours,
            Err(_) => Ours { message: "panicked".to_owned(), ..Ours::default() },
        };
        let refused = self.kernel.verdict == "rejected";
        let walked = self.kernel.counters.get("processed");
        let verdict = ours.accepted != refused;
        let errno = verdict && (!refused || ours.errno == self.kernel.errno);
        let message = verdict && (!refused || one_line(&ours.message) == one_line(&self.kernel.message));
        let state = match (verdict, errno, message) {
            (false, _, _) => State::Differ,
            (true, false, _) => State::Errno,
            (true, true, false) => State::Wording,
            (true, true, true) => State::Agree,
        };
        let said = |accepted: bool, errno: i32, message: &str| {
            if accepted { "accepted".to_owned() } else { format!("{} ({errno})", one_line(message)) }
        };
        let detail = match state {
            State::Agree => String::new(),
            _ => format!(
                "kernel: {}; ours: {}",
                said(!refused, self.kernel.errno, &self.kernel.message),
                said(ours.accepted, ours.errno, &ours.message)
            ),
        };
        let walked = (ours.walked, walked);
        outcome(state, detail, Some(Likeness { refused, verdict, errno, message, walked }))
    }

    fn verify(&self, env: &Env) -> Ours {
        const EINVAL: i32 = 22;
        const SLEEPABLE: u32 = 1 << 4;
        const XDP_FRAGS: u32 = 1 << 5;
        let linked = match &self.source {
            Source::Object { object, options } => object.link_with(&self.kernel.program, options),
            Source::Table(linked) => linked.as_ref().clone().decode(),
        };
        let mut program = match linked {
            Ok(program) => program,
            Err(LinkError::Decode { error, .. }) => {
                return Ours { errno: EINVAL, message: verifier::undecoded(&error), ..Ours::default() };
            }
            Err(error) => return Ours { errno: EINVAL, message: error.to_string(), ..Ours::default() },
        };
        let flags = self.kernel.flags;
        program.kind.sleepable |= flags & SLEEPABLE != 0;
        program.kind.xdp_frags |= flags & XDP_FRAGS != 0;
        let mut env = env.clone().with_flags(LoadFlags::from_bits(flags));
        env.refuse_uninit_stack = self.without_perfmon;
        match verifier::verify(&program, &env) {
            Ok(verified) => Ours { accepted: true, walked: verified.stats().insns_walked, ..Ours::default() },
            Err(rejection) => Ours {
                accepted: false,
                errno: rejection.errno(),
                message: rejection.reason().to_string(),
                walked: rejection.insns_walked(),
            },
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
