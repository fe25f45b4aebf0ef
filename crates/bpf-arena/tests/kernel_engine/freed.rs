//! Pages that are freed while other threads of the process are about to map them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bpf_arena::Engine;
use bpf_arena::arena::{Arena, PageCount, UserAddr};
use bpf_arena::typed::ArenaPtr;
use libtest_mimic::Failed;

use super::{Node, check, object};

const PAGES: u32 = 16;

/// How long it is tried.
const TIME: Duration = Duration::from_secs(1);

/// What the host writes the program reads, also where other threads touch pages while they are freed and allocated anew. Without
/// precautions ([`Arena::free_pages`]) the host writes to a page here that is the arena's no longer, within a few hundred rounds.
pub(crate) fn while_mapped() -> Result<(), Failed> {
    let app = object("linked_list.bpf.o")?.load(Engine::kernel()?)?;
    let arena = app.arena()?;
    let first = arena.user_vm_start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn({
                let done = &done;
                move || touch(arena, thread, done)
            });
        }
        let result = free_and_look(&app, arena, first);
        done.store(true, Ordering::Relaxed);
        result
    })
}

fn touch(arena: &Arena, seed: u64, done: &AtomicBool) {
    let mut random = seed;
    while !done.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let page = (random >> 33) % u64::from(PAGES);
        // What is read does not matter, nor whether the page is there.
        let _ = arena.read_u64(page_at(arena.user_vm_start(), page).wrapping_add(64));
    }
}

fn free_and_look(app: &bpf_arena::App, arena: &Arena, first: UserAddr) -> Result<(), Failed> {
    let walk = app.program("walk")?;
    app.set_global("head", ArenaPtr::<Node>::from_raw(first.get()))?;
    let end = Instant::now() + TIME;
    let mut rounds = 0_u64;
    while Instant::now() < end {
        rounds += 1;
        for _ in 0..4 {
            // A touch may have made one of the pages: then they exist already, or will when they are written to.
            let _ = arena.try_alloc_pages(Some(first), PageCount::new(PAGES));
            arena.free_pages(first, PageCount::new(PAGES));
        }
        for page in 0..u64::from(PAGES) {
            let at = page_at(first, page);
            let next = if page + 1 < u64::from(PAGES) { at.get() + 4096 } else { 0 };
            arena.write(
                ArenaPtr::from_raw(at.get()),
                Node { next: ArenaPtr::from_raw(next), value: rounds },
            )?;
        }
        let nodes = walk.run(&mut ())?.return_value;
        check(nodes == PAGES, format!("round {rounds}: the program finds {nodes} of {PAGES} nodes"))?;
        check(
            app.global::<u64>("sum")? == rounds * u64::from(PAGES),
            format!("round {rounds}: other values"),
        )?;
    }
    Ok(())
}

fn page_at(first: UserAddr, page: u64) -> UserAddr {
    first.wrapping_add(page * 4096)
}
