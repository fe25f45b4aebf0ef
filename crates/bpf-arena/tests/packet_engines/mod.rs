//! One packet, one script, every engine.

mod generate;

use std::fmt::Debug;

use bpf_arena::typed::ArenaType;
use bpf_arena::{App, Engine, Object, PacketRun, RunError};
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
