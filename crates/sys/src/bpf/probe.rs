//! What the running kernel can do.

use rustix::io::Errno;

use super::{BpfError, MAP_TYPE_ARENA, Map, MapOptions, Prog, ProgSpec};

/// A version of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// 6 of 6.9.
    pub major: u16,
    /// 9 of 6.9.
    pub minor: u16,
}

impl KernelVersion {
    /// The running kernel's; 0.0 if it does not tell.
    #[must_use]
    pub fn running() -> Self {
        let name = rustix::system::uname();
        Self::parse(&name.release().to_string_lossy()).unwrap_or(Self { major: 0, minor: 0 })
    }

    /// The third number of the running kernel's version: 44 of 6.18.44.
    #[must_use]
    pub fn running_patch() -> u32 {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy().into_owned();
        release.split(|c: char| !c.is_ascii_digit()).nth(2).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl core::fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Something that not every kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// `BPF_MAP_TYPE_ARENA`.
    Arena,
    /// `SEC("syscall")` programs.
    SyscallProgram,
    /// The kernel's own BTF in `/sys/kernel/btf/vmlinux`.
    KernelBtf,
    /// The `may_goto` instruction.
    MayGoto,
    /// `BPF_JMP32 | BPF_JA` and the rest of `-mcpu=v4`.
    CpuV4,
    /// `load_acquire` and `store_release`.
    LoadAcquire,
    /// Programs in traffic control without a qdisc (`tcx`).
    Tcx,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Arena,
        Self::SyscallProgram,
        Self::KernelBtf,
        Self::MayGoto,
        Self::CpuV4,
        Self::LoadAcquire,
        Self::Tcx,
    ];

    /// The first kernel version that has it (on x86-64).
    #[must_use]
    pub fn since(self) -> KernelVersion {
        let (major, minor) = match self {
            Self::Arena | Self::MayGoto => (6, 9),
            Self::SyscallProgram => (5, 14),
            Self::KernelBtf => (5, 2),
            Self::CpuV4 | Self::Tcx => (6, 6),
            Self::LoadAcquire => (6, 15),
        };
        KernelVersion { major, minor }
    }

    /// Whether the running kernel has it: tried, not looked up (distributions backport), save for `Tcx`.
    ///
    /// # Errors
    /// It cannot be tried: a capability is missing, or something unrelated failed.
    pub fn probe(self) -> Result<bool, BpfError> {
        // Each program is `...; r0 = 0; exit`.
        const MAY_GOTO: u64 = 0xe5;
        const GOTOL: u64 = 0x06;
        // r0 = load_acquire((u64 *)(r10 - 8)) behind *(u64 *)(r10 - 8) = 0
        const STORE: u64 = 0xfff8_0a7a;
        const LOAD_ACQUIRE: u64 = 0x0000_0100_fff8_a0db;
        match self {
            Self::Arena => probe_arena(),
            Self::SyscallProgram => probe_program(&[]),
            Self::KernelBtf => Ok(std::path::Path::new("/sys/kernel/btf/vmlinux").exists()),
            Self::MayGoto => probe_program(&[MAY_GOTO]),
            Self::CpuV4 => probe_program(&[GOTOL]),
            Self::LoadAcquire => probe_program(&[STORE, LOAD_ACQUIRE]),
            Self::Tcx => Ok(KernelVersion::running() >= self.since()),
        }
    }

    /// Nothing if the running kernel has it.
    ///
    /// # Errors
    /// It does not, or that cannot be found out: says what would help.
    pub fn require(self) -> Result<(), BpfError> {
        if self.probe()? {
            return Ok(());
        }
        Err(BpfError::TooOld { feature: self, needs: self.since(), running: KernelVersion::running() })
    }
}

impl core::fmt::Display for Feature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Arena => "an arena map",
            Self::SyscallProgram => "a syscall program",
            Self::KernelBtf => "the kernel's BTF (CONFIG_DEBUG_INFO_BTF)",
            Self::MayGoto => "may_goto",
            Self::CpuV4 => "-mcpu=v4",
            Self::LoadAcquire => "load_acquire",
            Self::Tcx => "a tcx attachment",
        })
    }
}

fn probe_arena() -> Result<bool, BpfError> {
    const BPF_F_MMAPABLE: u32 = 1 << 10;
    let options = MapOptions {
        map_type: MAP_TYPE_ARENA,
        max_entries: 1,
        flags: BPF_F_MMAPABLE,
        ..MapOptions::default()
    };
    match Map::create(&options) {
        Ok(_) => Ok(true),
        Err(error) => absent(error),
    }
}

fn probe_program(head: &[u64]) -> Result<bool, BpfError> {
    const SYSCALL: u32 = 31;
    const BPF_F_SLEEPABLE: u32 = 1 << 4;
    const ZERO: u64 = 0xb7;
    const EXIT: u64 = 0x95;
    let insns: Vec<u8> = head.iter().chain(&[ZERO, EXIT]).flat_map(|insn| insn.to_le_bytes()).collect();
    let spec = ProgSpec {
        name: "probe",
        prog_type: SYSCALL,
        insns: &insns,
        license: "GPL",
        flags: BPF_F_SLEEPABLE,
        ..ProgSpec::default()
    };
    match Prog::load(&spec) {
        Ok(_) => Ok(true),
        Err(error) => absent(error),
    }
}

/// EINVAL is how a kernel says that it does not know something; anything else is another matter.
fn absent(error: BpfError) -> Result<bool, BpfError> {
    if error.errno() == Some(Errno::INVAL) { Ok(false) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(KernelVersion::parse("6.18.44-generic"), version(6, 18));
        assert_eq!(KernelVersion::parse("6.9"), version(6, 9));
        assert_eq!(KernelVersion::parse("7.0-rc1"), version(7, 0));
        assert_eq!(KernelVersion::parse("x"), None);
        assert!(version(6, 18) > version(6, 9));
        assert!(KernelVersion::running().major > 0);
    }
}
