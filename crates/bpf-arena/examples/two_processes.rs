//! Two processes on one arena: a BPF program in this one puts messages into a ring, the other takes them out.
//!
//! The arena is a file descriptor. Whoever has it maps the same pages at the same address, so that pointers mean the same
//! on both sides. Here the descriptor is the other process's standard input.
//!
//! `cargo run --example two_processes`

use std::error::Error;
use std::io::stdin;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use bpf_arena::arena::Arena;
use bpf_arena::typed::{ArenaPtr, ArenaType};
use bpf_arena::{Engine, Object};

const SLOTS: usize = 64;
const MESSAGES: u64 = 1000;

/// `struct queue` of `bpf/queue.bpf.c`.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Queue {
    pushed: u64,
    popped: u64,
    slots: [Message; SLOTS],
}

#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Message {
    number: u64,
    square: u64,
}

/// `struct queue_request`.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Request {
    first: u64,
    count: u64,
    sum: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(queue) => consume(ArenaPtr::from_raw(queue.parse()?)),
        None => produce(),
    }
}

fn produce() -> Result<(), Box<dyn Error>> {
    let object = Object::parse(include_bytes!("../../../bpf/queue.bpf.o"))?;
    let app = object.load(Engine::user())?;
    let queue: ArenaPtr<Queue> = app.global_ptr("queue")?;

    let mut consumer = Command::new(std::env::current_exe()?)
        .arg(queue.raw().to_string())
        .stdin(app.arena()?.fd().try_clone_to_owned()?)
        .spawn()?;
    let push = app.program("push")?;
    let mut next = 1;
    while next <= MESSAGES {
        // As many as the ring has room for.
        let mut request = Request { first: next, count: MESSAGES + 1 - next, sum: 0 };
        next += u64::from(push.run(&mut request)?.return_value);
        thread::yield_now();
    }
    println!("pushed {MESSAGES} messages");
    if !consumer.wait()?.success() {
        return Err("the consumer failed".into());
    }
    println!("popped {} messages", app.global::<u64>("queue.popped")?);
    Ok(())
}

fn consume(queue: ArenaPtr<Queue>) -> Result<(), Box<dyn Error>> {
    let arena = Arena::attach(stdin().as_fd().try_clone_to_owned()?)?;
    let (pushed, popped) = (queue.field(Queue::pushed), queue.field(Queue::popped));
    let mut squares = 0;
    for number in 1..=MESSAGES {
        // The program stores with release order: the message is there when the count says so.
        while arena.load_acquire(pushed)? < number {
            thread::yield_now();
        }
        let slot = queue
            .field(Queue::slots)
            .element(usize::try_from((number - 1) % SLOTS as u64)?)
            .ok_or("no such slot")?;
        let message = arena.read(slot)?;
        if message.number != number {
            return Err(format!("message {number} has number {}", message.number).into());
        }
        squares += message.square;
        arena.store_release(popped, number)?;
    }
    if squares == (1..=MESSAGES).map(|n| n * n).sum() {
        Ok(())
    } else {
        Err("the sum of the squares is wrong".into())
    }
}
