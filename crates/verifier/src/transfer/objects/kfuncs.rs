//! Kernel functions on objects: what their arguments must be and what they return.

use isa::Reg;

use super::super::Step;
use super::super::kfunc::KfuncCall;
use crate::reason::{Reason, Unsupported};
use crate::reg::RegState;
use crate::rules::kfuncs::{Pointer, Role, Special};

impl Step<'_> {
    /// Checks an argument whose parameter is a dynptr, an allocated object, a list, a tree, a lock or the like.
    pub(in crate::transfer) fn object_argument(
        &mut self,
        call: &mut KfuncCall<'_>,
        _index: usize,
        _reg: Reg,
        _value: &RegState,
        (_role, _pointer): (Role, &Pointer),
    ) -> Result<(), Reason> {
        Err(Unsupported::Kfunc { name: call.name() }.into())
    }

    /// The pointer that a function on objects returns; `None` if it is as the prototype says.
    pub(in crate::transfer) fn object_result(
        &mut self,
        call: &KfuncCall<'_>,
    ) -> Result<Option<RegState>, Reason> {
        match call.kfunc.special {
            Special::None | Special::SessionCookie | Special::KmemCache => Ok(None),
            _ => Err(Unsupported::Kfunc { name: call.name() }.into()),
        }
    }

    /// Checks that a map given with an object of its values is the one the object is in.
    pub(in crate::transfer) fn check_same_map(
        &self,
        _call: &KfuncCall<'_>,
        _map: u32,
        _uid: u32,
    ) -> Result<(), Reason> {
        Ok(())
    }
}
