//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Run, test and look into BPF programs that use arenas, in this process or in the kernel.
///
/// Exit code 0: fine. 1: a program was refused, trapped or failed. 2: wrong usage, or a file that cannot be read.
#[derive(Parser)]
#[command(name = "bpf-arena", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Test(TestArgs),
    Verify(VerifyArgs),
    Disasm(DisasmArgs),
    Inspect(InspectArgs),
    Link(LinkArgs),
    Features(FeaturesArgs),
    IsaPlugin(IsaPluginArgs),
}

/// How programs are executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// In this process, without privileges.
    #[default]
    User,
    /// In the Linux kernel.
    Kernel,
    /// In both, comparing the results.
    Both,
}

/// Options of everything that executes programs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct EngineArgs {
    /// Where programs run.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) engine: EngineName,
    /// Run by the reference interpreter instead of compiling.
    #[arg(long, conflicts_with = "engine")]
    pub(crate) interp: bool,
    /// Print the whole log of the kernel's verifier when it refuses a program.
    #[arg(long)]
    pub(crate) log: bool,
    #[command(flatten)]
    pub(crate) symbols: SymbolArgs,
}

/// Which tools are told the names of compiled functions. (The environment's BPF_ARENA_SYMBOLS=perf-map,jitdump,gdb says the same.)
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct SymbolArgs {
    /// Name compiled functions in /tmp/perf-PID.map, for `perf report`.
    #[arg(long, conflicts_with_all = ["interp", "engine"])]
    pub(crate) perf_map: bool,
    /// Write compiled functions with their source lines to ./jit-PID.dump, for `perf record -k mono` and `perf inject --jit`.
    #[arg(long, conflicts_with_all = ["interp", "engine"])]
    pub(crate) jitdump: bool,
    /// Tell debuggers of compiled functions, their source lines and frames.
    #[arg(long, conflicts_with_all = ["interp", "engine"])]
    pub(crate) gdb: bool,
}

/// Run programs of an object, in the order given, on the same maps and arena.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The BPF object file.
    pub(crate) object: PathBuf,
    /// The programs. May be left out if the object has only one.
    #[arg(value_name = "PROG")]
    pub(crate) programs: Vec<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// The context of each run: bytes in hexadecimal, the contents of a file (`@FILE`), or members of the program's
    /// context structure (`key=7,value=-1`).
    #[arg(long, value_name = "HEX|@FILE|MEMBER=VALUE,..")]
    pub(crate) ctx: Option<String>,
    /// Set a global variable, or a part of it (`table.size=3`), before the object is loaded.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print a global variable, or a part of it, after the runs; `ctx` is the context. All of them: `--print all`.
    #[arg(long, value_name = "NAME")]
    pub(crate) print: Vec<String>,
    /// Walk a linked list in the arena after the runs and print its nodes: a variable that points to the first node,
    /// and the member that points to the next.
    #[arg(long, value_name = "HEAD:MEMBER")]
    pub(crate) list: Vec<String>,
    /// Run each program so many times and tell the mean time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// End a run that takes longer than this (`5ms`, `2s`, `100us`) with an error; several rounds of a program are one run. An
    /// interrupt (Ctrl-C) ends a run in the same way.
    #[arg(long, value_name = "TIME", value_parser = crate::limits::duration)]
    pub(crate) time_limit: Option<Duration>,
    /// Run the program on each packet of a capture (pcap or pcapng, Ethernet) and print how often each verdict came. The context
    /// is the same for each packet.
    #[arg(long, value_name = "IN", conflicts_with_all = ["repeat", "list"])]
    pub(crate) pcap: Option<PathBuf>,
    /// Write the packets that go on, as the program left them, to a pcap file.
    #[arg(long, value_name = "OUT", requires = "pcap")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run programs as tests: `SEC("syscall")` programs, which pass when they return 0, or programs with the annotations of the
/// kernel's selftests (`__success`, `__failure`, `__msg`, `__retval`, ...).
///
/// With `--engine both` each test is run in this process and in the kernel, and passes if verdict, return value, data
/// sections and arena are the same and as expected.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// BPF object files.
    #[arg(required = true)]
    pub(crate) objects: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Only tests whose name (`OBJECT/PROGRAM`) this regular expression matches.
    #[arg(long, value_name = "RE")]
    pub(crate) filter: Option<String>,
    /// Print one JSON object for each test, and one for the sum.
    #[arg(long)]
    pub(crate) json: bool,
}

/// List the helpers, kernel functions, types of maps and types of programs that programs may use in this process.
#[derive(Args, Debug)]
pub(crate) struct FeaturesArgs {
    /// List instead what Linux 6.18 has and this process lacks.
    #[arg(long)]
    pub(crate) missing: bool,
    /// Print one JSON object, with all of both.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Verify programs without running them.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The BPF object file.
    pub(crate) object: PathBuf,
    /// One program; without it, all of them.
    pub(crate) program: Option<String>,
    /// Whose verifier: this project's (`user`), the running kernel's (`kernel`), or both, saying where they differ.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) engine: EngineName,
    /// Print the verifier's log in the kernel's form: 1 the path to the fault, 2 every path, 4 statistics, or a sum of these.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=7))]
    pub(crate) log_level: Option<u32>,
    /// Explain refusals: what is wrong, where it comes from and what usually helps.
    #[arg(long)]
    pub(crate) explain: bool,
    /// The types of the kernel to verify for: BTF, or an ELF file that has it. Without it, those of this machine's kernel
    /// are used where a program needs some.
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<std::path::PathBuf>,
    /// Print one JSON object for each program.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the instructions of programs, relocated, with their source lines.
#[derive(Args, Debug)]
pub(crate) struct DisasmArgs {
    /// The BPF object file.
    pub(crate) object: PathBuf,
    /// One program; without it, all of them.
    pub(crate) program: Option<String>,
    /// Show the machine code that the program is compiled to.
    #[arg(long)]
    pub(crate) jit: bool,
}

/// Show what an object holds: programs, maps, global variables with their values.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The BPF object file.
    pub(crate) object: PathBuf,
    /// Load the object, run this program first, and show values and the use of the arena afterwards.
    #[arg(long, value_name = "PROG")]
    pub(crate) run: Vec<String>,
    /// The context for `--run`, as for `bpf-arena run`.
    #[arg(long, value_name = "HEX|@FILE|MEMBER=VALUE,..", requires = "run")]
    pub(crate) ctx: Option<String>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Link several objects into one, as `bpftool gen object` does: sections of the same name are joined, `extern` functions,
/// variables and maps are found in the other objects, `__weak` definitions give way to others, each type is kept once.
#[derive(Args, Debug)]
pub(crate) struct LinkArgs {
    /// The file to write.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// BPF object files. Of several weak definitions of a name, the first counts.
    #[arg(required = true, value_name = "OBJ")]
    pub(crate) objects: Vec<PathBuf>,
}

/// Speak the plugin protocol of the public bpf_conformance suite: a program as hexadecimal bytes on standard input,
/// memory as hexadecimal bytes in the first argument; prints R0 in hexadecimal.
///
/// R1 points to the memory and R2 is its size. Programs are verified as everywhere else, so that a test which no verifier
/// accepts (that reads a register never written, say) is refused: exit code 1.
#[derive(Args, Debug)]
pub(crate) struct IsaPluginArgs {
    /// Memory, as hexadecimal bytes.
    pub(crate) memory: Option<String>,
    /// The program, instead of reading it from standard input.
    #[arg(long, value_name = "HEX")]
    pub(crate) program: Option<String>,
    /// Run by the reference interpreter instead of compiling.
    #[arg(long)]
    pub(crate) interp: bool,
    /// Say on standard error why a program was refused.
    #[arg(long)]
    pub(crate) debug: bool,
}
