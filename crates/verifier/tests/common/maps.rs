//! Programs from text, as the text cases and generated ones are written, and the maps that they name.

#![allow(unreachable_pub, reason = "a module of two crates, one of which shows it")]

use std::sync::Arc;

use bpf_object::{
    Btf, BtfLinkage, Composite, Extern, ExternKind, FuncProto, Int, Kind, MapSpec, MapType, Member, Param,
    Program, StrId, Type, TypeId,
};
use isa::{AsmError, CallTarget, assemble_with};

/// Types of [`types`].
const LOCKED: TypeId = TypeId(3);
const TIMED: TypeId = TypeId(5);
const RESILIENT: TypeId = TypeId(11);
const GRAPH: TypeId = TypeId(23);
/// The function that a program begins with, in [`types`].
pub const ENTRY: TypeId = TypeId(8);
/// Any other function: callbacks have to have a type.
pub const FUNCTION: TypeId = TypeId(9);

/// A program from its text, with the maps and types of every case; kernel functions are called by name.
///
/// # Errors
/// The text cannot be assembled.
pub fn assembled(name: &str, section: &str, text: &str) -> Result<Program, AsmError> {
    let externs = std::cell::RefCell::new(Vec::<Extern>::new());
    let symbols = |name: &str| {
        if !name.starts_with("bpf_") || isa::helper_number(name).is_some() {
            return None;
        }
        let mut externs = externs.borrow_mut();
        let known = externs.iter().position(|e| e.name == name);
        let index = known.unwrap_or(externs.len());
        if known.is_none() {
            let kind = ExternKind::Function;
            externs.push(Extern { name: name.to_owned(), kind, weak: false, btf: None });
        }
        Some(CallTarget::Kfunc { btf_id: i32::try_from(index).ok()?, module: 0 })
    };
    let code = assemble_with(text, &symbols)?.code;
    let mut program = Program::from_code(name, section, code);
    program.externs = externs.into_inner();
    program.maps = maps();
    program.btf = Some(Arc::new(types()));
    Ok(program)
}

/// The maps of every case.
#[must_use]
pub fn maps() -> Arc<[MapSpec]> {
    let spec = |name: &str, map_type, (key_size, value_size), max_entries| MapSpec {
        key_size,
        value_size,
        max_entries,
        ..MapSpec::new(name, map_type)
    };
    let typed = |spec: MapSpec, value| MapSpec { key_btf: Some(TypeId(1)), value_btf: Some(value), ..spec };
    let arena = spec("arena", MapType::Arena, (0, 0), 16);
    let inner = Box::new(spec("inner", MapType::Array, (4, 4), 1));
    Arc::from([
        MapSpec { flags: bpf_object::BPF_F_MMAPABLE, ..arena },
        spec("array", MapType::Array, (4, 64), 1),
        spec("hash", MapType::Hash, (8, 16), 8),
        spec("programs", MapType::ProgArray, (4, 4), 4),
        spec("ringbuf", MapType::Ringbuf, (0, 0), 4096),
        typed(spec("locked", MapType::Array, (4, 8), 1), LOCKED),
        typed(spec("timed", MapType::Array, (4, 16), 1), TIMED),
        spec("percpu", MapType::PercpuArray, (4, 16), 4),
        spec("events", MapType::PerfEventArray, (4, 4), 4),
        spec("sockets", MapType::Sockmap, (4, 4), 4),
        MapSpec { inner: Some(inner), ..spec("nested", MapType::ArrayOfMaps, (4, 4), 4) },
        typed(spec("graph", MapType::Array, (4, 56), 1), GRAPH),
        typed(spec("resilient", MapType::Array, (4, 4), 2), RESILIENT),
    ])
}

/// Types of the values of some of the maps.
#[must_use]
pub fn types() -> Btf {
    let mut btf = Btf::default();
    let mut add = |name: &str, size, members: &[(&str, TypeId, u32)]| {
        let member = |&(name, ty, bit_offset): &(&str, TypeId, u32)| Member {
            name: btf.add_str(name),
            ty,
            bit_offset,
            bit_size: 0,
        };
        let members: Vec<Member> = members.iter().map(member).collect();
        let kind = match name {
            "int" => Kind::Int(Int { size, bits: 32, signed: true, ..Int::default() }),
            _ => Kind::Struct(Composite { size, members, kind_flag: false }),
        };
        let name = btf.add_str(name);
        btf.push(Type { name, kind })
    };
    let int = add("int", 4, &[]);
    let lock = add("bpf_spin_lock", 4, &[("val", int, 0)]);
    let locked = add("locked", 8, &[("count", int, 0), ("lock", lock, 32)]);
    let timer = add("bpf_timer", 16, &[]);
    let timed = add("timed", 16, &[("timer", timer, 0)]);
    let long = {
        let name = btf.add_str("long");
        btf.push(Type { name, kind: Kind::Int(Int { size: 8, bits: 64, signed: true, ..Int::default() }) })
    };
    let params = ["a", "b", "c", "d"].map(|name| Param { name: btf.add_str(name), ty: long });
    let proto = Kind::FuncProto(FuncProto { ret: int, params: params.to_vec() });
    let proto = btf.push(Type { name: StrId(0), kind: proto });
    let mut function = |name: &str, linkage| {
        let name = btf.add_str(name);
        btf.push(Type { name, kind: Kind::Func { proto, linkage } })
    };
    let entry = function("entry", BtfLinkage::Global);
    let other = function("function", BtfLinkage::Static);
    debug_assert_eq!([locked, timed, entry, other], [LOCKED, TIMED, ENTRY, FUNCTION]);
    add_graph(&mut btf, lock, long);
    btf
}

/// Lists and trees of `struct case_item` (type 17), and pointers to `struct case_plain` (type 18).
fn add_graph(btf: &mut Btf, lock: TypeId, long: TypeId) {
    let add = |btf: &mut Btf, name: &str, size, members: &[(&str, TypeId, u32)]| {
        let member = |&(name, ty, offset): &(&str, TypeId, u32)| Member {
            name: btf.add_str(name),
            ty,
            bit_offset: offset * 8,
            bit_size: 0,
        };
        let members = members.iter().map(member).collect();
        let name = btf.add_str(name);
        btf.push(Type { name, kind: Kind::Struct(Composite { size, members, kind_flag: false }) })
    };
    let resilient = add(btf, "bpf_res_spin_lock", 4, &[]);
    let resilient = add(btf, "resilient", 4, &[("lock", resilient, 0)]);
    let head = add(btf, "bpf_list_head", 16, &[]);
    let node = add(btf, "bpf_list_node", 24, &[]);
    let root = add(btf, "bpf_rb_root", 16, &[]);
    let branch = add(btf, "bpf_rb_node", 32, &[]);
    let count = add(btf, "bpf_refcount", 4, &[]);
    let item = [("count", count, 0), ("node", node, 8), ("branch", branch, 32), ("data", long, 64)];
    add(btf, "case_item", 72, &item);
    let plain = add(btf, "case_plain", 8, &[("data", long, 0)]);
    let mut pointer = |tag: &str| {
        let name = btf.add_str(tag);
        let ty = btf.push(Type { name, kind: Kind::TypeTag { ty: plain, attribute: false } });
        btf.push(Type { name: StrId(0), kind: Kind::Ptr(ty) })
    };
    let (owned, loose) = (pointer("kptr"), pointer("kptr_untrusted"));
    let members = [
        ("lock", lock, 0),
        ("owned", owned, 8),
        ("loose", loose, 16),
        ("head", head, 24),
        ("root", root, 40),
    ];
    let graph = add(btf, "graph", 56, &members);
    for (component, text) in [(3, "contains:case_item:node"), (4, "contains:case_item:branch")] {
        let name = btf.add_str(text);
        let kind = Kind::DeclTag { target: graph, component: Some(component), attribute: false };
        btf.push(Type { name, kind });
    }
    debug_assert_eq!([resilient, graph], [RESILIENT, GRAPH]);
}
