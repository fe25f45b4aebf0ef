//! Our own engine: compiled or interpreted.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bpf_arena::arena::{Arena, UserAddr};
use bpf_arena::bpf_object::MapType;
use bpf_arena::{Instance, LoopLimit, Object, UserEngine, codegen, verifier};

use super::{COMPILATIONS, Code, Loaded, Run};
use crate::measure::Clock;
use crate::programs::Ctx;

struct User {
    instance: Instance,
    mem: UserAddr,
}

/// Loads an object: compiled with these options, or interpreted.
pub(super) fn load(path: &Path, options: Option<&codegen::Options>) -> anyhow::Result<Loaded> {
    // A run of the interpreter takes longer than programs have by default.
    let engine = UserEngine::default().loop_limit(LoopLimit::Time(Duration::from_secs(3600)));
    let object = Object::open(path)?;
    let program = object.spec().link_with("prog", &engine.link_options())?;
    let verified = verifier::verify(&program, engine.verifier_env())?;
    let maps = engine.maps(&program)?;
    let arena = maps.arena().context("the program has no arena")?;
    let mem = populate(arena, &object)?;
    let (ready, code) = match options {
        None => (bpf_arena::Code::interpreted(&verified)?, Code::default()),
        Some(options) => {
            ensure!(
                arena.faults_in_hardware(),
                "userfaultfd is not permitted: arena accesses are checked in software"
            );
            let mut least = f64::INFINITY;
            let mut bytes = 0;
            for _ in 0..COMPILATIONS {
                let start = Clock::Cpu.now();
                let compiled = codegen::compile(&verified, options)?;
                least = least.min(Clock::Cpu.now() - start);
                bytes = compiled.text.len() as u64;
            }
            let compile_us = Some(least * 1e6);
            let code = Code { bytes: Some(bytes), bpf_insns: Some(program.code.len() as u64), compile_us };
            (bpf_arena::Code::compiled(&verified, options)?, code)
        }
    };
    let instance = engine.instantiate_code(&ready, &maps)?;
    Ok(Loaded { program: Box::new(User { instance, mem }), code })
}

impl Run for User {
    fn run(&mut self, ctx: Ctx) -> anyhow::Result<u64> {
        let mut bytes = Ctx { mem: self.mem.get(), ..ctx }.to_bytes();
        let outcome = self.instance.run(&mut bytes)?;
        ensure!(outcome.faults.is_empty(), "the program faults: {:?}", outcome.faults);
        Ctx::answer(&bytes)
    }
}

/// Makes every page of the arena exist, and gives the memory behind the program's global variables.
pub(super) fn populate(arena: &Arena, object: &Object) -> anyhow::Result<UserAddr> {
    const PAGE: u64 = 4096;
    let start = arena.user_vm_start();
    for page in 0..arena.page_count().bytes() / PAGE {
        arena.read_u8(start.wrapping_add(page * PAGE))?;
    }
    let globals = object.spec().maps.iter().filter(|map| map.map_type == MapType::Arena);
    let mut first = globals.map(|map| map.initial.len() as u64).max().unwrap_or(0).next_multiple_of(PAGE);
    if start.low32() == 0 {
        // Programs take offset 0 for NULL.
        first = first.max(PAGE);
    }
    Ok(start.wrapping_add(first))
}
