//! Arguments of kernel functions.

use isa::Reg;

use super::super::Step;
use super::KfuncCall;
use crate::kernel_types::kind_name;
use crate::report::reason::{Access, KfuncFault, Reason};
use crate::rules::kfuncs::{Arg, KfuncFlags, Memory, Pointer, Role, SizeKind, Special};
use crate::state::reg::{Flags, RegState, RegType};

/// What a pointer parameter is checked as, now that the register is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckedAs {
    /// NULL, which may be given.
    Null,
    /// By its role.
    Role(Role),
    /// A structure of the kernel.
    Structure,
    Function,
    /// So many bytes of memory.
    Memory(u32),
    /// Memory whose size is the next argument.
    MemoryAndSize(SizeKind),
}

impl Step<'_> {
    /// Checks every argument (`check_kfunc_args`).
    pub(super) fn kfunc_arguments(&mut self, call: &mut KfuncCall<'_>) -> Result<(), Reason> {
        let args = &call.prototype.args;
        if args.len() > Reg::ARGS.len() {
            return Err(KfuncFault::TooManyArguments { name: call.name(), count: args.len() }.into());
        }
        let mut checked_with_last = false;
        for (index, (reg, arg)) in Reg::ARGS.into_iter().zip(args.iter()).enumerate() {
            if std::mem::take(&mut checked_with_last) {
                continue;
            }
            match *arg {
                Arg::Ignored => {
                    let value = *self.state.reg(reg);
                    self.passes_unchecked(&value);
                }
                Arg::Program => {}
                Arg::Number { constant, result_size, .. } => {
                    self.number_argument(call, reg, constant, result_size)?;
                }
                Arg::Pointer(pointer) => {
                    checked_with_last = self.pointer_argument(call, index, reg, &pointer)?;
                }
                Arg::Arena => self.arena_argument(reg)?,
                Arg::Other(kind) => return Err(KfuncFault::UnknownArgument { index, kind }.into()),
            }
        }
        if call.has(KfuncFlags::RELEASE) && call.release.is_none() {
            return Err(KfuncFault::NothingToRelease { name: call.name() }.into());
        }
        Ok(())
    }

    /// A pointer into the arena, or a number that is used as one.
    fn arena_argument(&self, reg: Reg) -> Result<(), Reason> {
        let value = self.state.reg(reg);
        if value.is_scalar() || value.kind == RegType::PtrToArena {
            Ok(())
        } else {
            Err(Reason::NotArena { reg })
        }
    }

    fn number_argument(
        &mut self,
        call: &mut KfuncCall<'_>,
        reg: Reg,
        constant: bool,
        result_size: Option<bool>,
    ) -> Result<(), Reason> {
        let value = *self.state.reg(reg);
        if !value.is_scalar() {
            return Err(KfuncFault::NotScalar { reg }.into());
        }
        if constant {
            let known = value.scalar.as_constant().ok_or(KfuncFault::NotConstant { reg })?;
            self.depend_on(&value);
            call.constant = Some(known);
        } else if let Some(writable) = result_size {
            let size = value.scalar.as_constant().ok_or(KfuncFault::SizeNotConstant { reg })?;
            let size = u32::try_from(size).map_err(|_| KfuncFault::SizeTooLarge { reg })?;
            self.depend_on(&value);
            call.buffer = Some((size, writable));
        }
        Ok(())
    }

    /// Checks a pointer; whether the size that follows was checked with it.
    fn pointer_argument(
        &mut self,
        call: &mut KfuncCall<'_>,
        index: usize,
        reg: Reg,
        pointer: &Pointer,
    ) -> Result<bool, Reason> {
        let value = *self.state.reg(reg);
        let wants_valid = call.kfunc.wants_trusted() || call.has(KfuncFlags::RCU);
        if wants_valid && !pointer.nullable && (value.is_null() || value.maybe_null()) {
            return Err(KfuncFault::PossiblyNull { index, reg }.into());
        }
        if value.ref_id != 0 {
            if call.has(KfuncFlags::RELEASE) {
                if call.ref_id != 0 {
                    return Err(Reason::Internal { what: "more than one arg with ref_obj_id" });
                }
                call.release = Some(reg);
            }
            call.ref_id = value.ref_id;
        }
        let checked = self.checked_as(call, index, pointer, &value)?;
        if checked == CheckedAs::Null {
            self.depend_on(&value);
            return Ok(false);
        }
        let is_map = checked == CheckedAs::Role(Role::Map);
        if is_map {
            self.map_argument(call, reg, &value)?;
        }
        if is_map || matches!(checked, CheckedAs::Structure | CheckedAs::Role(Role::Alloc)) {
            check_trust(call, reg, &value)?;
        }
        self.argument_offset(reg, &value, call.has(KfuncFlags::RELEASE) && value.ref_id != 0)?;
        match checked {
            CheckedAs::Null => {}
            CheckedAs::Structure => self.structure_argument(call, index, reg, &value, pointer.target.ty)?,
            CheckedAs::Function => match value.kind {
                RegType::PtrToFunc { subprog } => call.callback = Some(subprog),
                _ => return Err(KfuncFault::NotFunction { index, reg }.into()),
            },
            CheckedAs::Memory(size) => self.memory_argument(reg, &value, size)?,
            CheckedAs::MemoryAndSize(kind) => {
                self.sized_argument(call, index, reg, &value, pointer, kind)?;
                return Ok(true);
            }
            CheckedAs::Role(role) => self.role_argument(call, index, reg, &value, (role, pointer))?,
        }
        Ok(false)
    }

    /// What the pointer is checked as (`get_kfunc_ptr_arg_type`).
    fn checked_as(
        &self,
        call: &KfuncCall<'_>,
        index: usize,
        pointer: &Pointer,
        value: &RegState,
    ) -> Result<CheckedAs, Reason> {
        if pointer.role == Role::Ctx {
            return Ok(CheckedAs::Role(Role::Ctx));
        }
        if pointer.nullable && value.is_null() {
            return Ok(CheckedAs::Null);
        }
        if pointer.role != Role::Plain {
            return Ok(CheckedAs::Role(pointer.role));
        }
        let names = || {
            let kernel = self.plan.types();
            let ty = pointer.target.ty;
            kernel.map_or(("UNKNOWN", String::new()), |k| (kind_name(k, ty), k.name(ty).to_owned()))
        };
        if matches!(value.kind, RegType::PtrToBtfId { .. }) || stands_for_structure(value.kind) {
            if pointer.target.structure {
                return Ok(CheckedAs::Structure);
            }
            let (kind, target) = names();
            return Err(KfuncFault::PointerType { name: call.name(), index, kind, target }.into());
        }
        if pointer.target.function {
            return Ok(CheckedAs::Function);
        }
        let size = match call.prototype.args.get(index + 1) {
            Some(Arg::Number { size, .. }) => {
                let next = Reg::ARGS.get(index + 1).map(|r| self.state.reg(*r));
                size.filter(|_| next.is_some_and(RegState::is_scalar))
            }
            _ => None,
        };
        match (size, pointer.target.memory) {
            (Some(kind), Memory::Numbers(_) | Memory::Void) => Ok(CheckedAs::MemoryAndSize(kind)),
            (None, Memory::Numbers(bytes)) => Ok(CheckedAs::Memory(bytes)),
            _ => {
                let (kind, target) = names();
                Err(KfuncFault::NotMemory { index, kind, target, sized: size.is_some() }.into())
            }
        }
    }

    fn map_argument(&mut self, call: &mut KfuncCall<'_>, reg: Reg, value: &RegState) -> Result<(), Reason> {
        match value.kind {
            RegType::ConstPtrToMap { map }
            | RegType::PtrToMapValue { map }
            | RegType::PtrToMapKey { map } => {
                self.check_same_map(call, reg, map, value.map_uid)?;
                call.map = Some((map, value.map_uid));
                Ok(())
            }
            // What else it may be is asked of any structure.
            RegType::PtrToBtfId { .. } | RegType::PtrToMem { .. } => Ok(()),
            _ => Err(KfuncFault::NotMap { reg }.into()),
        }
    }

    /// Checks a pointer by what its parameter is for.
    fn role_argument(
        &mut self,
        call: &mut KfuncCall<'_>,
        index: usize,
        reg: Reg,
        value: &RegState,
        (role, pointer): (Role, &Pointer),
    ) -> Result<(), Reason> {
        match role {
            Role::Ctx if value.kind == RegType::PtrToCtx && value.flags == Flags::NONE => Ok(()),
            Role::Ctx => Err(KfuncFault::NotContext { index, reg, found: value.type_name() }.into()),
            Role::Map => self.map_as_structure(call, index, reg, value),
            Role::ConstString => match value.kind {
                RegType::PtrToMapValue { .. } if value.flags == Flags::NONE => {
                    self.check_const_string(reg, value)
                }
                _ => Err(KfuncFault::NotConstString { index, reg }.into()),
            },
            Role::Iter(iter) => {
                if call.is(Special::CssTaskNew) {
                    self.check_css_task_iterator()?;
                }
                self.iterator_argument(call, index, reg, value, iter)
            }
            _ => self.object_argument(call, index, reg, value, (role, pointer)),
        }
    }

    /// Numbers behind a pointer: a kfunc may read and write them. NULL is let through.
    fn memory_argument(&mut self, reg: Reg, value: &RegState, size: u32) -> Result<(), Reason> {
        if value.is_null() {
            self.depend_on(value);
            return Ok(());
        }
        let present = value.without(Flags::MAYBE_NULL);
        self.check_memory(reg, &present, u64::from(size), Access::Read)?;
        self.check_memory(reg, &present, u64::from(size), Access::Write)
    }

    /// Memory and, in the next register, its size.
    fn sized_argument(
        &mut self,
        call: &mut KfuncCall<'_>,
        index: usize,
        reg: Reg,
        value: &RegState,
        pointer: &Pointer,
        kind: SizeKind,
    ) -> Result<(), Reason> {
        let size_reg = Reg::ARGS.get(index + 1).copied().unwrap_or(Reg::R5);
        if !(value.is_null() && pointer.optional) {
            let read = self.check_size(reg, size_reg, true, Access::Read);
            let both = read.and_then(|()| self.check_size(reg, size_reg, true, Access::Write));
            both.map_err(|cause| KfuncFault::MemoryAndSize { index, cause: Box::new(cause) })?;
        }
        if kind == SizeKind::Constant {
            let size = *self.state.reg(size_reg);
            let known = size.scalar.as_constant().ok_or(KfuncFault::NotConstant { reg: size_reg })?;
            self.depend_on(&size);
            call.constant = Some(known);
        }
        Ok(())
    }
}

/// Types of pointers that have a structure of the kernel behind them (`reg2btf_ids`).
pub(super) fn stands_for_structure(kind: RegType) -> bool {
    matches!(
        kind,
        RegType::PtrToSocket
            | RegType::PtrToSockCommon
            | RegType::PtrToTcpSock
            | RegType::ConstPtrToMap { .. }
    )
}

/// Checks that the pointer may be trusted as far as the kfunc wants.
fn check_trust(call: &KfuncCall<'_>, reg: Reg, value: &RegState) -> Result<(), Reason> {
    let rcu = call.has(KfuncFlags::RCU);
    if !call.kfunc.wants_trusted() && !rcu || is_trusted(value) {
        return Ok(());
    }
    if !rcu {
        return Err(KfuncFault::NotTrusted { reg }.into());
    }
    if !value.flags.has(Flags::RCU) {
        return Err(KfuncFault::NotRcu { reg }.into());
    }
    Ok(())
}

/// Modifiers that do not take trust away (`BPF_REG_TRUSTED_MODIFIERS`).
pub(crate) const TRUST: Flags = Flags::TRUSTED.with(Flags::ALLOC).with(Flags::NON_OWN_REF);

/// Whether the pointer is valid for certain (`is_trusted_reg`).
pub(crate) fn is_trusted(value: &RegState) -> bool {
    let unsafe_flags = value.flags.without(TRUST) != Flags::NONE;
    value.ref_id != 0 || !unsafe_flags && (stands_for_structure(value.kind) || value.flags.any(TRUST))
}
