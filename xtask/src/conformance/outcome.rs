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
    /// How our verifier compares with the kernel's, where both were asked.
    #[serde(default)]
    pub(super) verifier: Option<Likeness>,
}

/// Our verifier's answer beside the kernel's.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Likeness {
    /// The kernel refuses the program.
    pub(super) refused: bool,
    pub(super) verdict: bool,
    pub(super) errno: bool,
    pub(super) message: bool,
    /// Instructions walked by us and by the kernel.
    pub(super) walked: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Agree,
    /// Both refuse it, for the same reason in other words.
    Wording,
    /// Both refuse it, with different error numbers.
    Errno,
    Differ,
    Skip,
}

impl State {
    const ALL: [Self; 5] = [Self::Agree, Self::Wording, Self::Errno, Self::Differ, Self::Skip];

    fn name(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::Wording => "wording",
            Self::Errno => "errno",
            Self::Differ => "differ",
            Self::Skip => "skip",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
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

    /// `suite NAME: N agree, N differ, N skipped, N total`, and for our verifier how much of the kernel's answers is met.
    pub(super) fn summary(&self) -> String {
        let differing = [State::Wording, State::Errno, State::Differ].map(|state| self.count(state));
        let mut text = format!(
            "suite {}: {} agree, {} differ, {} skipped, {} total",
            self.name,
            self.count(State::Agree),
            differing.iter().sum::<usize>(),
            self.count(State::Skip),
            self.tests.len()
        );
        let alike: Vec<&Likeness> = self.tests.iter().filter_map(|test| test.verifier.as_ref()).collect();
        if alike.is_empty() {
            return text;
        }
        let refused: Vec<&Likeness> = alike.iter().copied().filter(|l| l.refused).collect();
        let same: Vec<&Likeness> = alike.iter().copied().filter(|l| l.verdict).collect();
        let near = |l: &&&Likeness| l.walked.0.abs_diff(l.walked.1) * 10 <= l.walked.1;
        for (what, part, whole) in [
            ("verdicts", same.len(), alike.len()),
            ("error numbers", alike.iter().filter(|l| l.errno).count(), alike.len()),
            ("final messages", refused.iter().filter(|l| l.message).count(), refused.len()),
            ("walked within 10%", same.iter().filter(near).count(), same.len()),
        ] {
            let percent = part as f64 * 100.0 / whole.max(1) as f64;
            let _ = write!(text, "\n  {what}: {part} of {whole} ({percent:.2}%)");
        }
        text
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
    /// The state, and the reason if someone gave one.
    others: BTreeMap<String, (State, String)>,
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
# does not, with the reason behind `#`. A test that agreed and does not any more fails the task; `--bless` writes this
# file anew and keeps the reasons.
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
            let (line, reason) = line.split_once('#').unwrap_or((line, ""));
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["suite", name, count, "agree"] => {
                    current = (*name).to_owned();
                    let agree = count.parse().with_context(|| format!("line {number}: `{count}`"))?;
                    suites.insert(current.clone(), SuiteExpectation { agree, ..Default::default() });
                }
                [state, test] => {
                    let state = State::parse(state).with_context(|| format!("line {number}: `{state}`"))?;
                    let suite =
                        suites.get_mut(&current).with_context(|| format!("line {number}: no suite"))?;
                    suite.others.insert((*test).to_owned(), (state, reason.trim().to_owned()));
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
            for (test, (state, reason)) in &suite.others {
                let separator = if reason.is_empty() { "" } else { "  # " };
                let _ = writeln!(text, "{} {test}{separator}{reason}", state.name());
            }
        }
        text
    }

    /// Takes a suite's results as what is expected from now on.
    pub(super) fn bless(&mut self, outcome: &SuiteOutcome) {
        let known = self.suites.remove(&outcome.name).unwrap_or_default().others;
        let others = outcome.tests.iter().filter(|test| test.state != State::Agree);
        let reason = |test: &TestOutcome| known.get(&test.test).map(|(_, r)| r.clone()).unwrap_or_default();
        let others = others.map(|test| (test.test.clone(), (test.state, reason(test)))).collect();
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
                (Some(_), State::Skip) => {}
                (Some((State::Skip, _)), _) => {
                    comparison.regressions.push(format!("{}: was skipped, {}", test.test, test.detail));
                }
                (Some((known, _)), now) if now > *known => {
                    comparison.regressions.push(format!("{}: {} {}", test.test, now.name(), test.detail));
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
            verifier: None,
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
    fn reasons_are_kept() {
        let text = "suite s 1 agree\nwording b  # said differently\n";
        let mut expectation = Expectation::parse(text).unwrap();
        let worse = outcome(&[("a", State::Agree), ("b", State::Differ)]);
        assert_eq!(expectation.compare(&worse).regressions.len(), 1);
        expectation.bless(&worse);
        assert!(expectation.text().contains("\ndiffer b  # said differently\n"));
        let better = expectation.compare(&outcome(&[("a", State::Agree), ("b", State::Errno)]));
        assert_eq!(better, Comparison::default());
    }

    #[test]
    fn bad_files_are_refused() {
        assert!(Expectation::parse("differ a\n").is_err());
        assert!(Expectation::parse("suite a x agree\n").is_err());
        assert!(Expectation::parse("what is this line\n").is_err());
    }
}
