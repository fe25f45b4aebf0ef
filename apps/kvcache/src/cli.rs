//! Arguments.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Parser, ValueEnum};
use kvcache::commands::Settings;
use kvcache::fast::{AttachTo, EngineKind, Hook};
use kvcache::restart::{Config, Keep};
use kvcache::store::Options;
use tracing::level_filters::LevelFilter;

/// A memcached-compatible cache in a BPF arena.
///
/// GETs over UDP are answered out of the arena by a BPF program: in this process (`--engine user`, which needs no privilege), or
/// in the kernel at the network interface (`--engine kernel --iface IF`).
#[derive(Debug, Parser)]
#[command(name = "kvcache", version)]
pub(crate) struct Cli {
    /// Memory for items and everything that finds them
    #[arg(short, long, default_value = "64MiB", value_name = "SIZE")]
    pub(crate) memory: ByteSize,

    /// TCP port; 0 for none
    #[arg(short, long, default_value_t = 11211)]
    port: u16,

    /// UDP port; 0 for none [default: that of TCP]
    #[arg(long)]
    udp_port: Option<u16>,

    /// Address to listen on. There is no authentication: let it be one that only friends can reach
    #[arg(short, long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    pub(crate) listen: IpAddr,

    /// Worker threads [default: one for each processor, at most 8]
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,

    /// Who runs the BPF program
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) engine: EngineName,

    /// The interface whose packets the program answers, with the kernel engine. Those sent to the address that is listened
    /// on; if that is `0.0.0.0`, to any of the interface's
    #[arg(short, long, required_if_eq("engine", "kernel"), value_name = "INTERFACE")]
    pub(crate) iface: Option<String>,

    /// Where the kernel runs the program. `native`, `generic`: at XDP in the driver or in the network stack, and behind it in traffic
    /// control, for answers that a packet has no room for at XDP. `auto`: the first of these that works; on an interface that is no
    /// device (veth), `tc`
    #[arg(long, value_enum, default_value_t, value_name = "HOOK")]
    pub(crate) hook: HookName,

    /// A file on tmpfs that keeps the items for the next server, with the user engine
    #[arg(long, conflicts_with = "pin", value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,

    /// A folder of a BPF file system where arena and link are pinned for the next server, with the kernel engine
    #[arg(long, value_name = "FOLDER")]
    pub(crate) pin: Option<PathBuf>,

    /// Connections at a time; more are turned away
    #[arg(short = 'c', long, default_value_t = 1024, value_name = "COUNT")]
    max_connections: usize,

    /// Seconds after which a silent connection is ended; 0 for never
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    idle_timeout: u64,

    /// Largest item, its key and overhead included
    #[arg(short = 'I', long, default_value = "1MiB", value_name = "SIZE")]
    pub(crate) max_item_size: ByteSize,

    /// When memory is full, refuse new items instead of evicting old ones
    #[arg(short = 'M', long)]
    pub(crate) no_evict: bool,

    /// How log lines are written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,

    /// Log more; twice for every connection
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Who runs the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// This process.
    #[default]
    User,
    /// The kernel, at an interface.
    Kernel,
    /// Nobody: the server answers everything itself.
    None,
}

/// Where the kernel runs the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum HookName {
    /// Where it is best.
    #[default]
    Auto,
    /// XDP in the driver, traffic control behind it.
    Native,
    /// XDP in the network stack, traffic control behind it.
    Generic,
    /// Traffic control alone.
    Tc,
}

impl HookName {
    fn hook(self) -> Option<Hook> {
        match self {
            Self::Auto => None,
            Self::Native => Some(Hook::Native),
            Self::Generic => Some(Hook::Generic),
            Self::Tc => Some(Hook::Tc),
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs, an object a line.
    Json,
}

/// Workers, unless more are asked for: beyond these they wait for the network.
const THREADS_MAX: usize = 8;

impl Cli {
    pub(crate) fn settings(&self) -> Settings {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Settings {
            memory: self.memory.0,
            max_connections: self.max_connections,
            tcp_port: self.port,
            udp_port: self.udp_port().unwrap_or(0),
            listen: self.listen.to_string(),
            threads: self.threads.map_or(processors.min(THREADS_MAX), usize::from),
            item_size_max: usize::try_from(self.max_item_size.0).unwrap_or(usize::MAX),
            idle_timeout: self.idle_timeout,
            evict: !self.no_evict,
            engine: match self.engine {
                EngineName::User => "user",
                EngineName::Kernel => "kernel",
                EngineName::None => "none",
            },
        }
    }

    /// What to open. A folder for pins with the user engine, and a file with the kernel's, are refused when it is opened.
    pub(crate) fn config(&self) -> Config {
        let store = Options::default()
            .memory(self.memory.0)
            .item_max(u32::try_from(self.max_item_size.0).unwrap_or(u32::MAX))
            .evict(!self.no_evict);
        let engine = match self.engine {
            EngineName::User => EngineKind::User,
            EngineName::None => EngineKind::None,
            EngineName::Kernel => EngineKind::Kernel(AttachTo {
                interface: self.iface.clone().unwrap_or_default(),
                port: self.udp_port().unwrap_or(0),
                address: self.listen,
                hook: self.hook.hook(),
            }),
        };
        let keep = match (&self.state, &self.pin) {
            (Some(file), _) => Keep::File(file.clone()),
            (None, Some(folder)) => Keep::Pinned(folder.clone()),
            (None, None) => Keep::Nothing,
        };
        Config { store, engine, keep }
    }

    pub(crate) fn tcp_port(&self) -> Option<u16> {
        (self.port != 0).then_some(self.port)
    }

    pub(crate) fn udp_port(&self) -> Option<u16> {
        Some(self.udp_port.unwrap_or(self.port)).filter(|port| *port != 0)
    }

    pub(crate) fn log_level(&self) -> LevelFilter {
        match self.verbose {
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}
