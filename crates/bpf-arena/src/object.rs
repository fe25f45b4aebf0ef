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
