//! Arenas that are there before the object is loaded, and after.

use std::process::Command;

use bpf_arena::arena::{Arena, ArenaError, ArenaSpec, PageCount};
use bpf_arena::kernel::KernelEngine;
use bpf_arena::typed::ArenaType;
use bpf_arena::{App, Engine, UserEngine};
use libtest_mimic::Failed;

use super::{check, object};

/// `struct queue_request`.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Request {
    first: u64,
    count: u64,
    sum: u64,
}

/// What the object declares.
fn declared() -> ArenaSpec {
    ArenaSpec { map_extra: 1 << 44, ..ArenaSpec::new(PageCount::new(16)) }
}

pub(crate) fn both_engines() -> Result<(), Failed> {
    let arena = Arena::create(&declared())?;
    over(&arena, |arena| Ok(object("queue.bpf.o")?.load(UserEngine::default().arena(arena))?))?;
    check(object("queue.bpf.o")?.load(kernel(&arena)?).is_err(), "the kernel needs an arena of its own")?;
    drop(arena);

    let other = Arena::create(&ArenaSpec::new(PageCount::new(17)))?;
    let refused = object("queue.bpf.o")?.load(UserEngine::default().arena(&other));
    check(refused.is_err(), "17 pages are not 16")?;

    let folder = tempfile::tempdir()?;
    mount(&["-t", "bpf", "bpf"], folder.path())?;
    let result = pinned(&folder.path().join("arena"));
    let unmounted = Command::new("umount").arg(folder.path()).status()?;
    check(unmounted.success(), "umount")?;
    result
}

/// An arena in the kernel outlives what made it, by its name.
fn pinned(name: &std::path::Path) -> Result<(), Failed> {
    check(matches!(Arena::open_pinned(name), Err(ArenaError::Kernel(_))), "there is no such name")?;
    let arena = Arena::create_in_kernel(&declared())?;
    arena.pin(name)?;
    check(arena.pin(name).is_err(), "the name is taken")?;
    let load = |arena: &Arena| Ok(object("queue.bpf.o")?.load(kernel(arena)?)?);
    over(&arena, load)?;
    let start = arena.user_vm_start();
    drop(arena);
    let arena = Arena::open_pinned(name)?;
    check(arena.user_vm_start() == start && arena.is_in_kernel(), "it lies where it lay")?;
    check(load(&arena)?.global::<u64>("queue.pushed")? == 10, "its contents are as they were")
}

fn kernel(arena: &Arena) -> Result<Engine, Failed> {
    Ok(KernelEngine::new()?.arena(arena).into())
}

/// What one load of the object writes the next one has.
fn over(arena: &Arena, load: impl Fn(&Arena) -> Result<App, Failed>) -> Result<(), Failed> {
    for pushed in [0, 5] {
        let app = load(arena)?;
        check(app.global::<u64>("queue.pushed")? == pushed, format!("{pushed} were pushed before"))?;
        let mut request = Request { first: pushed + 1, count: 5, sum: 0 };
        check(app.program("push")?.run(&mut request)?.return_value == 5, "there is room for five")?;
    }
    Ok(())
}

fn mount(what: &[&str], at: &std::path::Path) -> Result<(), Failed> {
    check(Command::new("mount").args(what).arg(at).status()?.success(), "mount")
}
