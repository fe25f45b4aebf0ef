//! Test suites of BPF programs: what objects say about their own programs, and engines that judge them.
//!
//! A program with the annotations of the kernel's selftests ([`Annotations`]) is a test of what they say; one in
//! `SEC("syscall")` without any is a test that returns 0.

mod annotation;
mod compare;
mod judge;
mod kernel;
mod memory;
mod pattern;
mod user;

use std::sync::Arc;

use bpf_object::{Object, ProgType};

pub use annotation::{Annotations, BadAnnotation, Expectation, Message, ReturnValue, TEST_DATA_LEN};
pub use compare::{Disagreement, compare};
pub use judge::{Answer, Judge, Mismatch, Question, Verdict};
pub use kernel::KernelJudge;
pub use memory::{Difference, Memory};
pub use pattern::Pattern;
pub use user::UserJudge;

/// One test of an object.
#[derive(Clone, Debug)]
pub struct Test {
    /// Name of the program.
    pub program: String,
    /// Name in reports: the description if there is one.
    pub title: String,
    /// What is asked of an engine.
    pub question: Question,
    /// What it should answer.
    pub expected: Expectation,
    /// Whether annotations made it a test.
    pub annotated: bool,
    /// Whether it is the form without privileges.
    pub unprivileged: bool,
    /// Why the test cannot be done, if so.
    pub skip: Option<String>,
}

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestResult {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed(Mismatch),
    /// Two engines gave different answers, in these points.
    Different(Vec<Disagreement>),
    /// Not done, or without an answer.
    Skipped(String),
}

impl Test {
    /// Every test of an object, in its order. A program with annotations for both modes is two tests, of which the
    /// unprivileged one is to be skipped.
    ///
    /// # Errors
    /// [`BadAnnotation`] for an annotation that cannot be read.
    pub fn of_object(object: &Object) -> Result<Vec<Self>, BadAnnotation> {
        let annotations = Annotations::of_object(object)?;
        let annotated = object.programs.iter().zip(&annotations);
        let auxiliary: Vec<String> = annotated
            .clone()
            .filter(|(_, a)| a.as_ref().is_some_and(|a| a.auxiliary && a.privileged.is_some()))
            .map(|(program, _)| program.name.clone())
            .collect();
        // In an object of annotated programs those without any are part of the others.
        let has_annotations = annotations.iter().flatten().any(is_test);
        let mut tests = Vec::new();
        for (program, annotations) in annotated {
            match annotations {
                Some(annotations) if annotations.auxiliary => {}
                Some(annotations) => tests.extend(Self::annotated(&program.name, annotations, &auxiliary)),
                None if !has_annotations && program.kind.prog_type == Some(ProgType::Syscall) => {
                    tests.push(Self::plain(&program.name));
                }
                None => {}
            }
        }
        Ok(tests)
    }

    fn plain(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            title: program.to_owned(),
            question: Question { program: program.to_owned(), run: true, ..Question::default() },
            expected: Expectation { return_value: Some(ReturnValue::Value(0)), ..Expectation::default() },
            annotated: false,
            unprivileged: false,
            skip: None,
        }
    }

    fn annotated(program: &str, annotations: &Annotations, auxiliary: &[String]) -> Vec<Self> {
        let title = annotations.description.clone().unwrap_or_else(|| program.to_owned());
        let test = |expected: &Expectation, unprivileged: bool, skip: Option<String>| Self {
            program: program.to_owned(),
            title: if unprivileged { format!("{title} @unpriv") } else { title.clone() },
            annotated: true,
            unprivileged,
            question: Question {
                program: program.to_owned(),
                auxiliary: auxiliary.to_vec(),
                log_level: annotations.log_level,
                flags: annotations.flags,
                run: expected.runs(),
                ..Question::default()
            },
            expected: expected.clone(),
            skip,
        };
        let mut tests = Vec::new();
        if let Some(expected) = &annotations.privileged {
            let skip = if !annotations.for_this_arch {
                Some("for another architecture".to_owned())
            } else if annotations.needs_jit == Some(false) {
                Some("for a kernel that interprets programs".to_owned())
            } else {
                None
            };
            tests.push(test(expected, false, skip));
        }
        if let Some(expected) = &annotations.unprivileged {
            let skip = "unprivileged programs are not supported".to_owned();
            tests.push(test(expected, true, Some(skip)));
        }
        tests
    }

    /// Asks an engine and compares.
    pub fn run(&self, object: &Arc<Object>, judge: &dyn Judge) -> (TestResult, Option<Answer>) {
        if let Some(reason) = &self.skip {
            return (TestResult::Skipped(reason.clone()), None);
        }
        let answer = judge.judge(object, &self.question);
        let result = match &answer.verdict {
            Verdict::Undecided { reason } => TestResult::Skipped(reason.clone()),
            _ => self.result(&answer),
        };
        (result, Some(answer))
    }

    /// Asks two engines. They have to agree with each other, and `reference` with what is expected. Gives its answer too.
    pub fn run_both(
        &self,
        object: &Arc<Object>,
        judge: &dyn Judge,
        reference: &dyn Judge,
    ) -> (TestResult, Option<Answer>) {
        if let Some(reason) = &self.skip {
            return (TestResult::Skipped(reason.clone()), None);
        }
        let (first, second, differences) = compare(object, &self.question, judge, reference);
        let undecided = |answer: &Answer, judge: &dyn Judge| match &answer.verdict {
            Verdict::Undecided { reason } => Some(format!("{} engine: {reason}", judge.name())),
            _ => None,
        };
        let result = match undecided(&first, judge).or_else(|| undecided(&second, reference)) {
            Some(reason) => TestResult::Skipped(reason),
            None if differences.is_empty() => self.result(&second),
            None => TestResult::Different(differences),
        };
        (result, Some(second))
    }

    /// Whether a decided answer is what was expected.
    fn result(&self, answer: &Answer) -> TestResult {
        match self.expected.check(answer) {
            Ok(()) => TestResult::Passed,
            Err(mismatch) => TestResult::Failed(mismatch),
        }
    }
}

/// Whether the annotations make a program a test, rather than describe a part of one.
fn is_test(annotations: &Annotations) -> bool {
    annotations.privileged.is_some() || annotations.unprivileged.is_some()
}
