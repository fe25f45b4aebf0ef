//! Loading programs.

#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::error::{BpfError, VerifierLog};
use super::raw::{Attr, Command, address, address_mut, call_fd, length, object_name};
use super::{Capability, Prog};

/// First size of a log buffer.
const LOG_BYTES: usize = 64 << 10;
/// Last size of a log buffer; the kernel takes up to 1 GiB, nobody reads that.
const LOG_BYTES_MAX: usize = 64 << 20;
/// How often a load that answers EAGAIN (the verifier was interrupted by a signal) is tried again.
const TRIES: u32 = 16;

/// What a program is loaded from.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgSpec<'a> {
    /// Name shown by tools; cut to 15 characters.
    pub name: &'a str,
    /// `BPF_PROG_TYPE_*`.
    pub prog_type: u32,
    /// `expected_attach_type`.
    pub attach_type: u32,
    /// Instructions, 8 bytes each, in this machine's byte order.
    pub insns: &'a [u8],
    /// Licence: `GPL` and a few others open the GPL-only helpers.
    pub license: &'a str,
    /// `BPF_F_*` of program loading, e.g. `BPF_F_SLEEPABLE`.
    pub flags: u32,
    /// BTF that `func_info` and `line_info` refer to.
    pub btf: Option<BorrowedFd<'a>>,
    /// Functions, by ascending instruction.
    pub func_info: &'a [FuncInfo],
    /// Lines, by ascending instruction.
    pub line_info: &'a [LineInfo],
    /// Descriptors of maps and module BTFs that instructions name by index.
    pub fd_array: &'a [BorrowedFd<'a>],
    /// BTF id of the kernel function or type to attach to.
    pub attach_btf_id: u32,
    /// The program (for `freplace`) or module BTF that `attach_btf_id` belongs to.
    pub attach_target: Option<BorrowedFd<'a>>,
    /// When to ask for the verifier's log.
    pub log: LogMode,
}

/// Where a function starts (`struct bpf_func_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FuncInfo {
    /// Slot of its first instruction.
    pub insn: u32,
    /// Its `FUNC` in the program's BTF.
    pub type_id: u32,
}

/// Where a line starts (`struct bpf_line_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct LineInfo {
    /// Slot of the line's first instruction.
    pub insn: u32,
    /// File name: offset in the BTF's strings.
    pub file_name: u32,
    /// Text of the line: offset in the BTF's strings.
    pub line: u32,
    /// Line number shifted left by 10, and the column.
    pub line_col: u32,
}

/// When to ask for the verifier's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogMode {
    /// Never.
    Never,
    /// After a rejection the program is verified once more, with the log on. What is accepted costs nothing extra.
    #[default]
    OnRejection,
    /// Always, at this level: 1 branches, 2 every instruction, 4 statistics, or a sum of them.
    Always(u32),
}

impl Prog {
    /// Loads a program; gives it with the log, when one was asked for.
    ///
    /// A log that outgrows its buffer makes the kernel answer ENOSPC instead of its verdict: the buffer is grown, and past
    /// 64 MiB the verdict is asked for without a log (the error then carries the log's end, marked as truncated). EINTR
    /// and EAGAIN, the kernel's answers when a signal comes in the middle, are tried again.
    ///
    /// # Errors
    /// The verifier's refusal with its log, a missing capability by name, or as the kernel answers.
    pub fn load(spec: &ProgSpec<'_>) -> Result<(Self, VerifierLog), BpfError> {
        if spec.insns.is_empty() || !spec.insns.len().is_multiple_of(8) {
            let expected = spec.insns.len().next_multiple_of(8).max(8);
            return Err(BpfError::Size { what: "instructions", expected, got: spec.insns.len() });
        }
        let license = CString::new(spec.license).map_err(|_| BpfError::Nul { what: "license" })?;
        let fds: Vec<i32> = spec.fd_array.iter().map(AsRawFd::as_raw_fd).collect();
        let loader = Loader { spec, license: &license, fds: &fds };
        let result = drive(spec.log, &mut |level, log| loader.attempt(level, log));
        result.map_err(|(errno, log)| refused(spec, errno, log))
    }
}

/// One call of bpf(2): the log's level and buffer go in.
type Attempt<'a, T> = dyn FnMut(u32, &mut [u8]) -> Result<T, Errno> + 'a;

/// What loading needs of the kernel, apart so that it can be tested without one: `attempt` takes the log's level and buffer
/// and gives the kernel's answer. Gives the log with what was loaded; or the verdict, with a log if one was asked for.
fn drive<T>(
    mode: LogMode,
    attempt: &mut Attempt<'_, T>,
) -> Result<(T, VerifierLog), (Errno, Option<VerifierLog>)> {
    let mut attempt = |level: u32, log: &mut [u8]| {
        let mut tries = TRIES;
        loop {
            match attempt(level, log) {
                Err(Errno::AGAIN) if tries > 1 => tries -= 1,
                other => return other,
            }
        }
    };
    let (level, quiet_first) = match mode {
        LogMode::Never => (0, true),
        LogMode::OnRejection => (1, true),
        LogMode::Always(level) => (level, level == 0),
    };
    if quiet_first {
        match attempt(0, &mut []) {
            Ok(prog) => return Ok((prog, VerifierLog::default())),
            Err(errno) if level == 0 || !has_log(errno) => return Err((errno, None)),
            Err(_) => {}
        }
    }
    let mut bytes = LOG_BYTES;
    loop {
        let mut buffer = vec![0; bytes];
        let mut result = attempt(level, &mut buffer);
        let overflowed = result.as_ref().is_err_and(|&errno| errno == Errno::NOSPC);
        if overflowed && bytes < LOG_BYTES_MAX {
            bytes = bytes.saturating_mul(4).min(LOG_BYTES_MAX);
            continue;
        }
        if overflowed {
            result = attempt(0, &mut []);
        }
        let log = VerifierLog::from_bytes(&buffer, overflowed);
        return match result {
            Ok(prog) => Ok((prog, log)),
            Err(errno) => Err((errno, Some(log))),
        };
    }
}

/// Whether the verifier may have had its say before this answer.
fn has_log(errno: Errno) -> bool {
    !matches!(errno, Errno::BADF | Errno::FAULT | Errno::NFILE | Errno::MFILE)
}

fn refused(spec: &ProgSpec<'_>, errno: Errno, log: Option<VerifierLog>) -> BpfError {
    const LOAD: Command = Command::ProgLoad;
    match log {
        Some(log) if log.last_line().is_some() => BpfError::Rejected { command: LOAD, errno, log },
        log => match BpfError::from_errno(LOAD, errno, needed(spec.prog_type)) {
            BpfError::Call { .. } if log.is_some() => {
                BpfError::Rejected { command: LOAD, errno, log: log.unwrap_or_default() }
            }
            other => other,
        },
    }
}

/// Capabilities that loading a program of this type asks for (`bpf_prog_load`).
fn needed(prog_type: u32) -> &'static [Capability] {
    const NET: &[Capability] = &[Capability::Bpf, Capability::NetAdmin];
    const PERF: &[Capability] = &[Capability::Bpf, Capability::Perfmon];
    const BPF: &[Capability] = &[Capability::Bpf];
    match prog_type {
        // socket_filter, cgroup_skb, syscall, ...: CAP_BPF alone.
        1 | 8 | 31 => BPF,
        // kprobe, tracepoint, perf_event, raw_tracepoint(_writable), tracing, lsm, struct_ops, ext
        2 | 5 | 7 | 17 | 24 | 26..=29 => PERF,
        _ => NET,
    }
}

/// One program on its way through as many attempts as the log needs.
struct Loader<'a> {
    spec: &'a ProgSpec<'a>,
    license: &'a CString,
    fds: &'a [i32],
}

impl Loader<'_> {
    fn attempt(&self, log_level: u32, log: &mut [u8]) -> Result<Prog, Errno> {
        let spec = self.spec;
        let mut attr = LoadAttr {
            prog_type: spec.prog_type,
            insn_cnt: length(spec.insns.len() / 8),
            insns: address(spec.insns),
            license: self.license.as_ptr() as u64,
            log_level,
            log_size: length(log.len()),
            log_buf: address_mut(log),
            kern_version: 0,
            prog_flags: spec.flags,
            prog_name: object_name(spec.name),
            prog_ifindex: 0,
            expected_attach_type: spec.attach_type,
            prog_btf_fd: raw(spec.btf),
            func_info_rec_size: if spec.func_info.is_empty() { 0 } else { length(size_of::<FuncInfo>()) },
            func_info: address(spec.func_info),
            func_info_cnt: length(spec.func_info.len()),
            line_info_rec_size: if spec.line_info.is_empty() { 0 } else { length(size_of::<LineInfo>()) },
            line_info: address(spec.line_info),
            line_info_cnt: length(spec.line_info.len()),
            attach_btf_id: spec.attach_btf_id,
            attach_target: raw(spec.attach_target),
            core_relo_cnt: 0,
            fd_array: address(self.fds),
        };
        // SAFETY: every address comes from a slice or string borrowed here, with its length beside it. Indices into `fd_array`,
        // which has no length of its own before Linux 6.14, are only read: one past the end is whatever lies there or
        // EFAULT, never a write.
        let fd = unsafe { call_fd(&mut attr) }?;
        Ok(Prog::new(fd, spec.prog_type))
    }
}

fn raw(fd: Option<BorrowedFd<'_>>) -> u32 {
    fd.map_or(0, |fd| fd.as_fd().as_raw_fd().cast_unsigned())
}

#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_target: u32,
    core_relo_cnt: u32,
    fd_array: u64,
}

// SAFETY: the kernel's struct for this command up to `fd_array` (Linux 5.14), without padding: `layout` checks it.
unsafe impl Attr for LoadAttr {
    const COMMAND: Command = Command::ProgLoad;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn layout() {
        assert_eq!(size_of::<LoadAttr>(), 128);
        assert_eq!(offset_of!(LoadAttr, prog_name), 48);
        assert_eq!(offset_of!(LoadAttr, func_info), 80);
        assert_eq!(offset_of!(LoadAttr, attach_btf_id), 108);
        assert_eq!(offset_of!(LoadAttr, fd_array), 120);
    }

    /// Plays a kernel whose verdict is `verdict` and whose log has `log` bytes.
    fn kernel(verdict: Result<u8, Errno>, log: usize) -> impl FnMut(u32, &mut [u8]) -> Result<u8, Errno> {
        move |level, buffer| {
            if level == 0 {
                return verdict;
            }
            let shown = log.min(buffer.len());
            buffer[..shown].fill(b'x');
            if log >= buffer.len() { Err(Errno::NOSPC) } else { verdict }
        }
    }

    #[test]
    fn the_log_grows_until_it_fits() {
        let (prog, log) = drive(LogMode::Always(2), &mut kernel(Ok(7), 3 * LOG_BYTES)).unwrap();
        assert_eq!((prog, log.text().len(), log.is_truncated()), (7, 3 * LOG_BYTES, false));
        let (errno, log) = drive(LogMode::OnRejection, &mut kernel(Err(Errno::ACCESS), 10)).unwrap_err();
        assert_eq!((errno, log.unwrap().text().len()), (Errno::ACCESS, 10));
    }

    #[test]
    fn a_log_beyond_all_bounds_does_not_hide_the_verdict() {
        let (errno, log) =
            drive(LogMode::OnRejection, &mut kernel(Err(Errno::INVAL), 2 * LOG_BYTES_MAX)).unwrap_err();
        let log = log.unwrap();
        assert_eq!((errno, log.is_truncated(), log.text().len()), (Errno::INVAL, true, LOG_BYTES_MAX));
        let (prog, log) = drive(LogMode::Always(1), &mut kernel(Ok(1), 2 * LOG_BYTES_MAX)).unwrap();
        assert_eq!((prog, log.is_truncated()), (1, true));
    }

    #[test]
    fn interruptions_are_tried_again_but_not_for_ever() {
        let mut left = 5;
        let mut interrupted = |_: u32, _: &mut [u8]| {
            left -= 1;
            if left == 0 { Ok(1_u8) } else { Err(Errno::AGAIN) }
        };
        assert!(drive(LogMode::Never, &mut interrupted).is_ok());
        let mut calls = 0;
        let mut always = |_: u32, _: &mut [u8]| -> Result<u8, Errno> {
            calls += 1;
            Err(Errno::AGAIN)
        };
        assert!(matches!(drive(LogMode::Never, &mut always), Err((Errno::AGAIN, None))));
        assert_eq!(calls, TRIES);
    }

    #[test]
    fn odd_replies() {
        // The second verdict wins: the program was accepted once a log was asked for.
        let mut fickle = |level: u32, _: &mut [u8]| if level == 0 { Err(Errno::INVAL) } else { Ok(1_u8) };
        assert!(drive(LogMode::OnRejection, &mut fickle).is_ok());
        // ENOSPC without a log cannot be about the log.
        let mut full = |_: u32, _: &mut [u8]| -> Result<u8, Errno> { Err(Errno::NOSPC) };
        assert!(matches!(drive(LogMode::Never, &mut full), Err((Errno::NOSPC, None))));
        assert!(matches!(drive(LogMode::OnRejection, &mut full), Err((Errno::NOSPC, Some(_)))));
        // A log that is neither terminated nor text.
        let mut garbage = |level: u32, log: &mut [u8]| -> Result<u8, Errno> {
            log.fill(0xff);
            Err(if level == 0 { Errno::ACCESS } else { Errno::INVAL })
        };
        let (errno, log) = drive(LogMode::OnRejection, &mut garbage).unwrap_err();
        assert_eq!(errno, Errno::INVAL);
        assert!(log.unwrap().text().starts_with('\u{fffd}'));
    }

    #[test]
    fn instructions_must_be_whole() {
        let spec = ProgSpec { insns: &[0; 7], ..ProgSpec::default() };
        assert!(matches!(Prog::load(&spec), Err(BpfError::Size { expected: 8, got: 7, .. })));
        let spec = ProgSpec { insns: &[0; 8], license: "G\0L", ..ProgSpec::default() };
        assert!(matches!(Prog::load(&spec), Err(BpfError::Nul { .. })));
    }
}
