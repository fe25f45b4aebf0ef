//! Loaded programs.

#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::Capability;
use super::error::BpfError;
use super::ids::{InfoAttr, object_info};
use super::raw::{Attr, Command, address, address_mut, call, length};

const XDP: u32 = 6;
const SYSCALL: u32 = 31;
const RAW_TRACEPOINTS: [u32; 2] = [17, 24];
/// Program types whose test run gives a context back through `ctx_out`: those that run on an skb (`sched_cls`, `sched_act`,
/// `socket_filter`, `cgroup_skb`, `lwt_*`), XDP, `flow_dissector`, `sk_lookup`.
const CTX_OUT: [u32; 11] = [1, 3, 4, XDP, 8, 10, 11, 12, 19, 22, 30];

/// A loaded program, by an owned descriptor; unloaded on drop unless something else holds it.
#[derive(Debug)]
pub struct Prog {
    fd: OwnedFd,
    prog_type: u32,
}

/// What a test run is given.
#[derive(Debug, Default)]
pub struct TestRun<'a> {
    /// Context (`struct xdp_md`, a syscall program's argument, ...), also out. Empty: the kernel makes one.
    pub ctx: &'a mut [u8],
    /// Packet, for program types that take one.
    pub data: &'a [u8],
    /// Where the packet is written back; may be empty. Shorter than the packet: the rest is lost.
    pub data_out: &'a mut [u8],
    /// How many times to run; 0 counts as 1. Not for syscall programs and raw tracepoints.
    pub repeat: u32,
    /// `BPF_F_TEST_*`.
    pub flags: u32,
}

/// What a test run gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TestOutcome {
    /// What the program returned.
    pub retval: u32,
    /// Average of one run; zero where the kernel does not measure (syscall programs).
    pub duration: Duration,
    /// Bytes of the packet written back (or that would have been, had they fit).
    pub data_len: usize,
    /// Bytes of context written back.
    pub ctx_len: usize,
}

/// What the kernel says of a program (`struct bpf_prog_info`, its beginning).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ProgInfo {
    /// `BPF_PROG_TYPE_*`.
    pub prog_type: u32,
    /// Id, unique among the programs that exist.
    pub id: u32,
    /// Hash of the instructions.
    pub tag: [u8; 8],
    /// Bytes of machine code; 0 if interpreted.
    pub jited_len: u32,
    /// Bytes of instructions after the verifier rewrote them.
    pub xlated_len: u32,
    jited_insns: u64,
    xlated_insns: u64,
    /// When it was loaded, in ns since boot.
    pub load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
    ifindex: u32,
    gpl_compatible: u32,
    netns_dev: u64,
    netns_ino: u64,
    nr_jited_ksyms: u32,
    nr_jited_func_lens: u32,
    jited_ksyms: u64,
    jited_func_lens: u64,
    btf_id: u32,
    func_info_rec_size: u32,
    func_info: u64,
    nr_func_info: u32,
    nr_line_info: u32,
    line_info: u64,
    jited_line_info: u64,
    nr_jited_line_info: u32,
    line_info_rec_size: u32,
    jited_line_info_rec_size: u32,
    nr_prog_tags: u32,
    prog_tags: u64,
    /// Total run time in ns, if statistics are on.
    pub run_time: u64,
    /// Number of runs, if statistics are on.
    pub run_count: u64,
    recursion_misses: u64,
    /// Instructions the verifier walked (Linux 5.16).
    pub verified_insns: u32,
    attach_btf_obj_id: u32,
    attach_btf_id: u32,
    _pad: u32,
}

// SAFETY: a `repr(C)` struct of integers without padding, the kernel's `struct bpf_prog_info`; all addresses stay 0.
unsafe impl InfoAttr for ProgInfo {}

impl Prog {
    pub(super) fn new(fd: OwnedFd, prog_type: u32) -> Self {
        Self { fd, prog_type }
    }

    /// `BPF_PROG_TYPE_*`.
    #[must_use]
    pub fn prog_type(&self) -> u32 {
        self.prog_type
    }

    /// What the kernel says of the program.
    ///
    /// # Errors
    /// As the kernel answers.
    pub fn info(&self) -> Result<ProgInfo, BpfError> {
        object_info(self.fd.as_fd())
    }

    /// Runs the program (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// The program's type has no test run (ENOTSUPP), an input does not fit it (EINVAL), or the run was interrupted.
    /// A `data_out` that is too short is no error: [`TestOutcome::data_len`] tells.
    pub fn test_run(&self, run: &mut TestRun<'_>) -> Result<TestOutcome, BpfError> {
        let ctx_len = length(run.ctx.len());
        let ctx_in = address_mut(run.ctx);
        // Three conventions: written back where it was read, written to `ctx_out`, or not at all.
        let writes_ctx_out = CTX_OUT.contains(&self.prog_type);
        let repeats = self.prog_type != SYSCALL && !RAW_TRACEPOINTS.contains(&self.prog_type);
        let mut attr = TestRunAttr {
            prog_fd: self.fd.as_raw_fd().cast_unsigned(),
            retval: 0,
            data_size_in: length(run.data.len()),
            data_size_out: length(run.data_out.len()),
            data_in: address(run.data),
            data_out: address_mut(run.data_out),
            repeat: if repeats { run.repeat } else { 0 },
            duration: 0,
            ctx_size_in: ctx_len,
            ctx_size_out: if writes_ctx_out { ctx_len } else { 0 },
            ctx_in,
            ctx_out: if writes_ctx_out { ctx_in } else { 0 },
            flags: run.flags,
            cpu: 0,
        };
        // SAFETY: inputs and outputs are borrowed slices with their lengths beside them; the context, which the kernel may
        // write, is borrowed mutably.
        let result = unsafe { call(&mut attr) };
        match result {
            Ok(_) => {}
            // The packet did not fit `data_out`: everything else is there.
            Err(rustix::io::Errno::NOSPC) if !run.data_out.is_empty() => {}
            Err(errno) => {
                return Err(BpfError::from_errno(Command::ProgTestRun, errno, &[Capability::Bpf]));
            }
        }
        Ok(TestOutcome {
            retval: attr.retval,
            duration: Duration::from_nanos(attr.duration.into()),
            data_len: attr.data_size_out as usize,
            ctx_len: if writes_ctx_out { attr.ctx_size_out } else { attr.ctx_size_in } as usize,
        })
    }
}

impl AsFd for Prog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl ProgInfo {
    /// The program's name, cut to 15 characters.
    #[must_use]
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.name.split(|&b| b == 0).next().unwrap_or_default()).into_owned()
    }
}

#[repr(C)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
}

// SAFETY: the kernel's struct for this command up to `cpu`, without padding.
unsafe impl Attr for TestRunAttr {
    const COMMAND: Command = Command::ProgTestRun;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        assert_eq!(size_of::<TestRunAttr>(), 72);
        assert_eq!(size_of::<ProgInfo>(), 232);
    }
}
