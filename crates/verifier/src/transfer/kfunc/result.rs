//! What a call of a kernel function leaves behind.

use bpf_object::{Kind, TypeId};
use isa::Reg;

use super::super::Step;
use super::KfuncCall;
use crate::domain::scalar::Scalar;
use crate::kernel_types::kind_name;
use crate::report::reason::{KfuncFault, Reason};
use crate::rules::kfuncs::{self, KfuncFlags, Ret, Special};
use crate::state::held::RefKind;
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};
use crate::state::stack::IterGuard;
use crate::walk::explore::Stop;

impl Step<'_> {
    /// Clears the arguments and sets `R0`.
    pub(super) fn kfunc_result(&mut self, call: &mut KfuncCall<'_>) -> Result<(), Stop> {
        self.clobber_arguments();
        let result = match call.prototype.ret {
            Ret::Void | Ret::Other => return Ok(()),
            Ret::Number(_)
                if matches!(call.kfunc.special, Special::ResSpinLock | Special::ResSpinLockIrq) =>
            {
                self.number(Scalar::ZERO, &[])
            }
            Ret::Number(_) => self.unknown(&[]),
            ret => {
                let pointer = match self.special_result(call)? {
                    Some(special) => special,
                    None => self.pointer_result(call, ret)?,
                };
                self.reference_result(call, pointer)
            }
        };
        self.write(Reg::R0, result)?;
        if call.has(KfuncFlags::ITER_NEXT) {
            self.iterator_next(call)?;
        }
        Ok(())
    }

    /// Results that the types of the prototype do not tell (`check_special_kfunc`).
    fn special_result(&mut self, call: &KfuncCall<'_>) -> Result<Option<RegState>, Reason> {
        match call.kfunc.special {
            Special::CastToKernCtx => self.cast_to_kernel_context().map(Some),
            Special::ReadOnlyCast => self.read_only_cast(call).map(Some),
            _ => self.object_result(call),
        }
    }

    fn pointer_result(&mut self, call: &KfuncCall<'_>, ret: Ret) -> Result<RegState, Reason> {
        match ret {
            Ret::Struct(ty) => {
                let iter_flags = |guard| if guard == IterGuard::Rcu { Flags::RCU } else { Flags::TRUSTED };
                let flags = match (call.kfunc.special, call.iter) {
                    (Special::KmemCache, _) => Flags::UNTRUSTED,
                    _ if call.has(KfuncFlags::RCU_PROTECTED) => Flags::RCU,
                    (_, Some((_, _, iter))) if call.has(KfuncFlags::ITER_NEXT) => iter_flags(iter.guard),
                    _ => Flags::NONE,
                };
                Ok(self.pointer(RegType::PtrToBtfId { of: BtfOwner::Kernel, ty }).with(flags))
            }
            Ret::Memory { ty, size } => {
                let fixed = (call.is(Special::SessionCookie)).then_some((8, true)).or(call.buffer);
                let Some((size, writable)) = fixed.or(size.map(|s| (s, false))) else {
                    let kernel = self.plan.types();
                    let kind = kernel.map_or("UNKNOWN", |k| kind_name(k, ty));
                    let target = kernel.map_or("", |k| k.name(ty)).to_owned();
                    return Err(KfuncFault::ResultType { name: call.name(), kind, target }.into());
                };
                let mut memory = self.pointer(RegType::PtrToMem { size });
                if !writable {
                    memory = memory.with(Flags::RDONLY);
                }
                // Not to be used once what it belongs to is gone.
                memory.ref_id = call.ref_id;
                Ok(memory)
            }
            _ => Ok(self.unknown(&[])),
        }
    }

    /// The result with its reference, and NULL if it may fail.
    fn reference_result(&mut self, call: &KfuncCall<'_>, mut result: RegState) -> RegState {
        let may_fail = call.may_fail();
        if may_fail {
            result = result.with(Flags::MAYBE_NULL);
            result.id = self.fresh_id();
        }
        if call.has(KfuncFlags::ACQUIRE) {
            let id = self.fresh_id();
            self.state.held.take(RefKind::Object, id, self.at);
            if may_fail {
                result.id = id;
            }
            result.ref_id = id;
        }
        result
    }

    /// `bpf_cast_to_kern_ctx`: the structure behind the context.
    fn cast_to_kernel_context(&mut self) -> Result<RegState, Reason> {
        let kernel = self.plan.kernel();
        let prog_type = self.plan.program.kind.prog_type;
        let found = kernel.zip(prog_type).and_then(|(k, p)| Some((k, kfuncs::kernel_context(k, p)?)));
        let Some((kernel, ty)) = found else {
            return Err(Reason::Internal { what: "a context that the kernel's types do not know" });
        };
        if kernel.kind(ty).and_then(Kind::as_composite).is_none() {
            return Err(KfuncFault::ContextType { id: ty.0 }.into());
        }
        Ok(self.pointer(RegType::PtrToBtfId { of: BtfOwner::Kernel, ty }).with(Flags::TRUSTED))
    }

    /// `bpf_rdonly_cast`: any address as any structure, or as bytes, with guarded loads.
    fn read_only_cast(&mut self, call: &KfuncCall<'_>) -> Result<RegState, Reason> {
        let id = call.constant.unwrap_or(0);
        let kernel =
            self.plan.kernel().ok_or(Reason::Internal { what: "a cast without the kernel's types" })?;
        let ty = u32::try_from(id).map(TypeId).map_err(|_| KfuncFault::CastUnknownType { id })?;
        match kernel.kind(ty) {
            Some(Kind::Struct(_) | Kind::Union(_)) => {
                let kind = RegType::PtrToBtfId { of: BtfOwner::Kernel, ty };
                Ok(self.pointer(kind).with(Flags::UNTRUSTED))
            }
            Some(Kind::Void) => Ok(self.untrusted_bytes()),
            Some(_) => Err(KfuncFault::CastType { id }.into()),
            None => Err(KfuncFault::CastUnknownType { id }.into()),
        }
    }
}
