//! The records of the values of maps: what creating the map makes of its BTF.

use bpf_object::{BPF_F_RDONLY_PROG, Btf, Kind, MapSpec, MapType, TypeId};

use super::{Malformed, Record, Set, Structs, Tag, search};
use crate::rules::maps::is_frozen;

/// `BPF_F_WRONLY_PROG`.
const BPF_F_WRONLY_PROG: u32 = 1 << 8;

/// What is known of the value of one map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapFields {
    /// Whether the map is created with BTF. Where the kernel refuses it, loaders create the map without.
    pub(crate) has_btf: bool,
    /// The fields in its value.
    pub(crate) record: Record,
    /// Only the kernel's types could tell what is in the value.
    pub(crate) needs_kernel: bool,
}

impl MapFields {
    /// Of one map of the object.
    pub(crate) fn new(btf: Option<&Btf>, kernel: Option<&Btf>, structs: &Structs, map: &MapSpec) -> Self {
        let Some(btf) = btf else { return Self::default() };
        if !map.map_type.takes_types() || map.value_btf.is_none() {
            return Self::default();
        }
        match record(btf, kernel, structs, map) {
            Ok(record) => Self { has_btf: true, record, needs_kernel: false },
            Err(Malformed::Refused) => Self::default(),
            Err(Malformed::NeedsKernel) => Self { has_btf: true, needs_kernel: true, ..Self::default() },
        }
    }
}

fn record(btf: &Btf, kernel: Option<&Btf>, structs: &Structs, map: &MapSpec) -> Result<Record, Malformed> {
    let value = map.value_btf.ok_or(Malformed::Refused)?;
    check_key(btf, map, value)?;
    // The type the kernel looks at is the one behind modifiers, whose size must be the value's.
    let value = btf.resolve(value);
    if btf.size_of(value) != Some(u64::from(map.value_size)) {
        return Err(Malformed::Refused);
    }
    if !matches!(btf.kind(value), Some(Kind::Struct(_) | Kind::DataSec { .. })) {
        return Ok(Record::default());
    }
    let record = match search::record(btf, kernel, value, Set::IN_MAPS, map.value_size) {
        // What makes no sense is no field, and the map is created all the same.
        Err(Malformed::Refused) => Record::default(),
        other => other?,
    };
    let one_way = is_frozen(map) || map.flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) != 0;
    let placed = record.fields.iter().all(|f| holds(map.map_type, f.tag));
    if !record.is_empty() && (one_way || !placed) || !structs.completes(&record) {
        return Err(Malformed::Refused);
    }
    Ok(record)
}

/// Keys: of the map's size where a type is given; arrays take numbers of 4 bytes, or nothing if the value is a section.
fn check_key(btf: &Btf, map: &MapSpec, value: TypeId) -> Result<(), Malformed> {
    let array = matches!(map.map_type, MapType::Array | MapType::PercpuArray);
    let fits = match map.key_btf {
        None => array && matches!(btf.kind(value), Some(Kind::DataSec { .. })) && map.max_entries == 1,
        Some(key) => {
            let sized = btf.size_of(key) == Some(u64::from(map.key_size));
            sized && (!array || matches!(btf.kind(btf.resolve(key)), Some(Kind::Int(_))))
        }
    };
    if fits { Ok(()) } else { Err(Malformed::Refused) }
}

/// Whether values of this type of map may have such a field.
fn holds(map: MapType, tag: Tag) -> bool {
    let storage = matches!(
        map,
        MapType::SkStorage | MapType::InodeStorage | MapType::TaskStorage | MapType::CgrpStorage
    );
    let plain = matches!(map, MapType::Hash | MapType::Array);
    match tag {
        Tag::SpinLock | Tag::ResSpinLock => plain || storage || map == MapType::CgroupStorage,
        Tag::Timer | Tag::Wq | Tag::TaskWork | Tag::ListHead | Tag::RbRoot => {
            plain || map == MapType::LruHash
        }
        Tag::KptrUntrusted | Tag::KptrRef | Tag::KptrPercpu | Tag::Refcount => {
            let more = [MapType::PercpuHash, MapType::LruHash, MapType::LruPercpuHash, MapType::PercpuArray];
            plain || storage || more.contains(&map)
        }
        Tag::Uptr => map == MapType::TaskStorage,
        Tag::ListNode | Tag::RbNode => false,
    }
}
