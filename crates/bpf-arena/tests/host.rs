//! Functions and objects of the host, as programs use them, on both executors.

#![allow(clippy::panic, clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bpf_arena::arena::PageCount;
use bpf_arena::host::{Acquired, Buffer, Call, CallError, Ctx, Object, Ptr, Released, SignatureFault, Task};
use bpf_arena::typed::{ArenaPtr, ArenaType};
use bpf_arena::verifier::Env;
use bpf_arena::{App, LoadError, RunError, UserEngine};
use bpf_object::{Btf, BtfLinkage, Composite, Int, Kind, MapSpec, MapType, Member, Type};
use common::{EXECUTORS, alone, both_with, object, program};

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Node {
    next: ArenaPtr<Node>,
    value: u64,
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Request {
    left: u32,
    right: u32,
}

/// Not as the program lays it out: CO-RE makes the program follow.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Session {
    id: u32,
    open: u32,
    bytes: u64,
}

fn push(call: &mut Call<'_>, list: ArenaPtr<Node>, value: u64) -> Result<ArenaPtr<Node>, CallError> {
    let arena = call.arena().ok_or_else(|| CallError::new("no arena"))?;
    let page = arena.alloc_pages(None, PageCount::new(1)).ok_or_else(|| CallError::new("no page"))?;
    let node = ArenaPtr::from_raw(page.get());
    arena.write(node, Node { next: list, value }).map_err(|error| CallError::new(error.to_string()))?;
    Ok(node)
}

/// The engine with everything that `host_functions.bpf.c` calls; `open` counts the sessions that are open.
fn engine(engine: UserEngine, open: &Arc<AtomicU32>) -> UserEngine {
    let (opened, closed) = (Arc::clone(open), Arc::clone(open));
    engine
        .kfunc("host_widths", |_: &mut Call<'_>, a: u8, b: i16, c: u32, d: i64, e: bool| -> i32 {
            if (a, b, c, d, e) == (200, -300, 4_000_000_000, -5, true) { -6 } else { 0 }
        })
        .kfunc("host_u8", |_: &mut Call<'_>| -> u8 { 200 })
        .kfunc("host_s16", |_: &mut Call<'_>| -> i16 { -300 })
        .kfunc("host_u64", |_: &mut Call<'_>| -> u64 { 0xfedc_ba98_7654_3210 })
        .kfunc("host_move", |call: &mut Call<'_>, point: Ptr<Point>, dx: i32| -> Result<(), CallError> {
            let Point { x, y } = point.read(call)?;
            point.write(call, Point { x: x + dx, y })
        })
        .kfunc("host_fill", |call: &mut Call<'_>, data: Buffer, with: u8| -> Result<u32, CallError> {
            let bytes = vec![with; usize::try_from(data.len()).unwrap_or(0)];
            data.write(call, &bytes)?;
            Ok(u32::try_from(data.len()).unwrap_or(u32::MAX))
        })
        .kfunc("host_maybe", |call: &mut Call<'_>, point: Option<Ptr<Point>>| -> Result<u32, CallError> {
            point.map_or(Ok(0), |point| Ok(point.read(call)?.x.unsigned_abs()))
        })
        .kfunc("host_length", |_: &mut Call<'_>, text: String| -> u32 {
            u32::try_from(text.len()).unwrap_or(u32::MAX)
        })
        .kfunc("host_right", |call: &mut Call<'_>, ctx: Ctx| -> Result<u32, CallError> {
            Ok(ctx.read::<Request>(call)?.right)
        })
        .kfunc("host_push", push)
        .kfunc("session_open", move |_: &mut Call<'_>, id: u32| -> Option<Acquired<Session>> {
            if id == 0 {
                return None;
            }
            opened.fetch_add(1, Ordering::Relaxed);
            Some(Acquired(Object::with_value(Session { id, open: 1, bytes: 1000 }).ok()?))
        })
        .kfunc("session_id", |_: &mut Call<'_>, session: Object<Session>| -> u64 {
            u64::from(session.read().id)
        })
        .kfunc("session_close", move |_: &mut Call<'_>, Released(_): Released<Session>| {
            closed.fetch_sub(1, Ordering::Relaxed);
        })
        .kfunc("host_fail", |_: &mut Call<'_>| -> Result<(), CallError> { Err(CallError::new("enough")) })
        .kfunc("host_panic", |_: &mut Call<'_>| -> () { panic!("too much") })
}

/// Loads some programs of the object with each executor in turn.
fn each(programs: &[&str], check: impl Fn(&'static str, Result<App, LoadError>, &AtomicU32)) {
    let _alone = alone();
    for (executor, base) in EXECUTORS {
        let open = Arc::new(AtomicU32::new(0));
        let engine = engine(base(), &open).only(programs);
        check(executor, object("host_functions.bpf.o").load(engine), &open);
    }
}

#[test]
fn every_type_of_parameter_and_result_arrives() {
    let programs = ["numbers", "memory", "context", "lists", "sessions", "absent"];
    each(&programs, |executor, app, open| {
        let app = app.unwrap_or_else(|error| panic!("{executor}: {error}"));
        for program in programs {
            let outcome = app.program(program).unwrap().run(&mut Request { left: 3, right: 9 });
            let outcome = outcome.unwrap_or_else(|error| panic!("{executor}: {program}: {error}"));
            assert_eq!(outcome.return_value, 0, "{executor}: {program}");
        }
        assert_eq!(open.load(Ordering::Relaxed), 0, "{executor}");
    });
}

#[test]
fn the_host_ends_runs() {
    each(&["fails", "panics"], |executor, app, _| {
        let app = app.unwrap_or_else(|error| panic!("{executor}: {error}"));
        let error = app.program("fails").unwrap().run(&mut ()).unwrap_err();
        assert_eq!(error.to_string(), "function `host_fail` of the host: enough", "{executor}");
        let error = app.program("panics").unwrap().run(&mut ()).unwrap_err();
        assert!(matches!(&error, RunError::Panicked { function: "host_panic", .. }), "{executor}: {error}");
    });
}

#[test]
fn the_verifier_knows_what_functions_want() {
    for (program, words) in [
        ("leaks", "would lead to reference leak"),
        ("overruns", "memory, len pair leads to invalid memory access"),
    ] {
        each(&[program], |executor, app, _| {
            let error = app.expect_err("refused");
            let LoadError::Rejected { source, .. } = error else { panic!("{executor}: {error}") };
            assert!(source.to_string().contains(words), "{executor}: {source}");
        });
    }
}

/// What loading `program` says if `wrong` registers the function that is wrong.
fn refused(program: &str, wrong: impl Fn(UserEngine) -> UserEngine) -> bpf_arena::host::SignatureError {
    let _alone = alone();
    let engine = wrong(engine(UserEngine::default(), &Arc::default())).only(&[program]);
    match object("host_functions.bpf.o").load(engine) {
        Err(LoadError::Signature { source, .. }) => *source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_signature_is_named() {
    let narrow = refused("numbers", |engine| {
        engine.kfunc("host_widths", |_: &mut Call<'_>, _: u8, _: i16, _: u64, _: i64, _: bool| 0_i32)
    });
    assert_eq!(
        narrow.to_string(),
        "function `host_widths`, parameter 3: the host provides `u64`, it is declared as `u32`"
    );
    let sign = refused("numbers", |engine| engine.kfunc("host_s16", |_: &mut Call<'_>| 0_u16));
    assert_eq!(
        sign.to_string(),
        "function `host_s16`, result: the host provides `u16`, it is declared as `s16`"
    );
    let count = refused("memory", |engine| engine.kfunc("host_move", |_: &mut Call<'_>, _: Ptr<Point>| ()));
    assert_eq!(count.fault, SignatureFault::Count { expected: 1, found: 2 });
    let pointer =
        refused("memory", |engine| engine.kfunc("host_move", |_: &mut Call<'_>, _: u64, _: i32| ()));
    assert_eq!(
        pointer.to_string(),
        "function `host_move`, parameter 1: the host provides `u64`, it is declared as `struct point *`"
    );
    let object = refused("sessions", |engine| {
        engine.kfunc("session_close", |_: &mut Call<'_>, _: Released<Request>| ())
    });
    assert_eq!(
        object.to_string(),
        "function `session_close`, parameter 1: the host provides `Object<struct request>`, it is declared as \
         `struct session *`"
    );
}

#[test]
fn a_structure_of_another_layout_is_named() {
    #[derive(ArenaType, Clone, Copy)]
    #[arena(name = "point")]
    #[repr(C)]
    struct Wide {
        x: i64,
    }
    let error =
        refused("memory", |engine| engine.kfunc("host_move", |_: &mut Call<'_>, _: Ptr<Wide>, _: i32| ()));
    assert_eq!(
        error.to_string(),
        "function `host_move`, parameter 1: Wide.x: expected i64, the object has s32"
    );
}

#[test]
fn functions_of_the_engine_are_not_replaced_by_accident() {
    let _alone = alone();
    let num = |_: &mut Call<'_>, _: Ptr<u64>| 0_u64;
    let engine =
        engine(UserEngine::default(), &Arc::default()).kfunc("bpf_iter_num_next", num).only(&["lists"]);
    let error = object("host_functions.bpf.o").load(engine).expect_err("refused");
    assert!(matches!(error, LoadError::FunctionExists { name: "bpf_iter_num_next" }), "{error}");
}

#[test]
fn what_nobody_provides_is_named() {
    let _alone = alone();
    let error =
        object("host_functions.bpf.o").load(UserEngine::default().only(&["numbers"])).expect_err("refused");
    let LoadError::Unsupported(missing) = error else { panic!("{error}") };
    let names: Vec<&str> = missing.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["host_widths", "host_u8", "host_s16", "host_u64"]);
}

/// The types of the running kernel, where it has them.
fn kernel_types() -> Option<Arc<Btf>> {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    Some(Arc::new(Btf::parse(&bytes).unwrap_or_else(|error| panic!("{error}"))))
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Question {
    pid: i32,
    weight: u32,
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct ClassRequest {
    pid: i32,
    threads: u32,
}

/// An engine for `policy.bpf.c` that knows one task.
fn with_task(engine: UserEngine, pid: i32, task: &Object<Task>) -> UserEngine {
    let task = task.clone();
    engine
        .mock("bpf_task_from_pid", move |_: &mut Call<'_>, wanted: i32| {
            (wanted == pid).then(|| Acquired(task.clone()))
        })
        .mock("bpf_task_release", |_: &mut Call<'_>, _: Released<Task>| ())
        .kfunc("class_weight", |call: &mut Call<'_>, request: Ptr<ClassRequest>| -> Result<u32, CallError> {
            Ok(request.read(call)?.threads * 100)
        })
}

#[test]
fn a_kernels_kfuncs_are_mocked_with_objects_of_its_layout() {
    let Some(kernel) = kernel_types() else { return };
    let init: Object<Task> = Object::new(&kernel).unwrap();
    init.set("pid", 1).unwrap();
    let task: Object<Task> = Object::new(&kernel).unwrap();
    task.set("pid", 40).unwrap().set("tgid", 40).unwrap().set("prio", 120).unwrap();
    task.set("comm", "sh").unwrap().point("real_parent", &init).unwrap();
    assert_eq!(task.get("comm").unwrap().to_string(), "\"sh\"");
    assert!(task.set("pid", "forty").is_err() && task.set("no_such_member", 1).is_err());
    for (executor, engine) in EXECUTORS {
        let engine = with_task(engine(), 40, &task).kernel_types(Arc::clone(&kernel));
        let app = object("policy.bpf.o").load(engine).unwrap_or_else(|error| panic!("{executor}: {error}"));
        let weigh = |pid| {
            let mut question = Question { pid, weight: 0 };
            let outcome = app.program("weigh").unwrap().run(&mut question).unwrap();
            (outcome.return_value, question.weight)
        };
        assert_eq!(weigh(40), (0, 100), "{executor}");
        task.set("prio", 10).unwrap();
        assert_eq!(weigh(40), (0, 0), "{executor}: the program sees what the host changes");
        task.set("prio", 120).unwrap();
        assert_eq!(weigh(41), (1, u32::MAX), "{executor}");
    }
}

#[test]
fn a_mock_of_another_type_than_the_kernels_function_is_named() {
    let Some(kernel) = kernel_types() else { return };
    let task: Object<Task> = Object::new(&kernel).unwrap();
    let engine = with_task(UserEngine::default(), 40, &task).kernel_types(kernel);
    let wrong = engine
        .clone()
        .mock("bpf_task_from_pid", |_: &mut Call<'_>, _: i32| -> Option<Acquired<Session>> { None });
    let error = object("policy.bpf.o").load(wrong).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "program `weigh`: function `bpf_task_from_pid`, result: the host provides `Object<struct session>`, it is \
         declared as `struct task_struct *`"
    );
}

#[test]
fn helpers_are_mocked_by_name() {
    let cgroup = |_: &mut Call<'_>| -> u64 { 0x1_0000_0007 };
    let pid = |_: &mut Call<'_>| -> u64 { 5 << 32 };
    let text = "
        call bpf_get_current_cgroup_id
        r6 = r0
        call bpf_get_current_pid_tgid
        r0 += r6
        exit
    ";
    let run = |outcome: Result<bpf_arena::Outcome, RunError>| outcome.unwrap_or_else(|e| panic!("{e}")).r0;
    let r0 = both_with(
        &program(text, Vec::new()),
        &[],
        |engine| engine.mock("bpf_get_current_cgroup_id", cgroup).mock("bpf_get_current_pid_tgid", pid),
        |outcome, _, _| run(outcome),
    );
    assert_eq!(r0, 0x6_0000_0007, "also where the engine has a helper of its own");
}

#[test]
fn helpers_that_compiled_code_has_inline_are_mocked_too() {
    let text = "
        call bpf_ktime_get_ns
        r0 &= 1
        *(u32 *)(r10 - 4) = r0
        r2 = r10
        r2 += -4
        r1 = map[idx:0]
        call bpf_map_lookup_elem
        if r0 == 0 goto missing
        r0 = 1
        exit
    missing:
        call bpf_get_smp_processor_id
        exit
    ";
    let spec = MapSpec { key_size: 4, value_size: 8, max_entries: 2, ..MapSpec::new("m", MapType::Array) };
    let r0 = both_with(
        &program(text, vec![spec]),
        &[],
        |engine| {
            engine
                .mock("bpf_map_lookup_elem", |_: &mut Call<'_>, _: u64, _: u64| -> u64 { 0 })
                .mock("bpf_get_smp_processor_id", |_: &mut Call<'_>| -> u32 { 63 })
        },
        |outcome, _, _| outcome.unwrap_or_else(|e| panic!("{e}")).r0,
    );
    assert_eq!(r0, 63);
}

/// A kernel that has `number` and `limits`.
fn kernel_with_variables() -> Arc<Btf> {
    let mut btf = Btf::default();
    let mut add = |name: &str, kind: Kind| {
        let name = btf.add_str(name);
        (btf.push(Type { name, kind }), name)
    };
    let (int, _) = add("int", Kind::Int(Int { size: 4, bits: 32, signed: true, ..Int::default() }));
    let (_, low) = add("low", Kind::Typedef(int));
    let (_, high) = add("high", Kind::Typedef(int));
    let member = |name, bit_offset| Member { name, ty: int, bit_offset, bit_size: 0 };
    let members = vec![member(low, 0), member(high, 32)];
    let (limits, _) = add("limits", Kind::Struct(Composite { size: 8, members, kind_flag: false }));
    add("number", Kind::Var { ty: int, linkage: BtfLinkage::Global });
    add("limits", Kind::Var { ty: limits, linkage: BtfLinkage::Global });
    Arc::new(btf)
}

#[test]
fn variables_of_the_kernel_are_the_hosts() {
    let number = Object::with_value(7_i32).unwrap();
    let limits = Object::with_value([30_i32, 500]).unwrap();
    let with = |engine: UserEngine| {
        let engine = engine.env(Env::default().with_kernel(kernel_with_variables()));
        engine.variable("limits", &limits).variable("symbol", &number)
    };
    for (executor, engine) in EXECUTORS {
        let engine = with(engine());
        let load = |engine: UserEngine| object("variables.bpf.o").load(engine);
        let app = load(engine.clone().variable("number", &number)).unwrap_or_else(|error| panic!("{error}"));
        let value = |program: &str| app.program(program).unwrap().run(&mut ()).unwrap().return_value;
        number.write(7);
        assert_eq!([value("sum"), value("read")], [537, 7], "{executor}");
        number.write(8);
        assert_eq!(
            [value("sum"), value("read")],
            [538, 8],
            "{executor}: the program sees what the host changes"
        );
        let small = Object::with_value(7_u8).unwrap();
        let error = load(engine.clone().variable("number", &small)).expect_err("refused").to_string();
        assert_eq!(error, "the kernel's variable `number` has 4 bytes, the host's 1", "{executor}");
        let missing = load(engine).expect_err("refused").to_string();
        assert!(missing.contains("kernel variable `number`"), "{executor}: {missing}");
    }
}
