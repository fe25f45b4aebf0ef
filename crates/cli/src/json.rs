//! What `--json` prints. `version` is 1; it changes when a field changes its meaning or goes away, not when one is added.

use bpf_arena::typed::value::Value;
use bpf_arena::{Fault, Outcome, fault};
use serde::Serialize;
use serde_json::{Map, json};

use crate::context;
use crate::report;

/// Version of the format.
pub(crate) const VERSION: u32 = 1;

/// `bpf-arena run --json`: one object.
#[derive(Serialize)]
pub(crate) struct Run {
    pub(crate) version: u32,
    /// Path of the object, as given.
    pub(crate) object: String,
    /// `user`, `kernel` or `both`.
    pub(crate) engine: String,
    /// In the order in which they ran.
    pub(crate) runs: Vec<ProgramRun>,
    /// What `--print` asked for, by name.
    pub(crate) globals: Map<String, serde_json::Value>,
    /// What `--list` asked for, by its argument: the nodes.
    pub(crate) lists: Map<String, serde_json::Value>,
    /// Absent if the object has no arena.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arena: Option<Arena>,
    /// With `--engine both`: where the kernel gave or left something else. The other fields are the user engine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) differences: Option<Vec<String>>,
}

/// One program's run.
#[derive(Serialize)]
pub(crate) struct ProgramRun {
    pub(crate) program: String,
    /// The low half of R0, as a signed number.
    pub(crate) return_value: i32,
    /// All of R0.
    pub(crate) r0: u64,
    /// How often it ran; the other fields are of the last run.
    pub(crate) repeat: u32,
    /// Nanoseconds of all runs together, with `--repeat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration_ns: Option<u64>,
    /// The context after the run, as hexadecimal bytes.
    pub(crate) context: String,
    pub(crate) faults: Faults,
    /// What the program printed.
    pub(crate) output: Vec<Message>,
}

/// What a program printed at once.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Message {
    /// `trace`, `stdout` or `stderr`.
    pub(crate) stream: &'static str,
    pub(crate) text: String,
}

/// Arena accesses that found no page.
#[derive(Serialize)]
pub(crate) struct Faults {
    /// How many there were.
    pub(crate) total: u64,
    /// The first ones.
    pub(crate) records: Vec<FaultRecord>,
}

/// One arena access that found no page.
#[derive(Serialize)]
pub(crate) struct FaultRecord {
    /// `load`, `store` or `atomic`.
    pub(crate) kind: &'static str,
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) size: u8,
    /// Call chain, the faulting function first.
    pub(crate) frames: Vec<Frame>,
}

/// A place in a program.
#[derive(Serialize)]
pub(crate) struct Frame {
    pub(crate) function: String,
    pub(crate) insn: u32,
    /// Absent without line information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
}

/// Use of the arena.
#[derive(Serialize)]
pub(crate) struct Arena {
    /// User address of the first page.
    pub(crate) address: u64,
    /// Pages it may have.
    pub(crate) pages: u32,
    /// Pages it has.
    pub(crate) pages_in_use: u32,
}

/// `bpf-arena test --json`: one object a test.
#[derive(Serialize)]
pub(crate) struct Test {
    pub(crate) version: u32,
    /// `OBJECT/PROGRAM`.
    pub(crate) test: String,
    /// `passed`, `failed` or `skipped`.
    pub(crate) result: &'static str,
    /// Why it failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The log of the kernel's verifier, with `--log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// What it printed.
    pub(crate) output: Vec<Message>,
}

/// `bpf-arena test --json`: the last object.
#[derive(Serialize)]
pub(crate) struct TestSum {
    pub(crate) version: u32,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// `bpf-arena verify --json`: one object a program and engine.
#[derive(Serialize)]
pub(crate) struct Verdict {
    pub(crate) version: u32,
    pub(crate) program: String,
    /// `user` or `kernel`.
    pub(crate) engine: &'static str,
    pub(crate) accepted: bool,
    /// The error number it was refused with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errno: Option<i32>,
    /// The final message of the refusal, as the kernel prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// The same with instruction and source line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Instructions the verifier walked, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) insns_walked: Option<u64>,
    /// States held at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) states: Option<u64>,
    /// Most states held at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_states: Option<u64>,
    /// Bytes of stack of the deepest call chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stack_bytes: Option<u32>,
    /// Most bytes that verification held at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<usize>,
    /// Nanoseconds that verification took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_ns: Option<u64>,
    /// The verifier's log, with `--log-level`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
}

impl ProgramRun {
    pub(crate) fn new(
        program: &str,
        outcome: &Outcome,
        repeat: u32,
        ctx: &[u8],
        output: Vec<Message>,
    ) -> Self {
        Self {
            program: program.to_owned(),
            return_value: outcome.return_value.cast_signed(),
            r0: outcome.r0,
            repeat,
            duration_ns: outcome.duration.map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
            context: context::to_hex(ctx),
            faults: Faults {
                total: outcome.faults.total(),
                records: outcome.faults.iter().map(FaultRecord::from).collect(),
            },
            output,
        }
    }
}

impl From<&Fault> for FaultRecord {
    fn from(fault: &Fault) -> Self {
        let kind = match fault.kind {
            bpf_arena::codegen::AccessKind::Load => "load",
            bpf_arena::codegen::AccessKind::Store => "store",
            bpf_arena::codegen::AccessKind::Atomic => "atomic",
        };
        let frames = fault.frames.iter().map(Frame::from).collect();
        Self { kind, address: fault.address.get(), size: fault.size, frames }
    }
}

impl From<&fault::Frame> for Frame {
    fn from(frame: &fault::Frame) -> Self {
        Self {
            function: frame.function.clone(),
            insn: frame.insn.0,
            file: frame.line.as_ref().map(|line| report::file_name(line).to_owned()),
            line: frame.line.as_ref().map(|line| line.line),
            source: frame.line.as_ref().map(|line| line.source.trim().to_owned()),
        }
    }
}

/// A value of a program: structures are objects, arrays arrays, pointers hexadecimal strings or null, enums the names of
/// their constants.
pub(crate) fn value(value: &Value) -> serde_json::Value {
    match value {
        Value::Int(number) => match (u64::try_from(*number), i64::try_from(*number)) {
            (Ok(number), _) => json!(number),
            (_, Ok(number)) => json!(number),
            _ => json!(number.to_string()),
        },
        Value::Bool(value) => json!(value),
        Value::Text(text) => json!(text),
        Value::Enum { name: Some(name), .. } => json!(name),
        Value::Enum { name: None, value: number } => self::value(&Value::Int(*number)),
        Value::Pointer { address: 0, .. } => serde_json::Value::Null,
        Value::Pointer { address, .. } => json!(format!("{address:#x}")),
        Value::Struct(fields) => {
            serde_json::Value::Object(fields.iter().map(|(name, v)| (name.clone(), self::value(v))).collect())
        }
        Value::Array(elements) => serde_json::Value::Array(elements.iter().map(self::value).collect()),
        Value::Float(number) => json!(number),
        Value::Bytes(bytes) => json!(context::to_hex(bytes)),
        _ => serde_json::Value::Null,
    }
}
