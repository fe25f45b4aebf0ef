//! What a pointer is once it is known whether it is NULL.

use bpf_object::MapType;

use crate::domain::scalar::Scalar;
use crate::plan::Plan;
use crate::plan::fields::{Set, Tag};
use crate::state::State;
use crate::state::reg::{Flags, RegState, RegType};

/// All pointers that are NULL together with `pointer` turned out to be NULL, or not.
pub(super) fn resolve_null(plan: &Plan<'_>, state: &mut State, pointer: &RegState, null: bool) {
    let id = pointer.id;
    if null && pointer.ref_id != 0 && pointer.ref_id == id {
        // Nothing was acquired.
        state.held.give_back_object(id);
    }
    state.update_all(
        |r| r.maybe_null() && r.id == id,
        |r| {
            if null {
                *r = RegState::number(Scalar::ZERO, r.origin);
                return;
            }
            *r = not_null(plan, *r);
            if !has_lock(plan, r) {
                // Nothing else depends on which value it is.
                r.id = 0;
            }
        },
    );
}

/// What a pointer that may be NULL is when it is not (`mark_ptr_not_null_reg`).
pub(super) fn not_null(plan: &Plan<'_>, pointer: RegState) -> RegState {
    let known = pointer.without(Flags::MAYBE_NULL);
    let RegType::PtrToMapValue { map } = pointer.kind else { return known };
    if let Some(inner) = plan.inner_map(map) {
        let kind = RegType::ConstPtrToMap { map: inner };
        // Fields that belong to one map: which lookup it came from tells the inner maps apart.
        let own = plan.fields.map(inner).is_some_and(|fields| fields.record.has(BOUND_TO_MAP));
        return RegState { kind, map_uid: if own { pointer.id } else { 0 }, ..known };
    }
    let kind = match plan.map(map).map(|spec| spec.map_type) {
        Some(MapType::Xskmap) => RegType::PtrToXdpSock,
        Some(MapType::Sockmap | MapType::Sockhash) => RegType::PtrToSocket,
        _ => pointer.kind,
    };
    RegState { kind, ..known }
}

/// Whether the pointer may lead to a spin lock, which is told apart by the pointer's identity.
fn has_lock(plan: &Plan<'_>, pointer: &RegState) -> bool {
    plan.record(pointer).is_some_and(|record| record.has(LOCKS))
}

const LOCKS: Set = Set::of(Tag::SpinLock).with(Tag::ResSpinLock);
const BOUND_TO_MAP: Set = Set::of(Tag::Timer).with(Tag::Wq).with(Tag::TaskWork);
