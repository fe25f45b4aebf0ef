//! What the user engine has, of what Linux 6.18 has.

use bpf_object::{MapType, ProgType};

use crate::runtime;
use crate::user;

/// Everything that programs of the user engine may use without the host's help. Read from the tables that execute them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Features {
    /// Helpers, by number.
    pub helpers: Vec<Feature<u32>>,
    /// Kernel functions, by name.
    pub kfuncs: Vec<Feature<&'static str>>,
    /// Types of maps.
    pub map_types: Vec<Feature<MapType>>,
    /// Types of programs.
    pub program_types: Vec<Feature<ProgType>>,
}

/// Something that Linux has, and whether the user engine has it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature<T> {
    /// What it is.
    pub what: T,
    /// Its name.
    pub name: &'static str,
    /// Whether programs may use it here.
    pub here: bool,
}

/// What the user engine has.
///
/// ```
/// let features = bpf_arena::features();
/// assert!(features.helpers.iter().any(|helper| helper.name == "bpf_loop" && helper.here));
/// ```
#[must_use]
pub fn features() -> Features {
    let helpers = (1..).map_while(|number| Some((number, isa::helper_name(number)?)));
    let mut kfuncs: Vec<&'static str> = verifier::kernel_functions().chain(runtime::kfuncs()).collect();
    kfuncs.sort_unstable();
    kfuncs.dedup();
    Features {
        helpers: helpers
            .map(|(what, name)| Feature { what, name, here: runtime::helper(what).is_some() })
            .collect(),
        kfuncs: kfuncs
            .into_iter()
            .map(|name| Feature { what: name, name, here: runtime::kfunc(name).is_some() })
            .collect(),
        map_types: MapType::ALL
            .iter()
            .map(|&what| Feature { what, name: what.name(), here: runtime::maps::supported(what) })
            .collect(),
        program_types: ProgType::ALL
            .into_iter()
            .map(|what| Feature { what, name: what.name(), here: user::runs(what) })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_names_of_their_numbers() {
        for row in runtime::every_row().filter(|row| row.number.is_some()) {
            assert_eq!(row.number.and_then(isa::helper_name), Some(row.name));
        }
    }

    #[test]
    fn no_function_has_two_rows() {
        let mut names: Vec<_> = runtime::every_row().map(|row| (row.number, row.name)).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
