//! A hash table that a BPF program fills and the host looks things up in, without asking the program.
//!
//! `cargo run --example hash_table`, or with `-- kernel` in the running kernel (as root).

use std::error::Error;

use bpf_arena::arena::Arena;
use bpf_arena::typed::{ArenaPtr, ArenaType};
use bpf_arena::{Engine, Object};

const BUCKETS: usize = 256;

/// `struct table` of `bpf/hash_table.bpf.c`.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Table {
    buckets: [ArenaPtr<Entry>; BUCKETS],
    entries: u64,
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Entry {
    next: ArenaPtr<Entry>,
    key: u32,
    hits: u32,
    value: i64,
}

/// `struct put_request`.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Put {
    key: u32,
    count: u32,
    value: i64,
}

/// The program's own hash function.
fn bucket_of(key: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b1) >> 24) as usize
}

fn find(arena: &Arena, table: ArenaPtr<Table>, key: u32) -> Result<Option<Entry>, Box<dyn Error>> {
    // One pointer is read, not the table.
    let bucket = table.field(Table::buckets).element(bucket_of(key)).ok_or("no such bucket")?;
    for entry in arena.list(arena.read(bucket)?, |e| e.next) {
        let entry = entry?;
        if entry.key == key {
            return Ok(Some(*entry));
        }
    }
    Ok(None)
}

fn main() -> Result<(), Box<dyn Error>> {
    let engine: Engine = match std::env::args().nth(1).as_deref() {
        Some("kernel") => Engine::kernel()?.into(),
        _ => Engine::user().into(),
    };
    let object = Object::parse(include_bytes!("../../../bpf/hash_table.bpf.o"))?;
    let app = object.load(engine)?;

    let put = app.program("put")?;
    put.run(&mut Put { key: 0, count: 1000, value: -500 })?;
    put.run(&mut Put { key: 7, count: 1, value: 42 })?;

    let arena = app.arena()?;
    let table: ArenaPtr<Table> = app.global_ptr("table")?;
    println!("{} entries", arena.read(table.field(Table::entries))?);
    for key in [0, 7, 999, 1000] {
        match find(arena, table, key)? {
            Some(entry) => println!("{key}: {}, put {} times", entry.value, entry.hits),
            None => println!("{key}: not there"),
        }
    }
    Ok(())
}
