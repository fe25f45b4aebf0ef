//! Objects that are well formed and ask for something that cannot be: clang's output with a few bytes changed.

use bpf_arena_object::{ExternFault, LinkError, MapFault, Object, ObjectError, RelocationFault};

use crate::{bytes, object};

/// The object with the first `from` after `start` replaced by `to`, which is as long.
fn patched(name: &str, start: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes(name);
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    let base = find(&bytes, start);
    let at = base + find(&bytes[base..], from);
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

/// The same for a string of the type information.
fn renamed(name: &str, from: &str, to: &str) -> Vec<u8> {
    const BTF: &[u8] = &[0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0];
    let whole = |text: &str| format!("\0{text}\0").into_bytes();
    patched(name, BTF, &whole(from), &whole(to))
}

fn map_fault(bytes: &[u8]) -> (String, MapFault) {
    match Object::parse(bytes).unwrap_err() {
        ObjectError::BadMap { map, fault } => (map, fault),
        other => panic!("{other}"),
    }
}

#[test]
fn map_attributes_that_mean_nothing() {
    let unknown = MapFault::UnknownAttribute { attribute: "min_entries".to_owned() };
    let (map, fault) = map_fault(&renamed("arena", "max_entries", "min_entries"));
    assert_eq!((map.as_str(), fault), ("arena", unknown));
    // The number of entries as a pinning value, the type as a key.
    let pinned = map_fault(&renamed("maps", "max_entries", "pinning\0xyz"));
    assert_eq!(pinned, ("outer".to_owned(), MapFault::BadPinning { value: 4 }));
    assert_eq!(map_fault(&renamed("arena", "type", "key\0")).1, MapFault::NoType);
    let not_last = MapFault::BadAttribute { attribute: "values".to_owned() };
    assert_eq!(map_fault(&renamed("maps", "value_size", "values\0xyz")), ("by_size".to_owned(), not_last));
}

#[test]
fn declared_maps_need_their_description() {
    let error = Object::parse(&renamed("arena", ".maps", ".mapz")).unwrap_err();
    assert_eq!(error, ObjectError::NoBtf { section: ".maps".to_owned() });
}

#[test]
fn externs_live_in_ksyms_or_kconfig() {
    for (name, section, other) in [("externs", ".ksyms", ".kzyms"), ("kconfig", ".kconfig", ".kconfih")] {
        let error = Object::parse(&renamed(name, section, other)).unwrap_err();
        let ObjectError::BadExtern { fault, .. } = error else { panic!("{error}") };
        assert_eq!(fault, ExternFault::WrongSection);
    }
}

#[test]
fn an_extern_without_description_is_an_error_where_it_is_used() {
    let object = Object::parse(&renamed("externs", "kernel_init_task", "kernel_exit_task")).unwrap();
    let LinkError::Relocation { symbol, fault, .. } = object.link("one").unwrap_err() else {
        panic!("linked")
    };
    assert_eq!((symbol.as_str(), fault), ("kernel_init_task", RelocationFault::Undefined));
}

#[test]
fn a_call_into_the_middle_of_a_function_is_named() {
    // The only call without relocation would be one to a static function of the same section: make one of `weak`'s.
    let call = [0x85, 0x10, 0, 0];
    let original = object("calls").link("first").unwrap();
    assert_eq!(original.subprograms.len(), 5);
    let mut found = None;
    let whole = bytes("calls");
    for (at, _) in whole.windows(4).enumerate().filter(|(at, w)| at % 8 == 0 && *w == call) {
        let mut bytes = whole.clone();
        let imm = i32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        bytes[at + 4..at + 8].copy_from_slice(&(imm + 1).to_le_bytes());
        let Ok(object) = Object::parse(&bytes) else { continue };
        if let Err(error) = object.link("first") {
            found = Some(error);
            break;
        }
    }
    let Some(LinkError::BadCall { target_section, target, .. }) = found else { panic!("{found:?}") };
    assert_eq!(target_section, ".text");
    assert!(target > 0);
}

#[test]
fn bytes_that_are_no_instruction_are_left_to_the_kernel() {
    // `exit` with a register in a field that must be zero.
    let (exit, wrong) = ([0x95, 0, 0, 0, 0, 0, 0, 0], [0x95, 0x30, 0, 0, 0, 0, 0, 0]);
    let bytes = patched("struct_ops", &[0x95], &exit, &wrong);
    let object = Object::parse(&bytes).unwrap();
    let LinkError::Decode { section, function, insn, .. } = object.link("start").unwrap_err() else {
        panic!("decoded");
    };
    assert_eq!((section.as_str(), function.as_str(), insn.0), ("struct_ops/start", "start", 1));
    let raw = object.link_raw("start", &Default::default()).unwrap();
    assert_eq!(raw.bytes()[8..], wrong);
}

#[test]
fn contents_that_overlap_are_refused() {
    // Every section claims the whole file: together they would be many times as long.
    let mut bytes = bytes("arena");
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let table = usize::try_from(word(&bytes, 40)).unwrap();
    let count = usize::from(u16::from_le_bytes(bytes[60..62].try_into().unwrap()));
    let length = bytes.len() as u64;
    for index in 0..count {
        let header = table + index * 64;
        if u32::from_le_bytes(bytes[header + 4..header + 8].try_into().unwrap()) == 1 {
            bytes[header + 24..header + 32].copy_from_slice(&0u64.to_le_bytes());
            bytes[header + 32..header + 40].copy_from_slice(&length.to_le_bytes());
        }
    }
    assert_eq!(Object::parse(&bytes).unwrap_err(), ObjectError::Elf("sections overlap".to_owned()));
}
