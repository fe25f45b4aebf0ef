//! Joining functions.

use bpf_arena_object::{LinkError, Linkage, Program};
use isa::{CallTarget, Imm64, Insn, InsnIdx};

use crate::object;

/// Names of the functions that each function of the program calls or takes the address of.
fn references(program: &Program) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, insn) in program.code.iter() {
        let offset = match insn {
            Insn::Call { target: CallTarget::Local(offset) } => offset,
            Insn::LoadImm64 { value: Imm64::Func(offset), .. } => offset,
            _ => continue,
        };
        let target = InsnIdx(u32::try_from(i64::from(at.0) + 1 + i64::from(offset)).unwrap());
        let from = program.subprogram_at(at).unwrap();
        let to = program.subprograms.iter().find(|s| s.start == target).unwrap();
        found.push((from.name.clone(), to.name.clone()));
    }
    found
}

fn names(program: &Program) -> Vec<&str> {
    program.subprograms.iter().map(|s| s.name.as_str()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn functions_follow_in_the_order_they_are_met() {
    let program = object("calls").link("first").unwrap();
    assert_eq!(names(&program), ["first", "weak", "global", "leaf", "hidden"]);
    let expected = [
        ("first", "weak"),
        ("first", "hidden"),
        ("weak", "global"),
        ("weak", "leaf"),
        ("global", "leaf"),
        ("hidden", "leaf"),
    ];
    assert_eq!(references(&program), pairs(&expected));
    let linkage: Vec<_> = program.subprograms.iter().map(|s| s.linkage).collect();
    use Linkage::{Global, Static, Weak};
    assert_eq!(
        linkage,
        [Global, Weak, Global, Static, Static],
        "a hidden function is verified as a static one"
    );
    assert!(program.subprograms.windows(2).all(|p| p[0].end == p[1].start));
    assert_eq!(program.subprograms.last().map(|s| s.end.index()), Some(program.code.len()));
}

#[test]
fn callbacks_are_reached_by_address() {
    let program = object("calls").link("second").unwrap();
    assert_eq!(names(&program), ["second", "static_callback", "leaf", "global_callback", "hidden"]);
    let expected = [
        ("second", "static_callback"),
        ("second", "global_callback"),
        ("second", "hidden"),
        ("static_callback", "leaf"),
        ("hidden", "leaf"),
    ];
    assert_eq!(references(&program), pairs(&expected));
}

#[test]
fn every_function_has_its_type_and_every_instruction_its_line() {
    let object = object("calls");
    let btf = object.btf.as_ref().unwrap();
    for info in &object.programs {
        let program = object.link(&info.name).unwrap();
        for function in &program.subprograms {
            assert_eq!(btf.name(function.btf_func.unwrap()), function.name);
            assert_eq!(program.line_at(function.start).map(|l| l.insn), Some(function.start));
        }
        assert!(program.lines.is_sorted_by_key(|l| l.insn));
    }
}

#[test]
fn a_question_mark_makes_a_program_optional() {
    let object = object("calls");
    let optional: Vec<_> = object.programs.iter().map(|p| (p.name.as_str(), p.kind.optional)).collect();
    assert_eq!(optional, [("first", false), ("second", false), ("optional", true)]);
    assert_eq!(object.link("optional").unwrap().section, "?tc");
}

#[test]
fn an_unknown_program_is_answered_with_those_there_are() {
    let error = object("calls").link("third").unwrap_err();
    let LinkError::NoSuchProgram { name, available } = error else { panic!("{error}") };
    assert_eq!(
        (name.as_str(), available.as_slice()),
        ("third", &["first", "second", "optional"].map(str::to_owned)[..])
    );
    assert!(object("calls").link("leaf").is_err(), "a static function is no program");
}
