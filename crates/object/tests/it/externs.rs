//! Kernel functions, variables and configuration values.

use bpf_arena_object::{ExternKind, Kconfig, KconfigFault, LinkError, LinkOptions, MapOrigin};
use isa::{CallTarget, Imm64, Insn};

use crate::object;

#[test]
fn externs_have_kind_weakness_and_no_flavor() {
    use ExternKind::{Address, Function, TypedVariable};
    let object = object("externs");
    let mut externs: Vec<_> = object.externs.iter().map(|e| (e.name.as_str(), e.kind, e.weak)).collect();
    externs.sort_unstable_by_key(|e| e.0);
    let expected = [
        ("kernel_find_task", Function, false),
        ("kernel_init_task", TypedVariable, false),
        ("kernel_put_task", Function, true),
        ("kernel_reads", Function, true),
        ("kernel_start", Address, false),
        ("kernel_weak_counter", TypedVariable, true),
    ];
    assert_eq!(externs, expected);
    let btf = object.btf.as_ref().unwrap();
    assert!(object.externs.iter().all(|e| btf.name(e.btf.unwrap()).starts_with(&e.name)));
}

#[test]
fn a_program_has_the_externs_it_uses() {
    let object = object("externs");
    let one = object.link("one").unwrap();
    assert_eq!(one.externs.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["kernel_init_task"]);
    assert!(one.code.iter().any(|(_, insn)| {
        matches!(insn, Insn::LoadImm64 { value: Imm64::BtfVar { btf_id: 0, btf_fd: 0 }, .. })
    }));
    let program = object.link("use").unwrap();
    assert_eq!(program.externs.len(), 6);
    let called: Vec<_> = program
        .code
        .iter()
        .filter_map(|(_, insn)| match insn {
            Insn::Call { target: CallTarget::Kfunc { btf_id, module: 0 } } => {
                Some(program.externs[usize::try_from(btf_id).unwrap()].name.as_str())
            }
            _ => None,
        })
        .collect();
    assert_eq!(called, ["kernel_find_task", "kernel_reads", "kernel_put_task"]);
}

fn configuration() -> Kconfig {
    let mut config = Kconfig::parse(
        "CONFIG_A_BOOL=y\nCONFIG_A_CHAR=m\nCONFIG_A_SHORT=513\nCONFIG_A_LONG=0x123456789\nCONFIG_A_TRISTATE=m\n\
         CONFIG_A_TEXT=\"longer than eight\"\n",
    );
    config.set_kernel_version(6, 18, 44);
    config
}

#[test]
fn configuration_values_fill_a_map() {
    let object = object("kconfig");
    let options = LinkOptions { kconfig: configuration(), ..LinkOptions::default() };
    let program = object.link_with("sum", &options).unwrap();
    let (index, spec) = object.map(".kconfig").unwrap();
    assert_eq!(spec.origin, MapOrigin::Kconfig);
    assert!(spec.initial.is_empty(), "the object alone has no values");
    let map = &program.maps[index];
    let value = |name: &str| {
        let variable = object.variables.iter().find(|v| v.name == name).unwrap();
        assert_eq!(variable.map, index);
        let start = variable.offset as usize;
        let mut bytes = map.initial.clone();
        bytes.resize(map.value_size as usize, 0);
        bytes[start..start + variable.size as usize].to_vec()
    };
    assert_eq!(value("LINUX_KERNEL_VERSION"), 0x0006_122cu32.to_le_bytes());
    assert_eq!(value("CONFIG_A_BOOL"), [1]);
    assert_eq!(value("CONFIG_A_CHAR"), *b"m");
    assert_eq!(value("CONFIG_A_SHORT"), 513u16.to_le_bytes());
    assert_eq!(value("CONFIG_A_LONG"), 0x1_2345_6789u64.to_le_bytes());
    assert_eq!(value("CONFIG_A_TRISTATE"), 2u32.to_le_bytes());
    assert_eq!(value("CONFIG_A_TEXT"), *b"longer \0");
    assert_eq!(value("CONFIG_MISSING"), [0; 4], "weak, and not given");
    let first = &object.variables.iter().find(|v| v.map == index && v.offset == 0).unwrap().name;
    assert_eq!(first, "CONFIG_A_LONG", "the largest alignment comes first");
}

#[test]
fn missing_and_wrong_values_are_named() {
    let object = object("kconfig");
    let fault = |options: &LinkOptions| match object.link_with("sum", options).unwrap_err() {
        LinkError::Kconfig { name, fault } => (name, fault),
        other => panic!("{other}"),
    };
    let (_, missing) = fault(&LinkOptions::default());
    assert_eq!(missing, KconfigFault::Missing);
    let mut kconfig = configuration();
    kconfig.set("CONFIG_A_SHORT", bpf_arena_object::KconfigValue::Number(65_536));
    let (name, fault) = fault(&LinkOptions { kconfig, ..LinkOptions::default() });
    assert_eq!(name, "CONFIG_A_SHORT");
    assert_eq!(fault, KconfigFault::TooBig { value: "65536".to_owned(), bytes: 2 });
}
