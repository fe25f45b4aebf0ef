//! Objects linked into one, in the kernel.

use std::path::PathBuf;

use bpf_arena::typed::{ArenaPtr, ArenaType};
use bpf_arena::{Engine, Object};
use libtest_mimic::Failed;

use super::check;

/// `struct record` of the linked objects.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
struct Record {
    next: ArenaPtr<Record>,
    value: u64,
}

/// The kernel takes the programs, types and lines of a linked object, and they do what their parts say.
pub(crate) fn load() -> Result<(), Failed> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../object/tests/bpf");
    let paths = ["linked_main.bpf.o", "linked_library.bpf.o"].map(|name| folder.join(name));
    let app = Object::open_linked(&paths)?.load(Engine::kernel()?)?;
    let table = app.map("table")?;
    table.update(&3u32.to_le_bytes(), &77u64.to_le_bytes(), bpf_arena::UpdateMode::Any)?;
    let found = app.program("run")?.run(&mut ())?.return_value;
    check(found == 77, format!("`table` is one map: {found}"))?;
    // The strong `scale` is 3 and the strong `transform` doubles.
    let records: ArenaPtr<Record> = app.global("records")?;
    let record = app.arena()?.read(records)?;
    check(record.value == 6, format!("transform(scale) is {}", record.value))?;
    // helper(1) of main: 6 + 1; library_add(10): 60 - 10; first_wins: 1; totals.sum: 2 + 10; shared_counter: 7.
    let hz = app.global::<i32>("CONFIG_HZ")?;
    let answer = app.global::<u64>("answer")?;
    check(answer == 7 + 50 + 1 + 12 + 7 + u64::try_from(hz)?, format!("answer {answer}"))?;
    let doubled = app.program("library_main")?.run(&mut ())?.return_value;
    let answer = app.global::<u64>("answer")?;
    check(u64::from(doubled) == (answer * 2) & 0xffff_ffff, format!("{doubled} for {answer}"))
}
