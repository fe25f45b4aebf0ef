//! The kernel engine: the same objects in the running Linux kernel (6.9 or newer for arenas).
//!
//! The kernel verifies for itself, so this engine takes linked programs and hands over what a loader has to: maps with
//! their contents, the arena mapped before any program, type information, and the kernel's own ids for the functions
//! and variables that a program names.

mod attach;
mod btf;
mod error;
mod loaded;
mod maps;
mod pages;
mod program;
mod running;

use std::sync::Arc;

use bpf_object::{Btf, LinkOptions, Linked, MapType, Object};
use sys::bpf::{Capability, CapabilitySet, Feature, VerifierLog};

pub use attach::{AttachError, AttachTarget, Attachment};
pub use error::{KernelError, KernelRejection};
pub use loaded::KernelProgram;
pub(crate) use maps::KernelMap;
pub use program::LoadOptions;
pub use sys::bpf::{Errno, LogMode, XdpMode};

pub(crate) use self::pages::KernelPages;

use self::btf::LoadedBtf;
use self::program::Shared;
use self::running::Running;
use crate::App;
use crate::arena::Arena;

/// Loads objects into the running kernel.
#[derive(Clone, Debug, Default)]
pub struct KernelEngine {
    options: LoadOptions,
    only: Option<Vec<String>>,
    arena: Option<Arena>,
}

impl KernelEngine {
    /// The kernel engine, if this process may use it.
    ///
    /// # Errors
    /// [`KernelError::MissingCapability`] names what is missing.
    pub fn new() -> Result<Self, KernelError> {
        match CapabilitySet::effective().first_missing(&[Capability::Bpf]) {
            Some(capability) => Err(KernelError::MissingCapability { capability }),
            None => Ok(Self::default()),
        }
    }

    /// When to ask for the verifier's log: by default after a rejection.
    #[must_use]
    pub fn log(mut self, log: LogMode) -> Self {
        self.options.log = log;
        self
    }

    /// `BPF_F_*` of program loading, beside those that section names imply.
    #[must_use]
    pub fn prog_flags(mut self, flags: u32) -> Self {
        self.options.flags = flags;
        self
    }

    /// Loads objects with this arena as theirs, instead of creating one: [made](Arena::create_in_kernel) before, or
    /// [left](Arena::open_pinned) by another process. Its contents stay: initial values of the object's variables in the
    /// arena are not written.
    #[must_use]
    pub fn arena(mut self, arena: &Arena) -> Self {
        self.arena = Some(arena.clone());
        self
    }

    /// Loads only these programs. By default all are, save those whose section begins with `?`.
    #[must_use]
    pub fn only(mut self, programs: &[&str]) -> Self {
        self.only = Some(programs.iter().map(|&name| name.to_owned()).collect());
        self
    }

    /// Creates an object's maps and loads its programs.
    ///
    /// # Errors
    /// [`KernelError`] says what the kernel refused, and why.
    pub fn load(&self, object: &Arc<Object>) -> Result<App, KernelError> {
        let kernel_object = KernelObject::create(object, None, self.arena.as_ref())?;
        let wanted: Vec<&str> = match &self.only {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => object.programs.iter().filter(|p| !p.kind.optional).map(|p| p.name.as_str()).collect(),
        };
        let (mut programs, mut specs) = (Vec::new(), Vec::new());
        for name in wanted {
            let linked = kernel_object.link(object, name)?;
            programs.push(kernel_object.load(&linked, &self.options)?.0);
            // After the kernel: its verdict on what is no instruction is the one to report.
            let failed = |source| KernelError::Link { program: name.to_owned(), source };
            specs.push(Arc::new(linked.decode().map_err(failed)?));
        }
        kernel_object.fill_program_slots(object, &programs)?;
        let programs =
            specs.into_iter().zip(programs).map(|(spec, p)| crate::Program::new(spec, Arc::new(p)));
        let maps = kernel_object.maps().collect();
        Ok(App::new(Arc::clone(object), programs.collect(), maps, kernel_object.arena().cloned()))
    }
}

/// The running kernel's types, read once per process: what CO-RE relocations of an object that is to behave as in this
/// kernel are resolved against.
///
/// # Errors
/// The kernel has no BTF, or it cannot be read. No privilege is needed.
pub fn running_btf() -> Result<Arc<Btf>, KernelError> {
    Ok(Arc::clone(&Running::get()?.btf))
}

/// What linking needs to make of an object what this engine would load: types, modules and configuration of the running
/// kernel.
///
/// # Errors
/// As for [`running_btf`].
pub fn link_options() -> Result<LinkOptions, KernelError> {
    Ok(Running::get()?.link_options())
}

/// An object whose maps are in the kernel and whose programs can be loaded one at a time: what a test runner wants, which
/// expects some of them to be refused.
#[derive(Debug)]
pub struct KernelObject {
    running: &'static Running,
    options: LinkOptions,
    btf: Option<LoadedBtf>,
    maps: Vec<Arc<KernelMap>>,
}

impl KernelObject {
    /// Loads the object's type information and creates its maps.
    ///
    /// # Errors
    /// [`KernelError`] says what the kernel refused, and why.
    pub fn new(object: &Object) -> Result<Self, KernelError> {
        Self::with_target(object, None)
    }

    /// As [`KernelObject::new`], with another BTF than the running kernel's as the target of CO-RE relocations.
    ///
    /// # Errors
    /// As [`KernelObject::new`].
    pub fn with_target(object: &Object, target: Option<Arc<Btf>>) -> Result<Self, KernelError> {
        Self::create(object, target, None)
    }

    fn create(object: &Object, target: Option<Arc<Btf>>, arena: Option<&Arena>) -> Result<Self, KernelError> {
        KernelEngine::new()?;
        if object.maps.iter().any(|m| m.map_type == MapType::Arena) {
            Feature::Arena.require().map_err(KernelError::Feature)?;
        }
        let running = Running::get()?;
        let mut options = running.link_options();
        if target.is_some() {
            (options.target_btf, options.module_btfs) = (target, Vec::new());
        }
        let specs = object.maps_with(&options).map_err(KernelError::Kconfig)?;
        let btf = LoadedBtf::of(object)?;
        let maps = maps::create_all(object, &specs, btf.as_ref(), running, arena)?;
        Ok(Self { running, options, btf, maps })
    }

    /// Links a program of the object for the running kernel: CO-RE relocations against its types.
    ///
    /// # Errors
    /// [`KernelError::Link`].
    pub fn link(&self, object: &Object, program: &str) -> Result<Linked, KernelError> {
        object
            .link_raw(program, &self.options)
            .map_err(|source| KernelError::Link { program: program.to_owned(), source })
    }

    /// Loads a program that was linked from the object, and gives the verifier's log if one was asked for.
    ///
    /// # Errors
    /// [`KernelError::Rejected`] when the verifier refuses it.
    pub fn load(
        &self,
        program: &Linked,
        options: &LoadOptions,
    ) -> Result<(KernelProgram, VerifierLog), KernelError> {
        let shared = Shared { running: self.running, maps: &self.maps, btf: self.btf.as_ref() };
        let (prog, log) = shared.load(program, options)?;
        Ok((KernelProgram::new(program, prog, self.maps.clone()), log))
    }

    /// Puts loaded programs into the slots of program arrays that name them. Programs of the object that were not loaded
    /// leave their slot empty.
    ///
    /// # Errors
    /// A slot names what the object does not have, or the kernel refuses the entry.
    pub fn fill_program_slots(&self, object: &Object, programs: &[KernelProgram]) -> Result<(), KernelError> {
        for map in self.maps.iter().filter(|m| m.map().info().map_type == MapType::ProgArray as u32) {
            let spec = crate::backend::LoadedMap::spec(&**map);
            for slot in &spec.slots {
                if let Some(program) = programs.iter().find(|p| p.name() == slot.target) {
                    maps::store_descriptor(map, slot.index, program.fd())?;
                } else if !object.programs.iter().any(|p| p.name == slot.target) {
                    let (index, target) = (slot.index, slot.target.clone());
                    return Err(KernelError::NoSlotTarget { map: spec.name.clone(), index, target });
                }
            }
        }
        Ok(())
    }

    /// The object's arena.
    #[must_use]
    pub fn arena(&self) -> Option<&Arena> {
        self.maps.iter().find_map(|map| map.arena())
    }

    /// The object's maps, in its order.
    pub fn maps(&self) -> impl Iterator<Item = crate::Map> + '_ {
        self.maps.iter().map(|map| crate::Map::new(Arc::clone(map) as _))
    }
}
