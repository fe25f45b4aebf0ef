//! `bpf-arena link`.

use std::fs;

use anyhow::Context;
use bpf_arena::bpf_object::Linker;

use crate::args::LinkArgs;
use crate::failure::Failure;
use crate::input;

/// Links objects into one file. The file is written only when all went well.
pub(crate) fn run(args: &LinkArgs) -> Result<(), Failure> {
    let mut objects = Vec::with_capacity(args.objects.len());
    for path in &args.objects {
        objects.push((path.display().to_string(), input::bytes(path)?));
    }
    let mut linker = Linker::new();
    for (name, bytes) in &objects {
        linker = linker.add(name, bytes).map_err(Failure::refused)?;
    }
    let linked = linker.finish().map_err(Failure::refused)?;
    fs::write(&args.output, linked).with_context(|| args.output.display().to_string()).map_err(Failure::usage)
}
