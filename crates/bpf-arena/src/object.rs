//! Objects: files to be loaded by an engine.

use std::path::Path;
use std::sync::Arc;

use bpf_object::{LinkError, Program};

use crate::app::App;
use crate::engine::Engine;
use crate::error::{LoadError, OpenError, SetError};

/// A BPF object as clang makes it, parsed but not loaded. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Object {
    inner: Arc<bpf_object::Object>,
}

impl Object {
    /// Reads and parses an object file.
    ///
    /// # Errors
    /// The file cannot be read, or is no usable BPF object.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
        bpf_object::Object::parse(&bytes)
            .map(Self::from)
            .map_err(|source| OpenError::Parse { path: Some(path.to_owned()), source })
    }

    /// Parses an object.
    ///
    /// # Errors
    /// The bytes are no usable BPF object.
    pub fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        bpf_object::Object::parse(bytes)
            .map(Self::from)
            .map_err(|source| OpenError::Parse { path: None, source })
    }

    /// Reads several object files and links them into one object, as `bpftool gen object` does: a program and the libraries
    /// it calls. More in [`bpf_object::Linker`], which gives the linked file too.
    ///
    /// ```
    /// use bpf_arena::Object;
    ///
    /// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../object/tests/bpf/");
    /// # let path = |name: &str| format!("{folder}{name}");
    /// let object = Object::open_linked(&[path("linked_main.bpf.o"), path("linked_library.bpf.o")])?;
    /// assert_eq!(object.spec().programs.len(), 3);
    /// # Ok::<(), bpf_arena::error::OpenError>(())
    /// ```
    ///
    /// # Errors
    /// A file cannot be read or is no usable BPF object, or the objects do not go together: a name defined twice, a
    /// declaration of another type than the definition.
    pub fn open_linked(paths: &[impl AsRef<Path>]) -> Result<Self, OpenError> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths.iter().map(AsRef::as_ref) {
            let bytes =
                std::fs::read(path).map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
            files.push((path.display().to_string(), bytes));
        }
        let mut linker = bpf_object::Linker::new();
        for (name, bytes) in &files {
            linker = linker.add(name, bytes)?;
        }
        Self::parse(&linker.finish()?)
    }

    /// Loads the object's programs and creates its maps.
    ///
    /// # Errors
    /// What the engine refuses, by program or map.
    pub fn load(&self, engine: impl Into<Engine>) -> Result<App, LoadError> {
        match engine.into() {
            Engine::User(engine) => engine.load(&self.inner),
            Engine::Kernel(engine) => Ok(engine.load(&self.inner).map_err(Box::new)?),
        }
    }

    /// Links one program, for tools that look at it.
    ///
    /// # Errors
    /// There is no such program, or a relocation cannot be applied.
    pub fn link(&self, program: &str) -> Result<Program, LinkError> {
        self.inner.link_with(program, &Engine::user().link_options())
    }

    /// Sets the initial bytes of a global variable, constants among them, before loading. The verifier sees the values of
    /// constants.
    ///
    /// # Errors
    /// There is no such variable, or it has another size.
    pub fn set_variable(&mut self, name: &str, value: &[u8]) -> Result<(), SetError> {
        let variable =
            self.inner.variable(name).ok_or_else(|| SetError::Unknown { name: name.to_owned() })?;
        if variable.size as usize != value.len() {
            return Err(SetError::Size {
                name: name.to_owned(),
                expected: variable.size,
                given: value.len(),
            });
        }
        let (map, offset) = (variable.map, variable.offset as usize);
        let object = Arc::make_mut(&mut self.inner);
        let spec = Arc::make_mut(&mut object.maps).get_mut(map);
        let spec = spec.ok_or_else(|| SetError::Unknown { name: name.to_owned() })?;
        let end = offset.saturating_add(value.len());
        if spec.initial.len() < end {
            spec.initial.resize(end, 0);
        }
        if let Some(bytes) = spec.initial.get_mut(offset..end) {
            bytes.copy_from_slice(value);
        }
        Ok(())
    }

    /// What the file says: programs, maps, variables, types.
    #[must_use]
    pub fn spec(&self) -> &Arc<bpf_object::Object> {
        &self.inner
    }
}

impl From<bpf_object::Object> for Object {
    fn from(object: bpf_object::Object) -> Self {
        Self { inner: Arc::new(object) }
    }
}
