//! A slice of `cargo xtask fuzz maps`: every type of map, the same operations here and in the running kernel.

use bpf_arena_testkit::kernel::missing_capability;
use bpf_arena_testkit::maps::{compare, creations, types};
use libtest_mimic::{Arguments, Failed, Trial};

const SEQUENCES: u64 = 40;
const CREATIONS: u64 = 400;
const SEED: u64 = 0x6d61_7073;

fn main() {
    let args = Arguments::from_args();
    let missing = missing_capability();
    let trials = types().into_iter().flat_map(|kind| {
        let operations = move || match compare(kind, SEED, SEQUENCES) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failed::from(error.to_string())),
        };
        let attributes = move || match creations(kind, SEED, CREATIONS) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failed::from(error.to_string())),
        };
        let name = kind.name();
        match missing {
            Some(needed) => [
                Trial::test(format!("operations_on_{name} (needs {needed})"), operations)
                    .with_ignored_flag(true),
                Trial::test(format!("attributes_of_{name} (needs {needed})"), attributes)
                    .with_ignored_flag(true),
            ],
            None => [
                Trial::test(format!("operations_on_{name}"), operations),
                Trial::test(format!("attributes_of_{name}"), attributes),
            ],
        }
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}
