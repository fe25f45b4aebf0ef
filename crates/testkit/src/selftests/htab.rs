//! `arena_htab`: a program fills a hash table, the host finds its elements by following the program's pointers.

use bpf_arena::App;
use bpf_arena::typed::{ArenaPtr, ArenaType};

use super::{Bench, CheckError, expect, expect_global, missing, run};

/// `struct htab`.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
struct Table {
    buckets: ArenaPtr<Bucket>,
    n_buckets: i32,
}

/// `struct htab_bucket`, which holds the head of a list.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
struct Bucket {
    first: ArenaPtr<()>,
}

/// `struct hashtab_elem`, its list node unfolded.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
struct Elem {
    hash: i32,
    key: i32,
    value: i32,
    next: ArenaPtr<()>,
    pprev: ArenaPtr<()>,
}

/// Where the list node lies in an element: pointers of the list lead there.
const NODE_OFFSET: i64 = 16;
/// No chain is longer than the number of updates.
const MAX_CHAIN: u32 = 101_000;

pub(super) fn filled(bench: &Bench<'_>, program: &str) -> Result<(), CheckError> {
    let app = bench.load()?;
    let arena = app.arena().map_err(|error| missing("arena", error))?;
    // The host may populate a page before the program allocates any.
    let first = ArenaPtr::<u32>::from_raw(arena.user_vm_start().get());
    arena.write(first, 0x55aa_u32).map_err(|error| missing("first page", error))?;
    run(&app, program)?;
    expect_global(&app, "skip", 0)?;
    let table: ArenaPtr<Table> =
        app.global::<ArenaPtr<()>>("htab_for_user").map_err(|e| missing("htab_for_user", e))?.cast();
    let table = arena.read(table).map_err(|error| missing("the table", error))?;
    if table.buckets.is_null() {
        return Err(missing("buckets", "null"));
    }
    for key in [0, 4, 8, 12] {
        expect(&format!("value of key {key}"), lookup(&app, &table, key)?, key)?;
    }
    Ok(())
}

/// The value of a key, 0 if there is none. Keys are their own hashes.
fn lookup(app: &App, table: &Table, key: i32) -> Result<i32, CheckError> {
    let arena = app.arena().map_err(|error| missing("arena", error))?;
    let index = i64::from(key & (table.n_buckets - 1));
    let bucket = arena.read(table.buckets.add(index)).map_err(|error| missing("bucket", error))?;
    let mut node = bucket.first;
    for _ in 0..MAX_CHAIN {
        if node.is_null() {
            return Ok(0);
        }
        let elem = node.byte_add(-NODE_OFFSET).cast::<Elem>();
        let elem = arena.read(elem).map_err(|error| missing("element", error))?;
        if elem.hash == key && elem.key == key {
            return Ok(elem.value);
        }
        node = elem.next;
    }
    Err(missing("end of the chain", "more elements than were added"))
}
