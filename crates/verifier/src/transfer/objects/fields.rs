//! Loads and stores that touch fields the kernel owns.

use isa::Reg;

use super::super::Step;
use crate::plan::fields::Record;
use crate::report::reason::{ObjectFault, Reason, Unsupported};
use crate::state::reg::{RegState, RegType};

impl Step<'_> {
    /// Checks `size` bytes of a map's value against its fields (`check_map_access`): only pointers may be touched, by whole
    /// loads and stores of the program (`direct`).
    pub(in crate::transfer) fn check_field_access(
        &self,
        reg: Reg,
        pointer: &RegState,
        offset: i64,
        size: u64,
        direct: bool,
    ) -> Result<(), Reason> {
        let RegType::PtrToMapValue { map } = pointer.kind else { return Ok(()) };
        if self.plan.fields.map(map).is_some_and(|f| f.needs_kernel) {
            let what = "a map with pointers to types of a kernel that is not known";
            return Err(Unsupported::Feature { what }.into());
        }
        let Some(record) = self.plan.record(pointer) else { return Ok(()) };
        self.check_record_access(
            record,
            (reg, map),
            pointer,
            offset + i64::from(pointer.offset),
            size,
            direct,
        )
    }

    fn check_record_access(
        &self,
        record: &Record,
        (reg, map): (Reg, u32),
        pointer: &RegState,
        offset: i64,
        size: u64,
        direct: bool,
    ) -> Result<(), Reason> {
        let low = pointer.scalar.wide.smin.saturating_add(offset);
        let umax = i64::try_from(pointer.scalar.wide.umax).unwrap_or(i64::MAX);
        let high = umax.saturating_add(offset).saturating_add_unsigned(size);
        for field in record.touched(low, high) {
            if !field.tag.is_pointer() {
                let map = self.plan.map_name(map);
                return Err(Reason::SpecialField { field: field.tag.name(), reg, map });
            }
            if !direct {
                return Err(ObjectFault::PointerIndirect { field: field.tag.name(), reg }.into());
            }
            let Some(known) = pointer.scalar.as_constant() else {
                return Err(ObjectFault::PointerVariable { field: field.tag.name(), reg }.into());
            };
            let at = offset.saturating_add(known.cast_signed());
            if at != i64::from(field.offset) {
                let (expected, field) = (field.offset, field.tag.name());
                return Err(ObjectFault::PointerMisaligned { field, reg, expected, offset: at }.into());
            }
            if size != u64::from(field.tag.size()) {
                return Err(ObjectFault::PointerSize { field: field.tag.name(), reg }.into());
            }
        }
        Ok(())
    }
}
