//! The tests of the kernel's `test_verifier`, which are tables of instructions in C.
//!
//! Nothing of them is in this repository: a program that is made where the kernel's source is prints them in the plain
//! form that [`parse`] reads, one `key value` a line, a test from `test NAME` to `end`. Here they become programs.

use std::sync::Arc;

use bpf_object::{
    Btf, Composite, Extern, ExternKind, Int, Kind, Linked, MapSpec, MapType, Member, ProgType, ProgramKind,
    Type, TypeId,
};
use isa::{Endian, InsnIdx, RawInsn};

use crate::program::subprograms;

/// What a test expects of the verifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// It accepts.
    #[default]
    Accept,
    /// It refuses.
    Reject,
}

/// One test of the tables.
#[derive(Clone, Debug)]
pub struct TableTest {
    /// File of the table without `.c`, and the test's number in it: names of tests occur more than once.
    pub id: String,
    /// What it is about.
    pub description: String,
    /// What is expected.
    pub expected: Expected,
    /// Parts of the log that are expected, in this order; empty when nothing is.
    pub messages: Vec<String>,
    /// `BPF_F_*` of the load.
    pub flags: u32,
    /// The program; its slots may be no instructions.
    pub linked: Linked,
}

/// Reads what the printing program printed. `None` at the first line that makes no sense.
#[must_use]
pub fn parse(text: &str) -> Option<Vec<TableTest>> {
    let mut tests = Vec::new();
    let (mut file, mut number) = ("", 0);
    let mut draft: Option<Draft<'_>> = None;
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match (key, draft.as_mut()) {
            ("file", _) => (file, number) = (value.strip_suffix(".c").unwrap_or(value), 0),
            ("test", _) => {
                number += 1;
                let id = format!("{file}/{number}");
                draft = Some(Draft { id, description: value, ..Draft::default() });
            }
            ("end", Some(_)) => tests.push(draft.take()?.finish()?),
            (_, Some(draft)) => draft.set(key, value)?,
            _ => return None,
        }
    }
    Some(tests)
}

/// A test on its way.
#[derive(Default)]
struct Draft<'a> {
    id: String,
    description: &'a str,
    prog_type: u32,
    attach_type: u32,
    flags: u32,
    rejected: bool,
    messages: Vec<String>,
    slots: Vec<RawInsn>,
    /// Kind of map and the slots that name it.
    maps: Vec<(&'a str, Vec<usize>)>,
    kfuncs: Vec<(&'a str, usize)>,
    target: Option<&'a str>,
    types: Vec<u8>,
    strings: Vec<u8>,
    functions: Vec<(u32, u32)>,
}

impl<'a> Draft<'a> {
    fn set(&mut self, key: &str, value: &'a str) -> Option<()> {
        let numbers = || value.split(' ').map(|word| word.parse().ok()).collect::<Option<Vec<u32>>>();
        match key {
            "type" => self.prog_type = value.parse().ok()?,
            "attach" => self.attach_type = value.parse().ok()?,
            "flags" => self.flags = load_flags(value.parse().ok()?),
            "result" => self.rejected = value == "2",
            "message" => self.messages.push(value.to_owned()),
            "insns" => {
                let bytes = unhex(value)?;
                let (slots, _) = bytes.as_chunks();
                self.slots = slots.iter().map(|slot| RawInsn::from_bytes(*slot, Endian::Little)).collect();
            }
            "map" => {
                let mut words = value.split(' ');
                let kind = words.next()?;
                self.maps.push((kind, words.map(|word| word.parse().ok()).collect::<Option<_>>()?));
            }
            "kfunc" => {
                let (name, at) = value.split_once(' ')?;
                self.kfuncs.push((name, at.parse().ok()?));
            }
            "target" => self.target = Some(value),
            "types" => self.types = unhex(value)?,
            "strings" => self.strings = unhex(value)?,
            "function" => {
                let &[at, ty] = numbers()?.as_slice() else { return None };
                self.functions.push((at, ty));
            }
            _ => return None,
        }
        Some(())
    }

    fn finish(mut self) -> Option<TableTest> {
        const SLEEPABLE: u32 = 1 << 4;
        let own_btf = !self.types.is_empty();
        let btf = if own_btf { Btf::parse(&self.btf_bytes()).ok()? } else { map_types()? };
        let maps = self.name_maps();
        let externs = self.name_kfuncs();
        let prog_type = if self.prog_type == 0 { ProgType::SocketFilter as u32 } else { self.prog_type };
        let kind = ProgramKind {
            prog_type: ProgType::from_number(prog_type),
            attach_type: Some(self.attach_type),
            sleepable: self.flags & SLEEPABLE != 0,
            xdp_frags: false,
            target: self.target.map(str::to_owned),
            optional: false,
        };
        let mut parts = subprograms(&self.slots);
        for part in &mut parts {
            let function = self.functions.iter().find(|(at, _)| InsnIdx(*at) == part.start);
            part.btf_func = function.map(|&(_, ty)| TypeId(ty));
        }
        let expected = if self.rejected { Expected::Reject } else { Expected::Accept };
        Some(TableTest {
            id: self.id,
            description: self.description.to_owned(),
            expected,
            messages: self.messages,
            flags: self.flags,
            linked: Linked {
                name: "table".to_owned(),
                section: kind.prog_type.map_or_else(String::new, |kind| format!("{kind:?}")),
                kind,
                slots: self.slots,
                subprograms: parts,
                maps: Arc::from(maps),
                externs,
                btf: Some(Arc::new(btf)),
                lines: Vec::new(),
                license: "GPL".to_owned(),
            },
        })
    }

    /// A `.BTF` section around the types and strings of the test.
    fn btf_bytes(&self) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let (types, strings) = (length(&self.types), length(&self.strings));
        for word in [24, 0, types, types, strings] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }

    /// Makes the maps, and lets the instructions name them by number.
    fn name_maps(&mut self) -> Vec<MapSpec> {
        const MAP_IDX: u8 = 5;
        const MAP_IDX_VALUE: u8 = 6;
        let mut maps = Vec::new();
        for (kind, places) in &self.maps {
            let number = i32::try_from(maps.len()).unwrap_or(i32::MAX);
            maps.push(map(kind));
            for &at in places {
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.imm = number;
                    slot.src_reg = if slot.src_reg == 2 { MAP_IDX_VALUE } else { MAP_IDX };
                }
            }
        }
        maps
    }

    fn name_kfuncs(&mut self) -> Vec<Extern> {
        let mut externs: Vec<Extern> = Vec::new();
        for &(name, at) in &self.kfuncs {
            let known = externs.iter().position(|e| e.name == name).unwrap_or_else(|| {
                let kind = ExternKind::Function;
                externs.push(Extern { name: name.to_owned(), kind, weak: false, btf: None });
                externs.len() - 1
            });
            if let Some(slot) = self.slots.get_mut(at) {
                slot.imm = i32::try_from(known).unwrap_or(i32::MAX);
            }
        }
        externs
    }
}

/// `test_verifier` has names of its own for the first three flags; the others are the kernel's.
fn load_flags(flags: u32) -> u32 {
    const EFFICIENT: u32 = 1 << 0;
    const STRICT: u32 = 1 << 1;
    let alignment = if flags & STRICT != 0 { 1 << 0 } else { 0 };
    let any = if flags & EFFICIENT != 0 { 1 << 1 } else { 0 };
    let own = if flags & !3 != 0 { flags } else { 0 };
    alignment | any | own
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// Types of [`map_types`].
const INT: u32 = 1;
const LOCKED: u32 = 3;
const TIMED: u32 = 5;
const POINTERS: u32 = 14;
/// Bytes of the value that most maps hold: a number and eleven more.
const VALUE: u32 = 48;

/// The map that the tables call so.
fn map(kind: &str) -> MapSpec {
    let sized = |map_type, key_size, value_size| MapSpec {
        key_size,
        value_size,
        max_entries: 1,
        ..MapSpec::new(kind, map_type)
    };
    let typed =
        |spec: MapSpec, value| MapSpec { key_btf: Some(TypeId(INT)), value_btf: Some(TypeId(value)), ..spec };
    let array = |value_size| sized(MapType::Array, 4, value_size);
    match kind {
        "hash_8b" => sized(MapType::Hash, 8, 8),
        "hash_48b" => sized(MapType::Hash, 8, VALUE),
        "hash_16b" => sized(MapType::Hash, 8, 16),
        "array_ro" => MapSpec { flags: 1 << 7, ..array(VALUE) },
        "array_wo" => MapSpec { flags: 1 << 8, ..array(VALUE) },
        "array_small" => array(1),
        "prog1" => MapSpec { max_entries: 4, ..sized(MapType::ProgArray, 4, 4) },
        "prog2" => MapSpec { max_entries: 8, ..sized(MapType::ProgArray, 4, 4) },
        "in_map" => {
            let inner = Some(Box::new(array(4)));
            MapSpec { inner, ..sized(MapType::ArrayOfMaps, 4, 4) }
        }
        "cgroup_storage" => MapSpec { max_entries: 0, ..sized(MapType::CgroupStorage, 16, 64) },
        "percpu_cgroup_storage" => MapSpec { max_entries: 0, ..sized(MapType::PercpuCgroupStorage, 16, 64) },
        "sockmap" => sized(MapType::Sockmap, 4, 4),
        "sockhash" => sized(MapType::Sockhash, 4, 4),
        "xskmap" => sized(MapType::Xskmap, 4, 4),
        "stacktrace" => sized(MapType::StackTrace, 4, 8),
        "event_output" => sized(MapType::PerfEventArray, 4, 4),
        "reuseport_array" => sized(MapType::ReuseportSockarray, 4, 8),
        "ringbuf" => MapSpec { max_entries: 4096, ..sized(MapType::Ringbuf, 0, 0) },
        "spin_lock" => typed(array(8), LOCKED),
        "sk_storage" => {
            let storage = MapSpec { flags: 1, max_entries: 0, ..sized(MapType::SkStorage, 4, 8) };
            typed(storage, LOCKED)
        }
        "timer" => typed(array(16), TIMED),
        "kptr" => typed(array(24), POINTERS),
        _ => array(VALUE),
    }
}

/// Types of values with a lock, a timer and kernel pointers.
fn map_types() -> Option<Btf> {
    let mut btf = Btf::default();
    let mut add = |name: &str, kind: Kind| {
        let name = btf.add_str(name);
        btf.push(Type { name, kind })
    };
    let int = add("int", Kind::Int(Int { size: 4, bits: 32, signed: true, ..Int::default() }));
    // Members are named afterwards: their names are in the same BTF.
    let composite = |size| Kind::Struct(Composite { size, ..Composite::default() });
    let lock = add("bpf_spin_lock", composite(4));
    let locked = add("val", composite(8));
    let timer = add("bpf_timer", composite(16));
    let timed = add("timer", composite(16));
    let counted = add("prog_test_ref_kfunc", composite(0));
    let member = add("prog_test_member", composite(0));
    let untrusted_tag = add("kptr_untrusted", Kind::TypeTag { ty: counted, attribute: false });
    let tag = add("kptr", Kind::TypeTag { ty: counted, attribute: false });
    let member_tag = add("kptr", Kind::TypeTag { ty: member, attribute: false });
    let untrusted = add("", Kind::Ptr(untrusted_tag));
    let trusted = add("", Kind::Ptr(tag));
    let to_member = add("", Kind::Ptr(member_tag));
    let pointers = add("btf_ptr", composite(24));
    let fill = |btf: &mut Btf, id: TypeId, size: u32, members: &[(&str, TypeId, u32)]| {
        let named = |&(name, ty, bit_offset): &(&str, TypeId, u32), btf: &mut Btf| Member {
            name: btf.add_str(name),
            ty,
            bit_offset,
            ..Member::default()
        };
        let members = members.iter().map(|m| named(m, btf)).collect();
        let name = btf.get(id)?.name;
        let kind = Kind::Struct(Composite { size, members, kind_flag: false });
        btf.replace(id, Type { name, kind }).then_some(())
    };
    fill(&mut btf, lock, 4, &[("val", int, 0)])?;
    fill(&mut btf, locked, 8, &[("cnt", int, 0), ("l", lock, 32)])?;
    fill(&mut btf, timed, 16, &[("t", timer, 0)])?;
    let pointer_members = [("ptr", untrusted, 0), ("ptr", trusted, 64), ("ptr", to_member, 128)];
    fill(&mut btf, pointers, 24, &pointer_members)?;
    ([int, locked, timed, pointers] == [INT, LOCKED, TIMED, POINTERS].map(TypeId)).then_some(btf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table() {
        let lddw = "18110000000000000000000000000000";
        let exit = "9500000000000000";
        let text = |insns: &str| {
            format!(
                "file a.c\ntest one thing\ntype 0\nflags 2\nresult 2\nmessage R0 !read_ok\nmap hash_8b 0 2\n\
                 insns {insns}\nend\n"
            )
        };
        assert!(parse(&text("951")).is_none(), "half a byte");
        let text = text(&[lddw, lddw, exit].concat());
        let tests = parse(&text).unwrap();
        let test = &tests[0];
        assert_eq!((test.id.as_str(), test.expected, test.flags), ("a/1", Expected::Reject, 1));
        assert_eq!(test.linked.slots[0].src_reg, 5);
        assert_eq!(test.linked.maps[0].map_type, MapType::Hash);
        assert_eq!(test.messages, ["R0 !read_ok"]);
    }

    #[test]
    fn types_of_values() {
        assert!(map_types().is_some());
    }
}
