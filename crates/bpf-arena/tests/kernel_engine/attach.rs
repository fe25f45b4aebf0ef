//! Attaching to a veth pair, inside a network namespace that exists for the test alone.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use bpf_arena::kernel::{AttachTarget, XdpMode};
use bpf_arena::{App, Engine};
use libtest_mimic::Failed;
use sys::bpf::{ObjectKind, object_ids};

use super::{Count, check, object};

pub(crate) fn inside() -> Result<(), Failed> {
    // Two ends in one namespace: what goes out at `left` comes in at `right`. IPv6 is off, so that nothing but the test
    // sends packets; a static neighbour spares ARP.
    ip(&["link", "add", "left", "type", "veth", "peer", "name", "right"])?;
    ip(&["addr", "add", "10.99.0.1/24", "dev", "left"])?;
    ip(&["link", "set", "left", "up"])?;
    ip(&["link", "set", "right", "up"])?;
    ip(&["neigh", "add", "10.99.0.2", "lladdr", "02:00:00:00:00:02", "dev", "left"])?;
    let right = interface("right")?;
    let links_before = object_ids(ObjectKind::Link)?.len();

    let app = object("packets.bpf.o")?.load(Engine::kernel()?)?;
    for mode in [XdpMode::Generic, XdpMode::Native] {
        counted(&app, "count_xdp", "at_xdp", AttachTarget::Xdp { interface: right, mode })?;
    }
    counted(&app, "count_tc", "at_tc", AttachTarget::TcIngress(right))?;
    counted(&app, "count_tc", "at_tc", AttachTarget::TcEgress(interface("left")?))?;

    let program = app.program("count_xdp")?.kernel().ok_or("not in the kernel")?;
    let nowhere = AttachTarget::Xdp { interface: 999_999, mode: XdpMode::Any };
    check(program.attach(nowhere).is_err(), "no such interface")?;
    let first = program.attach(AttachTarget::Xdp { interface: right, mode: XdpMode::Any })?;
    let second = program.attach(AttachTarget::Xdp { interface: right, mode: XdpMode::Any });
    check(second.is_err(), "the interface is taken")?;
    first.detach()?;
    drop(program.attach(AttachTarget::Xdp { interface: right, mode: XdpMode::Any })?);
    check(object_ids(ObjectKind::Link)?.len() <= links_before, "links are gone")
}

/// Attaches, sends, reads the count from the arena while packets flow, detaches, and sees that counting ends.
fn counted(app: &App, program: &str, variable: &str, target: AttachTarget<'_>) -> Result<(), Failed> {
    let count = || app.global::<Count>(variable);
    let loaded = app.program(program)?.kernel().ok_or("not in the kernel")?;
    let start = count()?.packets;
    let attachment = loaded.attach(target)?;
    let socket = UdpSocket::bind("10.99.0.1:0")?;
    let to: SocketAddr = "10.99.0.2:9".parse()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut last = start;
    while last < start + 10 {
        check(Instant::now() < deadline, format!("{variable}: {last} packets counted"))?;
        socket.send_to(b"to whom it may concern", to)?;
        let now = count()?;
        check(now.packets >= last && now.bytes >= now.packets * 22, "counts grow")?;
        last = now.packets;
    }
    drop(attachment);
    let end = count()?;
    for _ in 0..10 {
        socket.send_to(b"too late", to)?;
    }
    check(count()? == end, format!("{variable}: counted after detaching"))
}

fn interface(name: &str) -> Result<u32, Failed> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
    if let Ok(text) = text {
        return Ok(text.trim().parse()?);
    }
    // sysfs shows the namespace it was mounted in: ask `ip`.
    let output = Command::new("ip").args(["-o", "link", "show", "dev", name]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split(':').next().ok_or("no such interface")?;
    Ok(number.trim().parse()?)
}

fn ip(args: &[&str]) -> Result<(), Failed> {
    let output = Command::new("ip").args(args).output()?;
    check(output.status.success(), format!("ip {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
