//! `cargo xtask fuzz maps`: the same operations on the maps of this process and on the running kernel's.

use std::time::Instant;

use anyhow::{bail, ensure};
use bpf_object::MapType;
use testkit::maps::{MapsError, compare, creations, types};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only this type of map, by the name that bpftool prints: `hash`, `lru_hash`, `lpm_trie`, ...
    #[arg(long = "type", value_name = "TYPE")]
    map_type: Option<String>,
    /// Sequences of operations for each type, and as many random sets of attributes.
    #[arg(long, default_value_t = 10_000)]
    sequences: u64,
    /// First seed; without one, from the time.
    #[arg(long)]
    seed: Option<u64>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let wanted = |kind: &MapType| args.map_type.as_ref().is_none_or(|name| kind.name() == name);
    let chosen: Vec<_> = types().into_iter().filter(wanted).collect();
    let names: Vec<_> = types().iter().map(|kind| kind.name()).collect();
    ensure!(!chosen.is_empty(), "no such type; there is {}", names.join(", "));
    let first = args.seed.unwrap_or_else(super::any_seed);
    println!("fuzz maps: {} sequences and as many creations of each type, seeds {first}..", args.sequences);
    let mut different = Vec::new();
    for kind in chosen {
        let begin = Instant::now();
        let compared = compare(kind, first, args.sequences);
        let created = creations(kind, first, args.sequences);
        let seconds = begin.elapsed().as_secs_f64();
        match (&compared, &created) {
            (Ok(compared), Ok(created)) => println!(
                "{:20} {} sequences of {} operations, {} creations: equal ({seconds:.0} s)",
                kind.name(),
                compared.sequences,
                compared.operations,
                created.sequences
            ),
            _ => {
                for error in [compared.err(), created.err()].into_iter().flatten() {
                    println!("{:20} {error}", kind.name());
                    if let MapsError::Side(_) = error {
                        println!("{:20} (not compared)", "");
                    }
                }
                different.push(kind.name());
            }
        }
    }
    if !different.is_empty() {
        bail!("{} differ from the running kernel's", different.join(", "));
    }
    Ok(())
}
