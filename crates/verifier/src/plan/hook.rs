//! The function of the kernel that a tracing or security program is attached to: its arguments are the program's context.

use bpf_object::{AttachType, Btf, Kind, KindTag, Param, ProgType, ProgramKind, TypeId};

use crate::kernel_types::is_number;
use crate::rules::hooks::{self, IterValue};
use crate::rules::struct_ops;
use crate::state::reg::{BtfOwner, Flags, RegType};

/// A function of the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    place: Place,
    /// Name of the tracepoint, iterator, hook or function.
    name: String,
    params: Vec<Param>,
    /// What it returns, if the program may see that.
    result: Option<TypeId>,
    /// The program is run for the tasks of a control group.
    per_cgroup: bool,
    /// Helpers that may not be called here.
    forbidden: &'static [u32],
}

/// What kind of place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Tracepoint,
    Iterator,
    Lsm,
    Function,
    /// A function of a table that programs fill in.
    Table(HookReturns),
}

/// What a program finds in its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    Number,
    /// What a security hook was going to return.
    HookResult,
    Pointer(RegType, Flags),
}

/// What a program must return to its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookReturns {
    /// Anything.
    Any,
    /// Nothing: what is in the register does not matter.
    Nothing,
    /// A number in this range.
    Range(i32, i32),
    /// A number whose low half is in this range.
    Low(i32, i32),
}

/// The lowest number that is an error to the kernel (`-MAX_ERRNO`).
const LOWEST_ERROR: i32 = -4095;
/// Security hooks that answer yes or no; the others say 0 or an error.
const YES_OR_NO: [&str; 2] = ["audit_rule_known", "inode_xattr_skipcap"];

/// Why a program cannot be attached to a security hook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the names and numbers that the message gives")]
#[non_exhaustive]
pub enum HookFault {
    #[error("{name} is not sleepable")]
    NotSleepable { name: String },
    #[error("LSM programs must have a GPL compatible license")]
    License,
    #[error("attach_btf_id {id} points to disabled hook {name}")]
    Disabled { id: u32, name: String },
}

/// Arguments a traced function has at most (`MAX_BPF_FUNC_ARGS`).
const MAX_ARGUMENTS: i64 = 12;
/// Bytes of an argument in the context.
const SLOT: u32 = 8;

impl Hook {
    /// Whether programs of this kind are attached to a function of the kernel that they name.
    pub(crate) fn is_named(kind: &ProgramKind) -> bool {
        matches!(kind.prog_type, Some(ProgType::Tracing | ProgType::Lsm)) && kind.target.is_some()
    }

    /// What a program must return to it (`bpf_lsm_get_retval_range`).
    pub(crate) fn returns(&self) -> HookReturns {
        match self.place {
            Place::Lsm => {}
            Place::Table(returns) => return returns,
            Place::Tracepoint | Place::Iterator | Place::Function => return HookReturns::Any,
        }
        let nothing = self.result == Some(TypeId::VOID);
        match (self.per_cgroup, nothing) {
            (true, true) => HookReturns::Range(1, 1),
            (true, false) => HookReturns::Range(0, 1),
            (false, true) => HookReturns::Nothing,
            (false, false) if YES_OR_NO.contains(&self.name.as_str()) => HookReturns::Low(0, 1),
            (false, false) => HookReturns::Low(LOWEST_ERROR, 0),
        }
    }

    /// A member of the table of this name.
    pub(crate) fn of_table(table: &str, member: &str, params: Vec<Param>, returns: HookReturns) -> Self {
        let (place, name) = (Place::Table(returns), table.to_owned());
        let forbidden = struct_ops::forbidden_helpers(table, member);
        Self { place, name, params, result: None, per_cgroup: false, forbidden }
    }

    /// Whether programs attached here may not call the helper although others of their type may.
    pub(crate) fn forbids(&self, helper: u32) -> bool {
        self.forbidden.contains(&helper)
    }

    /// The function a program of this kind is attached to, if the kernel has it.
    pub(crate) fn find(kernel: &Btf, kind: &ProgramKind, attach: Option<AttachType>) -> Option<Self> {
        let target = kind.target.as_deref()?;
        let place = match (kind.prog_type?, attach?) {
            (ProgType::Tracing, AttachType::TraceRawTp) => Place::Tracepoint,
            (ProgType::Tracing, AttachType::TraceIter) => Place::Iterator,
            (ProgType::Tracing, _) => Place::Function,
            (ProgType::Lsm, _) => Place::Lsm,
            _ => return None,
        };
        let function = match place {
            Place::Tracepoint => return Self::tracepoint(kernel, target),
            Place::Iterator if !hooks::is_iterator(target) => return None,
            Place::Iterator => format!("bpf_iter_{target}"),
            Place::Lsm => format!("bpf_lsm_{target}"),
            Place::Function | Place::Table(_) => target.to_owned(),
        };
        let (params, ret) = prototype(kernel, kernel.function(&function)?)?;
        let sees_result = matches!(
            attach?,
            AttachType::TraceFexit | AttachType::ModifyReturn | AttachType::LsmMac | AttachType::LsmCgroup
        );
        let name = target.to_owned();
        let per_cgroup = attach == Some(AttachType::LsmCgroup);
        Some(Self {
            place,
            name,
            params: params.to_vec(),
            result: sees_result.then_some(ret),
            per_cgroup,
            forbidden: &[],
        })
    }

    /// `btf_trace_<name>` is the type of the tracepoint's function, whose first argument programs do not see. Only the
    /// function itself has names of parameters.
    fn tracepoint(kernel: &Btf, name: &str) -> Option<Self> {
        let typedef = kernel.find(&format!("btf_trace_{name}"), KindTag::Typedef)?;
        let named = kernel.function(&format!("__bpf_trace_{name}")).and_then(|f| prototype(kernel, f));
        let params = match (named, kernel.kind(kernel.resolve(typedef))) {
            (Some((params, _)), _) => params,
            (None, Some(Kind::Ptr(proto))) => match kernel.kind(kernel.resolve(*proto)) {
                Some(Kind::FuncProto(proto)) => &proto.params,
                _ => return None,
            },
            _ => return None,
        };
        let params = params.get(1..)?.to_vec();
        Some(Self {
            place: Place::Tracepoint,
            name: name.to_owned(),
            params,
            result: None,
            per_cgroup: false,
            forbidden: &[],
        })
    }

    /// The rule of the hook that a program breaks, if it does (`bpf_lsm_verify_prog`).
    pub(crate) fn refuses(&self, kernel: &Btf, gpl: bool, sleepable: bool) -> Option<HookFault> {
        let name = || format!("bpf_lsm_{}", self.name);
        if self.place != Place::Lsm {
            None
        } else if sleepable && !hooks::lsm_may_sleep(&self.name) {
            Some(HookFault::NotSleepable { name: name() })
        } else if !gpl {
            Some(HookFault::License)
        } else if hooks::lsm_is_enabled(&self.name) {
            None
        } else {
            let id = kernel.function(&name()).map_or(0, |id| id.0);
            Some(HookFault::Disabled { id, name: name() })
        }
    }

    /// What a load of `size` bytes at `offset` of the context finds (`btf_ctx_access`); `None` if it is not admitted.
    pub(crate) fn argument(&self, kernel: &Btf, offset: i64, size: u64) -> Option<Argument> {
        if offset < 0
            || offset >= MAX_ARGUMENTS * i64::from(SLOT)
            || offset % i64::from(SLOT) != 0
            || size > 8
        {
            return None;
        }
        let index = self.index_of(kernel, u32::try_from(offset).ok()?)?;
        let Some(param) = self.params.get(index) else {
            return self.result_value(kernel, size);
        };
        self.value(kernel, index, param.ty, size)
    }

    /// The parameter at this offset; one past the last for the result.
    fn index_of(&self, kernel: &Btf, offset: u32) -> Option<usize> {
        let mut end = 0_u32;
        for (i, param) in self.params.iter().enumerate() {
            end = end.checked_add(context_bytes(kernel, param.ty)?)?;
            if offset < end {
                return Some(i);
            }
        }
        let result = self.result?;
        end = end.checked_add(context_bytes(kernel, result)?)?;
        (offset < end).then_some(self.params.len())
    }

    fn result_value(&self, kernel: &Btf, size: u64) -> Option<Argument> {
        let value = self.value(kernel, self.params.len(), self.result?, size)?;
        let of_hook = self.place == Place::Lsm && value == Argument::Number;
        Some(if of_hook { Argument::HookResult } else { value })
    }

    fn value(&self, kernel: &Btf, index: usize, ty: TypeId, size: u64) -> Option<Argument> {
        let ty = kernel.resolve(ty);
        let target = match kernel.kind(ty)? {
            Kind::Ptr(target) => *target,
            Kind::Struct(_) | Kind::Union(_) => return Some(Argument::Number),
            _ if is_number(kernel, ty) => return Some(Argument::Number),
            _ => return None,
        };
        if size != 8 {
            return None;
        }
        let in_iterator =
            (self.place == Place::Iterator).then(|| hooks::iterator_parameter(&self.name, index)).flatten();
        if let Some(IterValue::Buffer(flags)) = in_iterator {
            return Some(Argument::Pointer(RegType::PtrToBuf, flags));
        }
        let mut structure = kernel.resolve(target);
        if let Place::Table(_) = self.place
            && let Some(promoted) = struct_ops::promoted(&self.name, kernel.name(structure))
        {
            structure = kernel.find(promoted, KindTag::Struct)?;
        }
        match kernel.kind(structure)? {
            Kind::Void | Kind::Int(_) => return Some(Argument::Number),
            Kind::Struct(_) | Kind::Union(_) => {}
            _ => return None,
        }
        if self.place == Place::Tracepoint && hooks::may_be_error(&self.name, index) {
            return Some(Argument::Number);
        }
        let flags = match in_iterator {
            Some(IterValue::Structure(flags)) => flags,
            _ => self.flags(kernel, index, target),
        };
        Some(Argument::Pointer(RegType::PtrToBtfId { of: BtfOwner::Kernel, ty: structure }, flags))
    }

    /// How far a pointer may be trusted.
    fn flags(&self, kernel: &Btf, index: usize, target: TypeId) -> Flags {
        let mut flags = match self.place {
            Place::Tracepoint | Place::Iterator | Place::Table(_) => Flags::TRUSTED,
            Place::Lsm if hooks::lsm_arguments_are_valid(&self.name) => Flags::TRUSTED,
            Place::Lsm | Place::Function => Flags::NONE,
        };
        let named_nullable =
            self.params.get(index).is_some_and(|p| kernel.str(p.name).ends_with("__nullable"));
        if named_nullable || self.place == Place::Tracepoint && hooks::may_be_null(&self.name, index) {
            flags = flags.with(Flags::MAYBE_NULL);
        }
        match kernel.kind(target) {
            Some(Kind::TypeTag { .. }) if kernel.name(target) == "user" => flags.with(Flags::USER),
            Some(Kind::TypeTag { .. }) if kernel.name(target) == "percpu" => flags.with(Flags::PERCPU),
            _ => flags,
        }
    }
}

fn prototype(kernel: &Btf, function: TypeId) -> Option<(&[Param], TypeId)> {
    let Kind::Func { proto, .. } = kernel.kind(function)? else { return None };
    let Kind::FuncProto(proto) = kernel.kind(*proto)? else { return None };
    Some((&proto.params, proto.ret))
}

/// Bytes of the context that an argument of this type takes.
fn context_bytes(kernel: &Btf, ty: TypeId) -> Option<u32> {
    let ty = kernel.resolve(ty);
    let bytes = match kernel.kind(ty)? {
        Kind::Void => 0,
        _ => u32::try_from(kernel.size_of(ty)?).ok()?,
    };
    bytes.checked_next_multiple_of(SLOT)
}

#[cfg(test)]
mod tests {
    use bpf_object::{BtfLinkage, Composite, FuncProto, Int, Type};

    use super::*;

    /// A kernel with the tracepoint `kfree_skb(struct sk_buff *, void *, int, struct sock *)`, the iterator over tasks and the
    /// hook `file_open`.
    fn kernel() -> Btf {
        let mut btf = Btf::default();
        let mut add = |name: &str, kind: Kind| {
            let name = btf.add_str(name);
            btf.push(Type { name, kind })
        };
        let int = add("int", Kind::Int(Int { size: 4, bits: 32, signed: true, ..Int::default() }));
        let bytes = add("", Kind::Ptr(TypeId::VOID));
        let structure = add("sk_buff", Kind::Struct(Composite { size: 8, ..Composite::default() }));
        let pointer = add("", Kind::Ptr(structure));
        let param = |ty| Param { ty, ..Param::default() };
        let proto = |types: &[TypeId], ret| {
            Kind::FuncProto(FuncProto { ret, params: types.iter().map(|t| param(*t)).collect() })
        };
        let linkage = BtfLinkage::Static;
        let traced = add("", proto(&[bytes, pointer, bytes, int, pointer], TypeId::VOID));
        let traced = add("", Kind::Ptr(traced));
        add("btf_trace_kfree_skb", Kind::Typedef(traced));
        let iterator = add("", proto(&[pointer, pointer], int));
        add("bpf_iter_task", Kind::Func { proto: iterator, linkage });
        add("bpf_iter_helper", Kind::Func { proto: iterator, linkage });
        let hook = add("", proto(&[pointer], int));
        add("bpf_lsm_file_open", Kind::Func { proto: hook, linkage });
        btf
    }

    fn hook(kernel: &Btf, section: &str) -> Option<Hook> {
        let kind = ProgramKind::from_section(section);
        Hook::find(kernel, &kind, kind.attach_type.and_then(AttachType::from_number))
    }

    fn flags(found: Option<Argument>) -> Option<Flags> {
        match found {
            Some(Argument::Pointer(RegType::PtrToBtfId { .. }, flags)) => Some(flags),
            _ => None,
        }
    }

    #[test]
    fn arguments_lie_eight_bytes_apart() {
        let kernel = kernel();
        let hook = hook(&kernel, "tp_btf/kfree_skb").unwrap();
        let at = |offset, size| hook.argument(&kernel, offset, size);
        assert_eq!(flags(at(0, 8)), Some(Flags::TRUSTED));
        assert_eq!((at(8, 8), at(16, 4)), (Some(Argument::Number), Some(Argument::Number)));
        assert_eq!(flags(at(24, 8)), Some(Flags::TRUSTED.with(Flags::MAYBE_NULL)));
        assert_eq!((at(32, 8), at(0, 4), at(4, 8), at(-8, 8)), (None, None, None, None));
    }

    #[test]
    fn places_that_are_none_are_not_found() {
        let kernel = kernel();
        let task = hook(&kernel, "iter/task").unwrap();
        let null = Flags::TRUSTED.with(Flags::MAYBE_NULL);
        assert_eq!(flags(task.argument(&kernel, 8, 8)), Some(null));
        assert!(hook(&kernel, "iter/helper").is_none() && hook(&kernel, "tp_btf/other").is_none());
        assert!(hook(&kernel, "fentry/file_open").is_none());
    }

    #[test]
    fn security_hooks_have_a_result() {
        let kernel = kernel();
        let open = hook(&kernel, "lsm/file_open").unwrap();
        assert_eq!(open.argument(&kernel, 8, 8), Some(Argument::HookResult));
        assert_eq!(open.refuses(&kernel, true, true), None);
        assert_eq!(open.refuses(&kernel, false, false), Some(HookFault::License));
    }

    #[test]
    fn security_hooks_say_what_programs_return() {
        let hook = |name: &str, result, per_cgroup| Hook {
            place: Place::Lsm,
            name: name.to_owned(),
            params: Vec::new(),
            result: Some(result),
            per_cgroup,
            forbidden: &[],
        };
        let int = TypeId(1);
        let cases = [
            (hook("file_open", int, false), HookReturns::Low(LOWEST_ERROR, 0)),
            (hook("inode_xattr_skipcap", int, false), HookReturns::Low(0, 1)),
            (hook("task_free", TypeId::VOID, false), HookReturns::Nothing),
            (hook("socket_bind", int, true), HookReturns::Range(0, 1)),
            (hook("sk_alloc_security", TypeId::VOID, true), HookReturns::Range(1, 1)),
        ];
        for (hook, returns) in cases {
            assert_eq!(hook.returns(), returns, "{}", hook.name);
        }
    }
}
