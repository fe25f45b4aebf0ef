//! What an engine says of a program, and whether that is what was expected.

use std::sync::Arc;

use bpf_object::Object;

use super::annotation::{Expectation, Message, ReturnValue};
use super::memory::Memory;

/// What is asked of an engine.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Name of the program.
    pub program: String,
    /// Programs to load beside it.
    pub auxiliary: Vec<String>,
    /// Level of the log that is asked for: 1, 2, 4 or a sum; 0 for what comes with a refusal.
    pub log_level: u32,
    /// `BPF_F_*` of program loading.
    pub flags: u32,
    /// Whether to run it once it is loaded.
    pub run: bool,
    /// Context of the run. Empty for a packet of zeroes, or for `syscall` nothing.
    pub ctx: Vec<u8>,
    /// Whether to copy data sections and arena after the run, and pages that must be looked at even in a large arena.
    pub pages: Option<Vec<u64>>,
    /// Contents of maps to set before the run: name of the map, key, value.
    pub map_values: Vec<(String, Vec<u8>, Vec<u8>)>,
    /// Object whose BTF is the target of CO-RE relocations, instead of the running kernel's.
    pub target: Option<Arc<Object>>,
}

/// An engine's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether the program may run.
    pub verdict: Verdict,
    /// What the verifier said; `None` from an engine whose verifier writes no log.
    pub log: Option<String>,
    /// What the program returned, if it was asked to run and did.
    pub return_value: Option<u32>,
    /// What the run left behind, if that was asked for.
    pub memory: Memory,
    /// Why it did not run although it was asked to and may.
    pub run_error: Option<String>,
}

/// Whether a program may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    #[default]
    Accepted,
    /// It may not.
    Rejected {
        /// The kernel's error number, where the engine gives one.
        errno: Option<i32>,
        /// The reason in one line.
        reason: String,
    },
    /// The engine cannot say: something is not supported, or not permitted here.
    Undecided {
        /// Why.
        reason: String,
    },
}

impl core::fmt::Display for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Rejected { reason, .. } => write!(f, "refused ({reason})"),
            Self::Undecided { reason } => write!(f, "undecided ({reason})"),
        }
    }
}

/// Something that can answer: an engine.
pub trait Judge {
    /// Its name in reports: `user`, `user-interp`, `kernel`.
    fn name(&self) -> &str;

    /// Loads a program of the object, with maps of its own, and runs it if asked to.
    fn judge(&self, object: &Arc<Object>, question: &Question) -> Answer;
}

/// How an answer differs from what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Refused, and expected to be accepted.
    #[error("refused: {reason}")]
    Refused {
        /// The engine's reason.
        reason: String,
    },
    /// Accepted, and expected to be refused.
    #[error("accepted, although it is to be refused")]
    Accepted,
    /// The log lacks a message.
    #[error("the log lacks `{message}`")]
    MessageMissing {
        /// The pattern.
        message: String,
        /// The log's last line.
        last_line: String,
    },
    /// The log has a message that it must not have.
    #[error("the log has `{message}`")]
    MessagePresent {
        /// The pattern.
        message: String,
    },
    /// The program returned something else.
    #[error("returned {got:#x} instead of {expected:#x}")]
    ReturnValue {
        /// What was expected.
        expected: u32,
        /// What came.
        got: u32,
    },
    /// The program could not be run.
    #[error("could not be run: {reason}")]
    NotRun {
        /// The engine's reason.
        reason: String,
    },
}

impl Expectation {
    /// Whether to run the program.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.return_value.is_some() && !self.rejected
    }

    /// Compares an answer that is decided. Verdict first, then the log, then the return value.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, answer: &Answer) -> Result<(), Mismatch> {
        match &answer.verdict {
            Verdict::Accepted if self.rejected => return Err(Mismatch::Accepted),
            Verdict::Rejected { reason, .. } if !self.rejected => {
                return Err(Mismatch::Refused { reason: reason.clone() });
            }
            _ => {}
        }
        if let Some(log) = &answer.log {
            check_messages(&self.messages, log)?;
        }
        match self.return_value {
            Some(ReturnValue::Value(expected)) if !self.rejected => match answer.return_value {
                Some(got) if got == expected => Ok(()),
                Some(got) => Err(Mismatch::ReturnValue { expected, got }),
                None => Err(not_run(answer)),
            },
            Some(ReturnValue::Any) if !self.rejected && answer.return_value.is_none() => Err(not_run(answer)),
            _ => Ok(()),
        }
    }
}

fn not_run(answer: &Answer) -> Mismatch {
    Mismatch::NotRun { reason: answer.run_error.clone().unwrap_or_default() }
}

/// Each message after the one before it; nothing that matches an absent one in between.
fn check_messages(messages: &[Message], log: &str) -> Result<(), Mismatch> {
    let mut rest = log;
    let mut absent: Vec<&Message> = Vec::new();
    for message in messages {
        if message.absent {
            absent.push(message);
            continue;
        }
        let Some(found) = message.pattern.find(rest) else {
            return Err(Mismatch::MessageMissing {
                message: message.pattern.text().to_owned(),
                last_line: log.lines().rev().find(|l| !l.is_empty()).unwrap_or_default().to_owned(),
            });
        };
        check_absent(&absent, rest.get(..found.start).unwrap_or_default())?;
        absent.clear();
        rest = rest.get(found.end..).unwrap_or_default();
    }
    check_absent(&absent, rest)
}

fn check_absent(absent: &[&Message], log: &str) -> Result<(), Mismatch> {
    match absent.iter().find(|m| m.pattern.find(log).is_some()) {
        Some(message) => Err(Mismatch::MessagePresent { message: message.pattern.text().to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Pattern;

    fn message(text: &str, absent: bool) -> Message {
        Message { pattern: Pattern::parse(text).unwrap(), absent }
    }

    #[test]
    fn messages_come_in_order() {
        let log = "one\ntwo\nthree\n";
        assert_eq!(check_messages(&[message("one", false), message("three", false)], log), Ok(()));
        assert!(check_messages(&[message("three", false), message("one", false)], log).is_err());
        let between = [message("one", false), message("two", true), message("three", false)];
        assert!(matches!(check_messages(&between, log), Err(Mismatch::MessagePresent { .. })));
        let after = [message("two", false), message("two", true)];
        assert_eq!(check_messages(&after, log), Ok(()));
    }

    #[test]
    fn verdicts_and_values() {
        let expected = Expectation { return_value: Some(ReturnValue::Value(7)), ..Expectation::default() };
        let answer = |value| Answer { return_value: Some(value), ..Answer::default() };
        assert_eq!(expected.check(&answer(7)), Ok(()));
        assert_eq!(expected.check(&answer(8)), Err(Mismatch::ReturnValue { expected: 7, got: 8 }));
        let refused = Expectation { rejected: true, ..Expectation::default() };
        assert_eq!(refused.check(&answer(7)), Err(Mismatch::Accepted));
        assert!(matches!(expected.check(&Answer::default()), Err(Mismatch::NotRun { .. })));
    }
}
