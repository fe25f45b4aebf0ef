//! Every helper with every kind of argument, judged by the verifier and by the running kernel.
//!
//! Which arguments a helper wants is not asked of anybody: each argument is tried with every item of a pool while those
//! after it are left unwritten, and what the kernel says of it shows whether it will do.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bpf_object::{KindTag, Linkage, MapSpec, MapType, Program, Subprogram};
use isa::{Endian, InsnIdx};
use sys::bpf::{BpfError, LogMode, Map, MapOptions, Prog, ProgSpec};
use verifier::{Env, verify};

use crate::kernel::OracleError;

/// Types of maps in the pool that need nothing but sizes, with the sizes of key and value and the number of entries.
const MAPS: [(MapType, u32, u32, u32); 21] = [
    (MapType::Array, 4, 64, 1),
    (MapType::Hash, 8, 16, 8),
    (MapType::PercpuArray, 4, 16, 4),
    (MapType::PercpuHash, 4, 16, 4),
    (MapType::LruHash, 4, 16, 4),
    (MapType::LruPercpuHash, 4, 16, 4),
    (MapType::ProgArray, 4, 4, 4),
    (MapType::PerfEventArray, 4, 4, 4),
    (MapType::StackTrace, 4, 1016, 4),
    (MapType::CgroupArray, 4, 4, 4),
    (MapType::Devmap, 4, 4, 4),
    (MapType::DevmapHash, 4, 4, 4),
    (MapType::Cpumap, 4, 4, 4),
    (MapType::Xskmap, 4, 4, 4),
    (MapType::Sockmap, 4, 4, 4),
    (MapType::Sockhash, 4, 4, 4),
    (MapType::ReuseportSockarray, 4, 8, 4),
    (MapType::Queue, 0, 16, 4),
    (MapType::BloomFilter, 0, 16, 4),
    (MapType::Ringbuf, 0, 0, 4096),
    (MapType::UserRingbuf, 0, 0, 4096),
];

/// Sections whose programs are judged: one of each type, and of each place where it makes a difference.
pub const SECTIONS: [&str; 50] = [
    "socket",
    "kprobe/f",
    "kprobe.multi/f",
    "uprobe.multi/f",
    "tc",
    "action",
    "tracepoint/a/b",
    "xdp",
    "perf_event",
    "cgroup_skb/ingress",
    "cgroup/skb",
    "cgroup/sock_create",
    "cgroup/sock_release",
    "cgroup/post_bind4",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "lwt_seg6local",
    "sockops",
    "sk_skb",
    "sk_skb/stream_verdict",
    "cgroup/dev",
    "sk_msg",
    "raw_tp/a",
    "raw_tp.w/a",
    "cgroup/bind4",
    "cgroup/bind6",
    "cgroup/connect4",
    "cgroup/connect6",
    "cgroup/connect_unix",
    "cgroup/sendmsg4",
    "cgroup/sendmsg_unix",
    "cgroup/recvmsg4",
    "cgroup/recvmsg_unix",
    "cgroup/getpeername4",
    "cgroup/getpeername_unix",
    "cgroup/getsockname6",
    "flow_dissector",
    "cgroup/sysctl",
    "cgroup/getsockopt",
    "cgroup/setsockopt",
    "sk_lookup",
    "syscall",
    "netfilter",
    "tp_btf/sched_switch",
    "iter/task",
    "iter.s/bpf_map",
    "iter/tcp",
    "iter/unix",
    "iter/udp",
];

/// Highest number of a helper.
pub const HELPERS: u32 = 211;

/// What a verdict comes to: 0 and nothing, or the error and the last line of the log.
pub type Verdict = (i32, String);

/// Two judges of one program.
#[derive(Debug)]
pub struct Difference {
    /// The program, in assembly.
    pub text: String,
    /// The section it is for.
    pub section: String,
    /// What the kernel says.
    pub kernel: Verdict,
    /// What the verifier says.
    pub ours: Verdict,
}

/// The maps, in the kernel and as the verifier knows them.
#[derive(Debug)]
pub struct Calls {
    maps: Vec<Map>,
    specs: Arc<[MapSpec]>,
    env: Env,
    /// Programs judged.
    pub judged: u64,
    /// Where the judges differ.
    pub differences: Vec<Difference>,
}

impl Calls {
    /// Creates the maps.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn new(env: Env) -> Result<Self, OracleError> {
        let mut maps = Vec::new();
        let mut specs = Vec::new();
        for (map_type, key_size, value_size, max_entries) in MAPS {
            let (name, number) = (map_type.name(), map_type as u32);
            let options = MapOptions {
                name,
                map_type: number,
                key_size,
                value_size,
                max_entries,
                ..MapOptions::default()
            };
            maps.push(Map::create(&options)?);
            specs.push(MapSpec { key_size, value_size, max_entries, ..MapSpec::new(name, map_type) });
        }
        let specs = Arc::from(specs);
        Ok(Self { maps, specs, env, judged: 0, differences: Vec::new() })
    }

    /// Whether programs of a section may call each helper: the two must agree.
    ///
    /// # Errors
    /// A program cannot be made.
    pub fn matrix(&mut self, section: &str) -> Result<(), OracleError> {
        for number in 1..=HELPERS {
            let name = isa::helper_name(number).unwrap_or("");
            let text = format!("call {name}\nr0 = 0\nexit\n");
            let (kernel, ours) = self.judge(section, &text)?;
            let refuses = |verdict: &Verdict| verdict.1.starts_with("program of this type cannot use helper");
            if refuses(&kernel) != refuses(&ours) {
                self.differences.push(Difference { text, section: section.to_owned(), kernel, ours });
            }
        }
        Ok(())
    }

    /// Every argument of a helper.
    ///
    /// # Errors
    /// A program cannot be made.
    pub fn arguments(&mut self, section: &str, number: u32) -> Result<(), OracleError> {
        self.explore(section, number, &mut Vec::new())
    }

    fn explore(&mut self, section: &str, number: u32, chosen: &mut Vec<String>) -> Result<(), OracleError> {
        let index = chosen.len() + 1;
        if index > 5 {
            return Ok(());
        }
        let mut followed = 0;
        for item in pool(section) {
            chosen.push(item.clone());
            let text = program(section, number, chosen);
            let (kernel, ours) = self.judge(section, &text)?;
            let next = format!("R{} !read_ok", index + 1);
            if kernel != ours {
                let section = section.to_owned();
                self.differences.push(Difference { text, section, kernel: kernel.clone(), ours });
            }
            // The argument will do if the kernel complains of the next. Two are followed, or every map where nothing but maps
            // will do.
            let only_maps = item.starts_with("map") && followed == 0;
            if kernel.1 == next && (only_maps || followed < 2) {
                followed += u32::from(!only_maps);
                self.explore(section, number, chosen)?;
            }
            chosen.pop();
        }
        Ok(())
    }

    /// What of the kernel a program is for, if its section says so.
    fn attach_id(&self, program: &Program) -> u32 {
        let (Some(btf), Some(target)) = (&self.env.kernel, &program.kind.target) else { return 0 };
        let found = match program.section.split_once('/') {
            Some(("tp_btf", _)) => btf.find(&format!("btf_trace_{target}"), KindTag::Typedef),
            Some(("iter" | "iter.s", _)) => btf.function(&format!("bpf_iter_{target}")),
            _ => None,
        };
        found.map_or(0, |id| id.0)
    }

    /// The kernel's verdict and ours.
    fn judge(&mut self, section: &str, text: &str) -> Result<(Verdict, Verdict), OracleError> {
        self.judged += 1;
        let program = assemble(section, text, &self.specs);
        let insns = program.code.encode(Endian::Little).map_err(|e| OracleError::Encode(e.at, e.source))?;
        let fds: Vec<BorrowedFd<'_>> = self.maps.iter().map(AsFd::as_fd).collect();
        let spec = ProgSpec {
            name: "calls",
            prog_type: program.kind.prog_type.map_or(0, |t| t as u32),
            attach_type: program.kind.attach_type.unwrap_or(0),
            insns: &insns,
            license: "GPL",
            flags: if program.kind.sleepable { 1 << 4 } else { 0 },
            attach_btf_id: self.attach_id(&program),
            fd_array: &fds,
            log: LogMode::OnRejection,
            ..ProgSpec::default()
        };
        let kernel = match Prog::load(&spec) {
            Ok(_) => (0, String::new()),
            Err(error) => said(&error),
        };
        let ours = match verify(&program, &self.env) {
            Ok(_) => (0, String::new()),
            Err(rejection) => {
                let text = rejection.reason().to_string();
                (rejection.reason().errno(), text.lines().last().unwrap_or("").to_owned())
            }
        };
        Ok((kernel, ours))
    }
}

/// Error number and last line of the log before its statistics.
fn said(error: &BpfError) -> Verdict {
    let log = error.log().map(|l| l.text().to_owned()).unwrap_or_default();
    let statistics = |line: &&str| ["stack depth ", "verification time "].iter().any(|s| line.starts_with(s));
    // One message of the kernel's does not end its line.
    let before = log.rfind("processed ").and_then(|end| log.get(..end)).unwrap_or(&log);
    let line = before.lines().rfind(|line| !statistics(line)).unwrap_or("");
    (error.errno().map_or(0, |e| e.raw_os_error()), line.trim().to_owned())
}

fn assemble(section: &str, text: &str, maps: &Arc<[MapSpec]>) -> Program {
    let code = isa::assemble(text).map(|a| a.code).unwrap_or_default();
    let mut program = Program::from_code("main", section, code);
    let end = InsnIdx(u32::try_from(program.code.len()).unwrap_or(u32::MAX));
    program.subprograms = vec![Subprogram {
        name: "main".to_owned(),
        start: InsnIdx(0),
        end,
        btf_func: None,
        linkage: Linkage::Static,
    }];
    program.maps = Arc::clone(maps);
    program
}

/// Where a context has the packet's start and end.
fn packet(section: &str) -> Option<(u32, u32)> {
    match section {
        "xdp" => Some((0, 4)),
        "tc"
        | "action"
        | "lwt_in"
        | "lwt_out"
        | "lwt_xmit"
        | "lwt_seg6local"
        | "sk_skb"
        | "sk_skb/stream_verdict"
        | "cgroup_skb/ingress"
        | "cgroup/skb" => Some((76, 80)),
        _ => None,
    }
}

/// What an argument may be: `map N`, or assembly with `ARG` for the register.
fn pool(section: &str) -> Vec<String> {
    let mut pool: Vec<String> = [
        "ARG = r10\nARG += -64",
        "ARG = 16",
        "ARG = r6",
        "ARG = r7",
        "ARG = 0",
        "ARG = r10\nARG += -8",
        "ARG = r10\nARG += -520",
        "ARG = r10\nARG += -12",
        "ARG = r10",
        "ARG = r10\nARG += r9",
        "ARG = r6\nARG += 8",
        "ARG = r6\nARG += r9",
        "ARG = r7\nARG += 56",
        "ARG = r7\nARG += r9",
        "ARG = *(u64 *)(r10 -128)",
        "ARG = 1",
        "ARG = 8",
        "ARG = 64",
        "ARG = 65",
        "ARG = 4096",
        "ARG = -1",
        "ARG = r8",
        "ARG = r9",
        "ARG = r9\nARG += 1",
        "ARG = *(u64 *)(r10 -136)",
    ]
    .map(str::to_owned)
    .into();
    if packet(section).is_some() {
        pool.extend(
            ["ARG = *(u64 *)(r10 -144)", "ARG = *(u64 *)(r10 -144)\nARG += 24", "ARG = *(u64 *)(r10 -152)"]
                .map(str::to_owned),
        );
    }
    pool.extend((0..MAPS.len()).map(|map| format!("map {map}")));
    pool
}

/// `r6` is the context, `r7` a map's value, `r8` any number, `r9` one below 32; the stack has zeroes down to 64 bytes, then
/// numbers, then a map's value that may be NULL, a structure of the kernel and the packet.
fn program(section: &str, number: u32, arguments: &[String]) -> String {
    let mut text = "r6 = r1\n".to_owned();
    for slot in 1..=8 {
        text += &format!("*(u64 *)(r10 -{}) = 0\n", slot * 8);
    }
    if let Some((start, end)) = packet(section) {
        text += &format!("r2 = *(u32 *)(r6 +{start})\nr3 = *(u32 *)(r6 +{end})\n");
        text += "*(u64 *)(r10 -144) = r2\n*(u64 *)(r10 -152) = r3\nr4 = r2\nr4 += 32\nif r4 > r3 goto out\n";
    }
    text += "r7 = map[idx:0][0]+0\n";
    text += "call bpf_ktime_get_ns\nr8 = r0\nr9 = r0\nr9 &= 31\n";
    text += "*(u64 *)(r10 -72) = r8\n";
    text += "r1 = map[idx:1]\nr2 = r10\nr2 += -8\ncall bpf_map_lookup_elem\n*(u64 *)(r10 -128) = r0\n";
    text += "call bpf_get_current_task_btf\n*(u64 *)(r10 -136) = r0\n";
    for (index, argument) in arguments.iter().enumerate() {
        let reg = format!("r{}", index + 1);
        text += &match argument.strip_prefix("map ") {
            Some(map) => format!("{reg} = map[idx:{map}]\n"),
            None => format!("{}\n", argument.replace("ARG", &reg)),
        };
    }
    text += &format!("call {}\n", isa::helper_name(number).unwrap_or(""));
    text += "out:\nr0 = 0\nexit\n";
    text
}
