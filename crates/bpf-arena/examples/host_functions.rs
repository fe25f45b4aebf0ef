//! A unit test of a BPF program that needs a kernel: the host provides a kfunc of its own, stands in for two of the kernel's, and
//! makes up the tasks that they know.
//!
//! `cargo run --example host_functions`

use std::error::Error;
use std::sync::Arc;

use bpf_arena::bpf_object::Btf;
use bpf_arena::host::{Acquired, Call, CallError, Object, Ptr, Released, Task};
use bpf_arena::typed::ArenaType;
use bpf_arena::{Engine, LoadError, Object as BpfObject, UserEngine};

/// `struct class_request` of `bpf/policy.bpf.c`.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct ClassRequest {
    pid: i32,
    threads: u32,
}

/// `struct question`: the program's context.
#[derive(ArenaType, Clone, Copy)]
#[repr(C)]
struct Question {
    pid: i32,
    weight: u32,
}

/// Stand-ins for `bpf_task_from_pid` and `bpf_task_release` that know these tasks.
fn with_tasks(engine: UserEngine, tasks: Vec<(i32, Object<Task>)>) -> UserEngine {
    let find = move |_: &mut Call<'_>, pid: i32| -> Option<Acquired<Task>> {
        let (_, task) = tasks.iter().find(|(known, _)| *known == pid)?;
        Some(Acquired(task.clone()))
    };
    engine.mock("bpf_task_from_pid", find).mock("bpf_task_release", |_: &mut Call<'_>, _: Released<Task>| ())
}

fn main() -> Result<(), Box<dyn Error>> {
    // The kernel whose tasks are meant, by its types alone: any kernel's will do, also one of another machine.
    let Ok(types) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        println!("this machine's kernel has no BTF");
        return Ok(());
    };
    let kernel = Arc::new(Btf::parse(&types)?);

    // The tasks, laid out as that kernel's.
    let init: Object<Task> = Object::new(&kernel)?;
    init.set("pid", 1)?.set("tgid", 1)?.set("prio", 120)?.set("comm", "init")?;
    let shell: Object<Task> = Object::new(&kernel)?;
    shell.set("pid", 40)?.set("tgid", 40)?.set("prio", 120)?.point("real_parent", &init)?;
    let migration: Object<Task> = Object::new(&kernel)?;
    migration.set("pid", 16)?.set("tgid", 16)?.set("prio", 0)?;
    let tasks = vec![(1, init), (40, shell), (16, migration)];

    let engine = with_tasks(Engine::user().kernel_types(kernel), tasks);
    let weight = |call: &mut Call<'_>, request: Ptr<ClassRequest>| -> Result<u32, CallError> {
        let request = request.read(call)?;
        Ok(100 * request.threads)
    };
    let object = BpfObject::parse(include_bytes!("../../../bpf/policy.bpf.o"))?;
    let app = object.load(engine.clone().kfunc("class_weight", weight))?;
    for pid in [1, 16, 40, 50] {
        let mut question = Question { pid, weight: 0 };
        match app.program("weigh")?.run(&mut question)?.return_value {
            0 => println!("task {pid} weighs {}", question.weight),
            _ => println!("there is no task {pid}"),
        }
    }

    // A closure of other types than the program declares is refused before anything runs.
    let wrong = |_: &mut Call<'_>, _: Ptr<Question>| 0_u32;
    let object = BpfObject::parse(include_bytes!("../../../bpf/policy.bpf.o"))?;
    match object.load(engine.kfunc("class_weight", wrong)) {
        Err(LoadError::Signature { source, .. }) => println!("{source}"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("a wrong signature was accepted".into()),
    }
    Ok(())
}
