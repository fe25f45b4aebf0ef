//! `bpf-arena features`.

use bpf_arena::{Feature, features};
use serde::Serialize;

use crate::args::FeaturesArgs;
use crate::failure::Failure;
use crate::json;
use crate::output::{self, say};

/// Columns that names are laid out in.
const WIDTH: usize = 100;

/// `bpf-arena features --json`: one object.
#[derive(Serialize)]
struct Listing {
    version: u32,
    helpers: Vec<FeatureJson>,
    kfuncs: Vec<FeatureJson>,
    map_types: Vec<FeatureJson>,
    program_types: Vec<FeatureJson>,
}

#[derive(Serialize)]
struct FeatureJson {
    name: &'static str,
    /// Whether programs of this process may use it.
    user: bool,
}

/// Lists what programs may use.
pub(crate) fn run(args: &FeaturesArgs) -> Result<(), Failure> {
    let features = features();
    if args.json {
        return output::json(&Listing {
            version: json::VERSION,
            helpers: features.helpers.iter().map(to_json).collect(),
            kfuncs: features.kfuncs.iter().map(to_json).collect(),
            map_types: features.map_types.iter().map(to_json).collect(),
            program_types: features.program_types.iter().map(to_json).collect(),
        });
    }
    section("HELPERS", &features.helpers, args.missing)?;
    section("KERNEL FUNCTIONS", &features.kfuncs, args.missing)?;
    section("MAPS", &features.map_types, args.missing)?;
    section("PROGRAMS", &features.program_types, args.missing)
}

fn to_json<T>(feature: &Feature<T>) -> FeatureJson {
    FeatureJson { name: feature.name, user: feature.here }
}

/// A heading with how many there are, then the names in lines.
fn section<T>(title: &str, features: &[Feature<T>], missing: bool) -> Result<(), Failure> {
    let names: Vec<&str> = features.iter().filter(|one| one.here != missing).map(|one| one.name).collect();
    let heading = if missing { "missing, of" } else { "of" };
    say!("{title} ({} {heading} {})", names.len(), features.len())?;
    lines(&names).iter().try_for_each(|line| output::line(line))?;
    output::line("")
}

/// Names in lines of at most [`WIDTH`] columns, indented.
fn lines(names: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + name.len() <= WIDTH => {
                line.push(' ');
                line.push_str(name);
            }
            _ => lines.push(format!("    {name}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fill_lines() {
        let name = "bpf_of_twenty_bytes_";
        let lines = lines(&[name; 9]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [4 + 4 * 20 + 3, 87, 24]);
        assert!(super::lines(&[]).is_empty());
    }
}
