//! Constant strings as arguments.

use bpf_object::MapOrigin;
use isa::Reg;

use super::Step;
use crate::reason::Reason;
use crate::reg::{RegState, RegType};

impl Step<'_> {
    /// A zero-terminated string at a known place of a read-only data section.
    pub(super) fn check_const_string(&mut self, reg: Reg, value: &RegState) -> Result<(), Reason> {
        let fail = Reason::NotConstString { reg };
        let RegType::PtrToMapValue { map } = value.kind else { return Err(fail) };
        let offset =
            value.scalar.as_constant().map(|c| c.cast_signed().saturating_add(i64::from(value.offset)));
        let (Some(spec), Some(offset)) = (self.plan.map(map), offset.and_then(|o| usize::try_from(o).ok()))
        else {
            return Err(fail);
        };
        let size = usize::try_from(spec.value_size).unwrap_or(usize::MAX);
        let constant = matches!(spec.origin, MapOrigin::Data { read_only: true, .. });
        // Bytes past the initial ones are zero.
        let ends =
            spec.initial.get(offset..).is_none_or(|text| text.contains(&0)) || spec.initial.len() < size;
        if constant && !value.maybe_null() && offset < size && ends { Ok(()) } else { Err(fail) }
    }
}
