//! The reference interpreter: RFC 9669 and the Linux extensions, one instruction at a time, each memory access checked.
//!
//! It executes the same [`Verified`] programs as compiled code, in the same memory, and is written to be obviously right
//! rather than fast. What verification should have excluded becomes a [`TrapKind`] here instead of corruption.

mod alu;
mod memory;

use bpf_object::Subprogram;
use isa::{CallTarget, Imm64, Insn, InsnIdx, Operand, PacketBase, Reg, Size, Width};
use verifier::Verified;

use crate::error::{RunError, TrapKind};
use crate::runtime::hosted;
use crate::runtime::{self, Answer, Executor, Invocation, Leave, Loops};
use crate::user::Moment;

/// What `lddw Func` loads: this tag over the function's first instruction. No memory lies there.
const FUNCTION_TAG: u64 = 0x6270_6600 << 32;

/// Most nested calls, callbacks included: as many frames as the stack holds.
const MAX_FRAMES: usize = 8;

/// Runs the program from its start with `r1` and the frame pointer `r10`; the result is its `r0`.
///
/// # Errors
/// What was wrong, after [`Invocation::stop`] was told.
pub(crate) fn run(invocation: &mut Invocation<'_>, r1: u64, r10: u64) -> u64 {
    let mut machine = Machine::new(InsnIdx(0), [r1, 0, 0, 0, 0], r10);
    machine.run(invocation).unwrap_or(0)
}

/// What the program knows a callback by: what `lddw Func` loads for the function that begins there.
pub(crate) fn function(start: InsnIdx) -> u64 {
    FUNCTION_TAG | u64::from(start.0)
}

/// Runs a callback: `function` is what `lddw Func` gave the program.
pub(crate) fn callback(
    invocation: &mut Invocation<'_>,
    function: u64,
    args: [u64; 5],
    r10: u64,
) -> Result<u64, TrapKind> {
    let start = function.checked_sub(FUNCTION_TAG).and_then(|start| u32::try_from(start).ok()).map(InsnIdx);
    let verified = &invocation.image.verified;
    let known = start.filter(|start| verified.program().subprograms.iter().any(|s| s.start == *start));
    let start = known.ok_or(TrapKind::BadJump)?;
    if invocation.calls.len() >= MAX_FRAMES {
        return Err(TrapKind::StackOverflow);
    }
    let before = (invocation.executor, invocation.loops);
    invocation.loops = Loops::first(invocation.image);
    let mut machine = Machine::new(start, args, r10);
    let result = machine.run(invocation).unwrap_or(0);
    (invocation.executor, invocation.loops) = before;
    Ok(result)
}

/// Registers and calls.
struct Machine {
    regs: [u64; 11],
    at: InsnIdx,
    /// What to restore when the current function returns.
    callers: Vec<Caller>,
}

/// A function that waits for a call to return.
struct Caller {
    resume: InsnIdx,
    saved: [u64; 5],
    loops: Loops,
}

/// Registers that survive a call, the frame pointer among them.
const SAVED: [Reg; 5] = [Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::R10];

/// Whether to go on after an instruction.
enum Step {
    Next,
    Goto(InsnIdx),
    Return,
    /// Out of every function, after an exception.
    Leave,
}

impl Machine {
    fn new(start: InsnIdx, args: [u64; 5], r10: u64) -> Self {
        let mut machine = Self { regs: [0; 11], at: start, callers: Vec::new() };
        Reg::ARGS.into_iter().zip(args).for_each(|(reg, value)| machine.set(reg, value));
        machine.set(Reg::R10, r10);
        machine
    }

    /// Executes until the function it began in returns; `None` if the run was ended.
    fn run(&mut self, invocation: &mut Invocation<'_>) -> Option<u64> {
        let image = invocation.image;
        while !invocation.stopped() {
            if invocation.instructions_left == 0 {
                let limit = image.options.instruction_limit.unwrap_or(u64::MAX);
                invocation.stop(RunError::InstructionLimit { limit });
                break;
            }
            invocation.instructions_left -= 1;
            if invocation.trace.is_some() {
                self.note(invocation);
            }
            match self.step(&image.verified, invocation) {
                Ok(Step::Next) => self.at = image.verified.program().code.next(self.at),
                Ok(Step::Goto(target)) => {
                    self.at = target;
                    if invocation.signal.is_raised() {
                        invocation.end_at(Some(target));
                    }
                }
                Ok(Step::Return) => match self.callers.pop() {
                    None => return Some(self.get(Reg::R0)),
                    Some(caller) => {
                        invocation.calls.pop();
                        SAVED.into_iter().zip(caller.saved).for_each(|(reg, value)| self.set(reg, value));
                        invocation.loops = caller.loops;
                        self.at = caller.resume;
                    }
                },
                Ok(Step::Leave) => {
                    let entered = self.callers.len();
                    invocation.calls.truncate(invocation.calls.len().saturating_sub(entered));
                    return None;
                }
                Err(kind) => invocation.trap(kind, Some(self.at)),
            }
        }
        None
    }

    /// Keeps what the machine looks like.
    #[cold]
    fn note(&self, invocation: &mut Invocation<'_>) {
        let bytes = self.frame_bytes(&invocation.image.verified);
        let start = self.get(Reg::R10).wrapping_sub(bytes);
        let stack = match bytes {
            0 => Vec::new(),
            _ => invocation.memory(start, bytes, false).map_or_else(|_| Vec::new(), |place| place.to_vec()),
        };
        let (at, depth, registers) = (self.at, invocation.calls.len(), self.regs);
        if let Some(trace) = invocation.trace.as_mut().filter(|trace| trace.moments.len() < trace.most) {
            trace.moments.push(Moment { at, depth, registers, stack });
        }
    }

    /// Executes one instruction.
    fn step(&mut self, verified: &Verified, invocation: &mut Invocation<'_>) -> Result<Step, TrapKind> {
        let facts = verified.facts(self.at);
        let insn = verified.program().code.get(self.at).filter(|_| facts.reached).ok_or(TrapKind::BadJump)?;
        match insn {
            Insn::Alu { width, op, dst, src } => {
                let width = if facts.narrow { Width::W32 } else { width };
                self.set(dst, alu::alu(width, op, self.get(dst), self.operand(src)));
            }
            Insn::Neg { width, dst } => self.set(dst, alu::neg(width, self.get(dst))),
            Insn::Mov { width, dst, src } => self.set(dst, alu::truncate(width, self.operand(src))),
            Insn::MovSx { width, from, dst, src } => {
                self.set(dst, alu::sign_extend(width, from, self.get(src)))
            }
            Insn::ByteSwap { order, bits, dst } => self.set(dst, alu::swap(order, bits, self.get(dst))),
            Insn::AddrSpaceCast { dst, src, dst_as, src_as } => {
                let low = alu::truncate(Width::W32, self.get(src));
                let value = match (dst_as, src_as) {
                    (0, 1) => low,
                    (1, 0) if low == 0 => 0,
                    (1, 0) => low | invocation.image.maps.user_vm_high(),
                    _ => return Err(TrapKind::BadInstruction),
                };
                self.set(dst, value);
            }
            Insn::LoadImm64 { dst, value } => {
                let value = self.imm64(value, invocation)?;
                self.set(dst, value);
            }
            Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. } => {
                let insn =
                    if facts.context_pointer { codegen::abi::context_pointer_load(insn) } else { insn };
                self.access(insn, facts.memory, invocation)?;
            }
            Insn::LoadPacket { size, from, imm } => {
                let offset = match from {
                    // The sum is of 32 bits, and signed.
                    PacketBase::Ind(reg) => {
                        let sum = self.get(reg).wrapping_add(i64::from(imm).cast_unsigned());
                        alu::sign_extend(Width::W64, Size::W, sum).cast_signed()
                    }
                    PacketBase::Abs => i64::from(imm),
                };
                let value = invocation.packet_load(offset, size);
                self.set(Reg::R0, value.unwrap_or(0));
                if value.is_none() {
                    return Ok(Step::Return);
                }
            }
            Insn::Jump { offset, .. } => return self.goto(i64::from(offset)),
            Insn::Branch { width, cond, dst, src, offset } => {
                if alu::compare(width, cond, self.get(dst), self.operand(src)) {
                    return self.goto(i64::from(offset));
                }
            }
            Insn::MayGoto { offset } => {
                if invocation.loops.left == 0 {
                    let mut answer = Answer(invocation.loops.state);
                    if answer.loops() == 0 || invocation.signal.is_raised() {
                        answer = Answer(invocation.loop_budget(answer.0, self.at));
                    }
                    if answer.0 == 0 {
                        return self.goto(i64::from(offset));
                    }
                    invocation.loops = Loops::given(answer);
                }
                invocation.loops.left -= 1;
            }
            Insn::Call { target } => return self.call(target, verified, invocation),
            Insn::Exit => return Ok(Step::Return),
            _ => return Err(TrapKind::BadInstruction),
        }
        Ok(Step::Next)
    }

    fn call(
        &mut self,
        target: CallTarget,
        verified: &Verified,
        invocation: &mut Invocation<'_>,
    ) -> Result<Step, TrapKind> {
        let program = verified.program();
        let row = match target {
            CallTarget::Local(offset) => {
                if invocation.calls.len() + 1 >= MAX_FRAMES {
                    return Err(TrapKind::StackOverflow);
                }
                let resume = program.code.next(self.at);
                let first = Loops::first(invocation.image);
                let loops = std::mem::replace(&mut invocation.loops, first);
                self.callers.push(Caller { resume, saved: SAVED.map(|reg| self.get(reg)), loops });
                invocation.calls.push(self.at);
                self.set(Reg::R10, self.get(Reg::R10).wrapping_sub(self.frame_bytes(verified)));
                return self.goto(i64::from(offset));
            }
            CallTarget::Helper(number) => runtime::helper(number),
            CallTarget::Kfunc { btf_id, .. } => usize::try_from(btf_id)
                .ok()
                .and_then(|index| program.externs.get(index))
                .and_then(|function| runtime::kfunc(&function.name)),
            CallTarget::Register(_) => None,
        };
        let hosted = invocation.image.hosted.slot(target);
        let args = Reg::ARGS.map(|reg| self.get(reg));
        let callback_frame = self.get(Reg::R10).wrapping_sub(self.frame_bytes(verified));
        invocation.executor = Executor::Interpreter { callback_frame };
        invocation.calls.push(self.at);
        let result = match (hosted, row) {
            (Some(slot), _) => hosted::call(invocation, slot, args)?,
            (None, Some(row)) => (row.call)(invocation, args),
            (None, None) => return Err(TrapKind::BadInstruction),
        };
        invocation.calls.pop();
        self.set(Reg::R0, result);
        match invocation.leave {
            None => Ok(Step::Next),
            Some(Leave::Function) => {
                invocation.leave = None;
                Ok(Step::Return)
            }
            Some(Leave::Program(_) | Leave::Run) => Ok(Step::Leave),
        }
    }

    /// Bytes of stack that the current function uses.
    fn frame_bytes(&self, verified: &Verified) -> u64 {
        let contains = |s: &Subprogram| s.start <= self.at && self.at < s.end;
        let index = verified.program().subprograms.iter().position(contains);
        index.and_then(|i| verified.frames().get(i)).map_or(0, |frame| u64::from(frame.stack_bytes))
    }

    fn imm64(&self, value: Imm64, invocation: &Invocation<'_>) -> Result<u64, TrapKind> {
        let maps = &invocation.image.maps;
        let of_map =
            |table: &[u64], map: u32| table.get(map as usize).copied().ok_or(TrapKind::BadInstruction);
        match value {
            Imm64::Const(value) => Ok(value),
            Imm64::MapIdx(map) => of_map(maps.handles(), map),
            Imm64::MapIdxValue { map, offset } => {
                Ok(of_map(maps.values(), map)?.wrapping_add(u64::from(offset)))
            }
            Imm64::Func(offset) => {
                let target = self.at.offset(1 + i64::from(offset)).ok_or(TrapKind::BadJump)?;
                Ok(FUNCTION_TAG | u64::from(target.0))
            }
            Imm64::BtfVar { btf_id, .. } => {
                let index = usize::try_from(btf_id).unwrap_or(usize::MAX);
                let address = invocation.image.variables.addresses().get(index);
                address.copied().ok_or(TrapKind::BadInstruction)
            }
            Imm64::MapFd(_) | Imm64::MapValue { .. } => Err(TrapKind::BadInstruction),
        }
    }

    fn goto(&self, offset: i64) -> Result<Step, TrapKind> {
        self.at.offset(1 + offset).map(Step::Goto).ok_or(TrapKind::BadJump)
    }

    fn operand(&self, src: Operand) -> u64 {
        match src {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => i64::from(imm).cast_unsigned(),
        }
    }

    fn get(&self, reg: Reg) -> u64 {
        self.regs.get(reg.index()).copied().unwrap_or(0)
    }

    fn set(&mut self, reg: Reg, value: u64) {
        if let Some(slot) = self.regs.get_mut(reg.index()) {
            *slot = value;
        }
    }
}
