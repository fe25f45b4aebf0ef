//! Compile time: of made programs of growing size, whose time for each instruction must not grow, and of real objects.

mod shapes;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use bpf_arena::codegen::{self, PassSet};
use bpf_arena::verifier::{self, Verified};
use bpf_arena::{Object, UserEngine};
use comfy_table::Table;

use crate::measure::Clock;
use crate::report::{as_f64, table};
use shapes::Shape;

/// Microseconds for each instruction of BPF.
const BUDGET_US: f64 = 10.0;
/// How much more an instruction may cost in a larger program: a little is noise.
const GROWTH: f64 = 1.3;
const SIZES: [usize; 5] = [1_000, 3_000, 10_000, 30_000, 100_000];
/// Times that a program is compiled: the least counts.
const COMPILATIONS: usize = 3;

/// Prints the compile time of all shapes and sizes, and of all objects, or of those that are named.
///
/// # Errors
/// A made program is over the budget, or one instruction costs more in a large program than in a small one.
pub(crate) fn check(root: &Path, passes: PassSet, only: &[String]) -> anyhow::Result<()> {
    let mut over = Vec::new();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| *wanted == name.to_lowercase());
    let shapes: Vec<_> = Shape::ALL.into_iter().filter(|shape| wanted(&format!("{shape:?}"))).collect();
    println!("{}", made(&shapes, passes, &mut over)?);
    for folder in ["", "target/conformance/objects"].into_iter().filter(|_| wanted("objects")) {
        match objects(&root.join(folder), passes)? {
            Some(total) => println!("{total}"),
            None => println!("no objects in {folder}"),
        }
    }
    println!("microseconds for each instruction of BPF, the least of {COMPILATIONS}; budget {BUDGET_US}");
    ensure!(over.is_empty(), "over the budget:\n{}", over.join("\n"));
    Ok(())
}

/// A line for each shape, a column for each size.
fn made(shapes: &[Shape], passes: PassSet, over: &mut Vec<String>) -> anyhow::Result<Table> {
    let mut table = table(["us/insn".to_owned()].into_iter().chain(SIZES.map(|size| size.to_string())));
    for &shape in shapes {
        let mut least = f64::INFINITY;
        let mut row = vec![format!("{shape:?}")];
        for size in SIZES {
            let verified = verifier::verify(&shape.program(size), &verifier::Env::default())
                .with_context(|| format!("{shape:?} of {size} instructions"))?;
            let us = compile_us(&verified, passes)? / as_f64(verified.program().code.len() as u64);
            least = least.min(us);
            if us > BUDGET_US || us > least * GROWTH {
                over.push(format!(
                    "{shape:?} of {size} instructions: {us:.1} us each, smaller ones {least:.1}"
                ));
            }
            row.push(format!("{us:.1}"));
        }
        table.add_row(row);
    }
    Ok(table)
}

/// Microseconds that compiling takes.
fn compile_us(verified: &Verified, passes: PassSet) -> anyhow::Result<f64> {
    let mut options = codegen::Options::default();
    options.passes = passes;
    let mut least = f64::INFINITY;
    for _ in 0..COMPILATIONS {
        let start = Clock::Cpu.now();
        codegen::compile(verified, &options)?;
        least = least.min(Clock::Cpu.now() - start);
    }
    Ok(least * 1e6)
}

/// All programs of the objects below a folder, summed up in a line; `None` if there are none. Programs that only a kernel can
/// load are left out.
fn objects(folder: &Path, passes: PassSet) -> anyhow::Result<Option<String>> {
    /// Very small programs cost what one compilation costs at least.
    const COUNTS: usize = 100;
    let mut files = Vec::new();
    find(folder, &mut files);
    let engine = UserEngine::default();
    let (mut programs, mut left_out, mut insns, mut sum) = (0_u32, 0_u32, 0_u64, 0.0);
    let mut worst = (0.0, String::new());
    for file in &files {
        let Ok(object) = Object::open(file) else { continue };
        for info in &object.spec().programs {
            let linked = object.spec().link_with(&info.name, &engine.link_options());
            let verified =
                linked.ok().and_then(|program| verifier::verify(&program, engine.verifier_env()).ok());
            let Some(us) = verified.as_ref().and_then(|verified| compile_us(verified, passes).ok()) else {
                left_out += 1;
                continue;
            };
            let len = verified.map_or(0, |verified| verified.program().code.len());
            programs += 1;
            insns += len as u64;
            sum += us;
            let each = us / as_f64(len as u64);
            if len >= COUNTS && each > worst.0 {
                worst = (each, format!("{} of {}, {len} instructions", info.name, file.display()));
            }
        }
    }
    let each = sum / as_f64(insns);
    Ok((programs > 0).then(|| {
        format!(
            "{}: {programs} programs ({left_out} left out), {insns} instructions: {each:.1} us each; most from {COUNTS} \
             instructions on: {:.1} ({})",
            folder.display(),
            worst.0,
            worst.1
        )
    }))
}

/// Objects below a folder, without those that were built there.
fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != ".git") {
                find(&path, found);
            }
        } else if path.extension().is_some_and(|end| end == "o") {
            found.push(path);
        }
    }
}
