//! Timers, kptr fields and dynptrs as arguments of helpers.

use isa::Reg;

use super::super::Step;
use super::{Call, MapRef};
use crate::plan::fields::Tag;
use crate::report::reason::Reason;
use crate::rules::helpers::{Arg, ArgFlags};
use crate::state::reg::{RegState, RegType};
use crate::state::stack::DynptrKind;

impl Step<'_> {
    /// A timer in a map's value: the map is remembered.
    pub(super) fn check_timer(&mut self, call: &mut Call, reg: Reg, value: &RegState) -> Result<(), Reason> {
        self.field_argument(reg, value, Tag::Timer)?;
        if let RegType::PtrToMapValue { map: index } = value.kind {
            call.map = Some(MapRef { index, uid: value.map_uid });
        }
        Ok(())
    }

    /// A kptr field: the map, if it is in one, is remembered.
    pub(super) fn check_kptr_field(
        &mut self,
        call: &mut Call,
        reg: Reg,
        value: &RegState,
    ) -> Result<(), Reason> {
        call.kptr = Some(self.exchanged_kptr(reg, value)?);
        if let RegType::PtrToMapValue { map: index } = value.kind {
            call.map = Some(MapRef { index, uid: call.map.map_or(0, |m| m.uid) });
        }
        Ok(())
    }

    /// What is put into a kptr field.
    pub(super) fn check_kptr_value(&self, call: &Call, reg: Reg, value: &RegState) -> Result<(), Reason> {
        let field = call.kptr.ok_or(Reason::Internal { what: "no kptr field" })?;
        self.check_kptr_type(field, reg, value)
    }

    /// A dynptr argument: one that is made, or one in use.
    pub(super) fn check_dynptr(
        &mut self,
        reg: Reg,
        arg: Arg,
        kind: Option<DynptrKind>,
    ) -> Result<(), Reason> {
        if arg.has(ArgFlags::UNINIT) {
            return self.make_dynptr(reg, kind.unwrap_or(DynptrKind::Local), None);
        }
        self.use_dynptr(reg, kind, !arg.has(ArgFlags::RDONLY)).map(|_| ())
    }

    /// The memory of a dynptr hangs on it.
    pub(super) fn dynptr_data(&mut self, call: &mut Call) -> Result<(), Reason> {
        let dynptr = self.use_dynptr(Reg::R1, None, false)?;
        (call.dynptr_id, call.ref_id) = (dynptr.id, dynptr.ref_id);
        Ok(())
    }

    /// Writing through a packet's dynptr may move the packet.
    pub(super) fn dynptr_write(&mut self, call: &mut Call) -> Result<(), Reason> {
        let dynptr = self.use_dynptr(Reg::R1, None, false)?;
        call.changes_packet |= matches!(dynptr.kind, DynptrKind::Skb | DynptrKind::SkbMeta);
        Ok(())
    }
}
