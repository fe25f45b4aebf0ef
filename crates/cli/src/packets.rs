//! `bpf-arena run --pcap`: a program on each packet of a capture.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use bpf_arena::bpf_object::ProgType;
use bpf_arena::{App, Object, PacketRun, Program, RunError};
use serde::Serialize;

use crate::args::{EngineArgs, EngineName, RunArgs};
use crate::capture::{Capture, Captured, Writer};
use crate::engine::{self, Printed};
use crate::failure::Failure;
use crate::limits::Limits;
use crate::output::{self, say};
use crate::{context, input, json, run};

/// Most bytes by which a program makes a packet longer.
const GROWTH: usize = 1 << 16;

/// What came of packets with one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    packets: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    verdict: String,
    packets: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    object: String,
    program: String,
    engine: &'static str,
    packets: u64,
    verdicts: Vec<Row>,
    /// Packets written to `--out`.
    written: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<String>>,
}

/// What a program made of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    verdict: u32,
    bytes: Vec<u8>,
}

/// Runs a program on every packet of a capture, and says what became of them.
pub(crate) fn run(args: &RunArgs, pcap: &Path) -> Result<(), Failure> {
    let mut object = input::object(&args.object)?;
    input::set(&mut object, &args.set)?;
    let name = match args.programs.as_slice() {
        [] => run::only_program(&object)?,
        [one] => one.clone(),
        _ => return Err(Failure::usage(anyhow!("--pcap runs one program"))),
    };
    input::known(&object, &name)?;
    let object = Object::from(object);
    let printed = Printed::default();
    let load =
        |engine| engine::load(&object, &[name.as_str()], EngineArgs { engine, ..args.engine }, &printed);
    let both = args.engine.engine == EngineName::Both;
    let app = load(if both { EngineName::User } else { args.engine.engine })?;
    let other = if both { Some(load(EngineName::Kernel)?) } else { None };
    let program = Limits::begin(args.time_limit)?.of(program(&app, &name)?)?;
    let other = other.as_ref().map(|app| self::program(app, &name)).transpose()?;
    let prog_type = program.spec().kind.prog_type;
    let ctx = context::given(args.ctx.as_deref(), object.spec(), &name)?;

    let source = || pcap.display().to_string();
    let file = File::open(pcap).with_context(source).map_err(Failure::usage)?;
    let capture = Capture::new(file).with_context(source).map_err(Failure::usage)?;
    let mut out = args.out.as_deref().map(create).transpose()?;
    let (mut sums, mut count, mut written) = (BTreeMap::<u32, Sum>::new(), 0_u64, 0);
    let mut differences = Vec::new();
    for packet in capture {
        let packet = packet.with_context(source).map_err(Failure::usage)?;
        count += 1;
        let at = || format!("{}: packet {count}", source());
        let answer = answer(&program, &packet.bytes, &ctx).map_err(|error| failure(error, &at()))?;
        run::show_messages(&printed.take())?;
        if let Some(other) = other {
            let theirs = self::answer(other, &packet.bytes, &ctx).map_err(|error| failure(error, &at()))?;
            differences.extend(difference(count, prog_type, &answer, &theirs));
        }
        let sum = sums.entry(answer.verdict).or_default();
        sum.packets += 1;
        sum.bytes_in += packet.bytes.len() as u64;
        if let Some(kept) = kept(prog_type, answer.verdict, answer.bytes.len()) {
            sum.bytes_out += kept as u64;
            written += 1;
            if let Some((writer, path)) = &mut out {
                let rewritten = rewritten(packet, answer.bytes, kept);
                writer.write(&rewritten).with_context(|| path.clone()).map_err(Failure::usage)?;
            }
        }
    }
    let has_out = out.is_some();
    if let Some((writer, path)) = out {
        writer.finish().with_context(|| path).map_err(Failure::usage)?;
    }
    let rows = sums.into_iter().map(|(verdict, sum)| Row {
        verdict: verdict_name(prog_type, verdict),
        packets: sum.packets,
        bytes_in: sum.bytes_in,
        bytes_out: sum.bytes_out,
    });
    let report = Report {
        version: json::VERSION,
        object: args.object.display().to_string(),
        program: name.clone(),
        engine: if both { "both" } else { engine::name(args.engine) },
        packets: count,
        verdicts: rows.collect(),
        written: has_out.then_some(written),
        differences: both.then_some(differences),
    };
    show(&report, args.json)?;
    if !args.json {
        for name in &args.print {
            say!("{name} = {:#}", run::global(&app, name)?)?;
        }
    }
    match report.differences {
        Some(found) if !found.is_empty() => Err(Failure::Reported),
        _ => Ok(()),
    }
}

fn show(report: &Report, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::json(report);
    }
    let cells = |row: &Row| {
        [row.verdict.clone(), row.packets.to_string(), row.bytes_in.to_string(), row.bytes_out.to_string()]
    };
    let header = ["verdict", "packets", "bytes in", "bytes out"];
    say!("{}", output::table(header, report.verdicts.iter().map(cells)))?;
    let written = report.written.map_or_else(String::new, |written| format!(", {written} written"));
    say!("{}: {} packets{written}", report.program, report.packets)?;
    if let Some(found) = &report.differences {
        found.iter().try_for_each(|difference| say!("user and kernel differ: {difference}"))?;
        say!("{} differences between user and kernel", found.len())?;
    }
    Ok(())
}

fn program<'a>(app: &'a App, name: &str) -> Result<&'a Program, Failure> {
    app.program(name).map_err(Failure::refused)
}

fn create(path: &Path) -> Result<(Writer<BufWriter<File>>, String), Failure> {
    let name = path.display().to_string();
    let file = File::create(path).with_context(|| name.clone()).map_err(Failure::usage)?;
    let writer = Writer::new(BufWriter::new(file)).with_context(|| name.clone()).map_err(Failure::usage)?;
    Ok((writer, name))
}

/// Runs the program on a packet.
fn answer(program: &Program, packet: &[u8], ctx: &[u8]) -> Result<Answer, RunError> {
    let is_xdp = program.spec().kind.prog_type == Some(ProgType::Xdp);
    let mut ctx = ctx.to_vec();
    if is_xdp && ctx.is_empty() {
        // struct xdp_md, which tells afterwards how much of what comes back is metadata.
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        ctx = [0, len, 0, 0, 0, 0].iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    }
    let mut bytes = vec![0; packet.len() + GROWTH];
    let mut run = PacketRun { ctx: &mut ctx, data: packet, data_out: &mut bytes, ..PacketRun::default() };
    let outcome = program.run_packet(&mut run)?;
    bytes.truncate(outcome.data_len);
    if is_xdp {
        let meta = ctx.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        bytes.drain(..bytes.len().min(meta as usize));
    }
    Ok(Answer { verdict: outcome.return_value, bytes })
}

/// A packet that does not fit is the capture's mistake; everything else is the program's.
fn failure(error: RunError, at: &str) -> Failure {
    let of_packet = match &error {
        RunError::Packet(_) => true,
        RunError::Kernel { source, .. } => source.errno().is_some(),
        _ => false,
    };
    let error = anyhow::Error::new(error).context(at.to_owned());
    if of_packet { Failure::Usage(error) } else { Failure::Refused(error) }
}

fn difference(count: u64, prog_type: Option<ProgType>, user: &Answer, kernel: &Answer) -> Option<String> {
    if user.verdict != kernel.verdict {
        let [user, kernel] = [user, kernel].map(|answer| verdict_name(prog_type, answer.verdict));
        return Some(format!("packet {count}: {user} and {kernel}"));
    }
    if user.bytes == kernel.bytes {
        return None;
    }
    let first = user.bytes.iter().zip(&kernel.bytes).position(|(user, kernel)| user != kernel);
    let (user, kernel) = (user.bytes.len(), kernel.bytes.len());
    let at = first.unwrap_or(user.min(kernel));
    Some(format!("packet {count}: {user} and {kernel} bytes, which differ from byte {at} on"))
}

/// The packet as it goes on. What was not captured of it is still missing.
fn rewritten(packet: Captured, mut bytes: Vec<u8>, kept: usize) -> Captured {
    let missing = packet.original.saturating_sub(packet.bytes.len());
    let original = bytes.len() + missing;
    bytes.truncate(kept);
    Captured { bytes, original, ..packet }
}

/// Bytes of a packet that goes on; `None` if it ends here.
fn kept(prog_type: Option<ProgType>, verdict: u32, len: usize) -> Option<usize> {
    let goes_on = match prog_type {
        // Aborted and dropped.
        Some(ProgType::Xdp) => verdict >= 2,
        // Shot, stolen, queued, trapped.
        Some(ProgType::SchedCls | ProgType::SchedAct) => !matches!(verdict, 2 | 4 | 5 | 8),
        // As many bytes as the verdict says.
        Some(ProgType::SocketFilter) => return (verdict > 0).then_some(len.min(verdict as usize)),
        Some(ProgType::CgroupSkb) => verdict & 1 == 1,
        Some(ProgType::LwtIn | ProgType::LwtOut | ProgType::LwtXmit) => verdict != 2,
        _ => true,
    };
    goes_on.then_some(len)
}

/// A verdict's name in the kernel's headers.
fn verdict_name(prog_type: Option<ProgType>, verdict: u32) -> String {
    const XDP: [&str; 5] = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];
    const TC: [&str; 9] = [
        "TC_ACT_OK",
        "TC_ACT_RECLASSIFY",
        "TC_ACT_SHOT",
        "TC_ACT_PIPE",
        "TC_ACT_STOLEN",
        "TC_ACT_QUEUED",
        "TC_ACT_REPEAT",
        "TC_ACT_REDIRECT",
        "TC_ACT_TRAP",
    ];
    let names: &[&str] = match prog_type {
        Some(ProgType::Xdp) => &XDP,
        Some(ProgType::SchedCls | ProgType::SchedAct) => &TC,
        _ => &[],
    };
    let known = usize::try_from(verdict).ok().and_then(|index| names.get(index));
    match (known, prog_type) {
        (Some(name), _) => (*name).to_owned(),
        (None, Some(ProgType::SchedCls | ProgType::SchedAct)) if verdict == u32::MAX => {
            "TC_ACT_UNSPEC".to_owned()
        }
        (None, _) => verdict.cast_signed().to_string(),
    }
}
