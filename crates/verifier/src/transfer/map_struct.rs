//! Accesses to a map itself, through a pointer to it.

use super::Step;
use super::mem::Place;
use crate::report::reason::{Access, MapStructFault, Reason};
use crate::state::reg::RegState;

impl Step<'_> {
    /// Checks a read of a member of the structure that stands for the map.
    pub(super) fn check_map_struct(
        &mut self,
        map: u32,
        place: Place,
        pointer: &RegState,
    ) -> Result<(), Reason> {
        let plan = self.plan;
        let known = plan.map(map).and_then(|spec| plan.env.map_struct(spec.map_type));
        if known.is_none() && plan.kernel().is_some() {
            return self.read_kernel_map(map, place, pointer).map(|_| ());
        }
        // Arithmetic with anything but 0 was refused.
        let Some(known) = known.filter(|_| pointer.scalar.is_zero()) else {
            return Err(Reason::InvalidAccess { reg: place.reg, found: pointer.type_name() });
        };
        let (offset, size) = (i64::from(pointer.offset) + i64::from(place.offset), place.size.bytes());
        let end = offset + i64::from(size);
        let fail = |fault| {
            let (reg, name, size) = (place.reg, known.name.clone(), u32::from(size));
            Err(Reason::MapStruct { reg, fault, name, offset, size })
        };
        if offset < 0 {
            return fail(MapStructFault::Negative);
        }
        if place.access == Access::Write {
            return fail(MapStructFault::Write);
        }
        if end > i64::from(known.size) {
            return fail(MapStructFault::Beyond);
        }
        let holds = |m: &&crate::MapMember| {
            (i64::from(m.offset)..i64::from(m.offset) + i64::from(m.size)).contains(&offset)
        };
        let Some(member) = known.members.iter().find(holds) else {
            return fail(MapStructFault::NoMember);
        };
        let member_end = member.offset.saturating_add(member.size);
        if end > i64::from(member_end) {
            return fail(MapStructFault::MemberEnd { member: member.name.clone(), end: member_end });
        }
        self.facts.map_bytes = self.facts.map_bytes.max(member_end);
        Ok(())
    }
}
