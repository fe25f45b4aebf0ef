//! Results of a suite, and the committed expectation they are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// How one test of a suite went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TestOutcome {
    /// Name, unique in the suite.
    pub(super) test: String,
    pub(super) state: State,
    /// Both answers, or why it was skipped.
    pub(super) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Agree,
    Differ,
    Skip,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::Differ => "differ",
            Self::Skip => "skip",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Agree, Self::Differ, Self::Skip].into_iter().find(|state| state.name() == name)
    }
}

/// A suite's results.
#[derive(Clone, Debug)]
pub(super) struct SuiteOutcome {
    pub(super) name: String,
    pub(super) tests: Vec<TestOutcome>,
}

impl SuiteOutcome {
    pub(super) fn count(&self, state: State) -> usize {
        self.tests.iter().filter(|test| test.state == state).count()
    }

    /// `suite NAME: N agree, N differ, N skipped, N total`.
    pub(super) fn summary(&self) -> String {
        format!(
            "suite {}: {} agree, {} differ, {} skipped, {} total",
            self.name,
            self.count(State::Agree),
            self.count(State::Differ),
            self.count(State::Skip),
            self.tests.len()
        )
    }
}

/// What is expected of each suite: every test that does not agree, and how many do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expectation {
    suites: BTreeMap<String, SuiteExpectation>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SuiteExpectation {
    agree: usize,
    others: BTreeMap<String, State>,
}

/// How a suite's results compare with what was expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Tests that agreed and do not any more, or are gone.
    pub(super) regressions: Vec<String>,
    /// Tests that agree now, or are new.
    pub(super) progress: Vec<String>,
}

const HEADER: &str = "\
# What `cargo xtask conformance` is expected to find: for each suite the number of tests that agree, and every test that
# does not. A test that agreed and does not any more fails the task; `--bless` writes this file anew.
";

impl Expectation {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut suites: BTreeMap<String, SuiteExpectation> = BTreeMap::new();
        let mut current = String::new();
        for (number, line) in (1..).zip(text.lines()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["suite", name, count, "agree"] => {
                    current = (*name).to_owned();
                    let agree = count.parse().with_context(|| format!("line {number}: `{count}`"))?;
                    suites.insert(current.clone(), SuiteExpectation { agree, ..Default::default() });
                }
                [state, test] => {
                    let state = State::parse(state).with_context(|| format!("line {number}: `{state}`"))?;
                    let suite =
                        suites.get_mut(&current).with_context(|| format!("line {number}: no suite"))?;
                    suite.others.insert((*test).to_owned(), state);
                }
                _ => bail!("line {number} cannot be read: `{line}`"),
            }
        }
        Ok(Self { suites })
    }

    /// The file's text.
    pub(super) fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        for (name, suite) in &self.suites {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\nsuite {name} {} agree", suite.agree);
            for (test, state) in &suite.others {
                let _ = writeln!(text, "{} {test}", state.name());
            }
        }
        text
    }

    /// Takes a suite's results as what is expected from now on.
    pub(super) fn bless(&mut self, outcome: &SuiteOutcome) {
        let others = outcome.tests.iter().filter(|test| test.state != State::Agree);
        let others = others.map(|test| (test.test.clone(), test.state)).collect();
        self.suites
            .insert(outcome.name.clone(), SuiteExpectation { agree: outcome.count(State::Agree), others });
    }

    /// Compares a suite's results; nothing is expected of a suite that the file does not know.
    pub(super) fn compare(&self, outcome: &SuiteOutcome) -> Comparison {
        let mut comparison = Comparison::default();
        let Some(expected) = self.suites.get(&outcome.name) else { return comparison };
        let mut seen = BTreeSet::new();
        for test in &outcome.tests {
            seen.insert(test.test.as_str());
            match (expected.others.get(&test.test), test.state) {
                (None, State::Agree) => {}
                (None, _) => {
                    comparison.regressions.push(format!(
                        "{}: {} {}",
                        test.test,
                        test.state.name(),
                        test.detail
                    ));
                }
                (Some(_), State::Agree) => comparison.progress.push(test.test.clone()),
                (Some(State::Skip), State::Differ) => {
                    comparison.regressions.push(format!("{}: was skipped, {}", test.test, test.detail));
                }
                (Some(_), _) => {}
            }
        }
        let gone = expected.others.keys().filter(|test| !seen.contains(test.as_str()));
        comparison.progress.extend(gone.map(|test| format!("{test} is gone")));
        let agree = outcome.count(State::Agree);
        if agree + comparison.regressions.len() < expected.agree {
            let gone = expected.agree - agree - comparison.regressions.len();
            comparison.regressions.push(format!("{gone} tests that agreed are gone"));
        }
        comparison
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(tests: &[(&str, State)]) -> SuiteOutcome {
        let test = |&(name, state): &(&str, State)| TestOutcome {
            test: name.to_owned(),
            state,
            detail: String::new(),
        };
        SuiteOutcome { name: "s".to_owned(), tests: tests.iter().map(test).collect() }
    }

    #[test]
    fn blessed_results_are_expected() {
        let first = outcome(&[("a", State::Agree), ("b", State::Differ), ("c", State::Skip)]);
        let mut expectation = Expectation::default();
        expectation.bless(&first);
        let again = Expectation::parse(&expectation.text()).unwrap();
        assert_eq!(again, expectation);
        assert_eq!(again.compare(&first), Comparison::default());
    }

    #[test]
    fn regressions_and_progress() {
        let mut expectation = Expectation::default();
        expectation.bless(&outcome(&[("a", State::Agree), ("b", State::Differ), ("c", State::Skip)]));
        let worse =
            expectation.compare(&outcome(&[("a", State::Skip), ("b", State::Agree), ("c", State::Differ)]));
        assert_eq!((worse.regressions.len(), worse.progress.len()), (2, 1));
        let fewer = expectation.compare(&outcome(&[("b", State::Differ), ("c", State::Skip)]));
        assert_eq!(fewer.regressions, ["1 tests that agreed are gone"]);
        let new = expectation.compare(&outcome(&[
            ("a", State::Agree),
            ("b", State::Differ),
            ("c", State::Skip),
            ("d", State::Differ),
        ]));
        assert_eq!(new.regressions.len(), 1);
    }

    #[test]
    fn bad_files_are_refused() {
        assert!(Expectation::parse("differ a\n").is_err());
        assert!(Expectation::parse("suite a x agree\n").is_err());
        assert!(Expectation::parse("what is this line\n").is_err());
    }
}
