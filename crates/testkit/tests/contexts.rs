//! The verifier's tables of contexts, attach types, return values and sockets against the running kernel's: a tiny program
//! for every question, put to both.

use std::fmt::Write;
use std::sync::Arc;

use bpf_arena_testkit::kernel::missing_capability;
use bpf_object::{Btf, ProgType, Program};
use isa::{Endian, assemble};
use libtest_mimic::{Arguments, Failed, Trial};
use sys::bpf::{Errno, LogMode, Prog, ProgSpec};
use verifier::{Env, verify};

type Test = fn() -> Result<(), Failed>;

const TESTS: [(&str, Test); 4] = [
    ("fields_of_contexts", fields),
    ("attach_types", attach_types),
    ("return_values", return_values),
    ("structures_behind_pointers", structures),
];

fn main() {
    let args = Arguments::from_args();
    let missing = missing_capability();
    let trials = TESTS.into_iter().map(|(name, test)| match missing {
        Some(needed) => Trial::test(format!("{name} (needs {needed})"), test).with_ignored_flag(true),
        None => Trial::test(name, test),
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u32 = 1 << 4;

/// A program type, the attach types it is asked about, and the bytes of context that are looked at.
struct Kind {
    prog_type: ProgType,
    attach: &'static [u32],
    bytes: i32,
}

const fn kind(prog_type: ProgType, attach: &'static [u32], bytes: i32) -> Kind {
    Kind { prog_type, attach, bytes }
}

/// Those that load without a function or program to attach to. A few bytes behind each context are looked at, too.
#[rustfmt::skip]
const KINDS: [Kind; 28] = [
    kind(ProgType::SocketFilter, &[0], 200),
    kind(ProgType::Kprobe, &[0, 42, 56], 176),
    kind(ProgType::SchedCls, &[0, 46], 200),
    kind(ProgType::SchedAct, &[0], 200),
    kind(ProgType::Tracepoint, &[0], 64),
    kind(ProgType::Xdp, &[0, 33, 35, 37], 32),
    kind(ProgType::PerfEvent, &[0], 192),
    kind(ProgType::CgroupSkb, &[0, 1], 200),
    kind(ProgType::CgroupSock, &[0, 2, 12, 13, 34], 88),
    kind(ProgType::LwtIn, &[0], 200),
    kind(ProgType::LwtOut, &[0], 200),
    kind(ProgType::LwtXmit, &[0], 200),
    kind(ProgType::SockOps, &[3], 232),
    kind(ProgType::SkSkb, &[4, 5, 38], 200),
    kind(ProgType::CgroupDevice, &[6], 24),
    kind(ProgType::SkMsg, &[7], 88),
    kind(ProgType::RawTracepoint, &[0], 104),
    kind(ProgType::CgroupSockAddr, &[8, 9, 10, 11, 14, 15, 19, 20, 29, 30, 31, 32, 49, 50, 51, 52, 53], 80),
    kind(ProgType::LwtSeg6local, &[0], 200),
    kind(ProgType::LircMode2, &[16], 16),
    kind(ProgType::SkReuseport, &[39, 40], 64),
    kind(ProgType::FlowDissector, &[17], 200),
    kind(ProgType::CgroupSysctl, &[18], 16),
    kind(ProgType::RawTracepointWritable, &[0], 104),
    kind(ProgType::CgroupSockopt, &[21, 22], 48),
    kind(ProgType::SkLookup, &[36], 80),
    kind(ProgType::Syscall, &[0], 32),
    kind(ProgType::Netfilter, &[45], 24),
];

/// Sizes of accesses, as the assembler names them.
const SIZES: [(i32, &str); 4] = [(1, "8"), (2, "16"), (4, "32"), (8, "64")];

/// How a program is to be loaded.
#[derive(Clone, Copy, Debug)]
struct Load {
    prog_type: ProgType,
    attach: u32,
    sleepable: bool,
}

impl Load {
    /// As most programs of the type are loaded.
    fn new(prog_type: ProgType, attach: u32) -> Self {
        Self { prog_type, attach, sleepable: prog_type == ProgType::Syscall }
    }

    fn spec(self, insns: &[u8]) -> ProgSpec<'_> {
        let flags = if self.sleepable { SLEEPABLE } else { 0 };
        let (prog_type, attach_type, log) = (self.prog_type as u32, self.attach, LogMode::Never);
        ProgSpec { prog_type, attach_type, insns, license: "GPL", flags, log, ..ProgSpec::default() }
    }
}

impl Kind {
    /// Offsets that are looked at. Linux mistakes negative ones into a tracepoint's record for large ones, and does not
    /// refuse them; here they are refused.
    fn offsets(&self) -> std::ops::Range<i32> {
        if self.prog_type == ProgType::Tracepoint { 0..self.bytes } else { -8..self.bytes }
    }
}

/// Puts questions to both and remembers where the answers differ.
struct Judge {
    env: Env,
    /// Those of [`KINDS`] that the running kernel was built with.
    kinds: Vec<&'static Kind>,
    asked: usize,
    different: String,
}

impl Judge {
    fn new() -> Result<Self, Failed> {
        let mut env = Env::default();
        env.kernel = Some(Arc::new(Btf::parse(&std::fs::read("/sys/kernel/btf/vmlinux")?)?));
        let code = assemble("r0 = 1\nexit")?.code.encode(Endian::Little)?;
        let loads = |kind: &&Kind| {
            let attach = kind.attach.first().copied().unwrap_or(0);
            Prog::load(&Load::new(kind.prog_type, attach).spec(&code)).is_ok()
        };
        let kinds = KINDS.iter().filter(loads).collect();
        Ok(Self { env, kinds, asked: 0, different: String::new() })
    }

    /// Compares the verdicts, and with `messages` what is said of a refusal.
    fn ask(&mut self, load: Load, text: &str, messages: bool) -> Result<(), Failed> {
        let code = assemble(text)?.code;
        let bytes = code.encode(Endian::Little)?;
        let log = if messages { LogMode::OnRejection } else { LogMode::Never };
        let spec = ProgSpec { log, ..load.spec(&bytes) };
        let theirs = match Prog::load(&spec) {
            Ok(_) => (0, String::new()),
            Err(error) => {
                let line = error.log().and_then(|log| log.last_line()).unwrap_or_default();
                (error.errno().map_or(0, Errno::raw_os_error), line.to_owned())
            }
        };
        let mut program = Program::from_code("probe", "socket", code);
        program.kind.prog_type = Some(load.prog_type);
        program.kind.attach_type = Some(load.attach);
        program.kind.sleepable = load.sleepable;
        let ours = match verify(&program, &self.env) {
            Ok(_) => (0, String::new()),
            Err(rejection) => (rejection.errno(), rejection.reason().to_string()),
        };
        self.asked += 1;
        let same = theirs.0 == ours.0 && (!messages || theirs.1.is_empty() || theirs.1 == ours.1);
        if !same {
            let text = text.replace('\n', "; ");
            writeln!(self.different, "{load:?}: {text}\n    kernel {theirs:?}\n    here   {ours:?}")?;
        }
        Ok(())
    }

    fn finish(self, at_least: usize) -> Result<(), Failed> {
        if self.asked < at_least {
            return Err(format!("only {} questions", self.asked).into());
        }
        if self.different.is_empty() { Ok(()) } else { Err(self.different.into()) }
    }
}

/// Every access to every context, of every size: whether it is admitted, and what a load gives.
fn fields() -> Result<(), Failed> {
    let mut judge = Judge::new()?;
    for kind in judge.kinds.clone() {
        for &attach in kind.attach {
            let way = Load::new(kind.prog_type, attach);
            for offset in kind.offsets() {
                for (size, bits) in SIZES.into_iter().filter(|(size, _)| offset % size == 0 || offset < 16) {
                    let store = format!("r2 = 0\n*(u{bits} *)(r1 {offset:+}) = r2\nr0 = 1\nexit");
                    judge.ask(way, &store, false)?;
                    // What is loaded is followed: what the refusal says tells what it is.
                    let load = format!("r2 = *(u{bits} *)(r1 {offset:+})\nr0 = *(u8 *)(r2 +0)\nr0 = 1\nexit");
                    judge.ask(way, &load, true)?;
                    if size < 8 {
                        let load = format!("r2 = *(s{bits} *)(r1 {offset:+})\nr0 = 1\nexit");
                        judge.ask(way, &load, false)?;
                    }
                }
            }
        }
    }
    judge.finish(40_000)
}

/// Every attach type with every program type, and whether it may sleep.
fn attach_types() -> Result<(), Failed> {
    let mut judge = Judge::new()?;
    for Kind { prog_type, .. } in judge.kinds.clone() {
        for attach in 0..60 {
            for sleepable in [false, true] {
                let load = Load { prog_type: *prog_type, attach, sleepable };
                judge.ask(load, "r0 = 1\nexit", true)?;
                // What is wrong with a program comes before or after what is wrong with its loading.
                judge.ask(load, "exit", true)?;
                judge.ask(load, "r0 = 1\nexit\nexit", true)?;
                judge.ask(load, "r0 = 1\nr0 = 1", true)?;
            }
        }
    }
    judge.finish(1_000)
}

/// What programs may return.
fn return_values() -> Result<(), Failed> {
    const BODIES: [&str; 10] = [
        "r0 = 0",
        "r0 = 1",
        "r0 = 2",
        "r0 = 3",
        "r0 = 4",
        "r0 = -1",
        "r0 = r1",
        "r0 = r10",
        "call 7",
        "call 7\nr0 s>>= 62",
    ];
    let mut judge = Judge::new()?;
    for Kind { prog_type, attach, .. } in judge.kinds.clone() {
        for &attach in *attach {
            for body in BODIES {
                judge.ask(Load::new(*prog_type, attach), &format!("{body}\nexit"), true)?;
            }
        }
    }
    judge.finish(400)
}

/// Ways to a pointer in `R2` to a structure that is read through tables.
const POINTERS: [(ProgType, u32, &str); 7] = [
    (ProgType::SkMsg, 7, "r2 = *(u64 *)(r1 +72)"),
    (ProgType::SchedCls, 0, "r2 = *(u64 *)(r1 +168)\nif r2 == 0 goto +2"),
    (
        ProgType::SchedCls,
        0,
        "r1 = *(u64 *)(r1 +168)\nif r1 == 0 goto +6\ncall 96\nif r0 == 0 goto +4\nr2 = r0\nr3 = 0",
    ),
    (ProgType::FlowDissector, 17, "r2 = *(u64 *)(r1 +144)"),
    (ProgType::RawTracepointWritable, 0, "r2 = *(u64 *)(r1 +0)"),
    (ProgType::SkMsg, 7, "r2 = *(u64 *)(r1 +72)\nr2 += 4"),
    (ProgType::SkMsg, 7, "r2 = *(u64 *)(r1 +0)\nr3 = *(u64 *)(r1 +8)\nr4 = r2\nr4 += 16\nif r4 > r3 goto +2"),
];

/// What may be read and written through pointers that a context gives.
fn structures() -> Result<(), Failed> {
    let mut judge = Judge::new()?;
    for (prog_type, attach, way) in POINTERS {
        let load_way = Load::new(prog_type, attach);
        for offset in -4..120 {
            // The kernel admits the second half of two counters of a `bpf_tcp_sock`, then fails to translate that.
            let sizes = SIZES.into_iter().filter(|(size, _)| offset % size == 0);
            for (_, bits) in sizes
                .filter(|(size, _)| !(way.contains("call 96") && matches!(offset, 84 | 92) && *size == 4))
            {
                let load = format!("r0 = 1\n{way}\nr3 = *(u{bits} *)(r2 {offset:+})\nr0 = 1\nr0 = 1\nexit");
                judge.ask(load_way, &load, true)?;
            }
        }
        let store = format!("r0 = 1\n{way}\n*(u32 *)(r2 +0) = 1\nr0 = 1\nr0 = 1\nexit");
        judge.ask(load_way, &store, true)?;
        let atomic = format!("r0 = 1\n{way}\nr3 = 1\nlock *(u32 *)(r2 +0) += r3\nr0 = 1\nexit");
        judge.ask(load_way, &atomic, true)?;
    }
    judge.finish(1_000)
}
