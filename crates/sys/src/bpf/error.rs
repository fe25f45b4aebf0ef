//! What can go wrong with bpf(2).

use rustix::io::Errno;

use super::{Capability, CapabilitySet, Command, Feature, KernelVersion};

/// Why a bpf(2) operation failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpfError {
    /// The kernel said no.
    #[error("{command}: {errno}")]
    Call {
        /// What was asked.
        command: Command,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The verifier (or the BTF checker) said no, and why.
    #[error("{command}: {errno}{}", log.last_line().map(|l| format!(": {l}")).unwrap_or_default())]
    Rejected {
        /// `ProgLoad` or `BtfLoad`.
        command: Command,
        /// The verdict.
        errno: Errno,
        /// The log; empty where the kernel refused before verifying.
        log: VerifierLog,
    },
    /// Permission was refused and this thread lacks a capability that the command needs.
    #[error("{command}: not permitted, {capability} is missing (run as root or grant it)")]
    MissingCapability {
        /// What was asked.
        command: Command,
        /// The first missing capability.
        capability: Capability,
    },
    /// The running kernel does not have what was asked for.
    #[error("{feature} needs Linux {needs} or newer; this is {running}")]
    TooOld {
        /// What was asked for.
        feature: Feature,
        /// First version that has it.
        needs: KernelVersion,
        /// Version of the running kernel.
        running: KernelVersion,
    },
    /// A buffer does not have the size that the object asks for.
    #[error("{what} of {got} bytes where {expected} are expected")]
    Size {
        /// `key`, `value`, `instructions`, ...
        what: &'static str,
        /// Bytes the kernel will read or write.
        expected: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// A string with a NUL byte inside.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// Which string.
        what: &'static str,
    },
}

impl BpfError {
    /// The kernel's error number, if the kernel was asked.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { errno, .. } | Self::Rejected { errno, .. } => Some(*errno),
            Self::MissingCapability { .. } => Some(Errno::PERM),
            Self::TooOld { .. } | Self::Size { .. } | Self::Nul { .. } => None,
        }
    }

    /// The verifier's log, where there is one.
    #[must_use]
    pub fn log(&self) -> Option<&VerifierLog> {
        match self {
            Self::Rejected { log, .. } => Some(log),
            _ => None,
        }
    }

    /// A refusal of `command`, naming the missing capability when that explains it.
    pub(super) fn from_errno(command: Command, errno: Errno, needed: &[Capability]) -> Self {
        if matches!(errno, Errno::PERM | Errno::ACCESS)
            && let Some(capability) = CapabilitySet::effective().first_missing(needed)
        {
            return Self::MissingCapability { command, capability };
        }
        Self::Call { command, errno }
    }
}

/// What the kernel's verifier (or BTF checker) wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifierLog {
    text: String,
    truncated: bool,
}

impl VerifierLog {
    /// From the bytes the kernel filled: up to the first NUL, anything not UTF-8 replaced.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], truncated: bool) -> Self {
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        Self { text, truncated }
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether lines are missing at the front because the log outgrew the largest buffer we offer.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The line that says what is wrong: the last one that is not empty, a source line, a statistic or a state.
    #[must_use]
    pub fn last_line(&self) -> Option<&str> {
        self.text.lines().rev().map(str::trim).find(|line| {
            // Statistics, and the states that an endless loop is shown with.
            let aside =
                ["; ", "processed ", "verification time ", "stack depth ", "cur state:", "old state:"];
            !line.is_empty() && !aside.iter().any(|start| line.starts_with(start))
        })
    }

    /// Index of the instruction that was being verified when the verifier gave up: of the last line `N: (..) ...`.
    #[must_use]
    pub fn last_insn(&self) -> Option<u32> {
        self.text.lines().rev().find_map(|line| {
            let (index, rest) = line.split_once(": ")?;
            rest.starts_with('(').then(|| index.parse().ok()).flatten()
        })
    }
}

impl core::fmt::Display for VerifierLog {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines() {
        let text = b"0: R1=ctx() R10=fp0\n0: (79) r0 = *(u64 *)(r1 +8)\ninvalid bpf_context access off=8 size=8\n\
            processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n\n\0junk";
        let log = VerifierLog::from_bytes(text, false);
        assert_eq!(log.last_line(), Some("invalid bpf_context access off=8 size=8"));
        assert_eq!(log.last_insn(), Some(0));
        assert!(!log.text().contains("junk"));
        assert_eq!(VerifierLog::default().last_line(), None);
        assert_eq!(VerifierLog::from_bytes(b"\xff\n", true).last_line(), Some("\u{fffd}"));
    }
}
