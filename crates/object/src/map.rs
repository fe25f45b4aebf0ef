//! What an object says about its maps.

use crate::TypeId;

/// A map as an object declares it: a specification, nothing created yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// Name of the variable in `.maps`, or of the data section.
    pub name: String,
    /// Kind of map.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Number of entries; for an arena: pages.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// `map_extra`; for an arena: the address user space maps it at, or 0.
    pub extra: u64,
    /// NUMA node, with `BPF_F_NUMA_NODE`.
    pub numa_node: u32,
    /// Whether the map is to be pinned under its name (`LIBBPF_PIN_BY_NAME`).
    pub pin_by_name: bool,
    /// BTF type of the key.
    pub key_btf: Option<TypeId>,
    /// BTF type of the value.
    pub value_btf: Option<TypeId>,
    /// For maps of maps: what they hold.
    pub inner: Option<Box<MapSpec>>,
    /// Initial entries of a map of maps or a program array.
    pub slots: Vec<MapSlot>,
    /// Where the map comes from.
    pub origin: MapOrigin,
    /// Initial contents: a data section's bytes, or an arena's globals (offset 0 of the arena). May be shorter than
    /// the value; the rest is zero.
    pub initial: Vec<u8>,
}

impl MapSpec {
    /// Entries to create the map with, where the object leaves it to the loader, as libbpf does: a ring buffer has a power of two
    /// pages (of `page_bytes`), and a perf event array without a number one entry for each of `cpus`.
    #[must_use]
    pub fn entries(&self, cpus: u32, page_bytes: u32) -> u32 {
        match self.map_type {
            MapType::PerfEventArray if self.max_entries == 0 => cpus,
            MapType::Ringbuf | MapType::UserRingbuf => {
                self.max_entries.max(page_bytes).checked_next_power_of_two().unwrap_or(self.max_entries)
            }
            _ => self.max_entries,
        }
    }

    /// A declared map with this name and type and nothing else said about it: start from it with `..MapSpec::new(..)`.
    #[must_use]
    pub fn new(name: &str, map_type: MapType) -> Self {
        Self {
            name: name.to_owned(),
            map_type,
            key_size: 0,
            value_size: 0,
            max_entries: 0,
            flags: 0,
            extra: 0,
            numa_node: 0,
            pin_by_name: false,
            key_btf: None,
            value_btf: None,
            inner: None,
            slots: Vec::new(),
            origin: MapOrigin::Declared,
            initial: Vec::new(),
        }
    }
}

/// An initial entry `index -> target` (`__array(values, ..)` in C, or a function pointer of a `struct_ops` table).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSlot {
    /// Key; in a `struct_ops` table the byte offset of the function pointer.
    pub index: u32,
    /// Name of the map or program stored there.
    pub target: String,
}

/// Where a [`MapSpec`] comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOrigin {
    /// Declared in `.maps`.
    Declared,
    /// A data section: an array map of one value.
    Data {
        /// ELF section, e.g. `.bss` or `.data.counters`.
        section: String,
        /// `.rodata*` is frozen once loaded.
        read_only: bool,
    },
    /// `extern ... __kconfig` variables.
    Kconfig,
}

macro_rules! map_types {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Map types, with the kernel's numbers (`enum bpf_map_type`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are the kernel's BPF_MAP_TYPE_*")]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum MapType { $($(#[$doc])* $name = $number,)* }

        impl MapType {
            /// Every type, in the order of the kernel's numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The type with this number in `enum bpf_map_type`.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The name bpftool prints.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

map_types! {
    Hash = 1, "hash";
    Array = 2, "array";
    ProgArray = 3, "prog_array";
    PerfEventArray = 4, "perf_event_array";
    PercpuHash = 5, "percpu_hash";
    PercpuArray = 6, "percpu_array";
    StackTrace = 7, "stack_trace";
    CgroupArray = 8, "cgroup_array";
    LruHash = 9, "lru_hash";
    LruPercpuHash = 10, "lru_percpu_hash";
    LpmTrie = 11, "lpm_trie";
    ArrayOfMaps = 12, "array_of_maps";
    HashOfMaps = 13, "hash_of_maps";
    Devmap = 14, "devmap";
    Sockmap = 15, "sockmap";
    Cpumap = 16, "cpumap";
    Xskmap = 17, "xskmap";
    Sockhash = 18, "sockhash";
    CgroupStorage = 19, "cgroup_storage";
    ReuseportSockarray = 20, "reuseport_sockarray";
    PercpuCgroupStorage = 21, "percpu_cgroup_storage";
    Queue = 22, "queue";
    Stack = 23, "stack";
    SkStorage = 24, "sk_storage";
    DevmapHash = 25, "devmap_hash";
    StructOps = 26, "struct_ops";
    Ringbuf = 27, "ringbuf";
    InodeStorage = 28, "inode_storage";
    TaskStorage = 29, "task_storage";
    BloomFilter = 30, "bloom_filter";
    UserRingbuf = 31, "user_ringbuf";
    CgrpStorage = 32, "cgrp_storage";
    Arena = 33, "arena";
}

impl MapType {
    /// Whether the kernel takes BTF types of the elements of such a map (`map_check_btf`).
    #[must_use]
    pub fn takes_types(self) -> bool {
        !matches!(
            self,
            Self::PerfEventArray
                | Self::CgroupArray
                | Self::StackTrace
                | Self::ArrayOfMaps
                | Self::HashOfMaps
                | Self::Devmap
                | Self::DevmapHash
                | Self::Cpumap
                | Self::Xskmap
                | Self::Sockmap
                | Self::Sockhash
                | Self::Queue
                | Self::Stack
                | Self::Arena
        )
    }
}

/// Bytes of an arena page, whatever the machine's page size.
pub(crate) const ARENA_PAGE_BYTES: u64 = 4096;

/// `BPF_F_MMAPABLE`: user space may map the map's memory. Required for an arena.
pub const BPF_F_MMAPABLE: u32 = 1 << 10;
/// `BPF_F_RDONLY_PROG`: programs may not write the map.
pub const BPF_F_RDONLY_PROG: u32 = 1 << 7;
/// `BPF_F_SEGV_ON_FAULT`: a host touch of a missing arena page is a fault instead of an allocation.
pub const BPF_F_SEGV_ON_FAULT: u32 = 1 << 17;
/// `BPF_F_NO_USER_CONV`: casts to user pointers leave the low 32 bits alone.
pub const BPF_F_NO_USER_CONV: u32 = 1 << 18;
