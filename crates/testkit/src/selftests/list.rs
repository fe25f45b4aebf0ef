//! `arena_list`: a program builds a list of numbers, the host walks it, another program takes it apart.

use bpf_arena::App;
use bpf_arena::typed::{ArenaPtr, ArenaType};

use super::{Bench, CheckError, expect, expect_global, missing, run};

/// `struct arena_list_head`.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
struct Head {
    first: ArenaPtr<()>,
}

/// `struct elem`, its `struct arena_list_node` unfolded.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
struct Elem {
    next: ArenaPtr<()>,
    pprev: ArenaPtr<()>,
    value: u64,
}

pub(super) fn add_and_delete(bench: &Bench<'_>, count: i32) -> Result<(), CheckError> {
    let app = bench.load()?;
    let expected = i128::from(count) * i128::from(count - 1) / 2;
    app.set_global("cnt", count).map_err(|error| missing("cnt", error))?;
    run(&app, "arena_list_add")?;
    expect_global(&app, "skip", 0)?;
    expect("sum of the list", sum(&app, count)?, expected)?;
    expect_global(&app, "arena_sum", expected)?;
    expect_global(&app, "test_val", i128::from(count) + 1)?;

    run(&app, "arena_list_del")?;
    expect("sum of the emptied list", sum(&app, count)?, 0)?;
    expect_global(&app, "list_sum", expected)?;
    expect_global(&app, "arena_sum", expected)
}

/// Follows the pointers that the program left, at most `count` of them.
fn sum(app: &App, count: i32) -> Result<i128, CheckError> {
    let head: ArenaPtr<Head> =
        app.global::<ArenaPtr<()>>("list_head").map_err(|e| missing("list_head", e))?.cast();
    let arena = app.arena().map_err(|error| missing("arena", error))?;
    let mut at = arena.read(head).map_err(|error| missing("list head", error))?.first.cast::<Elem>();
    let mut sum = 0;
    for _ in 0..=count {
        if at.is_null() {
            return Ok(sum);
        }
        let elem = arena.read(at).map_err(|error| missing("list element", error))?;
        sum += i128::from(elem.value);
        at = elem.next.cast();
    }
    Err(missing("end of the list", "more elements than were added"))
}
