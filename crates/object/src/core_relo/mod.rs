//! CO-RE.

use isa::RawInsn;

use crate::error::LinkError;
use crate::layout::{Function, Text};
use crate::object::{LinkOptions, Object};

pub(crate) struct Resolver<'a> {
    _options: &'a LinkOptions,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(_object: &'a Object, options: &'a LinkOptions) -> Self {
        Self { _options: options }
    }

    pub(crate) fn apply(
        &mut self,
        _function: &Function,
        _text: &Text,
        _slots: &mut [RawInsn],
        _start: u32,
        _object: &Object,
    ) -> Result<(), LinkError> {
        Ok(())
    }
}
