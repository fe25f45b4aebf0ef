//! Section names and the program types they stand for (libbpf's `SEC()` conventions).

use crate::{ProgType, ProgramKind};

impl ProgramKind {
    /// Reads a section name as libbpf does. An unknown name gives `prog_type: None`.
    #[must_use]
    pub fn from_section(section: &str) -> Self {
        let (optional, name) = match section.strip_prefix('?') {
            Some(rest) => (true, rest),
            None => (false, section),
        };
        let target = name.split_once('/').map(|(_, t)| t.to_owned());
        let prog_type = (name == "syscall").then_some(ProgType::Syscall);
        Self {
            prog_type,
            attach_type: None,
            sleepable: name == "syscall",
            xdp_frags: false,
            target,
            optional,
        }
    }
}
