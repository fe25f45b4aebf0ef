//! The running kernel: `BPF_PROG_TEST_RUN`.

use std::path::Path;

use anyhow::Context as _;
use bpf_arena::arena::UserAddr;
use bpf_arena::{App, Engine, Object};

use super::{Code, Loaded, Run, user};
use crate::programs::Ctx;

struct Kernel {
    app: App,
    mem: UserAddr,
}

/// Loads an object into the kernel.
pub(super) fn load(path: &Path) -> anyhow::Result<Loaded> {
    let object = Object::open(path)?;
    let app = object.load(Engine::kernel()?)?;
    let mem = user::populate(app.arena()?, &object)?;
    let program = app.program("prog")?;
    let info = program.kernel().context("the kernel loaded it")?.info()?;
    let code = Code { bytes: Some(info.jited_len.into()), ..Code::default() };
    Ok(Loaded { program: Box::new(Kernel { app, mem }), code })
}

impl Run for Kernel {
    fn run(&mut self, ctx: Ctx) -> anyhow::Result<u64> {
        let mut bytes = Ctx { mem: self.mem.get(), ..ctx }.to_bytes();
        self.app.program("prog")?.run(&mut bytes)?;
        Ctx::answer(&bytes)
    }
}
