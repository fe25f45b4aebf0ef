//! What ends a run from outside: its time limit, and the interrupt key.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bpf_arena::{Cancel, Program, RunLimits};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// The exit code of a command that an interrupt ends: 128 and the signal's number, as of a shell.
const INTERRUPTED: i32 = 130;

/// A time with its unit: `5ms`, `2s`, `100us`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("`{digits}` is no whole number"))?;
    match text.get(digits.len()..) {
        Some("us") => Ok(Duration::from_micros(number)),
        Some("ms") => Ok(Duration::from_millis(number)),
        Some("s") => Ok(Duration::from_secs(number)),
        _ => Err("expected a number with `us`, `ms` or `s` behind it".to_owned()),
    }
}

/// What may end the runs of a command: this time limit, and an interrupt. The second interrupt ends the command.
pub(crate) struct Limits {
    time: Option<Duration>,
    interrupted: Cancel,
}

impl Limits {
    /// From now on, an interrupt is for the program that runs.
    pub(crate) fn begin(time: Option<Duration>) -> Result<Self, Failure> {
        let interrupted = Cancel::new();
        let token = interrupted.clone();
        let mut interrupts =
            Signals::new([SIGINT]).context("cannot take interrupts").map_err(Failure::usage)?;
        std::thread::spawn(move || {
            for _ in &mut interrupts {
                if token.is_cancelled() {
                    std::process::exit(INTERRUPTED);
                }
                token.cancel();
            }
        });
        Ok(Self { time, interrupted })
    }

    /// The program with these limits. One of the kernel has none.
    pub(crate) fn of(&self, program: &Program) -> Result<Program, Failure> {
        let limits = RunLimits::new().cancel(&self.interrupted);
        let limits = match self.time {
            Some(time) => limits.time(time),
            None => limits,
        };
        match (program.limited(limits), self.time) {
            (Some(limited), _) => Ok(limited),
            (None, None) => Ok(program.clone()),
            (None, Some(_)) => Err(Failure::usage(anyhow!("the kernel runs programs without a time limit"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(duration("100us"), Ok(Duration::from_micros(100)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "5", "ms", "-1s", "1.5s", "1h", "5 ms", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
