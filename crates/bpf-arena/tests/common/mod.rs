//! Programs assembled from text, run by both executors in memory of their own.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpf_arena::{App, Engine, Instance, Object, Outcome, RunError, UserEngine};
use bpf_object::{Extern, ExternKind, MapOrigin, MapSpec, MapType, Program, Subprogram};
use isa::{CallTarget, InsnIdx};

/// An executor: its name for messages, and the engine that uses it.
pub(crate) type Executor = (&'static str, fn() -> UserEngine);

/// The two executors.
pub(crate) const EXECUTORS: [Executor; 2] =
    [("interpreter", || Engine::user().interpreter()), ("jit", Engine::user)];

/// A program from assembly text. Labels that begin with `fn_` start subprograms; kfuncs are called by name.
pub(crate) fn program(text: &str, maps: Vec<MapSpec>) -> Program {
    let externs: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("call bpf_"))
        .map(|name| format!("bpf_{}", name.trim()))
        .filter(|name| isa::helper_number(name).is_none())
        .collect();
    let symbols = |name: &str| {
        let index = externs.iter().position(|known| known == name)?;
        Some(CallTarget::Kfunc { btf_id: i32::try_from(index).ok()?, module: 0 })
    };
    let assembly = isa::assemble_with(text, &symbols).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let mut program = Program::from_code("main", "syscall", assembly.code);
    program.externs = externs
        .into_iter()
        .map(|name| Extern { name, kind: ExternKind::Function, weak: false, btf: None })
        .collect();
    let mut starts: Vec<(InsnIdx, String)> = assembly
        .labels
        .into_iter()
        .filter(|(name, _)| name.starts_with("fn_"))
        .map(|(name, at)| (at, name))
        .collect();
    starts.sort();
    for (start, name) in starts {
        let end = program.subprograms.last().map(|s| s.end).expect("there is an entry");
        program.subprograms.last_mut().expect("there is an entry").end = start;
        let entry = program.subprograms[0].clone();
        let linkage = bpf_object::Linkage::Static;
        program.subprograms.push(Subprogram { name, start, end, linkage, ..entry });
    }
    program.maps = Arc::from(maps);
    program
}

/// An array map.
pub(crate) fn array(name: &str, value_size: u32, max_entries: u32) -> MapSpec {
    MapSpec { key_size: 4, value_size, max_entries, ..MapSpec::new(name, MapType::Array) }
}

/// A `.bss` of this size.
pub(crate) fn bss(size: u32) -> MapSpec {
    let origin = MapOrigin::Data { section: ".bss".to_owned(), read_only: false };
    MapSpec { origin, ..array("bss", size, 1) }
}

/// A `.rodata` with these contents.
pub(crate) fn rodata(bytes: &[u8]) -> MapSpec {
    let origin = MapOrigin::Data { section: ".rodata".to_owned(), read_only: true };
    let size = u32::try_from(bytes.len()).expect("small");
    MapSpec { origin, initial: bytes.to_vec(), flags: 1 << 7, ..array("rodata", size, 1) }
}

/// An arena.
pub(crate) fn arena(pages: u32, flags: u32) -> MapSpec {
    MapSpec {
        map_type: MapType::Arena,
        key_size: 0,
        flags: bpf_object::BPF_F_MMAPABLE | flags,
        ..array("arena", 0, pages)
    }
}

/// An instance with maps of its own.
pub(crate) fn instance(engine: &UserEngine, program: &Program) -> Instance {
    let maps = engine.maps(program).unwrap_or_else(|error| panic!("{error}"));
    engine.load_program(program, &maps).unwrap_or_else(|error| panic!("{error}\n{}", program.code))
}

/// Runs the program on both executors, with fresh maps each, and gives what `look` makes of it; both must agree.
pub(crate) fn both<T: PartialEq + std::fmt::Debug>(
    program: &Program,
    ctx: &[u8],
    look: impl Fn(Result<Outcome, RunError>, &[u8], &Instance) -> T,
) -> T {
    both_with(program, ctx, |engine| engine, look)
}

/// As [`both`], with options for the engine.
pub(crate) fn both_with<T: PartialEq + std::fmt::Debug>(
    program: &Program,
    ctx: &[u8],
    options: impl Fn(UserEngine) -> UserEngine,
    look: impl Fn(Result<Outcome, RunError>, &[u8], &Instance) -> T,
) -> T {
    let [interpreted, compiled] = EXECUTORS.map(|(_, engine)| {
        let instance = instance(&options(engine()), program);
        let mut ctx = ctx.to_vec();
        let outcome = instance.run(&mut ctx);
        look(outcome, &ctx, &instance)
    });
    assert_eq!(interpreted, compiled, "interpreter and machine code differ:\n{}", program.code);
    interpreted
}

/// The program's `r0` on both executors, with this context.
pub(crate) fn r0_of(text: &str, maps: Vec<MapSpec>, ctx: &[u8]) -> u64 {
    both(&program(text, maps), ctx, |outcome, _, _| outcome.unwrap_or_else(|error| panic!("{error}")).r0)
}

/// An object of the repository.
pub(crate) fn object(name: &str) -> Object {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../bpf").join(name);
    Object::open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Keeps other tests of this process from loading objects. The objects' arenas all want the same address, so that a
/// process has room for one of them at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ADDRESS: Mutex<()> = Mutex::new(());
    ADDRESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads the object with each executor in turn.
pub(crate) fn each_app(name: &str, check: impl Fn(&'static str, &App)) {
    each_app_with(name, |engine| engine, check);
}

/// As [`each_app`], with options for the engine.
pub(crate) fn each_app_with(
    name: &str,
    options: impl Fn(UserEngine) -> UserEngine,
    check: impl Fn(&'static str, &App),
) {
    let _alone = alone();
    for (executor, engine) in EXECUTORS {
        let app =
            object(name).load(options(engine())).unwrap_or_else(|error| panic!("{executor}: {error:?}"));
        check(executor, &app);
    }
}
