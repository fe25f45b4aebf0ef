//! Random sequences of operations.

use bpf_object::MapType;
use fastrand::Rng;

use super::config::{BPF_F_MMAPABLE, Config, Defined, Shape};

/// Operations that one script holds.
pub(super) const SCRIPT_OPS: usize = 32;
/// Bytes of a script operation's value.
pub(super) const SCRIPT_VALUE_BYTES: usize = 64;

/// Bytes that are shown in hexadecimal.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One step: the host does something, or runs a program that does many things.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Host(HostOp),
    Script(Vec<ScriptOp>),
}

/// What a host can do with a map.
#[derive(Clone, Debug)]
pub(super) enum HostOp {
    Lookup {
        key: Bytes,
        flags: u64,
    },
    Update {
        key: Bytes,
        value: Bytes,
        flags: u64,
    },
    Delete {
        key: Bytes,
    },
    LookupAndDelete {
        key: Bytes,
        flags: u64,
    },
    MayContain {
        value: Bytes,
    },
    NextKey {
        key: Option<Bytes>,
    },
    /// All keys; those whose first byte is odd are deleted on the way.
    Walk {
        delete: bool,
    },
    /// All elements in batches of so many.
    Batches {
        most: usize,
        flags: u64,
        delete: bool,
    },
    UpdateBatch {
        keys: Bytes,
        values: Bytes,
        flags: u64,
    },
    DeleteBatch {
        keys: Bytes,
        flags: u64,
    },
    Freeze,
    /// Stores the inner map with this number.
    SetMap {
        key: Bytes,
        inner: usize,
        flags: u64,
    },
    /// All bytes of the values, where they lie.
    ReadAt,
    WriteAt {
        offset: u64,
        bytes: Bytes,
    },
    /// Takes all records out of a ring buffer.
    Drain,
    /// Puts a record into a user ring buffer.
    Produce {
        record: Bytes,
    },
}

/// What a program can do with a map, as `bpf/map_script.bpf.c` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Lookup,
    Update,
    Delete,
    Store,
    LookupPercpu,
    Walk,
    WalkDelete,
    Push,
    Pop,
    Peek,
    Output,
    ReserveSubmit,
    ReserveDiscard,
    Query,
    InnerLookup,
    InnerUpdate,
    InnerDelete,
    Drain,
    OwnGet,
    OwnGetWith,
    OwnDelete,
}

/// An operation of a script.
#[derive(Clone, Debug)]
pub(super) struct ScriptOp {
    pub(super) kind: Kind,
    pub(super) arg: u32,
    pub(super) flags: u64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// A sequence for a map. `host_value` is what the host takes for a value's size.
pub(super) fn sequence(config: &Config, host_value: usize, rng: &mut Rng) -> Vec<Step> {
    let mut source = Source { config, host_value, keys: Vec::new(), rng };
    source.choose_keys();
    let steps = source.rng.usize(4..24);
    // The host of this process knows a task once it has a value.
    let first = (config.spec.map_type == MapType::TaskStorage).then(|| source.create_own());
    let others = (0..steps).map(|_| {
        if config.program.is_some() && source.rng.u8(0..5) < 2 {
            let ops = source.rng.usize(1..=SCRIPT_OPS.min(16));
            source.script(ops)
        } else {
            Step::Host(source.host_op())
        }
    });
    first.into_iter().chain(others).collect()
}

struct Source<'s> {
    config: &'s Config,
    host_value: usize,
    /// The keys that are used, so that they meet again.
    keys: Vec<Bytes>,
    rng: &'s mut Rng,
}

impl Source<'_> {
    fn choose_keys(&mut self) {
        let entries = self.config.spec.max_entries as usize;
        let lru = self.config.spec.map_type.name().starts_with("lru");
        // More keys than fit, but where nothing is to be evicted.
        let count = match self.config.defined {
            _ if !lru => self.rng.usize(1..=entries.min(16) + 4),
            Defined::Evicting => entries * 3,
            _ => entries / 4,
        };
        let bytes = self.config.spec.key_size as usize;
        for _ in 0..count {
            let key = match self.config.shape {
                // Whoever is at hand: each side knows by what number.
                Shape::Storage => Vec::new(),
                Shape::Array | Shape::Container => self.index(),
                Shape::Nested if bytes == 4 => self.index(),
                Shape::Trie => self.prefix(bytes),
                _ => (0..bytes).map(|_| self.rng.u8(..)).collect(),
            };
            self.keys.push(Bytes(resized(key, bytes)));
        }
    }

    fn index(&mut self) -> Vec<u8> {
        let entries = self.config.spec.max_entries;
        let index = match self.rng.u8(0..16) {
            0 => u32::MAX,
            1 => entries,
            2 => entries + 1,
            _ => self.rng.u32(0..entries.max(1)),
        };
        index.to_le_bytes().to_vec()
    }

    /// A prefix: its length in bits, then bits that are often alike.
    fn prefix(&mut self, bytes: usize) -> Vec<u8> {
        let bits = u32::try_from(bytes.saturating_sub(4) * 8).unwrap_or(0);
        let length = if self.rng.u8(0..20) == 0 { bits + 1 } else { self.rng.u32(0..=bits) };
        let mut key = length.to_le_bytes().to_vec();
        key.extend((4..bytes).map(|_| if self.rng.bool() { 0xff } else { self.rng.u8(..) & 0x81 }));
        key
    }

    fn key(&mut self) -> Bytes {
        let at = self.rng.usize(0..self.keys.len().max(1));
        self.keys.get(at).cloned().unwrap_or_default()
    }

    fn value(&mut self, bytes: usize) -> Bytes {
        Bytes(match self.config.shape {
            // So that values meet again.
            Shape::Bloom => vec![self.rng.u8(0..12); bytes],
            _ => (0..bytes).map(|_| self.rng.u8(..)).collect(),
        })
    }

    fn flags(&mut self) -> u64 {
        let some = [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 8, 1 << 40];
        let locks = [0, 1, 2, 4, 4, 4, 5, 6];
        let from: &[u64] = if self.config.locked { &locks } else { &some };
        self.one_of(from)
    }

    fn one_of<T: Copy + Default>(&mut self, list: &[T]) -> T {
        list.get(self.rng.usize(0..list.len().max(1))).copied().unwrap_or_default()
    }

    fn rarely(&mut self, value: u64) -> u64 {
        if self.rng.u8(0..12) == 0 { value } else { 0 }
    }

    fn host_op(&mut self) -> HostOp {
        match self.config.shape {
            Shape::Array | Shape::Hash | Shape::Trie | Shape::Container => self.element_op(),
            Shape::Queue => self.queue_op(),
            Shape::Bloom => self.bloom_op(),
            Shape::Ring => match self.rng.u8(0..6) {
                0 => HostOp::Lookup { key: Bytes::default(), flags: 0 },
                1 => HostOp::NextKey { key: None },
                _ if self.config.spec.map_type == MapType::UserRingbuf => {
                    let bytes = self.rng.usize(0..200);
                    HostOp::Produce { record: self.value(bytes) }
                }
                _ => HostOp::Drain,
            },
            Shape::Nested => self.nested_op(),
            Shape::Storage => self.storage_op(),
        }
    }

    fn element_op(&mut self) -> HostOp {
        let (key, bytes) = (self.key(), self.host_value);
        let array = self.config.shape == Shape::Array;
        match self.rng.u8(0..40) {
            0..=7 => HostOp::Lookup { key, flags: self.locked_flags() },
            8..=17 if self.config.shape != Shape::Container => {
                HostOp::Update { key, value: self.value(bytes), flags: self.flags() }
            }
            8..=21 => HostOp::Delete { key },
            22..=24 => HostOp::LookupAndDelete { key, flags: self.locked_flags() },
            25..=27 => self.next_key(),
            28 => HostOp::Walk { delete: false },
            29 => HostOp::Walk { delete: true },
            30 | 31 => self.batches(false),
            32 => self.batches(true),
            33 | 34 if self.config.shape != Shape::Container => {
                let count = self.rng.usize(0..5);
                let keys = Bytes((0..count).flat_map(|_| self.key().0).collect());
                HostOp::UpdateBatch { keys, values: self.value(count * bytes), flags: self.locked_flags() }
            }
            33..=35 => {
                let count = self.rng.usize(0..5);
                let keys = Bytes((0..count).flat_map(|_| self.key().0).collect());
                HostOp::DeleteBatch { keys, flags: self.locked_flags() }
            }
            36 if array && self.is_mapped() => HostOp::ReadAt,
            37 if array && self.is_mapped() => {
                let most = self.config.spec.value_size * (self.config.spec.max_entries.min(64) + 1);
                let len = self.rng.usize(0..20);
                HostOp::WriteAt { offset: u64::from(self.rng.u32(0..most.max(1))), bytes: self.value(len) }
            }
            // What is mapped cannot be frozen, and here there is nothing to map.
            38 if self.rng.u8(0..4) == 0 && !self.is_mapped() => HostOp::Freeze,
            _ => HostOp::Update { key, value: self.value(bytes), flags: 0 }.or_delete(self.config.shape),
        }
    }

    fn is_mapped(&self) -> bool {
        self.config.spec.flags & BPF_F_MMAPABLE != 0
    }

    fn batches(&mut self, delete: bool) -> HostOp {
        let entries = self.config.spec.max_entries as usize;
        // How elements are spread over batches is defined only where the order is.
        let least = if self.config.defined == Defined::All { 0 } else { entries };
        let most = self.rng.usize(least..=entries.max(least) + 2);
        HostOp::Batches { most, flags: self.locked_flags(), delete }
    }

    /// What follows a key is defined only where the order is.
    fn next_key(&mut self) -> HostOp {
        let any = matches!(self.config.defined, Defined::All) && self.rng.bool();
        HostOp::NextKey { key: any.then(|| self.key()) }
    }

    /// 0, `BPF_F_LOCK`, sometimes what is not allowed.
    fn locked_flags(&mut self) -> u64 {
        if self.config.locked && self.rng.bool() {
            return 4;
        }
        let wrong = self.one_of(&[1, 4, 8]);
        self.rarely(wrong)
    }

    fn queue_op(&mut self) -> HostOp {
        let (key, bytes) = (Bytes::default(), self.host_value);
        match self.rng.u8(0..16) {
            0..=6 => HostOp::Update { key, value: self.value(bytes), flags: self.flags() },
            7..=9 => HostOp::LookupAndDelete { key, flags: self.rarely(4) },
            10..=12 => HostOp::Lookup { key, flags: self.rarely(4) },
            13 => HostOp::Delete { key },
            14 => HostOp::NextKey { key: None },
            _ if self.rng.u8(0..6) == 0 => HostOp::Freeze,
            _ => HostOp::Update { key, value: self.value(bytes), flags: 0 },
        }
    }

    fn bloom_op(&mut self) -> HostOp {
        let (key, bytes) = (Bytes::default(), self.host_value);
        match self.rng.u8(0..16) {
            0..=5 => HostOp::Update { key, value: self.value(bytes), flags: self.flags() },
            6..=12 => HostOp::MayContain { value: self.value(bytes) },
            13 => HostOp::Delete { key },
            14 => HostOp::NextKey { key: None },
            _ => HostOp::LookupAndDelete { key, flags: 0 },
        }
    }

    fn nested_op(&mut self) -> HostOp {
        let key = self.key();
        match self.rng.u8(0..16) {
            0..=6 => HostOp::SetMap { key, inner: self.rng.usize(0..3), flags: self.flags() },
            7..=9 => HostOp::Lookup { key, flags: self.locked_flags() },
            10..=12 => HostOp::Delete { key },
            13 => self.next_key(),
            14 => HostOp::Walk { delete: self.rng.bool() },
            _ => HostOp::LookupAndDelete { key, flags: 0 },
        }
    }

    /// What the host does with the value of an owner: that it knows the owner is up to the types.
    fn storage_op(&mut self) -> HostOp {
        let (key, bytes) = (self.key(), self.host_value);
        match self.rng.u8(0..16) {
            _ if self.config.spec.map_type != MapType::TaskStorage => HostOp::NextKey { key: None },
            0..=3 => HostOp::Lookup { key, flags: self.locked_flags() },
            4..=8 => HostOp::Update { key, value: self.value(bytes), flags: self.flags() },
            9..=11 => HostOp::Delete { key },
            12 => HostOp::NextKey { key: Some(key) },
            13 => HostOp::LookupAndDelete { key, flags: self.locked_flags() },
            14 => HostOp::Batches { most: 2, flags: 0, delete: false },
            _ => HostOp::DeleteBatch { keys: key, flags: 0 },
        }
    }

    /// A script that creates the owner's value.
    fn create_own(&mut self) -> Step {
        let (arg, flags, value) = (0, 1, self.value(SCRIPT_VALUE_BYTES));
        Step::Script(vec![ScriptOp { kind: Kind::OwnGetWith, arg, flags, key: Bytes::default(), value }])
    }

    /// A script. The keys of at most one walk have room in it.
    fn script(&mut self, ops: usize) -> Step {
        let mut ops: Vec<_> = (0..ops).map(|_| self.script_op()).collect();
        let walks =
            ops.iter_mut().filter(|op| matches!(op.kind, Kind::Walk | Kind::WalkDelete | Kind::Drain));
        walks.skip(1).for_each(|op| op.kind = Kind::Lookup);
        Step::Script(ops)
    }

    fn script_op(&mut self) -> ScriptOp {
        let kind = self.script_kind();
        let (mut arg, mut flags) = (0, 0);
        match kind {
            Kind::Update | Kind::Push | Kind::InnerUpdate => flags = self.flags(),
            Kind::LookupPercpu => arg = self.rng.u32(0..4),
            Kind::Walk | Kind::WalkDelete => {
                // How far an interrupted walk came is defined only where the order is.
                arg = if self.config.defined == Defined::All { self.rng.u32(0..20) } else { u32::MAX };
                flags = self.rarely(1);
            }
            Kind::Output => (arg, flags) = (self.rng.u32(0..=64), 1),
            Kind::ReserveSubmit | Kind::ReserveDiscard => {
                arg = self.one_of(&[8, 1000, 1000, 61]);
                flags = self.rarely(1);
            }
            Kind::Query => flags = self.rng.u64(0..5),
            Kind::Drain => (arg, flags) = (self.rng.u32(1..20), self.one_of(&[0, 0, 0, 1, 2, 4])),
            Kind::OwnGet | Kind::OwnGetWith => {
                arg = self.rng.u32(0..2);
                flags = self.one_of(&[0, 1, 1, 1, 2, 3]);
            }
            _ => {}
        }
        if matches!(kind, Kind::InnerLookup | Kind::InnerUpdate | Kind::InnerDelete) {
            arg = self.rng.u32(0..3);
        }
        let bytes = match self.config.shape {
            Shape::Ring => SCRIPT_VALUE_BYTES,
            _ => SCRIPT_VALUE_BYTES.min(self.config.spec.value_size.max(8) as usize),
        };
        ScriptOp { kind, arg, flags, key: self.key(), value: self.value(bytes) }
    }

    fn script_kind(&mut self) -> Kind {
        use Kind as K;
        let kinds: &[Kind] = match self.config.shape {
            Shape::Array | Shape::Hash if self.config.program == Some("percpu") => &[
                K::Lookup,
                K::Update,
                K::Update,
                K::Delete,
                K::Store,
                K::LookupPercpu,
                K::Walk,
                K::WalkDelete,
            ],
            Shape::Array | Shape::Hash => {
                &[K::Lookup, K::Lookup, K::Update, K::Update, K::Delete, K::Store, K::Walk, K::WalkDelete]
            }
            Shape::Trie | Shape::Container => {
                &[K::Lookup, K::Lookup, K::Update, K::Update, K::Delete, K::Store]
            }
            Shape::Queue => &[K::Push, K::Push, K::Push, K::Pop, K::Pop, K::Peek],
            Shape::Bloom => &[K::Push, K::Peek, K::Peek],
            Shape::Ring if self.config.spec.map_type == MapType::UserRingbuf => &[K::Drain],
            Shape::Ring => &[K::Output, K::Output, K::ReserveSubmit, K::ReserveDiscard, K::Query],
            Shape::Nested => &[K::InnerLookup, K::InnerUpdate, K::InnerDelete],
            Shape::Storage => &[K::OwnGet, K::OwnGet, K::OwnGetWith, K::OwnDelete],
        };
        // Walks of large maps are long.
        let kind = kinds.get(self.rng.usize(0..kinds.len())).copied().unwrap_or(Kind::Lookup);
        let is_walk = matches!(kind, Kind::Walk | Kind::WalkDelete);
        if is_walk && self.rng.u8(0..3) > 0 { Kind::Lookup } else { kind }
    }
}

impl HostOp {
    /// Containers are not filled from bytes.
    fn or_delete(self, shape: Shape) -> Self {
        match self {
            Self::Update { key, .. } if shape == Shape::Container => Self::Delete { key },
            other => other,
        }
    }
}

fn resized(mut key: Vec<u8>, bytes: usize) -> Vec<u8> {
    key.resize(bytes, 0);
    key
}
