//! Which of the capabilities that bpf(2) asks for this thread has.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet as Set, CapabilitySets, capabilities, set_capabilities};

/// A capability that bpf(2) asks for (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// `CAP_BPF`: maps, BTF, most program types.
    Bpf,
    /// `CAP_PERFMON`: tracing programs, pointer arithmetic and leaks in all others, arenas.
    Perfmon,
    /// `CAP_NET_ADMIN`: networking programs and attaching them.
    NetAdmin,
    /// `CAP_SYS_ADMIN`: objects by id, and everything before Linux 5.8.
    SysAdmin,
}

impl Capability {
    /// All of them, the ones a loader needs first in front.
    pub const ALL: [Self; 4] = [Self::Bpf, Self::Perfmon, Self::NetAdmin, Self::SysAdmin];

    /// The name in capabilities(7).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }

    fn bit(self) -> Set {
        match self {
            Self::Bpf => Set::BPF,
            Self::Perfmon => Set::PERFMON,
            Self::NetAdmin => Set::NET_ADMIN,
            Self::SysAdmin => Set::SYS_ADMIN,
        }
    }
}

impl core::fmt::Display for Capability {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// The calling thread's effective capabilities.
#[derive(Clone, Copy, Debug)]
pub struct CapabilitySet(Set);

impl CapabilitySet {
    /// Reads them from the kernel. A kernel that will not tell counts as none.
    #[must_use]
    pub fn effective() -> Self {
        Self(capabilities(None).map_or(Set::empty(), |sets| sets.effective))
    }

    /// Whether the capability is there; `CAP_SYS_ADMIN` implies the others, as it does for bpf(2).
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(Set::SYS_ADMIN) || self.0.contains(capability.bit())
    }

    /// The first of `needed` that is not there.
    #[must_use]
    pub fn first_missing(&self, needed: &[Capability]) -> Option<Capability> {
        needed.iter().copied().find(|&c| !self.has(c))
    }
}

/// Capabilities taken from the calling thread's effective ones, for as long as this lives. Dropping it on another thread
/// gives that thread its permitted capabilities back instead, so keep it where it was made.
#[derive(Debug)]
#[must_use = "dropping it gives the capabilities back"]
pub struct WithoutCapabilities {
    taken: Set,
}

impl WithoutCapabilities {
    /// Takes these away; those that are not there stay away.
    ///
    /// # Errors
    /// As capset(2) answers.
    pub fn take(capabilities_to_take: &[Capability]) -> Result<Self, Errno> {
        let sets = capabilities(None)?;
        let asked = capabilities_to_take.iter().fold(Set::empty(), |all, c| all | c.bit());
        let taken = sets.effective & asked;
        set_capabilities(None, CapabilitySets { effective: sets.effective - taken, ..sets })?;
        Ok(Self { taken })
    }
}

impl Drop for WithoutCapabilities {
    fn drop(&mut self) {
        // Permitted capabilities were not touched, so making them effective again cannot be refused.
        if let Ok(sets) = capabilities(None) {
            let _ = set_capabilities(None, CapabilitySets { effective: sets.effective | self.taken, ..sets });
        }
    }
}
