//! Map types: which helpers take them and whether their value has a fixed address.

use bpf_object::MapType;

/// What a map type allows.
#[derive(Debug)]
pub(crate) struct MapRules {
    pub(crate) map_type: MapType,
    /// Lookup, update and delete by helper.
    pub(crate) elements: bool,
    /// `lddw` of an address inside the only value (`map_direct_value_addr`).
    pub(crate) direct_value: bool,
}

/// The rules for this type, if there are any.
pub(crate) fn find(map_type: MapType) -> Option<&'static MapRules> {
    MAPS.iter().find(|m| m.map_type == map_type)
}

static MAPS: [MapRules; 4] = [
    MapRules { map_type: MapType::Hash, elements: true, direct_value: false },
    MapRules { map_type: MapType::LruHash, elements: true, direct_value: false },
    MapRules { map_type: MapType::Array, elements: true, direct_value: true },
    // Element operations on an arena load but always fail, so nothing is lost by refusing them here.
    MapRules { map_type: MapType::Arena, elements: false, direct_value: true },
];
