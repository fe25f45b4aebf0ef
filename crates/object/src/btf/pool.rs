//! A string section in the making: each text once, found by a table.

use std::collections::HashMap;

use super::{Btf, StrId};

/// Strings of a BTF that grows.
#[derive(Debug)]
pub(crate) struct StringPool {
    bytes: Vec<u8>,
    known: HashMap<Box<[u8]>, StrId>,
}

impl Default for StringPool {
    /// The empty string, which every BTF has at offset 0.
    fn default() -> Self {
        Self { bytes: vec![0], known: HashMap::from([(Box::default(), StrId(0))]) }
    }
}

impl StringPool {
    /// The text's id. A text holds no NUL.
    pub(crate) fn add(&mut self, text: &[u8]) -> StrId {
        if let Some(&known) = self.known.get(text) {
            return known;
        }
        let id = StrId(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        self.known.insert(text.into(), id);
        id
    }

    /// The id of a string of another BTF.
    pub(crate) fn copy(&mut self, from: &Btf, id: StrId) -> StrId {
        self.add(from.str_bytes(id).unwrap_or_default())
    }

    /// Bytes of the section so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The section.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
