//! What is wrong with a reference, a lock, a dynptr, or another object with a life.

use isa::{InsnIdx, Reg};

use super::{EACCES, EFAULT, EINVAL, TypeName};

/// What is wrong with a reference, a lock, a dynptr, or another object with a life.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the register, offset, size and so on that the message names")]
#[non_exhaustive]
pub enum ObjectFault {
    #[error("R{} must be referenced when passed to release function", reg.number())]
    ReleaseUnowned { reg: Reg },
    #[error("{function}#{number} reference has not been acquired before")]
    NotAcquired { function: String, number: u32 },

    // Dynptrs and the state of interrupts, on the stack.
    #[error("arg#{argument} expected pointer to stack or const struct bpf_dynptr")]
    DynptrPlace { argument: usize, reg: Reg, found: TypeName },
    #[error("Dynptr has to be an uninitialized dynptr")]
    DynptrInUse { reg: Reg },
    #[error("cannot pass pointer to const bpf_dynptr, the helper mutates it")]
    DynptrConst { reg: Reg },
    #[error("Expected an initialized dynptr as arg #{argument}")]
    DynptrMissing { argument: usize, reg: Reg },
    #[error("Expected a dynptr of type {expected} as arg #{argument}")]
    DynptrKind { argument: usize, reg: Reg, expected: &'static str },
    #[error("cannot overwrite referenced dynptr")]
    DynptrOverwritten { frame: u8, offset: i64 },
    #[error("potential write to dynptr at off={offset} disallowed")]
    DynptrOverlap { offset: i64 },
    #[error("arg {} is an unacquired reference", reg.number())]
    DynptrUnowned { reg: Reg },
    #[error("cannot release unowned const bpf_dynptr")]
    DynptrReleaseConst { reg: Reg },
    #[error("Unsupported reg type {found} for bpf_dynptr_from_mem data")]
    DynptrMemory { reg: Reg, found: TypeName },
    #[error("arg#{argument} doesn't point to an irq flag on stack")]
    IrqPlace { argument: usize, reg: Reg, found: TypeName },
    #[error("expected uninitialized irq flag as arg#{argument}")]
    IrqInUse { argument: usize, reg: Reg },
    #[error("expected an initialized irq flag as arg#{argument}")]
    IrqMissing { argument: usize, reg: Reg },
    #[error("irq flag acquired by {saved} kfuncs cannot be restored with {restored} kfuncs")]
    IrqKind { saved: &'static str, restored: &'static str },
    #[error("cannot restore irq state out of order, expected id={expected} acquired at insn_idx={at}")]
    IrqOrder { expected: u32, at: InsnIdx },

    // Fields of maps and objects.
    #[error("{field} cannot be accessed indirectly by helper")]
    PointerIndirect { field: &'static str, reg: Reg },
    #[error("{field} access cannot have variable offset")]
    PointerVariable { field: &'static str, reg: Reg },
    #[error("{field} access misaligned expected={expected} off={offset}")]
    PointerMisaligned { field: &'static str, reg: Reg, expected: u32, offset: i64 },
    #[error("{field} access size must be BPF_DW")]
    PointerSize { field: &'static str, reg: Reg },
    #[error("R{} doesn't have constant offset. {field} has to be at the constant offset", reg.number())]
    FieldVariable { field: &'static str, reg: Reg },
    #[error("map '{map}' has to have BTF in order to use {field}")]
    FieldWithoutBtf { field: &'static str, map: String },
    #[error("{place} has no valid {field}")]
    NoField { field: &'static str, place: String },
    #[error("off {offset} doesn't point to 'struct {field}' that is at {expected}")]
    FieldOffset { field: &'static str, offset: i64, expected: u32 },

    // Pointers kept in maps and objects.
    #[error("kptr in map can only be accessed using BPF_MEM instruction mode")]
    KptrMode,
    #[error("store to referenced kptr disallowed")]
    KptrStore,
    #[error("store to uptr disallowed")]
    UptrStore,
    #[error("BPF_ST imm must be 0 when storing to kptr at off={offset}")]
    KptrImmediate { offset: u32 },
    #[error("{}", kptr_type_text(*reg, kind, found, expected, *or_untrusted))]
    KptrType { reg: Reg, kind: TypeName, found: String, expected: String, or_untrusted: bool },
    #[error("R{} has no valid kptr", reg.number())]
    NoKptr { reg: Reg },
    #[error("off={offset} doesn't point to kptr")]
    NotKptr { offset: i64 },
    #[error("off={offset} kptr isn't referenced kptr")]
    NotOwnedKptr { offset: i64 },

    // Allocated objects, lists and trees.
    #[error("arg#{argument} expected pointer to map value or allocated object")]
    RootPlace { argument: usize, reg: Reg, found: TypeName },
    #[error("allocated object must be referenced")]
    Unowned { reg: Reg },
    #[error("{field} not found at offset={offset}")]
    FieldMissing { field: &'static str, offset: i64 },
    #[error("bpf_spin_lock at off={lock} must be held for {root}")]
    RootUnlocked { root: &'static str, lock: i64 },
    #[error("arg#{argument} expected pointer to allocated object")]
    NodePlace { argument: usize, reg: Reg, found: TypeName },
    #[error("{function} can only take non-owning or refcounted bpf_rb_node pointer")]
    NodeUnowned { function: &'static str, reg: Reg },
    #[error("{function} not allowed in rbtree cb")]
    InTreeCallback { function: &'static str },
    #[error(
        "operation on {root} expects arg#1 {node} at offset={expected} in struct {wanted}, but arg is at offset={offset} in struct {found}"
    )]
    NodeType {
        root: &'static str,
        node: &'static str,
        expected: i64,
        wanted: String,
        offset: i64,
        found: String,
    },
    #[error("arg#1 offset={offset}, but expected {node} at offset={expected} in struct {wanted}")]
    NodeOffset { node: &'static str, offset: i64, expected: i64, wanted: String },
    #[error("local type ID argument must be in range [0, U32_MAX]")]
    TypeRange,
    #[error("bpf_obj_new/bpf_percpu_obj_new requires prog BTF")]
    NoBtf,
    #[error("bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct")]
    NotStruct,
    #[error("bpf_percpu_obj_new type size ({size}) is greater than {max}")]
    PercpuSize { size: u32, max: u32 },
    #[error("bpf_percpu_obj_new type ID argument must be of a struct of scalars")]
    PercpuPointers,
    #[error("bpf_percpu_obj_new type ID argument must not contain special fields")]
    PercpuFields,
    #[error("arg#{argument} expected for {function}()")]
    DropWith { argument: usize, reg: Reg, function: &'static str },
    #[error("arg#{argument} is neither owning or non-owning ref")]
    NotReference { argument: usize, reg: Reg },
    /// The kernel takes a type without any field of its own for a fault of the verifier.
    #[error("verifier bug: Couldn't find btf_record")]
    NoRecord,
    #[error("arg#{argument} doesn't point to a type with bpf_refcount field")]
    NotCounted { argument: usize, reg: Reg },

    #[error("arg#{argument} doesn't point to a map value")]
    WorkPlace { argument: usize, reg: Reg },
    #[error(
        "{what} pointer in R{} map_uid={object} doesn't match map pointer in R{} map_uid={map}",
        reg.number().saturating_sub(1),
        reg.number()
    )]
    OtherMap { what: &'static str, reg: Reg, object: u32, map: u32 },
    #[error("the prog does not allow writes to packet data")]
    PacketReadOnly,

    // Locks and sections.
    #[error("Locking two bpf_spin_locks are not allowed")]
    LockNested,
    #[error("Acquiring the same lock again, AA deadlock detected")]
    LockAgain,
    #[error("{function} without taking a lock")]
    UnlockWithoutLock { function: &'static str },
    #[error("{function} of different lock")]
    UnlockOther { function: &'static str },
    #[error("{function} cannot be out of order")]
    UnlockOrder { function: &'static str, held: InsnIdx },
    #[error("can't spin_{{lock,unlock}} in rbtree cb")]
    LockInCallback,
    #[error("Calling bpf_rcu_read_{{lock,unlock}} in unnecessary rbtree callback")]
    RcuInCallback,
    #[error("nested rcu read lock (kernel function bpf_rcu_read_lock)")]
    RcuNested,
    #[error("arg#{argument} doesn't point to map value or allocated object")]
    LockPlace { argument: usize, reg: Reg, found: TypeName },
}

impl ObjectFault {
    /// The error number `bpf(BPF_PROG_LOAD)` fails with for this.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::PointerIndirect { .. }
            | Self::PointerVariable { .. }
            | Self::PointerMisaligned { .. }
            | Self::PointerSize { .. }
            | Self::DynptrOverlap { .. }
            | Self::DynptrMemory { .. }
            | Self::IrqOrder { .. }
            | Self::KptrMode
            | Self::KptrStore
            | Self::UptrStore
            | Self::KptrImmediate { .. }
            | Self::KptrType { .. }
            | Self::NotKptr { .. }
            | Self::NotOwnedKptr { .. }
            | Self::LockInCallback
            | Self::RcuInCallback => EACCES,
            Self::NoRecord => EFAULT,
            _ => EINVAL,
        }
    }

    /// The register at fault, if there is one.
    pub(crate) fn register(&self) -> Option<Reg> {
        match self {
            Self::ReleaseUnowned { reg }
            | Self::PointerIndirect { reg, .. }
            | Self::PointerVariable { reg, .. }
            | Self::PointerMisaligned { reg, .. }
            | Self::PointerSize { reg, .. }
            | Self::FieldVariable { reg, .. }
            | Self::DynptrPlace { reg, .. }
            | Self::DynptrInUse { reg }
            | Self::DynptrConst { reg }
            | Self::DynptrMissing { reg, .. }
            | Self::DynptrKind { reg, .. }
            | Self::DynptrUnowned { reg }
            | Self::DynptrReleaseConst { reg }
            | Self::DynptrMemory { reg, .. }
            | Self::IrqPlace { reg, .. }
            | Self::IrqInUse { reg, .. }
            | Self::IrqMissing { reg, .. }
            | Self::KptrType { reg, .. }
            | Self::NoKptr { reg }
            | Self::RootPlace { reg, .. }
            | Self::Unowned { reg }
            | Self::NodePlace { reg, .. }
            | Self::NodeUnowned { reg, .. }
            | Self::DropWith { reg, .. }
            | Self::WorkPlace { reg, .. }
            | Self::NotReference { reg, .. }
            | Self::NotCounted { reg, .. }
            | Self::LockPlace { reg, .. } => Some(*reg),
            _ => None,
        }
    }
}

fn kptr_type_text(reg: Reg, kind: &TypeName, found: &str, expected: &str, or_untrusted: bool) -> String {
    let untrusted = if or_untrusted { format!(" or untrusted_ptr_{expected}") } else { String::new() };
    format!("invalid kptr access, R{} type={kind}{found} expected=ptr_{expected}{untrusted}", reg.number())
}
