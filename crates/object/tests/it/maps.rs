//! Maps declared in `.maps` and `struct_ops` tables.

use bpf_arena_object::{KindTag, MapSlot, MapSpec, MapType};

use crate::object;

fn map(name: &str) -> MapSpec {
    object("maps").map(name).unwrap_or_else(|| panic!("{name}")).1.clone()
}

fn slot(index: u32, target: &str) -> MapSlot {
    MapSlot { index, target: target.to_owned() }
}

#[test]
fn types_give_sizes() {
    let object = object("maps");
    let btf = object.btf.as_ref().unwrap();
    let map = map("by_type");
    assert_eq!((map.map_type, map.key_size, map.value_size, map.max_entries), (MapType::Hash, 8, 32, 64));
    assert_eq!(map.key_btf.map(|t| btf.name(t)), Some("key"));
    assert_eq!(map.value_btf.map(|t| btf.name(t)), Some("value"));
    assert_eq!((map.flags, map.numa_node, map.pin_by_name), (4, 1, true));
}

#[test]
fn sizes_and_wide_numbers_are_taken_as_given() {
    let by_size = map("by_size");
    assert_eq!((by_size.key_size, by_size.value_size, by_size.max_entries), (4, 48, 2));
    assert_eq!((by_size.key_btf, by_size.value_btf, by_size.pin_by_name), (None, None, false));
    assert_eq!(by_size.extra, 0xfedc_ba98_7654_3210);
    assert_eq!(map("small_extra").extra, 5);
    assert_eq!(map("small_extra").map_type, MapType::Ringbuf);
}

#[test]
fn maps_hold_maps_and_programs() {
    let outer = map("outer");
    assert_eq!((outer.map_type, outer.value_size), (MapType::ArrayOfMaps, 4));
    assert_eq!(outer.slots, [slot(1, "second"), slot(3, "first")]);
    let inner = outer.inner.unwrap();
    assert_eq!((inner.name.as_str(), inner.map_type, inner.max_entries), ("outer.inner", MapType::Array, 1));
    assert_eq!((inner.key_size, inner.value_size), (4, 4));
    let hash = map("outer_hash");
    assert!(hash.inner.is_some() && hash.slots.is_empty());
    let jumps = map("jumps");
    assert_eq!((jumps.map_type, jumps.inner), (MapType::ProgArray, None));
    assert_eq!(jumps.slots, [slot(2, "tail")]);
}

#[test]
fn declaration_tags_of_a_map_are_those_of_its_variable() {
    let object = object("maps");
    let btf = object.btf.as_ref().unwrap();
    let variable = btf.find("by_type", KindTag::Var).unwrap();
    let tags: Vec<_> = btf.decl_tags(variable, None).collect();
    assert_eq!(tags, ["counters", "shared"]);
}

#[test]
fn a_struct_ops_table_is_a_map_with_its_programs() {
    let object = object("struct_ops");
    let (_, table) = object.map("table").unwrap();
    assert_eq!((table.map_type, table.value_size), (MapType::StructOps, 32));
    assert_eq!(table.initial[..4], 3u32.to_le_bytes());
    assert_eq!(table.slots, [slot(8, "start"), slot(16, "stop")]);
    assert!(!object.programs[0].kind.sleepable && object.programs[1].kind.sleepable);
    assert_eq!(object.link("start").unwrap().code.len(), 2);
}
