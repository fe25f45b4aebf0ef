//! Why the command ends with an exit code other than 0.

use std::{io, process::ExitCode};

use crate::output;

/// What went wrong, by exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit code 1: an object or program was refused, trapped or failed.
    Refused(anyhow::Error),
    /// Exit code 1, and everything was said already.
    Reported,
    /// Exit code 2: wrong usage, or a file that cannot be read.
    Usage(anyhow::Error),
    /// The reader of our output went away, which is its right.
    BrokenPipe,
}

impl Failure {
    /// Exit code 1 for this error.
    pub(crate) fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self::Refused(error.into())
    }

    /// Exit code 2 for this error.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// Says what went wrong.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Refused(error) => {
                output::error(&message(&error));
                ExitCode::from(1)
            }
            Self::Reported => ExitCode::from(1),
            Self::Usage(error) => {
                output::error(&message(&error));
                ExitCode::from(2)
            }
            Self::BrokenPipe => ExitCode::SUCCESS,
        }
    }
}

/// An error with its causes, those left out that the text before already tells.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

impl From<io::Error> for Failure {
    /// For errors of writing output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::BrokenPipe } else { Self::usage(error) }
    }
}
