//! Maps.

#![allow(unsafe_code, reason = "bpf(2) takes pointers inside its attribute")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::io::Errno;

use super::error::BpfError;
use super::ids::{InfoAttr, object_info};
use super::raw::{Attr, Command, address, address_mut, call, call_fd, object_name};
use super::{Capability, MapMemory, RingPages};

/// `BPF_MAP_TYPE_ARENA`.
pub const MAP_TYPE_ARENA: u32 = 33;

const RINGBUF: u32 = 27;
const USER_RINGBUF: u32 = 31;
const PERCPU_HASH: u32 = 5;
const PERCPU_ARRAY: u32 = 6;
const LRU_PERCPU_HASH: u32 = 10;
const PERCPU_CGROUP_STORAGE: u32 = 21;
/// Types whose value is a descriptor in, an id out: prog_array, perf_event_array, cgroup_array, array_of_maps,
/// hash_of_maps.
const DESCRIPTOR_VALUES: [u32; 5] = [3, 4, 8, 12, 13];

/// What a map is created from.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapOptions<'a> {
    /// Name shown by tools; cut to 15 characters.
    pub name: &'a str,
    /// `BPF_MAP_TYPE_*`.
    pub map_type: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries; pages for an arena.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// NUMA node, with `BPF_F_NUMA_NODE`.
    pub numa_node: u32,
    /// `map_extra`: for an arena the address user space maps it at, or 0.
    pub extra: u64,
    /// For maps of maps: a map like those it will hold.
    pub inner: Option<BorrowedFd<'a>>,
    /// BTF of key and value.
    pub btf: Option<MapBtf<'a>>,
}

/// BTF types of a map's elements.
#[derive(Clone, Copy, Debug)]
pub struct MapBtf<'a> {
    /// The loaded BTF.
    pub fd: BorrowedFd<'a>,
    /// Type id of the key, or 0.
    pub key: u32,
    /// Type id of the value, or 0.
    pub value: u32,
    /// For struct_ops: id of the kernel's type.
    pub vmlinux_value: u32,
}

/// `BPF_ANY`: an update creates or replaces.
pub const ANY: u64 = 0;
/// `BPF_NOEXIST`: an update only creates.
pub const NOEXIST: u64 = 1;
/// `BPF_EXIST`: an update only replaces.
pub const EXIST: u64 = 2;

/// What the kernel says of a map (`struct bpf_map_info`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct MapInfo {
    /// `BPF_MAP_TYPE_*`.
    pub map_type: u32,
    /// Id, unique among the maps that exist.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries; pages for an arena.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    name: [u8; 16],
    ifindex: u32,
    btf_vmlinux_value_type_id: u32,
    netns_dev: u64,
    netns_ino: u64,
    btf_id: u32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
    btf_vmlinux_id: u32,
    /// `map_extra`.
    pub extra: u64,
}

/// A map, by an owned descriptor.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    // Invariant: as the kernel reports it, so that the element sizes derived from it are those the kernel uses.
    info: MapInfo,
}

impl Map {
    /// Creates a map.
    ///
    /// # Errors
    /// As the kernel answers; a missing capability is named.
    pub fn create(options: &MapOptions<'_>) -> Result<Self, BpfError> {
        let mut attr = CreateAttr {
            map_type: options.map_type,
            key_size: options.key_size,
            value_size: options.value_size,
            max_entries: options.max_entries,
            map_flags: options.flags,
            inner_map_fd: options.inner.map_or(0, |fd| fd.as_raw_fd().cast_unsigned()),
            numa_node: options.numa_node,
            map_name: object_name(options.name),
            map_ifindex: 0,
            btf_fd: options.btf.map_or(0, |b| b.fd.as_raw_fd().cast_unsigned()),
            btf_key_type_id: options.btf.map_or(0, |b| b.key),
            btf_value_type_id: options.btf.map_or(0, |b| b.value),
            btf_vmlinux_value_type_id: options.btf.map_or(0, |b| b.vmlinux_value),
            map_extra: options.extra,
        };
        // SAFETY: the attribute holds no address.
        let fd = unsafe { call_fd(&mut attr) }
            .map_err(|errno| BpfError::from_errno(Command::MapCreate, errno, &[Capability::Bpf]))?;
        Self::from_fd(fd)
    }

    /// Takes over a descriptor of a map.
    ///
    /// # Errors
    /// The descriptor is not a map's.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, BpfError> {
        let info = object_info::<MapInfo>(fd.as_fd())?;
        Ok(Self { fd, info })
    }

    /// What the kernel says of the map.
    #[must_use]
    pub fn info(&self) -> &MapInfo {
        &self.info
    }

    /// Another descriptor of the same map.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self, BpfError> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)
            .map_err(|errno| BpfError::Call { command: Command::ObjectInfo, errno })?;
        Ok(Self { fd, info: self.info })
    }

    /// The descriptor alone.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Bytes of a key as the system call takes it.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.info.key_size as usize
    }

    /// Bytes of a value as the system call takes it: see [`host_value_bytes`].
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        host_value_bytes(self.info.map_type, self.info.value_size, possible_cpus())
    }

    /// Reads the element of `key` into `value`; `false` if there is none. A bloom filter is asked for what `value` holds.
    /// `flags` is 0 or `BPF_F_LOCK`.
    ///
    /// # Errors
    /// A buffer has the wrong size, or as the kernel answers.
    pub fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<bool, BpfError> {
        self.check(key, value.len())?;
        let mut attr =
            ElementAttr::<{ Command::MapLookup as i32 }>::new(self, key, address_mut(value), flags);
        // SAFETY: key and value are as long as the map's elements are, by `check`; the value is writable.
        let result = unsafe { call(&mut attr) };
        found(Command::MapLookup, result)
    }

    /// Takes the element of `key` (of a queue or stack, with an empty key: the next one) out of the map; `false`
    /// if there is none. `flags` is 0 or `BPF_F_LOCK`.
    ///
    /// # Errors
    /// A buffer has the wrong size, or as the kernel answers.
    pub fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<bool, BpfError> {
        self.check(key, value.len())?;
        let mut attr =
            ElementAttr::<{ Command::MapLookupAndDelete as i32 }>::new(self, key, address_mut(value), flags);
        // SAFETY: key and value are as long as the map's elements are, by `check`; the value is writable.
        let result = unsafe { call(&mut attr) };
        found(Command::MapLookupAndDelete, result)
    }

    /// Stores an element. `flags` is [`ANY`], [`NOEXIST`], [`EXIST`] or what else the map's type takes.
    ///
    /// # Errors
    /// A buffer has the wrong size, or as the kernel answers.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), BpfError> {
        self.check(key, value.len())?;
        let mut attr = ElementAttr::<{ Command::MapUpdate as i32 }>::new(self, key, address(value), flags);
        // SAFETY: key and value are as long as the map's elements are, by `check`; the kernel only reads them.
        let result = unsafe { call(&mut attr) };
        result.map(drop).map_err(|errno| BpfError::Call { command: Command::MapUpdate, errno })
    }

    /// Removes an element; `false` if there is none.
    ///
    /// # Errors
    /// The key has the wrong size, or as the kernel answers.
    pub fn delete(&self, key: &[u8]) -> Result<bool, BpfError> {
        self.check(key, self.value_bytes())?;
        let mut attr = ElementAttr::<{ Command::MapDelete as i32 }>::new(self, key, 0, 0);
        // SAFETY: the key is as long as the map's keys are, by `check`; the kernel only reads it.
        let result = unsafe { call(&mut attr) };
        found(Command::MapDelete, result)
    }

    /// Writes the key after `key` (the first for `None`) to `next`; `false` at the end.
    ///
    /// # Errors
    /// A buffer has the wrong size, or as the kernel answers.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool, BpfError> {
        self.check(key.unwrap_or(next), self.value_bytes())?;
        self.check(next, self.value_bytes())?;
        let from = key.unwrap_or_default();
        let mut attr = ElementAttr::<{ Command::MapNextKey as i32 }>::new(self, from, address_mut(next), 0);
        // SAFETY: both keys are as long as the map's keys are, by `check`; `next` is writable.
        let result = unsafe { call(&mut attr) };
        found(Command::MapNextKey, result)
    }

    /// Makes the map read-only for user space, for good. Programs see its contents as constants when they may not
    /// write it either.
    ///
    /// # Errors
    /// As the kernel answers: a writable mapping exists, or it is frozen already (EBUSY).
    pub fn freeze(&self) -> Result<(), BpfError> {
        let mut attr = FreezeAttr { map_fd: self.fd.as_raw_fd().cast_unsigned() };
        // SAFETY: the attribute holds no address.
        let result = unsafe { call(&mut attr) };
        result.map(drop).map_err(|errno| BpfError::Call { command: Command::MapFreeze, errno })
    }

    /// Maps an array of `BPF_F_MMAPABLE`, or an arena, into this process. An arena goes to `extra`, if that is
    /// not 0, and stays at that address until the map is gone.
    ///
    /// # Errors
    /// As mmap(2) answers: EPERM for a map without the flag, EEXIST where something else is mapped, EBUSY for an arena
    /// mapped elsewhere.
    pub fn mmap(&self) -> Result<MapMemory, Errno> {
        let info = &self.info;
        if info.map_type == MAP_TYPE_ARENA {
            let bytes = (info.max_entries as usize).saturating_mul(rustix::param::page_size());
            MapMemory::new(self.fd.as_fd(), bytes, usize::try_from(info.extra).unwrap_or(0))
        } else {
            // The kernel lays elements out 8 bytes aligned.
            let stride = (info.value_size as usize).next_multiple_of(8);
            MapMemory::new(self.fd.as_fd(), stride.saturating_mul(info.max_entries as usize), 0)
        }
    }

    /// Maps a ring buffer, or a user ring buffer, into this process.
    ///
    /// # Errors
    /// The map is none, or as mmap(2) answers.
    pub fn ring(&self) -> Result<RingPages, BpfError> {
        let refused = |errno| BpfError::Call { command: Command::ObjectInfo, errno };
        match self.info.map_type {
            RINGBUF | USER_RINGBUF => {
                let fd = self.try_clone()?.into_fd();
                let data = self.info.max_entries as usize;
                RingPages::new(fd, data, self.info.map_type == USER_RINGBUF).map_err(refused)
            }
            _ => Err(refused(Errno::INVAL)),
        }
    }

    pub(super) fn check(&self, key: &[u8], value: usize) -> Result<(), BpfError> {
        if key.len() != self.key_bytes() {
            return Err(BpfError::Size { what: "key", expected: self.key_bytes(), got: key.len() });
        }
        if value != self.value_bytes() {
            return Err(BpfError::Size { what: "value", expected: self.value_bytes(), got: value });
        }
        Ok(())
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl MapInfo {
    /// The map's name, cut to 15 characters.
    #[must_use]
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.name.split(|&b| b == 0).next().unwrap_or_default()).into_owned()
    }
}

// SAFETY: a `repr(C)` struct of integers without padding, the kernel's `struct bpf_map_info` from its start.
unsafe impl InfoAttr for MapInfo {}

/// Bytes of a value as the system call takes it, of a map of `BPF_MAP_TYPE_*` on a machine with so many CPUs: per-CPU maps
/// have one value, rounded up to 8 bytes, for each of them; maps of descriptors have 4 bytes.
#[must_use]
pub fn host_value_bytes(map_type: u32, value_size: u32, cpus: usize) -> usize {
    match map_type {
        PERCPU_HASH | PERCPU_ARRAY | LRU_PERCPU_HASH | PERCPU_CGROUP_STORAGE => {
            (value_size as usize).next_multiple_of(8).saturating_mul(cpus)
        }
        kind if DESCRIPTOR_VALUES.contains(&kind) => 4,
        _ => value_size as usize,
    }
}

/// Number of CPUs a per-CPU value has room for: the highest possible CPU number and one. At least 1.
#[must_use]
pub fn possible_cpus() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
        parse_cpu_list_end(&text)
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    })
}

/// One more than the last number of a list such as `0-3` or `0,2-5`.
fn parse_cpu_list_end(list: &str) -> Option<usize> {
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse::<usize>().ok()?.checked_add(1)
}

fn found(command: Command, result: Result<i32, Errno>) -> Result<bool, BpfError> {
    match result {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(BpfError::from_errno(command, errno, &[Capability::Bpf])),
    }
}

#[repr(C)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
    map_ifindex: u32,
    btf_fd: u32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
    btf_vmlinux_value_type_id: u32,
    map_extra: u64,
}

// SAFETY: the kernel's struct for this command up to `map_extra` (Linux 5.16); 64 bytes of fields before it, so no padding.
unsafe impl Attr for CreateAttr {
    const COMMAND: Command = Command::MapCreate;
}

/// The element commands share one struct; which command is a parameter so that each keeps its own type.
#[repr(C)]
struct ElementAttr<const COMMAND: i32> {
    map_fd: u32,
    _zero: u32,
    key: u64,
    value_or_next_key: u64,
    flags: u64,
}

impl<const COMMAND: i32> ElementAttr<COMMAND> {
    fn new(map: &Map, key: &[u8], value_or_next_key: u64, flags: u64) -> Self {
        let map_fd = map.fd.as_raw_fd().cast_unsigned();
        Self { map_fd, _zero: 0, key: address(key), value_or_next_key, flags }
    }
}

macro_rules! element_commands {
    ($($name:ident)*) => {$(
        // SAFETY: the kernel's struct for the element commands, its padding spelled out.
        unsafe impl Attr for ElementAttr<{ Command::$name as i32 }> {
            const COMMAND: Command = Command::$name;
        }
    )*};
}

element_commands! { MapLookup MapLookupAndDelete MapUpdate MapDelete MapNextKey }

#[repr(C)]
struct FreezeAttr {
    map_fd: u32,
}

// SAFETY: the first and only field this command reads.
unsafe impl Attr for FreezeAttr {
    const COMMAND: Command = Command::MapFreeze;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list_end("0\n"), Some(1));
        assert_eq!(parse_cpu_list_end("0-3\n"), Some(4));
        assert_eq!(parse_cpu_list_end("0,2-5,7\n"), Some(8));
        assert_eq!(parse_cpu_list_end(""), None);
        assert!(possible_cpus() >= 1);
    }

    #[test]
    fn attributes_have_no_padding() {
        assert_eq!(size_of::<CreateAttr>(), 72);
        assert_eq!(std::mem::offset_of!(CreateAttr, map_extra), 64);
        assert_eq!(size_of::<MapInfo>(), 88);
    }
}
