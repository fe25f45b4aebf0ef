//! Data sections.

use bpf_arena_object::{
    BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, Kind, KindTag, Linkage, MapOrigin, MapType, Object, ObjectError,
};
use isa::{Imm64, Insn};

use crate::{bytes, object};

#[test]
fn every_data_section_is_an_array_of_one_value() {
    let object = object("data");
    let maps: Vec<_> = object
        .maps
        .iter()
        .map(|m| {
            assert_eq!((m.map_type, m.key_size, m.max_entries), (MapType::Array, 4, 1));
            let MapOrigin::Data { section, read_only } = &m.origin else { panic!("{m:?}") };
            assert_eq!(&m.name, section);
            (section.as_str(), *read_only, m.value_size, m.initial.len())
        })
        .collect();
    let expected = [
        (".data", false, 12, 12),
        (".rodata", true, 4, 4),
        (".data.custom", false, 4, 4),
        (".rodata.custom", true, 4, 4),
        (".bss", false, 16, 0),
        (".bss.custom", false, 32, 0),
    ];
    assert_eq!(maps, expected);
    assert_eq!((object.license.as_str(), object.version), ("Dual MIT/GPL", 0x0006_1200));
    let rodata = &object.maps[1];
    assert_eq!(rodata.flags, BPF_F_RDONLY_PROG | BPF_F_MMAPABLE);
    assert_eq!(rodata.initial, 9u32.to_le_bytes());
}

#[test]
fn variables_are_found_by_name_with_place_and_linkage() {
    let object = object("data");
    let place = |name: &str| {
        let v = object.variable(name).unwrap_or_else(|| panic!("{name}"));
        (object.maps[v.map].name.as_str(), v.offset, v.size, v.linkage)
    };
    assert_eq!(place("in_data"), (".data", 0, 4, Linkage::Global));
    assert_eq!(place("weak_counter"), (".data", 4, 2, Linkage::Weak));
    assert_eq!(place("hidden_flag"), (".data", 6, 1, Linkage::Static));
    assert_eq!(place("in_static"), (".data", 8, 4, Linkage::Static));
    assert_eq!(place("in_static_bss"), (".bss", 8, 8, Linkage::Static));
    assert_eq!(place("custom_bss"), (".bss.custom", 0, 32, Linkage::Global));
    assert!(object.variable("touch").is_none());
}

#[test]
fn data_sections_of_btf_are_completed() {
    let object = object("data");
    let btf = object.btf.as_ref().unwrap();
    let Some(Kind::DataSec { size, vars }) = btf.kind(btf.find(".data", KindTag::DataSec).unwrap()) else {
        panic!("no .data in BTF");
    };
    assert_eq!(*size, 12);
    let places: Vec<_> = vars.iter().map(|v| (btf.name(v.ty), v.offset, v.size)).collect();
    assert_eq!(
        places,
        [("in_data", 0, 4), ("weak_counter", 4, 2), ("hidden_flag", 6, 1), ("in_static", 8, 4)]
    );
}

#[test]
fn references_point_into_the_section_of_the_variable() {
    let object = object("data");
    let program = object.link("touch").unwrap();
    let mut seen: Vec<(String, u32)> = Vec::new();
    for (_, insn) in program.code.iter() {
        if let Insn::LoadImm64 { value, .. } = insn {
            let Imm64::MapIdxValue { map, offset } = value else { panic!("{value:?}") };
            seen.push((program.maps[map as usize].name.clone(), offset));
        }
    }
    for variable in object.variables.iter().filter(|v| object.maps[v.map].name != ".rodata.custom") {
        let wanted = (object.maps[variable.map].name.clone(), variable.offset);
        let inside = seen
            .iter()
            .any(|(map, offset)| *map == wanted.0 && (wanted.1..wanted.1 + variable.size).contains(offset));
        assert!(inside, "{} at {wanted:?} is not among {seen:?}", variable.name);
    }
}

#[test]
fn pointers_in_data_are_refused_with_their_place() {
    let section = ".data".to_owned();
    let refused = ObjectError::DataRelocation { section, offset: 8, kind: 2, symbol: "target".to_owned() };
    assert_eq!(Object::parse(&bytes("data_pointer")).unwrap_err(), refused);
}
