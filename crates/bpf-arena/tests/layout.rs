//! Rust types and textual values against the BTF that clang wrote for `bpf/globals.bpf.c` and `bpf/linked_list.bpf.c`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use bpf_arena::typed::{
    ArenaPtr, ArenaType, LayoutError, check_layout, set_initial,
    value::{self, Place},
};
use bpf_object::Object;

fn object(name: &str) -> Object {
    let path = format!("{}/../../bpf/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
    Object::parse(&std::fs::read(path).unwrap()).unwrap()
}

#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Bounds {
    width: u16,
    height: u16,
}

#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Shape {
    name: [u8; 16],
    color: u32,
    corners: [Point; 3],
    area: u64,
    #[arena(name = "box")]
    bounds: Bounds,
    next: ArenaPtr<Shape>,
    _flags: [u8; 2],
    visible: u8,
}

/// The initial value of a variable, as text.
fn initial(object: &Object, path: &str) -> String {
    let (name, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
    let variable = object.variable(name).unwrap();
    let btf = object.btf.as_deref().unwrap();
    let place = Place::whole(btf, variable.ty.unwrap()).and_then(|p| p.follow(btf, rest)).unwrap();
    let mut bytes = vec![0; variable.size as usize];
    let home = &object.maps[variable.map].initial;
    let from = variable.offset as usize;
    let there = home.get(from..(from + bytes.len()).min(home.len())).unwrap_or_default();
    bytes[..there.len()].copy_from_slice(there);
    value::read(btf, place, &bytes).unwrap().to_string()
}

#[test]
fn the_whole_structure_fits() {
    let object = object("globals");
    let btf = object.btf.as_deref().unwrap();
    check_layout::<Shape>(btf, None).unwrap();
    check_layout::<Shape>(btf, object.variable("triangle").unwrap().ty).unwrap();
    check_layout::<ArenaPtr<Shape>>(btf, object.variable("first").unwrap().ty).unwrap();
    check_layout::<ArenaPtr<()>>(btf, object.variable("first").unwrap().ty).unwrap();
    check_layout::<[[Point; 3]; 2]>(btf, object.variable("grid").unwrap().ty).unwrap();
    check_layout::<[u8; 8]>(btf, object.variable("greeting").unwrap().ty).unwrap();
    check_layout::<u32>(btf, object.variable("paint").unwrap().ty).unwrap();
    check_layout::<u8>(btf, object.variable("enabled").unwrap().ty).unwrap();
}

#[test]
fn every_variable_prints_as_written_in_c() {
    let object = object("globals");
    let expected = [
        ("numbers", "{1, -2, 3, -4, 5, -6, 7, -8}"),
        ("origin", "{.x = -1, .y = 1}"),
        (
            "triangle",
            "{.name = \"triangle\", .color = GREEN, .corners = {{.x = 0, .y = 0}, {.x = 4, .y = 0}, \
             {.x = 0, .y = 3}}, .area = {.whole = 6, .half = {6, 0}}, .box = {.width = 4, .height = 3}, \
             .next = NULL, .solid = 1, .layer = 42, .shift = -3, .visible = true}",
        ),
        ("triangle.corners[1].x", "4"),
        ("triangle.layer", "42"),
        ("triangle.shift", "-3"),
        ("hidden", "7"),
        ("byte", "255"),
        ("small", "-300"),
        ("big", "-5000000000"),
        ("moved", "{.x = 10, .y = 20}"),
        ("paint", "BLUE"),
        ("greeting", "\"hello\""),
        ("enabled", "true"),
        ("result", "0"),
        ("first", "NULL"),
        ("grid[1]", "{{.x = 0, .y = 0}, {.x = 0, .y = 0}, {.x = 0, .y = 0}}"),
        ("factor", "2"),
        ("limit.y", "200"),
        ("counters", "{1, 2, 3, 4}"),
        ("calls", "0"),
    ];
    for (path, text) in expected {
        assert_eq!(initial(&object, path), text, "{path}");
    }
}

#[test]
fn initial_values_are_set_by_path() {
    let mut object = object("globals");
    let sets = [
        ("triangle.layer", "0x55", "85"),
        ("triangle.shift", "-8", "-8"),
        ("triangle.color", "BLUE", "BLUE"),
        ("triangle.corners[2].y", "-2147483648", "-2147483648"),
        ("triangle.name", "square", "\"square\""),
        ("factor", "3", "3"),
        ("result", "18446744073709551615", "18446744073709551615"),
        ("enabled", "false", "false"),
        ("first", "0x200000000010", "0x200000000010"),
        ("grid[1][2].x", "9", "9"),
        ("calls", "1", "1"),
    ];
    for (path, text, expected) in sets {
        set_initial(&mut object, path, text).unwrap();
        assert_eq!(initial(&object, path), expected, "{path}");
    }
    assert_eq!(initial(&object, "triangle.solid"), "1", "neighbours of a bit field are left alone");
    assert_eq!(initial(&object, "triangle.visible"), "true");
    assert_eq!(initial(&object, "limit.x"), "100");
}

#[test]
fn what_cannot_be_set_is_named() {
    let mut object = object("globals");
    let refusals = [
        ("nothing", "1", "no variable `nothing`"),
        ("triangle.nothing", "1", "`struct shape` has no member `nothing`"),
        ("numbers[8]", "1", "index 8 is past the end of `s32[8]`"),
        ("byte[0]", "1", "`unsigned char` is no array"),
        ("byte!", "1", "no variable"),
        ("triangle.", "1", "neither"),
        ("byte", "256", "a number from 0 to 255"),
        ("small", "-32769", "a number from -32768 to 32767"),
        ("triangle.shift", "8", "a number from -8 to 7"),
        ("paint", "PINK", "RED, GREEN, BLUE"),
        ("enabled", "yes", "false, true"),
        ("greeting", "too long a text", "15 bytes of text do not fit `char[8]`"),
        ("moved", "1", "cannot be set as a whole"),
        ("byte", "+1", "no value"),
        ("byte", "0x-1", "no value"),
        ("result", "99999999999999999999999999999999999999999999", "no value"),
    ];
    for (path, text, part) in refusals {
        let error = set_initial(&mut object, path, text).unwrap_err().to_string();
        assert!(error.contains(part), "{path}={text}: {error}");
    }
}

/// A structure with one thing wrong, and the words for it.
macro_rules! wrong {
    ($object:expr, $c_name:literal, { $($field:ident: $ty:ty),* }, $text:literal) => {{
        #[derive(ArenaType, Clone, Copy)]
        #[arena(name = $c_name)]
        #[allow(dead_code, reason = "its layout is what is tested")]
        #[repr(C)]
        struct Wrong { $($field: $ty),* }
        let error = check_layout::<Wrong>($object.btf.as_deref().unwrap(), None).unwrap_err();
        assert_eq!(error.to_string(), $text);
        error
    }};
}

#[test]
fn differences_are_named_by_type_and_field() {
    let list = object("linked_list");
    let globals = object("globals");
    wrong!(list, "node", { next: ArenaPtr<()>, value: u32 },
        "Wrong.value: expected u32, the object has u64");
    wrong!(list, "node", { next: ArenaPtr<()>, value: i64 },
        "Wrong.value: expected i64, the object has u64");
    wrong!(list, "node", { value: u64, next: ArenaPtr<()> },
        "Wrong.value: expected at offset 0, the object has it at 8");
    wrong!(list, "node", { next: u64, value: u64 },
        "Wrong.next: expected u64, the object has struct node *");
    wrong!(list, "node", { next: ArenaPtr<()>, val: u64 },
        "Wrong.val: the object's `struct node` has no member `val`; it has `next`, `value`");
    wrong!(list, "node", { next: ArenaPtr<()>, value: u64, _more: u64 },
        "Wrong: expected 24 bytes, the object's `struct node` has 16");
    wrong!(list, "node", { next: ArenaPtr<Point>, value: u64 },
        "Point.x: the object's `struct node` has no member `x`; it has `next`, `value`");
    wrong!(globals, "shape", { _before: [u8; 72], layer: u8, _after: [u8; 7] },
        "Wrong.layer: expected u8, the object has a bit field of 7 bits");
    wrong!(globals, "point", { x: i32, y: [i32; 1] },
        "Wrong.y: expected [i32; 1], the object has s32");
    let error = wrong!(globals, "no_such", { x: u8 }, "Wrong: the object's BTF has no `struct no_such`");
    assert!(matches!(error, LayoutError::NoStruct { .. }));
}
