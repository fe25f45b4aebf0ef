//! The repository's own objects, as clang made them, run by the interpreter and as machine code.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use bpf_arena::error::{LoadError, UnsupportedKind};
use bpf_arena::{App, Engine, Stream};
use codegen::AccessKind;
use common::{EXECUTORS, each_app, each_app_with, object};
use std::sync::{Arc, Mutex};

/// Reads a variable of a data section.
fn variable(app: &App, name: &str) -> u64 {
    let variable = app.object().variable(name).unwrap_or_else(|| panic!("no {name}"));
    let mut bytes = [0; 8];
    let size = variable.size as usize;
    app.maps()[variable.map].read_at(u64::from(variable.offset), &mut bytes[..size]).unwrap();
    u64::from_le_bytes(bytes)
}

fn run(app: &App, program: &str) -> bpf_arena::Outcome {
    app.program(program).unwrap().run(&mut ()).unwrap_or_else(|error| panic!("{program}: {error}"))
}

#[test]
fn every_service_of_the_runtime() {
    each_app("runtime.bpf.o", |executor, app| {
        for program in app.programs() {
            let outcome = run(app, program.name());
            assert_eq!(outcome.return_value, 0, "{executor}: {}", program.name());
            assert!(outcome.faults.is_empty(), "{executor}: {}: {:?}", program.name(), outcome.faults);
        }
    });
}

#[test]
fn output_goes_to_its_stream() {
    let messages = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&messages);
    let record = move |stream: Stream, text: &[u8]| {
        sink.lock().unwrap().push((stream, String::from_utf8_lossy(text).into_owned()));
    };
    each_app_with(
        "runtime.bpf.o",
        |engine| engine.output(record.clone()),
        |executor, app| {
            run(app, "trace");
            run(app, "stream");
            let expected = [
                (Stream::Trace, "traced 1 of 2".to_owned()),
                (Stream::Stdout, "out 7 8\n".to_owned()),
                (Stream::Stderr, "err feed\n".to_owned()),
            ];
            assert_eq!(std::mem::take(&mut *messages.lock().unwrap()), expected, "{executor}");
        },
    );
}

#[test]
fn faults_name_kind_address_and_source_line() {
    let rows = [
        ("load_after_free", AccessKind::Load, 0, "read_word", "return *at; /* a load that faults */"),
        ("store_after_free", AccessKind::Store, 24, "write_word", "*at = value; /* a store that faults */"),
        (
            "atomic_after_free",
            AccessKind::Atomic,
            0,
            "add_word",
            "return __sync_fetch_and_add(at, value); /* an atomic that faults */",
        ),
    ];
    each_app("faults.bpf.o", |executor, app| {
        let start = app.arena().unwrap().user_vm_start().get();
        for (program, kind, offset, function, source) in rows {
            let outcome = run(app, program);
            assert_eq!((outcome.return_value, outcome.faults.total()), (0, 1), "{executor}: {program}");
            let fault = &outcome.faults.records()[0];
            assert_eq!((fault.kind, fault.size), (kind, 8), "{executor}: {program}");
            assert_eq!(fault.address.get(), start + offset, "{executor}: {program}");
            assert_eq!(fault.frames[0].function, function, "{executor}: {program}");
            assert_eq!(fault.line().unwrap().source.trim(), source, "{executor}: {program}");
            let caller = fault.frames.last().unwrap();
            assert_eq!(caller.function, program, "{executor}: {:?}", fault.frames);
            assert_eq!(fault.frames.len(), 2, "{executor}: {:?}", fault.frames);
            let text = fault.to_string();
            assert!(text.contains("faults.bpf.c:"), "{text}");
            assert!(text.contains("called from"), "{text}");
        }
        assert_eq!(variable(app, "loaded"), 0, "{executor}");
        assert_eq!(variable(app, "survived"), 3, "{executor}");
    });
}

#[test]
fn the_faults_of_machine_code_are_in_inlined_functions() {
    let object = object("faults.bpf.o");
    let engine = Engine::user();
    for (program, function) in [
        ("load_after_free", "read_word"),
        ("store_after_free", "write_word"),
        ("atomic_after_free", "add_word"),
        ("load_null", "read_word"),
    ] {
        let program = object.spec().link_with(program, &engine.link_options()).unwrap();
        let verified = verifier::verify(&program, engine.verifier_env()).unwrap();
        let compiled = codegen::compile(&verified, &codegen::Options::default()).unwrap();
        let name = |insn| program.subprogram_at(insn).unwrap().name.as_str();
        let sites: Vec<_> = compiled.faults.iter().filter(|site| name(site.insn) == function).collect();
        assert!(!sites.is_empty(), "{}: {:?}", program.name, compiled.faults);
        for site in sites {
            let callers: Vec<_> = compiled.inlined_calls(site.inlined).map(name).collect();
            assert_eq!(callers, [program.name.as_str()], "{site:?}");
        }
    }
}

#[test]
fn a_null_pointer_reads_zero() {
    each_app("faults.bpf.o", |executor, app| {
        let outcome = run(app, "load_null");
        assert_eq!(outcome.faults.total(), 1, "{executor}");
        assert_eq!(outcome.faults.records()[0].address.low32(), 8, "{executor}");
        assert_eq!(variable(app, "loaded"), 0, "{executor}");
    });
}

#[test]
fn globals_of_every_section() {
    each_app("globals.bpf.o", |executor, app| {
        assert_eq!(run(app, "step").return_value, 0, "{executor}");
        // (-4 - 5,000,000,000) * 2
        assert_eq!(variable(app, "result").cast_signed(), -10_000_000_008, "{executor}");
        let triangle = app.object().variable("triangle").unwrap();
        let start = app.arena().unwrap().user_vm_start().get();
        assert_eq!(variable(app, "first"), start + u64::from(triangle.offset), "{executor}");
    });
}

#[test]
fn constants_are_set_before_loading() {
    let mut changed = object("globals.bpf.o");
    changed.set_variable("factor", &3u32.to_le_bytes()).unwrap();
    assert!(changed.set_variable("factor", &[1]).is_err());
    assert!(changed.set_variable("no_such", &[1]).is_err());
    let variable = changed.spec().variable("factor").unwrap().clone();
    let at = variable.offset as usize;
    assert_eq!(changed.spec().maps[variable.map].initial[at..at + 4], [3, 0, 0, 0]);
    // The original is another copy.
    assert_eq!(object("globals.bpf.o").spec().maps[variable.map].initial[at..at + 4], [2, 0, 0, 0]);
}

#[test]
fn what_no_runtime_has_is_listed() {
    let _alone = common::alone();
    for (executor, engine) in EXECUTORS {
        let object = object("unknown_helper.bpf.o");
        match object.load(engine()) {
            Err(LoadError::Unsupported(list)) => {
                assert_eq!(list.len(), 1, "{executor}: {list:?}");
                assert_eq!(list[0].kind, UnsupportedKind::Helper(9999));
                assert_eq!(list[0].program.as_deref(), Some("calls_helper"));
                assert!(list[0].line.as_ref().unwrap().source.contains("bpf_no_such_helper"));
            }
            other => panic!("{executor}: {other:?}"),
        }
        match object.load(engine().only(&["calls_kfunc"])) {
            Err(LoadError::Unsupported(list)) => {
                assert_eq!(
                    (list[0].kind, list[0].name.as_str()),
                    (UnsupportedKind::Kfunc, "bpf_no_such_kfunc")
                );
            }
            other => panic!("{executor}: {other:?}"),
        }
    }
}

#[test]
fn everything_that_is_missing_is_told_at_once() {
    let _alone = common::alone();
    let object = object("missing.bpf.o");
    let error = object.load(Engine::user()).expect_err("much is missing").to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines,
        [
            "the engine lacks what the object uses:",
            "  helper `unknown` (#9999) in program `first` at ./bpf/missing.bpf.c:13: if (bpf_no_such_helper(1))",
            "  helper `bpf_sys_close` (#168) in program `first` at ./bpf/missing.bpf.c:15: return bpf_sys_close(0);",
            "  kfunc `bpf_no_such_kfunc` in program `second` at ./bpf/missing.bpf.c:21: \
             return bpf_no_such_kfunc() + bpf_modify_return_test_tp(1);",
            "  kfunc `bpf_modify_return_test_tp` in program `second` at ./bpf/missing.bpf.c:21: \
             return bpf_no_such_kfunc() + bpf_modify_return_test_tp(1);",
            "  programs of section `freplace/first` in program `replacement` at ./bpf/missing.bpf.c:27: return 0;",
            "  help: a host takes the place of a helper or of a kernel's function: `UserEngine::mock`",
            "  help: a host provides functions of its own: `UserEngine::kfunc`",
        ]
    );
    assert!(object.load(Engine::user().only(&["fine"])).is_ok());
}

#[test]
fn what_the_verifier_refuses_is_not_loaded() {
    let _alone = common::alone();
    let object = object("unverifiable.bpf.o");
    for program in ["unchecked_lookup", "unbounded_index", "endless_loop", "pointer_without_cast"] {
        match object.load(Engine::user().only(&[program])) {
            Err(LoadError::Rejected { program: refused, .. }) => assert_eq!(refused, program),
            other => panic!("{program}: {other:?}"),
        }
    }
}

#[test]
fn maps_have_the_layout_of_this_engine_whatever_kernel_is_the_target() {
    let object = object("map_fields.bpf.o");
    // As in a kernel, members lie elsewhere in these types.
    let other = Arc::clone(object.spec().btf.as_ref().unwrap());
    each_app_with(
        "map_fields.bpf.o",
        |engine| engine.target_btf(Arc::clone(&other)),
        |executor, app| {
            for program in ["array_members", "arena_members"] {
                assert_eq!(run(app, program).return_value, 0, "{executor}: {program}");
            }
        },
    );
}

#[test]
fn members_of_maps_are_read_only() {
    let error = object("map_fields.bpf.o").load(Engine::user().only(&["writes_member"])).unwrap_err();
    let LoadError::Rejected { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.reason().to_string(), "only read from bpf_arena is supported");
    assert_eq!(source.line().map(|line| line.source.trim()), Some("map->map.max_entries = 1;"));
}

#[test]
fn members_that_maps_do_not_have_are_named_by_the_line_that_reads_them() {
    let _alone = common::alone();
    for (executor, engine) in EXECUTORS {
        let engine = engine().only(&["reads_unknown_member"]);
        match object("map_fields.bpf.o").load(engine) {
            Err(LoadError::Unsupported(list)) => {
                assert_eq!(list.len(), 1, "{executor}: {list:?}");
                assert_eq!(list[0].kind, UnsupportedKind::Relocation);
                let expected =
                    "a kernel type or member that is not known in program `reads_unknown_member` at ";
                let text = list[0].to_string();
                assert!(
                    text.starts_with(expected) && text.ends_with("return map->map.of_no_engine;"),
                    "{text}"
                );
            }
            other => panic!("{executor}: {other:?}"),
        }
    }
}
