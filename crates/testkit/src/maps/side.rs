//! One engine's side of a comparison: the map, and what it answers.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use bpf_arena::typed::set_initial;
use bpf_arena::{App, Engine, Map, MapError, PacketRun, RingError};
use bpf_object::{Btf, MapSpec, MapType, Object, ProgType, TypeId};

use super::config::{Config, Shape};
use super::sequence::{Bytes, HostOp, Kind, SCRIPT_VALUE_BYTES, ScriptOp, Step};

/// `bpf/map_script.bpf.c`: bytes of keys in a script, of an operation, of its parts.
const KEY_BYTES: usize = 32;
const OP_BYTES: usize = 16 + KEY_BYTES + SCRIPT_VALUE_BYTES + 8 + SCRIPT_VALUE_BYTES;
const RESULT_AT: usize = 16 + KEY_BYTES + SCRIPT_VALUE_BYTES;
const OPS_AT: usize = 8;
const WALK_AT: usize = OPS_AT + super::sequence::SCRIPT_OPS * OP_BYTES;
const WALK_KEYS: usize = 64;

/// Rounds after which a walk or a series of batches that does not end is left.
const MOST_ROUNDS: usize = 300;

/// Why there is no answer: nothing that the two sides may differ in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SideError {
    /// The object cannot be read or lacks something.
    #[error("map_script.bpf.o: {0}")]
    Object(String),
    /// An engine refuses to load the object.
    #[error("{engine}: {error}")]
    Load {
        /// Which.
        engine: &'static str,
        /// Why.
        error: String,
    },
    /// A script could not be run.
    #[error("a script did not run: {0}")]
    Run(String),
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Success or an error number.
    Done(i32),
    /// A value, if there was one.
    Value(Option<Bytes>),
    /// Whether there was something.
    Found(bool),
    Key(Option<Bytes>),
    Keys(Vec<Bytes>, i32),
    /// Elements in the order in which they came, how many in each batch, and the error that ended it.
    Batches {
        elements: Vec<(Bytes, Bytes)>,
        counts: Vec<usize>,
        errno: i32,
    },
    /// How many, and the error that ended it.
    Count(usize, i32),
    /// Records of a ring buffer, and what ended it.
    Ring(Vec<Bytes>, Option<RingError>),
    Script(Vec<OpAnswer>, Vec<Bytes>),
}

/// What an operation of a script gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpAnswer {
    pub(super) result: i64,
    pub(super) out: Bytes,
}

/// The object whose programs run scripts, as its bytes were.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    object: Object,
}

impl Scripts {
    pub(super) fn open() -> Result<Self, SideError> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/map_script.bpf.o");
        let bytes = std::fs::read(path).map_err(|error| SideError::Object(error.to_string()))?;
        let object = Object::parse(&bytes).map_err(|error| SideError::Object(error.to_string()))?;
        Ok(Self { object })
    }

    /// The types of the object.
    pub(super) fn btf(&self) -> Option<&Arc<Btf>> {
        self.object.btf.as_ref()
    }

    /// The types that a local storage with such values has, of its keys and of its values.
    pub(super) fn lent(&self, value_size: u32) -> Option<(Option<TypeId>, Option<TypeId>)> {
        let of = self.object.maps.iter().find(|map| map.name == format!("stored_{value_size}"))?;
        Some((of.key_btf, of.value_btf))
    }

    /// The object with this map as its subject.
    pub(super) fn with(&self, config: &Config) -> Result<Arc<Object>, SideError> {
        let mut object = self.object.clone();
        let mut maps = object.maps.to_vec();
        let spec_of = |name: &str, maps: &[MapSpec]| maps.iter().find(|m| m.name == name).cloned();
        let missing = |name: &str| SideError::Object(format!("it has no map `{name}`"));
        let mut spec = config.spec.clone();
        if config.locked {
            let locked = spec_of("locked", &maps).ok_or_else(|| missing("locked"))?;
            (spec.key_btf, spec.value_btf) = (locked.key_btf, locked.value_btf);
        }
        if config.shape == Shape::Storage {
            // The older ones need no types.
            let types = self.lent(spec.value_size).filter(|_| spec.flags != 0);
            (spec.key_btf, spec.value_btf) = types.unwrap_or_default();
        }
        if config.shape == Shape::Nested {
            spec.inner = Some(Box::new(spec_of("inner_a", &maps).ok_or_else(|| missing("inner_a"))?));
        }
        let subject = maps.iter_mut().find(|m| m.name == "subject").ok_or_else(|| missing("subject"))?;
        *subject = spec;
        object.maps = maps.into();
        let locked_bytes = if config.locked { 4 } else { 0 };
        let constants = [
            ("key_size", config.spec.key_size),
            ("value_size", if config.shape == Shape::Nested { 8 } else { config.spec.value_size }),
            ("locked_bytes", locked_bytes),
        ];
        for (name, value) in constants {
            let set = set_initial(&mut object, name, &value.to_string());
            set.map_err(|error| SideError::Object(error.to_string()))?;
        }
        Ok(Arc::new(object))
    }
}

/// A map in one engine, with the program that runs scripts on it.
pub(super) struct Side {
    app: App,
    subject: Map,
    inner: Vec<Map>,
    script: Map,
    program: Option<&'static str>,
    key_bytes: usize,
    /// What the host knows the thread by whose storage a program uses; and what keeps the number good.
    own_key: Option<(Bytes, Option<OwnedFd>)>,
}

impl Side {
    pub(super) fn load(config: &Config, object: &Arc<Object>, engine: Engine) -> Result<Self, SideError> {
        let only: Vec<&str> = config.program.into_iter().collect();
        let failed =
            |engine, error: &dyn std::fmt::Display| SideError::Load { engine, error: error.to_string() };
        let own_key = match engine {
            _ if config.spec.map_type != MapType::TaskStorage => None,
            Engine::User(_) => Some((Bytes(sys::host::thread_id().to_ne_bytes().to_vec()), None)),
            _ => {
                let thread = sys::host::thread_descriptor();
                let thread = thread.map_err(|error| SideError::Run(error.to_string()))?;
                Some((Bytes(thread.as_raw_fd().to_ne_bytes().to_vec()), Some(thread)))
            }
        };
        let app = match engine {
            Engine::User(engine) => {
                engine.only(&only).load(object).map_err(|error| failed("user engine", &error))?
            }
            Engine::Kernel(engine) => {
                engine.only(&only).load(object).map_err(|error| failed("kernel", &error))?
            }
            _ => return Err(failed("another engine", &"not compared")),
        };
        let map = |name: &str| app.map(name).cloned().map_err(|error| SideError::Object(error.to_string()));
        let (subject, script) = (map("subject")?, map(".bss")?);
        let inner = vec![map("inner_a")?, map("inner_b")?, map("inner_other")?];
        let key_bytes = config.spec.key_size as usize;
        Ok(Self { app, subject, inner, script, program: config.program, key_bytes, own_key })
    }

    /// Bytes of a value as the host has it.
    pub(super) fn value_bytes(&self) -> usize {
        self.subject.value_bytes()
    }

    /// Does a step.
    pub(super) fn take(&self, step: &Step) -> Result<Answer, SideError> {
        match step {
            Step::Host(op) => Ok(self.host(op)),
            Step::Script(ops) => self.script(ops),
        }
    }

    /// The number by which this side knows the owner at hand, for a storage; the key itself for other maps.
    fn key<'k>(&'k self, key: &'k Bytes) -> &'k [u8] {
        self.own_key.as_ref().map_or(key, |(own, _)| own)
    }

    fn host(&self, op: &HostOp) -> Answer {
        let map = &self.subject;
        match op {
            HostOp::Lookup { key, flags } => value(map.lookup_with(self.key(key), *flags)),
            HostOp::Update { key, value, flags } => done(map.update_with(self.key(key), value, *flags)),
            HostOp::Delete { key } => done(map.delete(self.key(key))),
            HostOp::LookupAndDelete { key, flags } => value(map.lookup_and_delete(self.key(key), *flags)),
            HostOp::MayContain { value } => match map.may_contain(value) {
                Ok(found) => Answer::Found(found),
                Err(error) => Answer::Done(error.errno()),
            },
            HostOp::NextKey { key } => match map.next_key(key.as_deref()) {
                Ok(key) => Answer::Key(key.map(Bytes)),
                Err(error) => Answer::Done(error.errno()),
            },
            HostOp::Walk { delete } => self.walk(*delete),
            HostOp::Batches { most, flags, delete } => self.batches(*most, *flags, *delete),
            HostOp::UpdateBatch { keys, values, flags } => match map.update_batch(keys, values, *flags) {
                Ok(count) => Answer::Count(count, 0),
                Err(error) => Answer::Count(error.done, error.error.errno()),
            },
            HostOp::DeleteBatch { keys, flags } => match map.delete_batch(keys, *flags) {
                Ok(count) => Answer::Count(count, 0),
                Err(error) => Answer::Count(error.done, error.error.errno()),
            },
            HostOp::Freeze => done(map.freeze()),
            HostOp::SetMap { key, inner, flags } => match self.inner.get(*inner) {
                Some(inner) => done(map.set_map(key, inner, *flags)),
                None => Answer::Found(false),
            },
            HostOp::ReadAt => {
                let stride = u64::from(map.spec().value_size).next_multiple_of(8);
                let bytes =
                    stride * u64::from(map.spec().max_entries) - stride + u64::from(map.spec().value_size);
                let mut bytes = vec![0; usize::try_from(bytes).unwrap_or(0)];
                value(map.read_at(0, &mut bytes).map(|()| Some(bytes)))
            }
            HostOp::WriteAt { offset, bytes } => done(map.write_at(*offset, bytes)),
            HostOp::Drain => self.drain(),
            HostOp::Produce { record } => match map.user_ring_buffer() {
                Ok(mut ring) => Answer::Ring(vec![record.clone()], ring.push(record).err()),
                Err(error) => Answer::Done(error.errno()),
            },
        }
    }

    fn drain(&self) -> Answer {
        let mut ring = match self.subject.ring_buffer() {
            Ok(ring) => ring,
            Err(error) => return Answer::Done(error.errno()),
        };
        let (mut records, mut record) = (Vec::new(), Vec::new());
        loop {
            match ring.take(&mut record) {
                Ok(true) => records.push(Bytes(record.clone())),
                Ok(false) => return Answer::Ring(records, None),
                Err(error) => return Answer::Ring(records, Some(error)),
            }
        }
    }

    fn walk(&self, delete: bool) -> Answer {
        let mut keys = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        for _ in 0..MOST_ROUNDS {
            match self.subject.next_key(last.as_deref()) {
                Ok(Some(key)) => {
                    if delete && key.first().is_some_and(|byte| byte & 1 == 1) {
                        // The walk goes on from a key that is gone.
                        if let Err(error) = self.subject.delete(&key) {
                            return Answer::Keys(keys, error.errno());
                        }
                    }
                    keys.push(Bytes(key.clone()));
                    last = Some(key);
                }
                Ok(None) => return Answer::Keys(keys, 0),
                Err(error) => return Answer::Keys(keys, error.errno()),
            }
        }
        Answer::Keys(keys, -1)
    }

    fn batches(&self, most: usize, flags: u64, delete: bool) -> Answer {
        let (mut elements, mut counts) = (Vec::new(), Vec::new());
        let mut cursor = None;
        for _ in 0..MOST_ROUNDS {
            let batch = if delete {
                self.subject.lookup_and_delete_batch(cursor.as_ref(), most, flags)
            } else {
                self.subject.lookup_batch(cursor.as_ref(), most, flags)
            };
            match batch {
                Ok(batch) => {
                    counts.push(batch.count);
                    let keys = batch.keys.chunks(self.key_bytes.max(1)).map(Bytes::from);
                    let values = batch.values.chunks(self.value_bytes().max(1)).map(Bytes::from);
                    elements.extend(keys.zip(values));
                    cursor = batch.next;
                    if cursor.is_none() || most == 0 {
                        return Answer::Batches { elements, counts, errno: 0 };
                    }
                }
                Err(error) => return Answer::Batches { elements, counts, errno: error.errno() },
            }
        }
        Answer::Batches { elements, counts, errno: -1 }
    }

    /// Hands a script to the program, runs it, and reads the results.
    fn script(&self, ops: &[ScriptOp]) -> Result<Answer, SideError> {
        let failed = |error: &dyn std::fmt::Display| SideError::Run(error.to_string());
        let mut bytes = vec![0; WALK_AT + WALK_KEYS * KEY_BYTES];
        put(&mut bytes, 0, &u32::try_from(ops.len()).unwrap_or(0).to_le_bytes());
        for (number, op) in ops.iter().enumerate() {
            let at = OPS_AT + number * OP_BYTES;
            put(&mut bytes, at, &(op.kind as u32).to_le_bytes());
            put(&mut bytes, at + 4, &op.arg.to_le_bytes());
            put(&mut bytes, at + 8, &op.flags.to_le_bytes());
            put(&mut bytes, at + 16, &op.key);
            put(&mut bytes, at + 16 + KEY_BYTES, &op.value);
        }
        self.script.write_at(0, &bytes).map_err(|error| failed(&error))?;
        let program = self.program.ok_or_else(|| failed(&"no program"))?;
        let program = self.app.program(program).map_err(|error| failed(&error))?;
        let ran = match program.spec().kind.prog_type {
            Some(ProgType::SchedCls | ProgType::CgroupSkb) => {
                let (ctx, data_out) = (&mut [][..], &mut [][..]);
                let mut run = PacketRun { ctx, data: &[0; 60], data_out, repeat: 1, flags: 0 };
                program.run_packet(&mut run).map(|_| ())
            }
            _ => program.run(&mut ()).map(|_| ()),
        };
        ran.map_err(|error| failed(&error))?;
        self.script.read_at(0, &mut bytes).map_err(|error| failed(&error))?;
        let answers = ops.iter().enumerate().map(|(number, op)| {
            let at = OPS_AT + number * OP_BYTES + RESULT_AT;
            let result = bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, i64::from_le_bytes);
            let out = bytes.get(at + 8..at + 8 + SCRIPT_VALUE_BYTES).unwrap_or_default();
            // Errors of a helper are 64 bits wide only where the program's C says so.
            let result = if op.kind == Kind::Query { result } else { result << 32 >> 32 };
            OpAnswer { result, out: out.into() }
        });
        let answers = answers.collect();
        let walked = bytes.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
        let keys = bytes.get(WALK_AT..).unwrap_or_default().chunks(KEY_BYTES).take(walked);
        Ok(Answer::Script(answers, keys.map(Bytes::from).collect()))
    }
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes.iter_mut().skip(at).zip(part).for_each(|(to, from)| *to = *from);
}

fn done(result: Result<(), MapError>) -> Answer {
    Answer::Done(result.map_or_else(|error| error.errno(), |()| 0))
}

fn value(result: Result<Option<Vec<u8>>, MapError>) -> Answer {
    match result {
        Ok(value) => Answer::Value(value.map(Bytes)),
        Err(error) => Answer::Done(error.errno()),
    }
}
