//! Several objects into one, as `bpftool gen object` does.
//!
//! Sections of the same name follow one another, a name that objects share stands for one definition, and the result is an
//! object like those it was made of: it is parsed, linked further or loaded as if one compiler had made it. What libbpf's
//! linker makes of the same objects has the same symbols at the same offsets.
//!
//! | file | what it does |
//! | --- | --- |
//! | `input` | one object, as far as it is needed |
//! | `sections` | joins sections |
//! | `symbols` | one definition for each name: weak, strong, declared |
//! | `compatible` | whether a declaration and a definition are of the same type |
//! | `relocations` | relocations with their new offsets and symbols |
//! | `types` | one BTF, each type once; `.BTF.ext` |
//! | `write` | the ELF file |

mod compatible;
mod error;
mod input;
mod relocations;
mod sections;
mod symbols;
mod types;
mod write;

pub use error::{LinkedRelocationFault, LinkedSectionFault, SectionProperty, StaticLinkError, TypeMismatch};
use input::Input;
use sections::Sections;
use symbols::Symbols;

use crate::limits::MAX_LINKED_OBJECTS;

/// Links objects into one object.
///
/// - A name is defined once, or several times with all definitions but one `__weak`; of weak ones alone the first counts.
///   The code and data of the others remain, unused.
/// - `extern` functions, variables and maps are found in the other objects; what none defines stays `extern`, for a
///   later link or for the kernel (`__ksym`, `__kconfig`).
/// - All objects that mention a name must agree on its type.
/// - Static functions and variables stay apart whatever their names are.
/// - `license` and `version` must be the same wherever they are.
///
/// ```
/// use bpf_arena_object::{Linker, Object};
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bpf/");
/// let read = |name| std::fs::read(format!("{folder}{name}"));
/// let (main, library) = (read("linked_main.bpf.o")?, read("linked_library.bpf.o")?);
/// let linked = Linker::new().add("main.o", &main)?.add("library.o", &library)?.finish()?;
/// let programs = Object::parse(&linked)?.programs;
/// let names: Vec<_> = programs.iter().map(|p| p.name.as_str()).collect();
/// assert_eq!(names, ["run", "library_main", "packet"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Linker<'a> {
    inputs: Vec<Input<'a>>,
}

impl<'a> Linker<'a> {
    /// A linker without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object; `name` is what messages call it.
    ///
    /// # Errors
    /// [`StaticLinkError::Object`] if the bytes are no object, [`StaticLinkError::TooLarge`] if there are too many.
    pub fn add(mut self, name: &str, bytes: &'a [u8]) -> Result<Self, StaticLinkError> {
        if self.inputs.len() >= MAX_LINKED_OBJECTS {
            let limit = MAX_LINKED_OBJECTS as u64;
            return Err(StaticLinkError::TooLarge { what: "the number of objects", limit });
        }
        self.inputs.push(Input::parse(name, bytes)?);
        Ok(self)
    }

    /// Links the objects, in the order in which they were added, and gives the file. The same objects give the same
    /// bytes.
    ///
    /// # Errors
    /// [`StaticLinkError`] names the objects, section or symbol.
    pub fn finish(&self) -> Result<Vec<u8>, StaticLinkError> {
        if self.inputs.is_empty() {
            return Err(StaticLinkError::Nothing);
        }
        let mut sections = Sections::join(&self.inputs)?;
        let symbols = Symbols::resolve(&self.inputs, &sections)?;
        relocations::carry(&self.inputs, &mut sections, &symbols)?;
        if let Some(types::Tables { btf, ext }) = types::merge(&self.inputs, &sections, &symbols)? {
            sections.add_table(".BTF", btf);
            ext.into_iter().for_each(|ext| sections.add_table(".BTF.ext", ext));
        }
        write::elf(&sections.out, &symbols.table)
    }
}
