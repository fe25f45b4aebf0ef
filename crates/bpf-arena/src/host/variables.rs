//! Variables of the kernel (`extern .. __ksym`) that the host stands in for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bpf_object::ExternKind;
use verifier::Verified;

use super::HostFunctions;
use super::object::{Image, Object};
use crate::UserEngine;
use crate::error::LoadError;

/// Variables of the host, by the kernel's names.
pub(crate) type HostVariables = BTreeMap<String, Arc<Image>>;

impl UserEngine {
    /// Stands in for a variable of the kernel (`extern const .. name __ksym`) with this object, which programs read.
    ///
    /// What the variable is comes from the kernel's BTF that the engine was given; a symbol whose address alone is asked for (`extern
    /// const void name __ksym`) needs none. A variable that each CPU has its own of is the same for all of them here.
    #[must_use]
    pub fn variable<S>(mut self, name: &str, object: &Object<S>) -> Self {
        self.set().host.variables.insert(name.to_owned(), Arc::clone(object.image()));
        self
    }
}

/// The variables that one program refers to.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// Per extern of the program: its address, 0 for what is no variable of the host.
    addresses: Vec<u64>,
    /// What is at these addresses.
    images: Vec<Arc<Image>>,
}

impl Variables {
    /// What the program refers to of the host's.
    ///
    /// # Errors
    /// One that is smaller than the verifier believes by the kernel's types.
    pub(crate) fn new(verified: &Verified, host: &HostFunctions) -> Result<Self, LoadError> {
        let mut all = Self::default();
        for (index, external) in verified.program().externs.iter().enumerate() {
            let image = host.variable(&external.name).filter(|_| external.kind != ExternKind::Function);
            if let Some(image) = image {
                let (expected, given) = (verified.variable_bytes(index), image.block().len());
                if expected as usize > given {
                    return Err(LoadError::Variable { name: external.name.clone(), expected, given });
                }
                all.images.push(Arc::clone(image));
            }
            all.addresses.push(image.map_or(0, |image| image.block().address()));
        }
        Ok(all)
    }

    /// The variables themselves.
    pub(crate) fn images(&self) -> &[Arc<Image>] {
        &self.images
    }

    /// Per extern of the program: the address of its variable.
    pub(crate) fn addresses(&self) -> &[u64] {
        &self.addresses
    }
}
