//! `extern ... __kconfig` variables: a map whose contents are the kernel's configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{LinkError, LinkOptions, MapSpec, Object};

/// A value of the kernel configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KconfigValue {
    /// `=y`, `=n` or `=m`.
    Tristate(Tristate),
    /// A number, as 64 bits (negative numbers in two's complement).
    Number(u64),
    /// A string, without quotes.
    Text(String),
}

/// `=y`, `=n` or `=m` (`enum libbpf_tristate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tristate {
    /// `n`.
    No = 0,
    /// `y`.
    Yes = 1,
    /// `m`.
    Module = 2,
}

/// Values of `extern ... __kconfig` variables, by name: `CONFIG_*`, and `LINUX_KERNEL_VERSION` and other `LINUX_*`
/// that a loader provides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kconfig {
    values: BTreeMap<String, KconfigValue>,
}

impl Kconfig {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one value.
    pub fn set(&mut self, name: &str, value: KconfigValue) -> &mut Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// The value with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&KconfigValue> {
        self.values.get(name)
    }
}

pub(crate) fn fill(object: &Object, _options: &LinkOptions) -> Result<Arc<[MapSpec]>, LinkError> {
    Ok(Arc::clone(&object.maps))
}
