//! A linked list that a BPF program builds and the host walks: the same nodes, the same pointers, no copy of the list.
//!
//! `cargo run --example linked_list`, or with `-- kernel` in the running kernel (as root).

use std::error::Error;

use bpf_arena::typed::{ArenaPtr, ArenaType};
use bpf_arena::{Engine, Object};

/// `struct node` of `bpf/linked_list.bpf.c`.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Node {
    next: ArenaPtr<Node>,
    value: u64,
}

/// `struct request`: what the programs get as their context.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Request {
    value: u64,
    count: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let engine: Engine = match std::env::args().nth(1).as_deref() {
        Some("kernel") => Engine::kernel()?.into(),
        _ => Engine::user().into(),
    };
    let object = Object::parse(include_bytes!("../../../bpf/linked_list.bpf.o"))?;
    let app = object.load(engine)?;

    app.program("insert")?.run(&mut Request { value: 10, count: 5 })?;
    app.program("delete")?.run(&mut Request { value: 12, count: 0 })?;

    // Checked against the object's type information: a wrong field is an error that names it.
    let head: ArenaPtr<Node> = app.global("head")?;
    let arena = app.arena()?;
    for node in arena.list(head, |n| n.next) {
        println!("{}", node?.value);
    }

    // The host may write, too. The program sees it at once.
    arena.write(head.field(Node::value), 100)?;
    let nodes = app.program("walk")?.run(&mut ())?.return_value;
    println!("the program walked {nodes} nodes with sum {}", app.global::<u64>("sum")?);
    Ok(())
}
