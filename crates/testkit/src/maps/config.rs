//! Which maps are compared: for each type a few sets of attributes, and how far its answers are defined.

use std::collections::BTreeSet;

use bpf_object::{MapSpec, MapType};

pub(super) const BPF_F_NO_PREALLOC: u32 = 1 << 0;
pub(super) const BPF_F_NO_COMMON_LRU: u32 = 1 << 1;
pub(super) const BPF_F_RDONLY: u32 = 1 << 3;
pub(super) const BPF_F_WRONLY: u32 = 1 << 4;
pub(super) const BPF_F_ZERO_SEED: u32 = 1 << 6;
pub(super) const BPF_F_MMAPABLE: u32 = 1 << 10;
pub(super) const BPF_F_INNER_MAP: u32 = 1 << 12;

/// How far the answers of a map are defined by what was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Defined {
    /// All of them.
    All,
    /// All but the order of elements, which depends on a random seed.
    Unordered,
    /// Which elements were evicted is up to the map: see `Evicting`.
    Evicting,
    /// A bloom filter with a random seed: which values it takes for present.
    FalsePositives,
}

/// How the operations on a map look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Numbers as keys.
    Array,
    /// Any bytes as keys.
    Hash,
    /// A prefix length and bits as keys.
    Trie,
    /// No keys.
    Queue,
    /// No keys, and nothing to take out.
    Bloom,
    /// Records.
    Ring,
    /// Maps as values.
    Nested,
    /// What the host cannot fill here: programs, sockets, devices, events.
    Container,
    /// A value for an owner, who is at hand where the program runs.
    Storage,
}

/// A map to be compared.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) spec: MapSpec,
    pub(super) shape: Shape,
    pub(super) defined: Defined,
    /// The program that runs scripts on it.
    pub(super) program: Option<&'static str>,
    /// Whether its values begin with a lock.
    pub(super) locked: bool,
}

/// Attributes: bytes of a key, of a value, entries, flags.
type Row = (u32, u32, u32, u32);

/// A type of map, by the name bpftool prints, and the sets of attributes that are compared.
struct Type {
    map_type: MapType,
    shape: Shape,
    program: Option<&'static str>,
    rows: &'static [Row],
    /// Whether values with a lock are compared too.
    lockable: bool,
}

const fn of(map_type: MapType, shape: Shape, program: &'static str, rows: &'static [Row]) -> Type {
    Type { map_type, shape, program: Some(program), rows, lockable: false }
}

const fn container(map_type: MapType, rows: &'static [Row]) -> Type {
    Type { map_type, shape: Shape::Container, program: None, rows, lockable: false }
}

const HASHES: &[Row] = &[
    (4, 8, 4, BPF_F_ZERO_SEED),
    (4, 8, 4, 0),
    (1, 1, 3, BPF_F_ZERO_SEED),
    (12, 20, 8, BPF_F_ZERO_SEED | BPF_F_NO_PREALLOC),
    (32, 64, 5, BPF_F_ZERO_SEED),
    (7, 13, 16, BPF_F_ZERO_SEED),
    (4, 8, 2, BPF_F_ZERO_SEED | BPF_F_RDONLY),
    (4, 8, 2, BPF_F_ZERO_SEED | BPF_F_WRONLY),
    (8, 16, 1, BPF_F_NO_PREALLOC),
];
/// Keys are chosen from a quarter of the entries, so that nothing is evicted; those with fewer entries are evicted.
const LRUS: &[Row] = &[
    (4, 8, 64, BPF_F_ZERO_SEED),
    (12, 20, 128, 0),
    (4, 8, 4, 0),
    (4, 8, 64, BPF_F_ZERO_SEED | BPF_F_NO_COMMON_LRU),
    (4, 8, 4, BPF_F_NO_COMMON_LRU),
    (2, 3, 7, 0),
];
const ARRAYS: &[Row] = &[
    (4, 8, 4, 0),
    (4, 1, 1, 0),
    (4, 13, 5, 0),
    (4, 64, 3, BPF_F_INNER_MAP),
    (4, 8, 2, BPF_F_RDONLY),
    (4, 8, 2, BPF_F_WRONLY),
];
/// Their values have the types of `stored_8` and its like.
const STORAGES: &[Row] =
    &[(4, 8, 0, BPF_F_NO_PREALLOC), (4, 13, 0, BPF_F_NO_PREALLOC), (4, 40, 0, BPF_F_NO_PREALLOC)];
const MAPPED: Row = (4, 24, 3, BPF_F_MMAPABLE);

static TYPES: &[Type] = &[
    Type { lockable: true, ..of(MapType::Hash, Shape::Hash, "walked", HASHES) },
    of(MapType::PercpuHash, Shape::Hash, "percpu", HASHES),
    of(MapType::LruHash, Shape::Hash, "walked", LRUS),
    of(MapType::LruPercpuHash, Shape::Hash, "percpu", LRUS),
    Type { lockable: true, ..of(MapType::Array, Shape::Array, "walked", ARRAYS) },
    of(
        MapType::PercpuArray,
        Shape::Array,
        "percpu",
        &[(4, 8, 4, 0), (4, 1, 1, 0), (4, 13, 5, 0), (4, 64, 3, 0)],
    ),
    of(
        MapType::LpmTrie,
        Shape::Trie,
        "elements",
        &[(5, 8, 6, BPF_F_NO_PREALLOC), (8, 13, 4, BPF_F_NO_PREALLOC), (20, 4, 10, BPF_F_NO_PREALLOC)],
    ),
    of(
        MapType::Queue,
        Shape::Queue,
        "queue",
        &[(0, 8, 4, 0), (0, 13, 1, 0), (0, 4, 7, 0), (0, 8, 3, BPF_F_WRONLY)],
    ),
    of(
        MapType::Stack,
        Shape::Queue,
        "queue",
        &[(0, 8, 4, 0), (0, 13, 1, 0), (0, 4, 7, 0), (0, 8, 3, BPF_F_RDONLY)],
    ),
    of(
        MapType::BloomFilter,
        Shape::Bloom,
        "bloom",
        &[
            (0, 8, 4, BPF_F_ZERO_SEED),
            (0, 13, 40, BPF_F_ZERO_SEED),
            (0, 4, 9, 0),
            (0, 12, 100, BPF_F_ZERO_SEED),
        ],
    ),
    of(MapType::Ringbuf, Shape::Ring, "ring", &[(0, 0, 4096, 0), (0, 0, 8192, 0)]),
    of(MapType::ArrayOfMaps, Shape::Nested, "nested", &[(4, 4, 3, 0), (4, 4, 1, 0)]),
    of(MapType::HashOfMaps, Shape::Nested, "nested", &[(4, 4, 3, BPF_F_ZERO_SEED), (8, 4, 2, 0)]),
    container(MapType::ProgArray, &[(4, 4, 3, 0)]),
    container(MapType::PerfEventArray, &[(4, 4, 3, 0)]),
    container(MapType::CgroupArray, &[(4, 4, 2, 0)]),
    container(MapType::StackTrace, &[(4, 64, 8, 0), (4, 8, 1, 0)]),
    container(MapType::Devmap, &[(4, 4, 3, 0), (4, 8, 2, 0)]),
    container(MapType::DevmapHash, &[(4, 4, 3, 0), (4, 8, 2, 0)]),
    container(MapType::Cpumap, &[(4, 4, 2, 0), (4, 8, 1, 0)]),
    container(MapType::Xskmap, &[(4, 4, 3, 0)]),
    container(MapType::Sockmap, &[(4, 4, 3, 0), (4, 8, 3, 0)]),
    container(MapType::Sockhash, &[(4, 4, 3, 0), (8, 8, 3, 0)]),
    container(MapType::ReuseportSockarray, &[(4, 4, 3, 0), (4, 8, 2, 0)]),
    of(MapType::UserRingbuf, Shape::Ring, "user_ring", &[(0, 0, 4096, 0), (0, 0, 8192, 0)]),
    of(MapType::TaskStorage, Shape::Storage, "task_storage", STORAGES),
    of(MapType::SkStorage, Shape::Storage, "socket_storage", STORAGES),
    // Their owners are at hand in programs that have to be attached.
    Type { program: None, ..of(MapType::InodeStorage, Shape::Storage, "", STORAGES) },
    Type { program: None, ..of(MapType::CgrpStorage, Shape::Storage, "", STORAGES) },
    of(MapType::CgroupStorage, Shape::Storage, "group_storage", &[(8, 8, 0, 0), (16, 13, 0, 0)]),
    of(MapType::PercpuCgroupStorage, Shape::Storage, "group_storage", &[(8, 8, 0, 0), (8, 13, 0, 0)]),
    container(MapType::Arena, &[(0, 0, 4, BPF_F_MMAPABLE)]),
];

/// The types that are compared.
#[must_use]
pub fn types() -> Vec<MapType> {
    TYPES.iter().map(|t| t.map_type).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The maps of one type.
pub(super) fn configs(map_type: MapType) -> Vec<Config> {
    let Some(of) = TYPES.iter().find(|t| t.map_type == map_type) else { return Vec::new() };
    let mut all: Vec<Config> = of.rows.iter().map(|row| config(of, *row, false)).collect();
    if of.map_type == MapType::Array {
        all.push(config(of, MAPPED, false));
    }
    if of.lockable {
        all.push(config(of, (4, LOCKED_VALUE_BYTES, 4, 0), true));
    }
    all
}

/// Bytes of `struct locked_value`.
const LOCKED_VALUE_BYTES: u32 = 16;

fn config(of: &Type, (key_size, value_size, max_entries, flags): Row, locked: bool) -> Config {
    let spec = MapSpec { key_size, value_size, max_entries, flags, ..MapSpec::new("subject", of.map_type) };
    let lru = matches!(of.map_type, MapType::LruHash | MapType::LruPercpuHash);
    let defined = match of.shape {
        Shape::Hash if lru && max_entries < 64 => Defined::Evicting,
        Shape::Hash | Shape::Nested
            if of.map_type != MapType::ArrayOfMaps && flags & BPF_F_ZERO_SEED == 0 =>
        {
            Defined::Unordered
        }
        Shape::Bloom if flags & BPF_F_ZERO_SEED == 0 => Defined::FalsePositives,
        _ => Defined::All,
    };
    // sockhash and devmap_hash are walked in an order of their own, but empty.
    Config { spec, shape: of.shape, defined, program: of.program, locked }
}
