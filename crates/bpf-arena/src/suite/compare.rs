//! Two engines asked the same.

use std::fmt;
use std::sync::Arc;

use bpf_object::Object;

use super::judge::{Answer, Judge, Question, Verdict};
use super::memory::Difference;

/// How two answers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disagreement {
    /// One accepts what the other refuses.
    Verdict {
        /// The first engine's verdict.
        first: Verdict,
        /// The second's.
        second: Verdict,
    },
    /// Both refuse, with different error numbers.
    Errno {
        /// The first engine's.
        first: i32,
        /// The second's.
        second: i32,
    },
    /// One ran it, the other could not, or they returned different values.
    ReturnValue {
        /// What the first engine's run returned.
        first: Option<u32>,
        /// What the second's returned.
        second: Option<u32>,
    },
    /// The run left different contents behind.
    Memory(Difference),
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { first, second } => write!(f, "verdict: {first} and {second}"),
            Self::Errno { first, second } => write!(f, "error number: {first} and {second}"),
            Self::ReturnValue { first, second } => {
                write!(f, "return value: {} and {}", Value(*first), Value(*second))
            }
            Self::Memory(difference) => difference.fmt(f),
        }
    }
}

struct Value(Option<u32>);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value:#x}"),
            None => f.write_str("none"),
        }
    }
}

/// Asks two engines one after the other and compares verdict, error number, return value, data sections and arena. Gives both
/// answers and every difference; none if either cannot decide.
pub fn compare(
    object: &Arc<Object>,
    question: &Question,
    first: &dyn Judge,
    second: &dyn Judge,
) -> (Answer, Answer, Vec<Disagreement>) {
    let mut question = question.clone();
    question.pages.get_or_insert_default();
    let left = first.judge(object, &question);
    // The second engine looks at the pages that the first one found.
    question.pages = Some(left.memory.pages());
    let right = second.judge(object, &question);
    let differences = differences(&left, &right);
    (left, right, differences)
}

fn differences(first: &Answer, second: &Answer) -> Vec<Disagreement> {
    match (&first.verdict, &second.verdict) {
        (Verdict::Undecided { .. }, _) | (_, Verdict::Undecided { .. }) => return Vec::new(),
        (Verdict::Accepted, Verdict::Accepted) => {}
        (Verdict::Rejected { errno: left, .. }, Verdict::Rejected { errno: right, .. }) => {
            return match (*left, *right) {
                (Some(first), Some(second)) if first != second => vec![Disagreement::Errno { first, second }],
                _ => Vec::new(),
            };
        }
        (left, right) => {
            return vec![Disagreement::Verdict { first: left.clone(), second: right.clone() }];
        }
    }
    let mut found = Vec::new();
    if first.return_value != second.return_value {
        found.push(Disagreement::ReturnValue { first: first.return_value, second: second.return_value });
    }
    found.extend(first.memory.differences(&second.memory).into_iter().map(Disagreement::Memory));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_errnos_and_values() {
        let accepted = |value| Answer { return_value: Some(value), ..Answer::default() };
        let refused = |errno| Answer {
            verdict: Verdict::Rejected { errno, reason: "no".to_owned() },
            ..Answer::default()
        };
        let undecided =
            Answer { verdict: Verdict::Undecided { reason: "?".to_owned() }, ..Answer::default() };
        assert_eq!(differences(&accepted(1), &accepted(1)), []);
        assert_eq!(
            differences(&accepted(1), &accepted(2)),
            [Disagreement::ReturnValue { first: Some(1), second: Some(2) }]
        );
        assert!(matches!(differences(&accepted(1), &refused(None))[..], [Disagreement::Verdict { .. }]));
        assert_eq!(
            differences(&refused(Some(13)), &refused(Some(22))),
            [Disagreement::Errno { first: 13, second: 22 }]
        );
        assert_eq!(differences(&refused(None), &refused(Some(22))), []);
        assert_eq!(differences(&undecided, &accepted(1)), []);
    }
}
