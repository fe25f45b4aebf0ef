//! Kernel functions on objects: what their arguments must be, what they do and what they return.

use isa::Reg;

use super::super::Step;
use super::super::kfunc::KfuncCall;
use super::graph::NodeUse;
use super::locks::LockKind;
use crate::plan::fields::{Set, Tag};
use crate::report::reason::{ObjectFault, Reason};
use crate::rules::helpers::{Callback, CallbackArg};
use crate::rules::kfuncs::{Pointer, Role, Special};
use crate::rules::programs::Packet;
use crate::state::reg::{Flags, RegState, RegType};
use crate::state::stack::DynptrKind;

/// `bool (*less)(struct bpf_rb_node *a, const struct bpf_rb_node *b)` of `bpf_rbtree_add`; called back with the lock held.
static LESS: Callback = Callback {
    function: 2,
    args: &[CallbackArg::Node, CallbackArg::Node],
    returns: (0, 1),
    later: false,
    sleeps: false,
};

/// `int (*callback)(void *map, int *key, void *value)` of `bpf_wq_set_callback`; the value has the work queue.
static WORK: Callback = Callback {
    function: 1,
    args: &[CallbackArg::Map, CallbackArg::MapKey, CallbackArg::MapValue],
    returns: (0, 0),
    later: true,
    sleeps: true,
};

/// `int (*callback)(struct bpf_map *map, void *key, void *value)` of `bpf_task_work_schedule_signal`.
static TASK_WORK: Callback = Callback {
    function: 3,
    args: &[CallbackArg::Map, CallbackArg::MapKey, CallbackArg::MapValue],
    returns: (i32::MIN, i32::MAX),
    later: true,
    sleeps: true,
};

impl Step<'_> {
    /// Checks an argument whose parameter is a dynptr, an allocated object, a list, a tree, a lock or the like.
    pub(in crate::transfer) fn object_argument(
        &mut self,
        call: &mut KfuncCall<'_>,
        index: usize,
        reg: Reg,
        value: &RegState,
        (role, pointer): (Role, &Pointer),
    ) -> Result<(), Reason> {
        match role {
            Role::Alloc => self.check_dropped(reg, call.is(Special::PerCpuObjDrop)),
            Role::RefcountedKptr => {
                let (another, owned) = self.counted_object(reg)?;
                call.object = Some(another);
                call.owned = owned;
                Ok(())
            }
            Role::Dynptr => self.dynptr_argument(call, reg, pointer.uninit),
            Role::ListHead => self.root_argument(call, reg, Tag::ListHead),
            Role::RbRoot => self.root_argument(call, reg, Tag::RbRoot),
            Role::ListNode | Role::RbNode => {
                let adds = matches!(call.kfunc.special, Special::ListPush | Special::RbtreeAdd);
                let how = if adds { NodeUse::Add } else { NodeUse::Find { function: call.kfunc.name } };
                let graph = call.graph.ok_or(Reason::Internal { what: "a node without a root" })?;
                self.graph_node(reg, graph, how)
            }
            Role::Wq => self.work_argument(call, index, reg, value, Tag::Wq),
            Role::TaskWork => self.work_argument(call, index, reg, value, Tag::TaskWork),
            Role::IrqFlag => match call.kfunc.special {
                Special::IrqSave => self.save_irq(reg, false),
                Special::ResSpinLockIrq => self.save_irq(reg, true),
                Special::IrqRestore => self.restore_irq(reg, false),
                _ => self.restore_irq(reg, true),
            },
            Role::ResSpinLock => self.resilient_lock(call, index, reg, value),
            _ => Err(Reason::Internal { what: "an argument that is no object" }),
        }
    }

    fn root_argument(&mut self, call: &mut KfuncCall<'_>, reg: Reg, root: Tag) -> Result<(), Reason> {
        call.graph = Some(self.graph_root(reg, root)?);
        Ok(())
    }

    fn dynptr_argument(&mut self, call: &mut KfuncCall<'_>, reg: Reg, uninit: bool) -> Result<(), Reason> {
        if !uninit {
            call.dynptr = Some(self.use_dynptr(reg, None, false)?);
            return Ok(());
        }
        let parent = call.dynptr;
        let (kind, cloned) = match (call.kfunc.special, parent) {
            (Special::DynptrFromSkb, _) => (DynptrKind::Skb, None),
            (Special::DynptrFromSkbMeta, _) => (DynptrKind::SkbMeta, None),
            (Special::DynptrFromXdp, _) => (DynptrKind::Xdp, None),
            (Special::DynptrClone, Some(parent)) => {
                (parent.kind, parent.kind.is_owned().then_some(parent.ref_id))
            }
            _ => return Err(Reason::Internal { what: "a dynptr of no kind" }),
        };
        self.make_dynptr(reg, kind, cloned)
    }

    /// Work or a work queue in a map's value: the map is remembered.
    fn work_argument(
        &mut self,
        call: &mut KfuncCall<'_>,
        index: usize,
        reg: Reg,
        value: &RegState,
        tag: Tag,
    ) -> Result<(), Reason> {
        let RegType::PtrToMapValue { map } = value.kind else {
            return Err(ObjectFault::WorkPlace { argument: index, reg }.into());
        };
        if value.flags != Flags::NONE {
            return Err(ObjectFault::WorkPlace { argument: index, reg }.into());
        }
        self.field_argument(reg, value, tag)?;
        call.map = Some((map, value.map_uid));
        Ok(())
    }

    fn resilient_lock(
        &mut self,
        call: &KfuncCall<'_>,
        argument: usize,
        reg: Reg,
        value: &RegState,
    ) -> Result<(), Reason> {
        let fits = match value.kind {
            RegType::PtrToMapValue { .. } => value.flags == Flags::NONE,
            RegType::PtrToBtfId { .. } => value.flags == Flags::ALLOC,
            _ => false,
        };
        if !fits {
            return Err(ObjectFault::LockPlace { argument, reg, found: value.type_name() }.into());
        }
        match call.kfunc.special {
            Special::ResSpinLock => self.spin_lock(reg, LockKind::Resilient),
            Special::ResSpinLockIrq => self.spin_lock(reg, LockKind::ResilientIrq),
            Special::ResSpinUnlock => self.spin_unlock(reg, LockKind::Resilient),
            _ => self.spin_unlock(reg, LockKind::ResilientIrq),
        }
    }

    /// Checks that a map given with an object of its values is the one the object is in.
    pub(in crate::transfer) fn check_same_map(
        &self,
        call: &KfuncCall<'_>,
        reg: Reg,
        map: u32,
        uid: u32,
    ) -> Result<(), Reason> {
        let Some((first, first_uid)) = call.map else { return Ok(()) };
        let record = self.plan.fields.map(map).map(|m| &m.record);
        let has = |tag| record.is_some_and(|r| r.has(Set::of(tag)));
        let what = match () {
            () if has(Tag::Wq) => "workqueue",
            () if has(Tag::TaskWork) => "bpf_task_work",
            () => return Ok(()),
        };
        if (first, first_uid) == (map, uid) {
            Ok(())
        } else {
            Err(ObjectFault::OtherMap { what, reg, object: first_uid, map: uid }.into())
        }
    }

    /// What the call does to objects, once its arguments are checked: callbacks start.
    pub(in crate::transfer) fn object_callback(&mut self, call: &KfuncCall<'_>) -> Result<(), Reason> {
        let callback = match call.kfunc.special {
            Special::RbtreeAdd => &LESS,
            Special::WqSetCallback => &WORK,
            Special::TaskWork => &TASK_WORK,
            _ => return Ok(()),
        };
        let subprog = call.callback.ok_or(Reason::Internal { what: "no callback" })?;
        self.call_back(subprog, callback)
    }

    /// Lists and trees own what is put in.
    pub(in crate::transfer) fn object_effect(&mut self, call: &KfuncCall<'_>) -> Result<(), Reason> {
        match call.kfunc.special {
            Special::ListPush | Special::RbtreeAdd => self.give_to_graph(Reg::R2),
            _ => Ok(()),
        }
    }

    /// The pointer that a function on objects returns; `None` if it is as the prototype says.
    pub(in crate::transfer) fn object_result(
        &mut self,
        call: &KfuncCall<'_>,
    ) -> Result<Option<RegState>, Reason> {
        let size = call.constant.unwrap_or(0);
        let graph = || call.graph.ok_or(Reason::Internal { what: "a node of nothing" });
        let result = match call.kfunc.special {
            Special::ObjNew => self.new_object(size, false)?,
            Special::PerCpuObjNew => self.new_object(size, true)?,
            Special::RefcountAcquire => {
                call.object.ok_or(Reason::Internal { what: "a reference to nothing" })?
            }
            Special::ListPop | Special::RbtreeRemove => self.node_of(graph()?, true),
            Special::ListPeek | Special::RbtreePeek | Special::RbtreeStep => self.node_of(graph()?, false),
            Special::DynptrSlice => self.slice(call, size)?.with(Flags::RDONLY),
            Special::DynptrSliceWritable => {
                if !matches!(self.plan.rules.packet, Packet::Write | Packet::Memory) {
                    return Err(ObjectFault::PacketReadOnly.into());
                }
                self.slice(call, size)?
            }
            _ => return Ok(None),
        };
        Ok(Some(result))
    }

    fn slice(&mut self, call: &KfuncCall<'_>, size: u64) -> Result<RegState, Reason> {
        let dynptr = call.dynptr.ok_or(Reason::Internal { what: "a slice of nothing" })?;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let slice = self.slice_of(dynptr, size, false);
        Ok(if dynptr.kind.is_packet() { slice.with(Flags::PACKET_DATA) } else { slice })
    }
}
