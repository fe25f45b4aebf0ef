//! Which attributes a map may be created with: the kernel's `map_alloc_check`, for all types in one place.
//!
//! The order of the checks is the kernel's as far as it can be told apart, that is, where the errors differ.

use std::ops::RangeInclusive;

use bpf_object::{
    BPF_F_MMAPABLE, BPF_F_NO_USER_CONV, BPF_F_RDONLY_PROG, BPF_F_SEGV_ON_FAULT, MapSpec, MapType,
};

use crate::error::MapError;
use crate::map::{BPF_F_RDONLY, BPF_F_WRONLY};

/// Elements are made when they are needed.
const BPF_F_NO_PREALLOC: u32 = 1 << 0;
/// Each CPU has its own list of recently used elements.
pub(super) const BPF_F_NO_COMMON_LRU: u32 = 1 << 1;
const BPF_F_NUMA_NODE: u32 = 1 << 2;
const BPF_F_STACK_BUILD_ID: u32 = 1 << 5;
/// Hashes have no seed, so that the order of the elements can be foretold.
pub(super) const BPF_F_ZERO_SEED: u32 = 1 << 6;
const BPF_F_WRONLY_PROG: u32 = 1 << 8;
const BPF_F_CLONE: u32 = 1 << 9;
const BPF_F_PRESERVE_ELEMS: u32 = 1 << 11;
/// Programs do not rely on the number of entries, so that inner maps may differ in it.
pub(super) const BPF_F_INNER_MAP: u32 = 1 << 12;
const BPF_F_LINK: u32 = 1 << 13;
const BPF_F_VTYPE_BTF_OBJ_FD: u32 = 1 << 15;

/// Who may read and write, host and programs.
const ACCESS: u32 = BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
const HOST_ACCESS: u32 = BPF_F_RDONLY | BPF_F_WRONLY;

/// Most bytes the kernel allocates at once (`KMALLOC_MAX_SIZE`).
const KMALLOC_MAX: u32 = 4 << 20;
/// Most bytes of a per-CPU value (`PCPU_MIN_UNIT_SIZE`).
const PER_CPU_MAX: u32 = 32 << 10;
/// Most bytes of a value in local storage, whose element has a header of two cache lines.
const LOCAL_STORAGE_MAX: u32 = 0xffff - 128;
/// Bytes before the key of the kernel's hash map elements.
const HASH_HEADER: u32 = 48;
/// Most buckets of a hash map, of which each has 16 bytes and all together fewer than 4 GiB.
const HASH_BUCKETS: u32 = u32::MAX / 16;
/// Most bytes of a key that a program can have on its stack.
const STACK_MAX: u32 = 512;
/// Most frames of a stack trace, as `kernel.perf_event_max_stack` is unless somebody changes it.
const STACK_FRAMES: u32 = 127;
/// Bytes of `struct bpf_stack_build_id`.
const BUILD_ID: u32 = 32;
/// Bytes of an LPM trie's key: the prefix length, and 1 to 256 bytes of data.
const LPM_KEY: RangeInclusive<u32> = 4 + 1..=4 + LPM_DATA;
/// Most bytes of data in it.
const LPM_DATA: u32 = 256;
/// Bytes before the data of the kernel's trie nodes.
const LPM_NODE: u32 = 24;
const PAGE: u32 = 4096;

/// Checks the attributes that a map would be created with.
///
/// # Errors
/// What the kernel would answer.
pub(super) fn check(spec: &MapSpec) -> Result<(), MapError> {
    let attributes = Attributes(spec);
    if !matches!(spec.map_type, MapType::BloomFilter | MapType::Arena) && spec.extra != 0 {
        return Err(bad("map_extra", spec.extra));
    }
    attributes.not_both(BPF_F_RDONLY, BPF_F_WRONLY)?;
    if spec.flags & BPF_F_NUMA_NODE != 0 && !sys::host::has_numa_node(spec.numa_node) {
        return Err(bad("numa_node", spec.numa_node));
    }
    let rule = RULES.iter().find(|(types, _)| types.contains(&spec.map_type));
    rule.map_or(Err(MapError::Invalid), |(_, rule)| rule(attributes))
}

type Rule = fn(Attributes<'_>) -> Result<(), MapError>;

static RULES: &[(&[MapType], Rule)] = {
    use MapType as T;
    &[
        (&[T::Hash, T::PercpuHash, T::LruHash, T::LruPercpuHash], hash),
        (&[T::HashOfMaps], |map| {
            map.value(&[4])?;
            hash(map)
        }),
        (&[T::Array, T::PercpuArray], array),
        (&[T::ProgArray, T::PerfEventArray, T::CgroupArray, T::ArrayOfMaps], |map| {
            map.value(&[4])?;
            map.without(BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG)?;
            array(map)
        }),
        (&[T::ReuseportSockarray], |map| {
            map.value(&[4, 8])?;
            array(map)
        }),
        (&[T::LpmTrie], lpm_trie),
        (&[T::Queue, T::Stack], queue_stack),
        (&[T::BloomFilter], bloom_filter),
        (&[T::Ringbuf, T::UserRingbuf], ring_buffer),
        (&[T::StackTrace], stack_trace),
        (&[T::Devmap, T::DevmapHash], devmap),
        (&[T::Cpumap], cpumap),
        (&[T::Xskmap], |map| {
            map.only(BPF_F_NUMA_NODE | HOST_ACCESS)?;
            map.entries()?;
            map.key(4)?;
            map.value(&[4])
        }),
        (&[T::Sockmap, T::Sockhash], socket_map),
        (&[T::CgroupStorage, T::PercpuCgroupStorage], cgroup_storage),
        (&[T::SkStorage, T::InodeStorage, T::TaskStorage, T::CgrpStorage], local_storage),
        (&[T::StructOps], |map| {
            map.only(BPF_F_LINK | BPF_F_VTYPE_BTF_OBJ_FD)?;
            map.key(4)?;
            if map.0.max_entries == 1 { Ok(()) } else { Err(bad("max_entries", map.0.max_entries)) }
        }),
        (&[T::Arena], arena),
    ]
};

/// What a map would be created with.
#[derive(Clone, Copy)]
struct Attributes<'a>(&'a MapSpec);

impl Attributes<'_> {
    /// No other flags than these.
    fn only(self, flags: u32) -> Result<(), MapError> {
        self.without(!flags)
    }

    /// None of these flags.
    fn without(self, flags: u32) -> Result<(), MapError> {
        if self.0.flags & flags == 0 { Ok(()) } else { Err(bad("map_flags", self.0.flags)) }
    }

    /// All of these flags.
    fn with(self, flags: u32) -> Result<(), MapError> {
        if self.0.flags & flags == flags { Ok(()) } else { Err(bad("map_flags", self.0.flags)) }
    }

    fn not_both(self, one: u32, other: u32) -> Result<(), MapError> {
        if self.0.flags & (one | other) == one | other { self.without(one) } else { Ok(()) }
    }

    /// Only these flags, and programs may read or write.
    fn accessible(self, flags: u32) -> Result<(), MapError> {
        self.only(flags)?;
        self.not_both(BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG)
    }

    /// Some entries.
    fn entries(self) -> Result<(), MapError> {
        if self.0.max_entries > 0 { Ok(()) } else { Err(bad("max_entries", 0u32)) }
    }

    /// Keys of this size.
    fn key(self, size: u32) -> Result<(), MapError> {
        if self.0.key_size == size { Ok(()) } else { Err(bad("key_size", self.0.key_size)) }
    }

    /// Values of one of these sizes.
    fn value(self, sizes: &[u32]) -> Result<(), MapError> {
        if sizes.contains(&self.0.value_size) { Ok(()) } else { Err(bad("value_size", self.0.value_size)) }
    }

    /// Values of some size.
    fn any_value(self) -> Result<(), MapError> {
        if self.0.value_size > 0 { Ok(()) } else { Err(bad("value_size", 0u32)) }
    }

    /// Values of at most this size.
    fn value_up_to(self, most: u32) -> Result<(), MapError> {
        if self.0.value_size <= most { Ok(()) } else { Err(large("value_size", self.0.value_size)) }
    }

    fn is(self, map_type: MapType) -> bool {
        self.0.map_type == map_type
    }

    fn is_per_cpu(self) -> bool {
        matches!(self.0.map_type, MapType::PercpuHash | MapType::PercpuArray | MapType::LruPercpuHash)
    }
}

fn bad(attribute: &'static str, value: impl Into<u64>) -> MapError {
    MapError::BadAttribute { attribute, value: value.into() }
}

fn large(attribute: &'static str, value: impl Into<u64>) -> MapError {
    MapError::TooLarge { attribute, value: value.into() }
}

fn hash(map: Attributes<'_>) -> Result<(), MapError> {
    let is_lru = matches!(map.0.map_type, MapType::LruHash | MapType::LruPercpuHash);
    let flags = BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE | BPF_F_ZERO_SEED | ACCESS;
    map.accessible(flags)?;
    if is_lru {
        if map.0.flags & BPF_F_NO_PREALLOC != 0 {
            return Err(MapError::UnsupportedFlags { flags: map.0.flags });
        }
    } else {
        map.without(BPF_F_NO_COMMON_LRU)?;
    }
    // Memory of each CPU lies on its own node.
    if map.is_per_cpu() || map.0.flags & BPF_F_NO_COMMON_LRU != 0 {
        map.without(BPF_F_NUMA_NODE)?;
    }
    map.entries()?;
    if map.0.key_size == 0 {
        return Err(bad("key_size", 0u32));
    }
    map.any_value()?;
    if u64::from(map.0.key_size) + u64::from(map.0.value_size) >= u64::from(KMALLOC_MAX - HASH_HEADER) {
        return Err(large("value_size", map.0.value_size));
    }
    if map.is_per_cpu() {
        map.value_up_to(PER_CPU_MAX)?;
    }
    match map.0.max_entries.checked_next_power_of_two() {
        Some(buckets) if buckets <= HASH_BUCKETS => Ok(()),
        _ => Err(large("max_entries", map.0.max_entries)),
    }
}

fn array(map: Attributes<'_>) -> Result<(), MapError> {
    map.accessible(BPF_F_NUMA_NODE | BPF_F_MMAPABLE | BPF_F_PRESERVE_ELEMS | BPF_F_INNER_MAP | ACCESS)?;
    if map.is_per_cpu() {
        map.without(BPF_F_NUMA_NODE)?;
    }
    if !map.is(MapType::Array) {
        map.without(BPF_F_MMAPABLE | BPF_F_INNER_MAP)?;
    }
    if !map.is(MapType::PerfEventArray) {
        map.without(BPF_F_PRESERVE_ELEMS)?;
    }
    map.entries()?;
    map.key(4)?;
    map.any_value()?;
    map.value_up_to(i32::MAX.cast_unsigned())?;
    if map.is_per_cpu() { map.value_up_to(PER_CPU_MAX) } else { Ok(()) }
}

fn lpm_trie(map: Attributes<'_>) -> Result<(), MapError> {
    map.accessible(BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | ACCESS)?;
    map.with(BPF_F_NO_PREALLOC)?;
    map.entries()?;
    if !LPM_KEY.contains(&map.0.key_size) {
        return Err(bad("key_size", map.0.key_size));
    }
    let largest = KMALLOC_MAX - LPM_DATA - LPM_NODE;
    if (1..=largest).contains(&map.0.value_size) { Ok(()) } else { Err(bad("value_size", map.0.value_size)) }
}

fn queue_stack(map: Attributes<'_>) -> Result<(), MapError> {
    map.accessible(BPF_F_NUMA_NODE | ACCESS)?;
    map.entries()?;
    map.key(0)?;
    map.any_value()?;
    map.value_up_to(KMALLOC_MAX)
}

fn bloom_filter(map: Attributes<'_>) -> Result<(), MapError> {
    map.value_up_to(KMALLOC_MAX)?;
    map.accessible(BPF_F_NUMA_NODE | BPF_F_ZERO_SEED | ACCESS)?;
    map.key(0)?;
    map.any_value()?;
    map.entries()?;
    // The number of hash functions.
    if map.0.extra <= 15 { Ok(()) } else { Err(bad("map_extra", map.0.extra)) }
}

fn ring_buffer(map: Attributes<'_>) -> Result<(), MapError> {
    map.only(BPF_F_NUMA_NODE)?;
    map.key(0)?;
    map.value(&[0])?;
    let bytes = map.0.max_entries;
    if bytes.is_power_of_two() && bytes >= PAGE { Ok(()) } else { Err(bad("max_entries", bytes)) }
}

fn stack_trace(map: Attributes<'_>) -> Result<(), MapError> {
    map.only(BPF_F_NUMA_NODE | HOST_ACCESS | BPF_F_STACK_BUILD_ID)?;
    map.entries()?;
    map.key(4)?;
    let frame = if map.0.flags & BPF_F_STACK_BUILD_ID == 0 { 8 } else { BUILD_ID };
    let (frames, rest) = (map.0.value_size / frame, map.0.value_size % frame);
    if rest != 0 || frames == 0 || frames > STACK_FRAMES {
        return Err(bad("value_size", map.0.value_size));
    }
    if map.0.max_entries > 1 << 31 { Err(large("max_entries", map.0.max_entries)) } else { Ok(()) }
}

fn devmap(map: Attributes<'_>) -> Result<(), MapError> {
    map.only(BPF_F_NUMA_NODE | HOST_ACCESS)?;
    map.entries()?;
    map.key(4)?;
    // An interface, and a program.
    map.value(&[4, 8])?;
    if map.is(MapType::DevmapHash) && map.0.max_entries > 1 << 31 {
        return Err(bad("max_entries", map.0.max_entries));
    }
    Ok(())
}

fn cpumap(map: Attributes<'_>) -> Result<(), MapError> {
    map.only(BPF_F_NUMA_NODE)?;
    map.entries()?;
    map.key(4)?;
    // The size of the queue, and a program.
    map.value(&[4, 8])?;
    if map.0.max_entries > sys::host::most_cpus() {
        Err(large("max_entries", map.0.max_entries))
    } else {
        Ok(())
    }
}

fn socket_map(map: Attributes<'_>) -> Result<(), MapError> {
    map.only(BPF_F_NUMA_NODE | HOST_ACCESS)?;
    map.entries()?;
    map.value(&[4, 8])?;
    if map.is(MapType::Sockmap) {
        map.key(4)?;
        let most = i32::MAX.cast_unsigned();
        return if map.0.max_entries <= most { Ok(()) } else { Err(bad("max_entries", map.0.max_entries)) };
    }
    if map.0.key_size == 0 {
        return Err(bad("key_size", 0u32));
    }
    if map.0.key_size > STACK_MAX { Err(large("key_size", map.0.key_size)) } else { Ok(()) }
}

fn cgroup_storage(map: Attributes<'_>) -> Result<(), MapError> {
    // A cgroup's id, with the attach type or without.
    if ![8, 16].contains(&map.0.key_size) {
        return Err(bad("key_size", map.0.key_size));
    }
    map.any_value()?;
    let is_per_cpu = map.is(MapType::PercpuCgroupStorage);
    map.value_up_to(if is_per_cpu { PER_CPU_MAX } else { LOCAL_STORAGE_MAX })?;
    map.accessible(BPF_F_NUMA_NODE | ACCESS)?;
    if map.0.max_entries == 0 { Ok(()) } else { Err(bad("max_entries", map.0.max_entries)) }
}

fn local_storage(map: Attributes<'_>) -> Result<(), MapError> {
    map.only(BPF_F_NO_PREALLOC | BPF_F_CLONE)?;
    map.with(BPF_F_NO_PREALLOC)?;
    if map.0.max_entries != 0 {
        return Err(bad("max_entries", map.0.max_entries));
    }
    map.key(4)?;
    map.any_value()?;
    let types = [("btf_key_type_id", map.0.key_btf), ("btf_value_type_id", map.0.value_btf)];
    if let Some((missing, _)) = types.iter().find(|(_, id)| id.is_none()) {
        return Err(bad(missing, 0u32));
    }
    map.value_up_to(LOCAL_STORAGE_MAX)
}

fn arena(map: Attributes<'_>) -> Result<(), MapError> {
    map.key(0)?;
    map.value(&[0])?;
    map.entries()?;
    map.with(BPF_F_MMAPABLE)?;
    map.only(BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV)?;
    let page = u64::from(PAGE);
    if !map.0.extra.is_multiple_of(page) {
        return Err(bad("map_extra", map.0.extra));
    }
    if u64::from(map.0.max_entries) * page > 1 << 32 {
        return Err(large("max_entries", map.0.max_entries));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapSpec {
        MapSpec { key_size, value_size, max_entries, ..MapSpec::new("map", map_type) }
    }

    fn errno(spec: &MapSpec) -> i32 {
        check(spec).map_or_else(|error| error.errno(), |()| 0)
    }

    /// `E2BIG`, `EINVAL`, `ENOTSUPP`.
    const TOO_BIG: i32 = 7;
    const INVALID: i32 = 22;
    const UNSUPPORTED: i32 = 524;

    #[test]
    fn the_edges_of_what_the_kernel_takes() {
        use MapType as T;
        let cases = [
            (spec(T::Hash, 8, (4 << 20) - 48 - 9, 1), 0),
            (spec(T::Hash, 8, (4 << 20) - 48 - 8, 1), TOO_BIG),
            (spec(T::Hash, 4, 4, 1 << 27), 0),
            (spec(T::Hash, 4, 4, (1 << 27) + 1), TOO_BIG),
            (spec(T::Hash, 4, 4, u32::MAX), TOO_BIG),
            (spec(T::Hash, 0, u32::MAX, 1), INVALID),
            (spec(T::PercpuHash, 4, 32 << 10, 1), 0),
            (spec(T::PercpuHash, 4, (32 << 10) + 1, 1), TOO_BIG),
            (spec(T::PercpuArray, 4, (32 << 10) + 1, 1), TOO_BIG),
            (spec(T::Array, 4, i32::MAX.cast_unsigned(), 1), 0),
            (spec(T::Array, 4, 1 << 31, 1), TOO_BIG),
            (spec(T::Array, 8, 1 << 31, 1), INVALID),
            (spec(T::Array, 4, 0, 1), INVALID),
            (spec(T::Array, 4, 4, 0), INVALID),
            (MapSpec { flags: 1, ..spec(T::LpmTrie, 260, 4, 1) }, 0),
            (MapSpec { flags: 1, ..spec(T::LpmTrie, 261, 4, 1) }, INVALID),
            (MapSpec { flags: 1, ..spec(T::LpmTrie, 8, (4 << 20) - 280, 1) }, 0),
            (MapSpec { flags: 1, ..spec(T::LpmTrie, 8, (4 << 20) - 279, 1) }, INVALID),
            (spec(T::LpmTrie, 8, 4, 1), INVALID),
            (spec(T::Queue, 0, 4 << 20, 1), 0),
            (spec(T::Queue, 0, (4 << 20) + 1, 1), TOO_BIG),
            (spec(T::BloomFilter, 1, (4 << 20) + 1, 1), TOO_BIG),
            (MapSpec { extra: 15, ..spec(T::BloomFilter, 0, 4, 1) }, 0),
            (MapSpec { extra: 16, ..spec(T::BloomFilter, 0, 4, 1) }, INVALID),
            (MapSpec { extra: 1, ..spec(T::Array, 4, 4, 1) }, INVALID),
            (spec(T::Ringbuf, 0, 0, 2048), INVALID),
            (spec(T::Ringbuf, 0, 0, 12288), INVALID),
            (spec(T::UserRingbuf, 0, 0, 4096), 0),
            (spec(T::StackTrace, 4, 127 * 8, 1), 0),
            (spec(T::StackTrace, 4, 128 * 8, 1), INVALID),
            (MapSpec { flags: 32, ..spec(T::StackTrace, 4, 127 * 32, 1) }, 0),
            (MapSpec { flags: 32, ..spec(T::StackTrace, 4, 8, 1) }, INVALID),
            (spec(T::Sockhash, 512, 4, 1), 0),
            (spec(T::Sockhash, 513, 4, 1), TOO_BIG),
            (spec(T::Sockhash, 513, 3, 1), INVALID),
            (spec(T::CgroupStorage, 8, 65407, 0), 0),
            (spec(T::CgroupStorage, 8, 65408, 0), TOO_BIG),
            (spec(T::PercpuCgroupStorage, 16, (32 << 10) + 1, 0), TOO_BIG),
            (spec(T::CgroupStorage, 8, 8, 1), INVALID),
            (spec(T::TaskStorage, 4, 8, 0), INVALID),
        ];
        for (spec, expected) in cases {
            assert_eq!(errno(&spec), expected, "{spec:?}");
        }
    }

    #[test]
    fn flags_that_go_together() {
        let hash = |flags| errno(&MapSpec { flags, ..spec(MapType::Hash, 4, 4, 4) });
        assert_eq!(hash(BPF_F_NO_PREALLOC | BPF_F_ZERO_SEED | BPF_F_NUMA_NODE | BPF_F_RDONLY_PROG), 0);
        assert_eq!(hash(BPF_F_NO_COMMON_LRU), INVALID);
        assert_eq!(hash(BPF_F_RDONLY | BPF_F_WRONLY), INVALID);
        assert_eq!(hash(BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG), INVALID);
        let lru = |flags| errno(&MapSpec { flags, ..spec(MapType::LruHash, 4, 0, 4) });
        assert_eq!(lru(BPF_F_NO_PREALLOC), UNSUPPORTED);
        assert_eq!(lru(BPF_F_NO_PREALLOC | BPF_F_MMAPABLE), INVALID);
        assert_eq!(lru(BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE), INVALID);
        let numa = MapSpec { flags: BPF_F_NUMA_NODE, numa_node: 4000, ..spec(MapType::Array, 4, 4, 4) };
        assert_eq!(errno(&numa), INVALID);
        let per_cpu = MapSpec { flags: BPF_F_NUMA_NODE, ..spec(MapType::PercpuArray, 4, 4, 4) };
        assert_eq!(errno(&per_cpu), INVALID);
    }
}
