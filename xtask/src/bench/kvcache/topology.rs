//! Where it happens: a cable between two network namespaces, its two ends on two processors.
//!
//! Both ends take packets in by threads of their own (threaded NAPI), and each of these stays on its end's processor. So what the
//! server's end costs is what these threads and the server's process run, and no packet of the server's is paid for by the
//! client, or the other way round.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bpf_arena::Program;
use bpf_arena::kernel::Attachment;
use rustix::process::{Pid, getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use testkit::wire::{End, Wire, run, xdp};

/// Who pays for what.
pub(super) const CLIENT_CPU: usize = 0;
pub(super) const SERVER_CPU: usize = 1;

/// memcached's port.
pub(super) const PORT: u16 = 11211;

/// The cable, and the threads that take packets in at its ends.
pub(super) struct Stage {
    wire: Wire,
    server_intake: u32,
    client_intake: u32,
}

impl Stage {
    /// Lays the cable.
    pub(super) fn new() -> anyhow::Result<Self> {
        let processors = std::thread::available_parallelism()?.get();
        ensure!(processors >= 2, "a processor for either end is wanted, and there is {processors}");
        let wire =
            Wire::new("kvb").context("a cable between network namespaces (who runs this has to be root)")?;
        for end in [End::Server, End::Client] {
            prepare(&wire, end)?;
        }
        let server_intake = intake(&wire.device(End::Server))?;
        let client_intake = intake(&wire.device(End::Client))?;
        keep_on(server_intake, SERVER_CPU)?;
        keep_on(client_intake, CLIENT_CPU)?;
        Ok(Self { wire, server_intake, client_intake })
    }

    /// The interface at an end.
    pub(super) fn device(&self, end: End) -> String {
        self.wire.device(end)
    }

    /// The number of the interface at an end.
    pub(super) fn interface(&self, end: End) -> anyhow::Result<u32> {
        Ok(self.wire.interface(end)?)
    }

    /// Attaches a program to an end, at XDP.
    pub(super) fn attach(&self, end: End, program: &Program) -> anyhow::Result<Attachment> {
        Ok(self.wire.attach(end, program, xdp)?)
    }

    /// Where the server listens.
    pub(super) fn address(&self) -> SocketAddr {
        (End::Server.v4(), PORT).into()
    }

    /// Does something at an end, such as opening sockets.
    pub(super) fn at<T: Send>(&self, end: End, act: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        Ok(self.wire.inside(end, act)?)
    }

    /// A command that runs a server: at its end, on its processor, and not longer than this process.
    pub(super) fn server_command(&self) -> Command {
        let mut command = self.wire.command(End::Server, "taskset");
        command.args(["--cpu-list", &SERVER_CPU.to_string(), "setpriv", "--pdeathsig", "KILL"]);
        command
    }

    /// CPU time of the server's intake so far.
    pub(super) fn server_intake(&self) -> anyhow::Result<Duration> {
        cpu_time(self.server_intake)
    }

    /// CPU time of the client's intake so far.
    pub(super) fn client_intake(&self) -> anyhow::Result<Duration> {
        cpu_time(self.client_intake)
    }
}

/// The hardware address of an end.
pub(super) fn mac(end: End) -> [u8; 6] {
    [2, 0, 0, 0, 0, if end == End::Server { 1 } else { 2 }]
}

/// Packets are taken in by a thread, and no more at once than a packet of the wire holds; the neighbour's address is known.
fn prepare(wire: &Wire, end: End) -> anyhow::Result<()> {
    let (space, device) = (wire.space(end), wire.device(end));
    let other = if end == End::Server { End::Client } else { End::Server };
    let mac = |end| mac(end).map(|byte| format!("{byte:02x}")).join(":");
    run(&["ip", "-n", &space, "link", "set", "dev", &device, "address", &mac(end)])?;
    let neighbour = other.v4().to_string();
    run(&["ip", "-n", &space, "neighbour", "replace", &neighbour, "lladdr", &mac(other), "dev", &device])?;
    let inside = ["ip", "netns", "exec", &space];
    let offloads = ["ethtool", "-K", &device, "gro", "on", "tso", "off", "tx-udp-segmentation", "off"];
    run(&[&inside[..], &offloads].concat())
        .context("is `ethtool` installed (`apt install ethtool`), and does the kernel have veth with GRO?")?;
    let threaded = format!("echo 1 > /sys/class/net/{device}/threaded");
    run(&[&inside[..], &["sh", "-c", &threaded]].concat()).context("threaded NAPI (Linux 5.12)")?;
    Ok(())
}

/// The thread that takes in what arrives at an interface.
fn intake(device: &str) -> anyhow::Result<u32> {
    let prefix = format!("napi/{device}-");
    let is_it = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with(&prefix))
    };
    let processes =
        fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found: Vec<u32> = processes.filter(is_it).collect();
    let [thread] = found[..] else {
        anyhow::bail!("{} threads take in the packets of {device}", found.len())
    };
    Ok(thread)
}

fn keep_on(thread: u32, cpu: usize) -> anyhow::Result<()> {
    let pid = i32::try_from(thread).ok().and_then(Pid::from_raw).context("a thread's number")?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(Some(pid), &only).with_context(|| format!("thread {thread} on processor {cpu}"))?;
    // As urgent as what it works for.
    Ok(setpriority_process(Some(pid), getpriority_process(None)?)?)
}

/// CPU time of a thread.
fn cpu_time(thread: u32) -> anyhow::Result<Duration> {
    run_time(&format!("/proc/{thread}/schedstat"))
}

/// CPU time of all threads of a process.
pub(super) fn cpu_time_of_process(process: u32) -> anyhow::Result<Duration> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).context("the server has ended")?;
    tasks.map(|task| run_time(&format!("{}/schedstat", task?.path().display()))).sum()
}

/// CPU time of the calling thread.
pub(super) fn own_cpu_time() -> anyhow::Result<Duration> {
    run_time("/proc/thread-self/schedstat")
}

/// The first number of such a file: nanoseconds on a processor, as the scheduler counts them.
fn run_time(path: &str) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let first = text.split_whitespace().next().context("an empty file")?;
    Ok(Duration::from_nanos(first.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_runs_is_counted_and_what_it_sleeps_is_not() {
        let before = own_cpu_time().unwrap();
        let begin = std::time::Instant::now();
        std::thread::sleep(Duration::from_millis(30));
        let asleep = own_cpu_time().unwrap() - before;
        assert!(asleep < begin.elapsed() / 2, "{asleep:?}");
        let mut n = 0_u64;
        while own_cpu_time().unwrap() < before + asleep + Duration::from_millis(20) {
            n = std::hint::black_box(n + 1);
        }
        assert!(cpu_time_of_process(std::process::id()).unwrap() >= own_cpu_time().unwrap() - before);
    }
}
