//! Maps whose contents only a kernel has: sockets that receive packets, control groups, a structure of callbacks that it registers.
//!
//! Here they stay empty. What is asked of them is answered as the kernel answers for an empty map, and putting something into them
//! fails as it does for a descriptor that is none.

use std::any::Any;

use bpf_object::{MapSpec, MapType};

use super::indexed::{index_of, next_index};
use super::{MapCore, UserMap};
use crate::access::{BlockTable, Place};
use crate::backend::LoadedMap;
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_F_LOCK};

/// An empty map.
pub(super) struct ForeignMap {
    core: MapCore,
}

impl ForeignMap {
    /// Creates one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec) -> Self {
        Self { core: MapCore::new(spec) }
    }

    fn map_type(&self) -> MapType {
        self.core.spec.map_type
    }

    /// Whether the key is an index that the map has.
    fn has(&self, key: &[u8]) -> Result<bool, MapError> {
        Ok(index_of(key)? < self.core.spec.max_entries)
    }
}

impl LoadedMap for ForeignMap {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        use MapType as T;
        match self.map_type() {
            // The host would get a socket's cookie, which has eight bytes.
            T::Sockmap | T::Sockhash | T::ReuseportSockarray if self.core.spec.value_size != 8 => {
                Err(MapError::NoSpace)
            }
            T::Xskmap => Err(MapError::Unsupported),
            T::CgroupArray => Err(MapError::NoOperation),
            // Nothing is registered.
            T::StructOps if index_of(key)? == 0 => {
                value.fill(0);
                Ok(())
            }
            _ => Err(MapError::NotFound),
        }
    }

    fn update(&self, key: &[u8], _: &[u8], flags: u64) -> Result<(), MapError> {
        use MapType as T;
        match self.map_type() {
            T::Xskmap | T::ReuseportSockarray if flags > BPF_EXIST => Err(MapError::Invalid),
            T::CgroupArray if flags != 0 => Err(MapError::Invalid),
            T::Xskmap | T::ReuseportSockarray | T::CgroupArray if !self.has(key)? => Err(MapError::TooBig),
            T::CgroupStorage | T::PercpuCgroupStorage if flags & !(BPF_F_LOCK | BPF_EXIST) != 0 => {
                Err(MapError::Invalid)
            }
            T::CgroupStorage | T::PercpuCgroupStorage => Err(MapError::NotFound),
            T::StructOps => Err(MapError::Unsupported),
            _ => Err(MapError::OtherEngine),
        }
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        use MapType as T;
        match self.map_type() {
            T::Sockmap | T::CgroupStorage | T::PercpuCgroupStorage => Err(MapError::Invalid),
            T::Xskmap => {
                if self.has(key)? {
                    Ok(())
                } else {
                    Err(MapError::Invalid)
                }
            }
            T::ReuseportSockarray | T::CgroupArray if !self.has(key)? => Err(MapError::TooBig),
            _ => Err(MapError::NotFound),
        }
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        use MapType as T;
        match self.map_type() {
            T::Sockhash | T::CgroupStorage | T::PercpuCgroupStorage => Err(MapError::NotFound),
            T::StructOps => next_index(key, next, 1),
            _ => next_index(key, next, self.core.spec.max_entries),
        }
    }
}

impl UserMap for ForeignMap {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, _: &mut BlockTable) {}

    fn update_elem(&self, _: &CpuSlot, _: Place<'_>, _: Place<'_>, _: u64) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    fn delete_elem(&self, _: &CpuSlot, key: Place<'_>) -> Result<(), MapError> {
        self.delete(&key.to_vec())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(map_type: MapType, value_size: u32) -> ForeignMap {
        ForeignMap::create(MapSpec { key_size: 4, value_size, max_entries: 2, ..MapSpec::new("m", map_type) })
    }

    #[test]
    fn each_is_empty_in_its_own_way() {
        let (here, past) = ([1, 0, 0, 0], [2, 0, 0, 0]);
        let sockets = map(MapType::Sockmap, 4);
        assert_eq!(sockets.lookup(&here, &mut [0; 4], 0), Err(MapError::NoSpace));
        assert_eq!(sockets.delete(&here), Err(MapError::Invalid));
        assert_eq!(map(MapType::Sockmap, 8).lookup(&here, &mut [0; 8], 0), Err(MapError::NotFound));
        let packets = map(MapType::Xskmap, 4);
        assert_eq!(packets.lookup(&here, &mut [0; 4], 0), Err(MapError::Unsupported));
        assert_eq!((packets.delete(&here), packets.delete(&past)), (Ok(()), Err(MapError::Invalid)));
        assert_eq!(packets.update(&past, &[9; 4], 0), Err(MapError::TooBig));
        assert_eq!(packets.update(&here, &[9; 4], 0), Err(MapError::OtherEngine));
        let groups = map(MapType::CgroupArray, 4);
        assert_eq!(groups.lookup(&here, &mut [0; 4], 0), Err(MapError::NoOperation));
        assert_eq!(
            (groups.delete(&here), groups.delete(&past)),
            (Err(MapError::NotFound), Err(MapError::TooBig))
        );
        let mut next = [0; 4];
        assert_eq!(groups.next_key(None, &mut next), Ok(()));
        assert_eq!(map(MapType::Sockhash, 4).next_key(None, &mut next), Err(MapError::NotFound));
    }
}
