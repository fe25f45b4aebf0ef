//! The program as a WebAssembly module in wasmtime.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wasmtime::{Config, Engine, Extern, Instance, Memory, Module, Store, TypedFunc};

use super::{COMPILATIONS, Code, Loaded, Run};
use crate::programs::Ctx;

/// How endless loops would end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// Not at all.
    None,
    /// Loops and functions compare a counter of the engine with a deadline.
    Epoch,
}

struct Wasm {
    store: Store<()>,
    memory: Memory,
    prog: TypedFunc<u32, u32>,
    /// Where the context lies; the program's memory follows.
    ctx: u32,
}

const PAGE: u64 = 65536;

/// Compiles a module, with a linear memory of what it needs itself and `mem_bytes`.
pub(super) fn load(path: &Path, mem_bytes: usize, interruption: Interruption) -> anyhow::Result<Loaded> {
    let wasm = std::fs::read(path)?;
    let mut config = Config::new();
    config.epoch_interruption(interruption == Interruption::Epoch).wasm_threads(true);
    let engine = Engine::new(&config).map_err(plain)?;
    let mut least = Duration::MAX;
    let mut compile = || {
        let start = Instant::now();
        let module = Module::new(&engine, &wasm).map_err(plain);
        least = least.min(start.elapsed());
        module
    };
    for _ in 1..COMPILATIONS {
        compile()?;
    }
    let module = compile()?;
    let mut store = Store::new(&engine, ());
    if interruption == Interruption::Epoch {
        // Nobody advances the epoch: what is measured is asking, not being interrupted.
        store.set_epoch_deadline(1);
    }
    let instance = Instance::new(&mut store, &module, &[]).map_err(plain)?;
    let memory = instance.get_memory(&mut store, "memory").context("the module exports no memory")?;
    let heap = instance.get_export(&mut store, "__heap_base").and_then(Extern::into_global);
    let heap = heap.and_then(|global| global.get(&mut store).i32()).context("no `__heap_base`")?;
    let ctx = u64::from(heap.cast_unsigned()).next_multiple_of(PAGE);
    let missing = (ctx + PAGE + mem_bytes as u64).saturating_sub(memory.data_size(&store) as u64);
    memory.grow(&mut store, missing.div_ceil(PAGE)).map_err(plain)?;
    let prog = instance.get_typed_func(&mut store, "prog").map_err(plain)?;
    let compile_us = Some(least.as_secs_f64() * 1e6);
    let code =
        Code { bytes: Some(module.functions().map(|f| f.len as u64).sum()), compile_us, ..Code::default() };
    Ok(Loaded { program: Box::new(Wasm { store, memory, prog, ctx: u32::try_from(ctx)? }), code })
}

impl Run for Wasm {
    fn run(&mut self, ctx: Ctx) -> anyhow::Result<u64> {
        let at = self.ctx as usize;
        let mut bytes = Ctx { mem: u64::from(self.ctx) + PAGE, ..ctx }.to_bytes();
        self.memory.write(&mut self.store, at, &bytes)?;
        self.prog.call(&mut self.store, self.ctx).map_err(plain)?;
        self.memory.read(&self.store, at, &mut bytes)?;
        Ctx::answer(&bytes)
    }
}

/// wasmtime's errors are of a type of their own.
fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
