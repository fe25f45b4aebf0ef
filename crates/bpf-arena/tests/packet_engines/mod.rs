//! One packet, one script, every engine.

mod generate;

use std::fmt::Debug;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use bpf_arena::network::{Device, Network, TcpSocket};
use bpf_arena::typed::ArenaType;
use bpf_arena::{App, Engine, Object, PacketError, PacketRun, RedirectTarget, RunError, Socket};
use libtest_mimic::Failed;

/// Steps of a script.
const STEPS: usize = 12;

/// Runs of each program. The environment may ask for more.
const RUNS: u64 = 1500;

/// Differences that are shown.
const SHOWN: usize = 12;

/// One call of a helper, or what the programs say it is.
#[derive(ArenaType, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[arena(name = "step")]
#[repr(C)]
struct Step {
    operation: u32,
    a: u32,
    b: u32,
    c: u32,
    flags: u64,
}

/// What a step gave, and what the context showed afterwards.
#[derive(ArenaType, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[arena(name = "result")]
#[repr(C)]
struct Observed {
    value: i64,
    bytes: u64,
    fields: [u32; 32],
}

/// What goes into a run.
#[derive(Clone, Debug)]
struct Case {
    program: &'static str,
    steps: [Step; STEPS],
    count: u32,
    verdict: u32,
    buffer: [u8; 64],
    packet: Vec<u8>,
    context: Vec<u8>,
    /// Bytes of the packet that the caller takes back.
    room: usize,
    repeat: u32,
    flags: u32,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// Verdict and length, or the error number.
    end: Result<(u32, usize), i32>,
    packet: Vec<u8>,
    context: Vec<u8>,
    observed: Vec<Observed>,
    buffer: [u8; 64],
}

/// Random scripts for one program.
pub(crate) fn scripts(program: &'static str) -> Result<(), Failed> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/packets/script.bpf.o");
    let object = Object::open(path)?;
    let engines = [
        ("interpreter", object.load(Engine::user().interpreter().only(&[program]))?),
        ("machine code", object.load(Engine::user().only(&[program]))?),
        ("kernel", object.load(Engine::kernel()?.only(&[program]))?),
    ];
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let (first, runs) = (number("BPF_ARENA_SEED").unwrap_or(1), number("BPF_ARENA_RUNS").unwrap_or(RUNS));
    let mut differences = Vec::new();
    for seed in first..first + runs {
        let case = generate::case(program, seed);
        let outcomes = engines.iter().map(|(_, app)| run(app, &case)).collect::<Result<Vec<_>, Failed>>()?;
        let Some((kernel, user)) = outcomes.split_last() else { continue };
        let wrong = engines.iter().zip(user).find(|(_, outcome)| *outcome != kernel);
        if let Some(((name, _), outcome)) = wrong {
            differences.push(difference(seed, &case, name, outcome, kernel));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let shown: String = differences.iter().take(SHOWN).map(String::as_str).collect();
    Err(format!("{} of {runs} runs differ\n{shown}", differences.len()).into())
}

fn run(app: &App, case: &Case) -> Result<Outcome, Failed> {
    app.set_global("steps", case.steps)?;
    app.set_global("results", [Observed::default(); STEPS])?;
    app.set_global("count", case.count)?;
    app.set_global("verdict", case.verdict)?;
    app.set_global("buffer", case.buffer)?;
    let (mut context, mut room) = (case.context.clone(), vec![0; case.room]);
    let mut run = PacketRun {
        ctx: &mut context,
        data: &case.packet,
        data_out: &mut room,
        repeat: case.repeat,
        flags: case.flags,
    };
    let end = match app.program(case.program)?.run_packet(&mut run) {
        Ok(outcome) => Ok((outcome.return_value, outcome.data_len)),
        Err(RunError::Packet(error)) => Err(error.errno()),
        Err(RunError::Kernel { source, .. }) => Err(source.errno().map_or(0, |errno| errno.raw_os_error())),
        Err(other) => return Err(format!("{other}\n{case:#?}").into()),
    };
    let observed: [Observed; STEPS] = app.global("results")?;
    Ok(Outcome { end, packet: room, context, observed: observed.into(), buffer: app.global("buffer")? })
}

/// Where two outcomes part first, in a few lines.
fn difference(seed: u64, case: &Case, name: &str, user: &Outcome, kernel: &Outcome) -> String {
    let begin = &case.packet[..case.packet.len().min(20)];
    let mut text = format!(
        "seed {seed}: {} bytes {begin:02x?}, room for {}, flags {:x}, {} times, context {:x?}\n",
        case.packet.len(),
        case.room,
        case.flags,
        case.repeat,
        case.context,
    );
    let mut line = |what: &str, user: &dyn Debug, kernel: &dyn Debug| {
        let (user, kernel) = (format!("{user:x?}"), format!("{kernel:x?}"));
        if user != kernel {
            text.push_str(&format!("{what}\n    {name}: {user}\n    kernel: {kernel}\n"));
        }
    };
    for index in 0..STEPS {
        let (user, kernel) = (&user.observed[index], &kernel.observed[index]);
        line(&format!("  step {index}: {:x?}", case.steps[index]), user, kernel);
        if user != kernel {
            text.push_str(&format!("  after {:x?}\n", &case.steps[..index]));
            return text;
        }
    }
    line("  verdict", &user.end, &kernel.end);
    let first = |user: &[u8], kernel: &[u8]| {
        let at = user.iter().zip(kernel).position(|(a, b)| a != b).unwrap_or(0);
        let part = |bytes: &[u8]| bytes.iter().skip(at).take(24).copied().collect::<Vec<u8>>();
        (at, part(user), part(kernel))
    };
    for (what, user, kernel) in [
        ("buffer", &user.buffer[..], &kernel.buffer[..]),
        ("context", &user.context, &kernel.context),
        ("packet", &user.packet, &kernel.packet),
    ] {
        let (at, user, kernel) = first(user, kernel);
        line(&format!("  {what} from byte {at}"), &user, &kernel);
    }
    text.push_str(&format!("  {:x?}\n", &case.steps[..case.count as usize]));
    text
}

/// Sockets that the host describes are found as the kernel finds those it has: the same questions to both.
pub(crate) fn sockets() -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connection = TcpStream::connect(listener.local_addr()?)?;
    let datagrams = UdpSocket::bind("127.0.0.1:0")?;
    let (server, client) = (listener.local_addr()?.port(), connection.local_addr()?.port());
    let udp = datagrams.local_addr()?.port();
    let localhost = u32::from_ne_bytes([127, 0, 0, 1]);
    let own = |protocol, state, src_port| Socket {
        family: 2,
        protocol,
        state,
        src_ip4: localhost,
        src_port: u32::from(src_port),
        ..Socket::default()
    };
    let established = Socket { dst_ip4: localhost, dst_port: server.to_be(), ..own(6, 1, client) };
    let accepted = Socket { dst_ip4: localhost, dst_port: client.to_be(), ..own(6, 1, server) };
    let network = [own(6, 10, server), established, accepted, own(17, 7, udp)]
        .into_iter()
        .fold(Network::new(), |network, socket| network.socket(socket, TcpSocket::default()));

    let object = Object::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/packets/script.bpf.o"))?;
    let programs = ["script_tc", "script_xdp"];
    let user = object.load(Engine::user().network(network).only(&programs))?;
    let kernel = object.load(Engine::kernel()?.only(&programs))?;
    let mut found = 0;
    for (program, protocol) in programs.into_iter().flat_map(|program| [(program, 0), (program, 1)]) {
        for from in [client, server, udp, 9] {
            for to in [client, server, udp, 9] {
                for namespace in [u32::MAX, 7] {
                    let ports = u32::from(from.to_be()) << 16 | u32::from(to.to_be());
                    let flags = u64::from(namespace) << 32 | protocol;
                    let step = Step { operation: 35, a: localhost, b: localhost, c: ports, flags };
                    let case = Case {
                        program,
                        steps: [step; STEPS],
                        count: 1,
                        verdict: 0,
                        buffer: [0; 64],
                        packet: vec![0; 64],
                        context: Vec::new(),
                        room: 64,
                        repeat: 1,
                        flags: 0,
                    };
                    let (here, there) = (run(&user, &case)?, run(&kernel, &case)?);
                    if here != there {
                        return Err(difference(0, &case, "user", &here, &there).into());
                    }
                    found += u32::from(here.observed[0].value != -1);
                }
            }
        }
    }
    // Of TCP: the listener from three other ports, and both ends of the connection; of UDP: from all four. For two programs.
    if found == 2 * (3 + 2 + 4) { Ok(()) } else { Err(format!("{found} questions found a socket").into()) }
}

/// Copies of packets reach the host, and it learns where packets are to go.
pub(crate) fn clones_and_redirects() -> Result<(), Failed> {
    let clones = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&clones);
    let network = Network::new().device(Device { index: 5, mtu: 1500 }).on_clone(move |clone| {
        sink.lock().unwrap().push((clone.device.index, clone.ingress, clone.packet.to_vec()));
    });
    let object = Object::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/packets/script.bpf.o"))?;
    let app = object.load(Engine::user().network(network).only(&["script_tc", "script_xdp"]))?;
    let step = |operation, a, b, flags| Step { operation, a, b, c: 0, flags };
    let mut steps = [Step::default(); STEPS];
    // A byte is written, a copy goes to device 5, a redirect is asked for.
    steps[..3].copy_from_slice(&[step(20, 3, 0xab, 0), step(28, 5, 0, 1), step(21, 5, 0, 1)]);
    app.set_global("steps", steps)?;
    app.set_global("count", 3_u32)?;
    app.set_global("verdict", 7_u32)?;
    let outcome =
        app.program("script_tc")?.run_packet(&mut PacketRun { data: &[0; 20], ..PacketRun::default() })?;
    assert_eq!(outcome.return_value, 7);
    let redirect = outcome.redirect.ok_or("no redirect")?;
    assert_eq!((redirect.target, redirect.flags), (RedirectTarget::Device { ifindex: 5 }, 1));
    let mut copy = vec![0; 20];
    copy[3] = 0xab;
    assert_eq!(*clones.lock().unwrap(), [(5, true, copy)]);
    // An MTU of the host's making, and a device that does not exist.
    app.set_global("steps", [step(22, 5, 1501, 0); STEPS])?;
    app.program("script_xdp")?.run_packet(&mut PacketRun { data: &[0; 20], ..PacketRun::default() })?;
    assert_eq!(app.global::<[Observed; STEPS]>("results")?[0].value, 1 << 32 | 1500);
    let mut ctx = vec![0; 192];
    ctx[40] = 6;
    let mut run = PacketRun { ctx: &mut ctx, data: &[0; 20], ..PacketRun::default() };
    match app.program("script_tc")?.run_packet(&mut run) {
        Err(RunError::Packet(PacketError::NoDevice { ifindex: 6 })) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}
