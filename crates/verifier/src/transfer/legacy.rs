//! `BPF_LD_[ABS|IND]`: loads of a packet's bytes as the first filters had them. The context is in `R6`; a load behind the
//! packet's end makes the function return 0.

use isa::{PacketBase, Reg};

use super::ctx::check_unmodified;
use super::{Next, Step};
use crate::domain::scalar::Scalar;
use crate::report::reason::{ContextFault, FunctionFault};
use crate::state::reg::RegType;
use crate::walk::explore::Stop;

/// How messages name the instructions.
const NAME: &str = "BPF_LD_[ABS|IND]";

impl Step<'_> {
    pub(super) fn load_packet(&mut self, from: PacketBase) -> Result<Next, Stop> {
        if !self.plan.rules.classic_loads {
            return Err(ContextFault::NoPacketLoads.into());
        }
        if self.state.frames().iter().skip(1).any(|f| f.callback.is_some()) {
            return Err(FunctionFault::PacketLoadInCallback.into());
        }
        let context = self.read(Reg::R6)?;
        // The program may end here.
        self.check_leaks(NAME, false)?;
        if context.kind != RegType::PtrToCtx {
            return Err(ContextFault::PacketLoadContext.into());
        }
        if let PacketBase::Ind(reg) = from {
            self.read(reg)?;
        }
        check_unmodified(Reg::R6, &context, false)?;
        self.clobber_arguments();
        let loaded = self.unknown(&[]);
        self.write(Reg::R0, loaded)?;
        if self.state.depth() == 0 {
            return Ok(Next::At(self.following()));
        }
        self.forks.push((self.following(), self.state.clone()));
        let nothing = self.number(Scalar::ZERO, &[]);
        self.write(Reg::R0, nothing)?;
        self.leave()
    }
}
