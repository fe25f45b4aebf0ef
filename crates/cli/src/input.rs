//! Objects and programs that the command line names.

use std::{fs, path::Path};

use anyhow::{Context, anyhow};
use bpf_arena::Engine;
use bpf_arena::bpf_object::{LinkError, Object, Program};
use bpf_arena::typed;

use crate::failure::Failure;

/// Most bytes of an object file.
const MAX_OBJECT_BYTES: u64 = 256 << 20;

/// Reads and parses an object file.
pub(crate) fn object(path: &Path) -> Result<Object, Failure> {
    Object::parse(&bytes(path)?).with_context(|| path.display().to_string()).map_err(Failure::refused)
}

/// Reads an object file.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = || path.display().to_string();
    let size = fs::metadata(path).with_context(name).map_err(Failure::usage)?.len();
    if size > MAX_OBJECT_BYTES {
        let error = anyhow!("{}: {size} bytes are more than an object has ({MAX_OBJECT_BYTES})", name());
        return Err(Failure::usage(error));
    }
    fs::read(path).with_context(name).map_err(Failure::usage)
}

/// Applies `--set NAME=VALUE`.
pub(crate) fn set(object: &mut Object, settings: &[String]) -> Result<(), Failure> {
    for setting in settings {
        let (path, text) = setting
            .split_once('=')
            .ok_or_else(|| Failure::usage(anyhow!("--set {setting}: expected NAME=VALUE")))?;
        typed::set_initial(object, path, text)
            .with_context(|| format!("--set {setting}"))
            .map_err(Failure::usage)?;
    }
    Ok(())
}

/// The programs asked for: one by name, or all of them.
pub(crate) fn programs(object: &Object, name: Option<&str>) -> Result<Vec<String>, Failure> {
    match name {
        Some(name) => {
            known(object, name)?;
            Ok(vec![name.to_owned()])
        }
        None => Ok(object.programs.iter().map(|p| p.name.clone()).collect()),
    }
}

/// Checks that the object has a program of this name.
pub(crate) fn known(object: &Object, name: &str) -> Result<(), Failure> {
    if object.programs.iter().any(|p| p.name == name) {
        return Ok(());
    }
    let available = object.programs.iter().map(|p| p.name.clone()).collect();
    Err(Failure::usage(LinkError::NoSuchProgram { name: name.to_owned(), available }))
}

/// Links one program.
pub(crate) fn link(object: &Object, name: &str) -> Result<Program, Failure> {
    object.link_with(name, &Engine::user().link_options()).map_err(|error| match error {
        LinkError::NoSuchProgram { .. } => Failure::usage(error),
        _ => Failure::refused(error),
    })
}
