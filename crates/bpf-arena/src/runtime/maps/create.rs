//! Which types of maps there are, and how each is created.

use std::sync::Arc;

use bpf_object::{Btf, MapSpec, MapType};

use super::array::ArrayMap;
use super::bloom::BloomFilter;
use super::devices::{DeviceArray, DeviceHash};
use super::foreign::ForeignMap;
use super::hash::HashMap;
use super::hash_of_maps::HashOfMaps;
use super::lpm_trie::LpmTrie;
use super::map_in_map::ArrayOfMaps;
use super::perf_event::PerfEventArray;
use super::prog_array::ProgArray;
use super::queue::QueueMap;
use super::ring::{RingbufMap, UserRingbufMap};
use super::stack_trace::StackTraceMap;
use super::storage::StorageMap;
use super::{UserMap, attributes};
use crate::error::MapError;

/// Creates a map of one type; the BTF has the types of its values.
type Create = fn(&MapSpec, Option<&Btf>) -> Result<Arc<dyn UserMap>, MapError>;

/// The types, the arena aside, which takes part in the address space of the whole set of maps.
static TYPES: &[(MapType, Create)] = &[
    (MapType::Cpumap, |spec, _| Ok(Arc::new(DeviceArray::create(spec.clone())?))),
    (MapType::Devmap, |spec, _| Ok(Arc::new(DeviceArray::create(spec.clone())?))),
    (MapType::DevmapHash, |spec, _| Ok(Arc::new(DeviceHash::create(spec)?))),
    (MapType::StackTrace, |spec, _| Ok(Arc::new(StackTraceMap::create(spec.clone())?))),
    (MapType::ArrayOfMaps, |spec, btf| Ok(Arc::new(ArrayOfMaps::create(spec.clone(), btf)?))),
    (MapType::BloomFilter, |spec, _| Ok(Arc::new(BloomFilter::create(spec.clone())?))),
    (MapType::HashOfMaps, |spec, btf| Ok(Arc::new(HashOfMaps::create(spec, btf)?))),
    (MapType::LpmTrie, |spec, _| Ok(Arc::new(LpmTrie::create(spec.clone())?))),
    (MapType::PerfEventArray, |spec, _| Ok(Arc::new(PerfEventArray::create(spec.clone())?))),
    (MapType::ProgArray, |spec, _| Ok(Arc::new(ProgArray::create(spec.clone())?))),
    (MapType::Queue, |spec, _| Ok(Arc::new(QueueMap::create(spec.clone())?))),
    (MapType::Stack, |spec, _| Ok(Arc::new(QueueMap::create(spec.clone())?))),
    (MapType::Ringbuf, |spec, _| Ok(Arc::new(RingbufMap::create(spec.clone())?))),
    (MapType::UserRingbuf, |spec, _| Ok(Arc::new(UserRingbufMap::create(spec.clone())?))),
    (MapType::TaskStorage, storage),
    (MapType::SkStorage, storage),
    (MapType::InodeStorage, storage),
    (MapType::CgrpStorage, storage),
    (MapType::CgroupArray, foreign),
    (MapType::CgroupStorage, foreign),
    (MapType::PercpuCgroupStorage, foreign),
    (MapType::ReuseportSockarray, foreign),
    (MapType::Sockhash, foreign),
    (MapType::Sockmap, foreign),
    (MapType::StructOps, foreign),
    (MapType::Xskmap, foreign),
    (MapType::Array, array),
    (MapType::PercpuArray, array),
    (MapType::Hash, hash),
    (MapType::PercpuHash, hash),
    (MapType::LruHash, hash),
    (MapType::LruPercpuHash, hash),
];

/// Whether maps of this type can be created.
pub(crate) fn supported(map_type: MapType) -> bool {
    map_type == MapType::Arena || TYPES.iter().any(|(known, _)| *known == map_type)
}

/// Creates a map.
///
/// # Errors
/// The attributes are not allowed, or there is no memory.
pub(super) fn create(spec: &MapSpec, btf: Option<&Btf>) -> Result<Arc<dyn UserMap>, MapError> {
    let found = TYPES.iter().find(|(known, _)| *known == spec.map_type);
    let (_, create) = found.ok_or(MapError::Unsupported)?;
    attributes::check(spec)?;
    let map = create(spec, btf)?;
    map.core().set_fields(btf);
    Ok(map)
}

fn array(spec: &MapSpec, btf: Option<&Btf>) -> Result<Arc<dyn UserMap>, MapError> {
    Ok(Arc::new(ArrayMap::create(spec, btf)?))
}

fn hash(spec: &MapSpec, btf: Option<&Btf>) -> Result<Arc<dyn UserMap>, MapError> {
    Ok(Arc::new(HashMap::create(spec, btf)?))
}

fn storage(spec: &MapSpec, btf: Option<&Btf>) -> Result<Arc<dyn UserMap>, MapError> {
    Ok(Arc::new(StorageMap::create(spec, btf)?))
}

fn foreign(spec: &MapSpec, _: Option<&Btf>) -> Result<Arc<dyn UserMap>, MapError> {
    Ok(Arc::new(ForeignMap::create(spec.clone())))
}
