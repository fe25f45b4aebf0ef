//! What one instruction does to a state: the abstract machine's semantics, one module per instruction class.

mod alu;
mod btf;
mod call;
mod ctx;
mod global;
mod helper;
mod jump;
mod kfunc;
mod legacy;
mod linked;
mod map_struct;
mod mem;
mod null;
mod objects;
mod packet;
mod region;
mod returns;
mod socket;
mod stack;
mod text;
mod widen;

use isa::{Insn, InsnIdx, Operand, Reg};

pub(crate) use kfunc::iterator_at;

use crate::domain::scalar::Scalar;
use crate::facts::Facts;
use crate::plan::Plan;
use crate::report::reason::{Reason, Unsupported};
use crate::state::State;
use crate::state::reg::{RegState, RegType};
use crate::walk::explore::Stop;
use crate::walk::origin::{Origin, Origins};
use crate::walk::saved::Saved;
use crate::walk::stack_live::{self, StackLive};

/// Where the path goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// At this instruction.
    At(InsnIdx),
    /// At this instruction, after a conditional jump.
    Branch(InsnIdx),
    /// Nowhere: the program or function verified alone has ended.
    End,
}

/// One instruction about to be executed on one state.
pub(crate) struct Step<'s> {
    pub(crate) plan: &'s Plan<'s>,
    pub(crate) facts: &'s mut Facts,
    pub(crate) origins: &'s mut Origins,
    pub(crate) saved: &'s Saved,
    pub(crate) live: &'s mut StackLive,
    /// The last identity given out.
    pub(crate) ids: &'s mut u32,
    pub(crate) state: &'s mut State,
    pub(crate) at: InsnIdx,
    /// Whether the path's history has an entry for this instruction.
    pub(crate) noted: bool,
    /// Further paths that start here.
    pub(crate) forks: Vec<(InsnIdx, State)>,
}

impl Step<'_> {
    /// Executes the instruction.
    pub(crate) fn execute(&mut self) -> Result<Next, Stop> {
        let Some(insn) = self.plan.program.code.get(self.at) else {
            return Err(Reason::Internal { what: "no instruction" }.into());
        };
        match insn {
            Insn::Alu { width, op, dst, src } => self.alu(width, op, dst, src)?,
            Insn::Neg { width, dst } => self.neg(width, dst)?,
            Insn::Mov { width, dst, src } => self.mov(width, dst, src)?,
            Insn::MovSx { width, from, dst, src } => self.mov_sx(width, from, dst, src)?,
            Insn::ByteSwap { order, bits, dst } => self.byte_swap(order, bits, dst)?,
            Insn::AddrSpaceCast { dst, src, dst_as, src_as } => self.cast(dst, src, dst_as, src_as)?,
            Insn::LoadImm64 { dst, value } => self.load_imm64(dst, value)?,
            Insn::Load { size, sign_extend, dst, base, offset } => {
                self.load(size, sign_extend, dst, base, offset)?;
            }
            Insn::Store { size, base, offset, src } => self.store(size, base, offset, src)?,
            Insn::Atomic { size, op, fetch, base, offset, src } => {
                self.atomic(size, op, fetch, base, offset, src)?;
            }
            Insn::LoadAcquire { size, dst, base, offset } => self.load_acquire(size, dst, base, offset)?,
            Insn::StoreRelease { size, base, offset, src } => self.store_release(size, base, offset, src)?,
            Insn::Jump { offset, .. } => return self.jump_target(offset).map(Next::At),
            Insn::Branch { width, cond, dst, src, offset } => {
                return self.branch(width, cond, dst, src, offset);
            }
            Insn::MayGoto { offset } => return self.may_goto(offset),
            Insn::Call { target } => return self.call(target),
            Insn::Exit => return self.exit(),
            Insn::LoadPacket { from, .. } => return self.load_packet(from),
            Insn::IndirectJump { .. } => return Err(Unsupported::Instruction { what: "gotox" }.into()),
            _ => return Err(Unsupported::Instruction { what: "unknown to this version" }.into()),
        }
        Ok(Next::At(self.following()))
    }

    /// The instruction after this one.
    pub(crate) fn following(&self) -> InsnIdx {
        self.plan.program.code.next(self.at)
    }

    /// The target of a jump from here.
    fn jump_target(&self, offset: i32) -> Result<InsnIdx, Stop> {
        let to = self.at.0.checked_add(1).and_then(|next| InsnIdx(next).offset(i64::from(offset)));
        to.ok_or_else(|| Reason::JumpOutOfRange { from: self.at, to: i64::from(offset) }.into())
    }

    /// An initialised register.
    fn read(&self, reg: Reg) -> Result<RegState, Reason> {
        let state = *self.state.reg(reg);
        if state.kind == RegType::NotInit { Err(Reason::Uninitialised { reg }) } else { Ok(state) }
    }

    /// A source operand as a register state.
    fn operand(&mut self, src: Operand) -> Result<RegState, Reason> {
        match src {
            Operand::Reg(reg) => self.read(reg),
            Operand::Imm(imm) => Ok(self.number(Scalar::constant(i64::from(imm).cast_unsigned()), &[])),
        }
    }

    /// Writes a register.
    fn write(&mut self, reg: Reg, to: RegState) -> Result<(), Reason> {
        if reg == Reg::R10 {
            return Err(Reason::FramePointerWrite);
        }
        self.state.set_reg(reg, to);
        Ok(())
    }

    /// A number made here from others.
    fn number(&mut self, scalar: Scalar, from: &[Origin]) -> RegState {
        RegState::number(scalar, self.origins.derive(Some(self.at), from))
    }

    /// A number made here of which nothing is known.
    fn unknown(&mut self, from: &[Origin]) -> RegState {
        self.number(Scalar::UNKNOWN, from)
    }

    /// A pointer made here.
    fn pointer(&mut self, kind: RegType) -> RegState {
        RegState::pointer(kind, self.origins.derive(Some(self.at), &[]))
    }

    /// Something depends on the number in this register.
    fn depend_on(&mut self, reg: &RegState) {
        self.origins.mark_precise(reg.origin);
    }

    /// The path's history gets an entry for this instruction, unless it has one.
    fn note(&mut self) {
        self.state.history += u32::from(!std::mem::replace(&mut self.noted, true));
    }

    /// The bytes from `start` to `end` of a frame's stack may be read here.
    ///
    /// Whatever looks at the stack of the program must say so: slots of which nothing is read count as dead.
    fn reads_stack(&mut self, frame: u8, start: i64, end: i64) {
        self.live.read(frame, self.at, stack_live::slots(start, end));
    }

    /// All bytes of the eight at `offset` of a frame's stack are written here, on every execution.
    fn writes_slot(&mut self, frame: u8, offset: i64) {
        self.live.write(frame, stack_live::slots(offset, offset + 1));
    }

    fn fresh_id(&mut self) -> u32 {
        *self.ids = self.ids.saturating_add(1);
        *self.ids
    }
}
