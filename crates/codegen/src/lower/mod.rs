//! From blocks of BPF instructions to Cranelift's intermediate form.
//!
//! The variables of a body are the backend's variables of 64 bits; in huge functions they stay in memory (see [`Effort`]).
//! `r10` never changes, so it is a plain value: the function's last parameter. The context comes first; what it says of
//! the arena is read once, at entry.

mod alu;
pub(crate) mod call;
mod cast;
pub(crate) mod inline;
mod jump;
mod mem;
mod ordered;
mod registers;
pub(crate) mod stub;
mod wide;

use std::collections::HashMap;
use std::mem::offset_of;

use cranelift_codegen::ir::{
    self, AbiParam, ExternalName, InstBuilder, MemFlagsData, Signature, SourceLoc, TrapCode, UserFuncName,
    Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use isa::{CallTarget, Insn, InsnIdx, Reg, Size, Width};

use crate::abi::VmContext;
use crate::flow::{At, Block, BlockId, Body, Budget, End, Inlined, Op, Src, Step, Var};
use crate::machine::{Effort, Machine};
use crate::source::Source;
use crate::{CompileError, Import, Options, limits};
use registers::{Register, Registers};
use stub::StubOf;

/// Marks an access to arena memory in the backend's table of traps.
pub(crate) const ARENA_TRAP: TrapCode = TrapCode::unwrap_user(1);
/// Marks an access to arena memory that tells nobody but the code itself that a page is missing.
pub(crate) const PROBE_TRAP: TrapCode = TrapCode::unwrap_user(3);
/// Marks code where, by verification, execution never comes.
const UNREACHED_TRAP: TrapCode = TrapCode::unwrap_user(2);

/// The names that functions refer to each other by: a subprogram by its index, a stub by its number.
pub(crate) const SUBPROGRAMS: u32 = 0;
/// See [`SUBPROGRAMS`].
pub(crate) const STUBS: u32 = 1;

/// Runtime functions the program calls, numbered in the order they are first needed.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    order: Vec<Import>,
    numbers: HashMap<Import, i32>,
    /// The [stubs](self::stub), in the order they are first needed.
    stubs: Vec<StubOf>,
    /// Whether the code reads the number of its CPU.
    pub(crate) uses_cpu: bool,
}

impl Imports {
    /// The byte offset of an import's address in the table of imports.
    pub(crate) fn table_offset(&mut self, import: Import) -> i32 {
        let order = &mut self.order;
        let number = *self.numbers.entry(import).or_insert_with(|| {
            order.push(import);
            i32::try_from(order.len() - 1).unwrap_or(i32::MAX / 8)
        });
        number * 8
    }

    /// The number of a stub.
    pub(crate) fn stub(&mut self, stub: StubOf) -> usize {
        self.stubs.iter().position(|known| *known == stub).unwrap_or_else(|| {
            self.stubs.push(stub);
            self.stubs.len() - 1
        })
    }

    /// The stub with this number. Those that are needed by others come behind them.
    pub(crate) fn numbered_stub(&self, number: usize) -> Option<StubOf> {
        self.stubs.get(number).copied()
    }

    /// All of them, in order.
    pub(crate) fn into_order(self) -> Vec<Import> {
        self.order
    }
}

/// What is the same for every function of a program.
pub(crate) struct Unit<'a> {
    /// The program.
    pub(crate) source: Source<'a>,
    /// How to compile.
    pub(crate) options: &'a Options,
    /// For which machine.
    pub(crate) machine: Machine,
    /// The backend's sizes and conventions.
    pub(crate) frontend: TargetFrontendConfig,
    /// Which calls may end more than themselves, besides tail calls.
    pub(crate) leaving: Leaving,
}

/// Behind which calls the code looks at [`VmContext::leave`], besides tail calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Behind none.
    Never,
    /// The program takes locks, and one that it cannot wait for any longer ends it: behind the calls that take a lock, or may enter
    /// what does.
    Locks,
    /// The program throws exceptions: behind all.
    Exceptions,
}

impl<'a> Unit<'a> {
    /// Of a program.
    pub(crate) fn new(
        source: Source<'a>,
        options: &'a Options,
        machine: Machine,
        frontend: TargetFrontendConfig,
    ) -> Self {
        let program = source.program();
        let lock = Insn::Call { target: CallTarget::Helper(call::SPIN_LOCK) };
        let leaving = if source.throws() {
            Leaving::Exceptions
        } else if program.code.iter().any(|(_, insn)| insn == lock) {
            Leaving::Locks
        } else {
            Leaving::Never
        };
        Self { source, options, machine, frontend, leaving }
    }
}

/// Lowers one subprogram into `func`, which is empty.
pub(crate) fn function(
    unit: &Unit<'_>,
    body: &Body,
    imports: &mut Imports,
    func: &mut ir::Function,
    scratch: &mut FunctionBuilderContext,
) -> Result<(), CompileError> {
    func.name = UserFuncName::default();
    func.signature = signature(body.subprogram);
    let builder = FunctionBuilder::new(func, scratch);
    let mut lower = Lower::begin(unit, body, imports, builder);
    let labels = lower.labels.clone();
    for ((id, block), label) in body.each_block().zip(labels) {
        lower.block(body, id, block, label)?;
    }
    lower.b.seal_all_blocks();
    lower.b.finalize(unit.frontend);
    Ok(())
}

/// How a subprogram is called: context, `r1` to `r5`, `r10`, as [`CallbackFn`](crate::abi::CallbackFn); the first
/// one is the entry and takes `r1` alone, as [`EntryFn`](crate::abi::EntryFn). So neither needs a trampoline.
fn signature(subprogram: usize) -> Signature {
    let registers = if subprogram == 0 { 1 } else { Reg::ARGS.len() };
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); registers + 2];
    signature.returns = vec![AbiParam::new(types::I64)];
    signature
}

/// The iterations that a group of `may_goto` have together.
#[derive(Clone, Copy)]
struct Counter {
    /// How many until the runtime is asked.
    left: Register,
    /// What it answered the last time: not worth a machine register.
    state: Register,
}

/// State while one function is lowered.
struct Lower<'a, 'f> {
    b: FunctionBuilder<'f>,
    unit: &'a Unit<'a>,
    imports: &'a mut Imports,
    /// The blocks of the body, in order.
    labels: Vec<ir::Block>,
    /// The variables; that of `r10` is not used.
    vars: Registers,
    /// `r10`.
    frame: Value,
    /// The context.
    context: Value,
    /// Where rarely executed code finds the context: see [`Self::cold_context`].
    saved_context: Option<ir::StackSlot>,
    /// Base of the arena window, and whether the function accesses it. Then it is not 0.
    window: Value,
    uses_arena: bool,
    /// The loop budgets.
    budgets: Vec<Counter>,
    /// Whether a helper or kfunc may enter a callback of this program.
    has_callbacks: bool,
    /// How runtime functions are called.
    import_signature: Option<ir::SigRef>,
    /// Subprograms this function refers to.
    functions: HashMap<usize, ir::FuncRef>,
    /// Stubs this function refers to, by their numbers.
    stubs: HashMap<usize, ir::FuncRef>,
}

impl<'a, 'f> Lower<'a, 'f> {
    /// Makes the blocks and the entry code.
    fn begin(unit: &'a Unit<'a>, body: &Body, imports: &'a mut Imports, mut b: FunctionBuilder<'f>) -> Self {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.set_srcloc(location(body.start.into()));
        let params = b.block_params(entry).to_vec();
        let zero = b.ins().iconst(types::I64, 0);
        let (context, frame) = (params.first().copied(), params.last().copied());
        let (context, frame) = (context.unwrap_or(zero), frame.unwrap_or(zero));
        let arguments = params.get(1..params.len().saturating_sub(1)).unwrap_or_default();
        let effort = limits::effort(body);
        let mut vars = Registers::new(&mut b, body, effort);
        for number in 0..Var::REGISTERS {
            let argument = number.checked_sub(1).and_then(|i| arguments.get(usize::from(i)));
            // What the program cannot read before it writes it is only ever passed on, unread, by calls.
            vars.set(&mut b, Var(number), argument.copied().unwrap_or(frame));
        }
        let window =
            b.ins().load(types::I64, constant_memory(), context, field(offset_of!(VmContext, window_base)));
        let frames = unit.source.frames();
        let labels: Vec<_> = body.blocks.iter().map(|_| b.create_block()).collect();
        let mut lower = Self {
            b,
            unit,
            imports,
            labels,
            vars,
            frame,
            context,
            saved_context: None,
            window,
            uses_arena: body.uses_arena(),
            budgets: Vec::new(),
            has_callbacks: frames.iter().any(|f| f.callback),
            import_signature: None,
            functions: HashMap::new(),
            stubs: HashMap::new(),
        };
        for _ in 0..body.budgets {
            let [left, state] =
                [effort == Effort::Linear, true].map(|in_slot| Register::new(&mut lower.b, in_slot));
            lower.budgets.push(Counter { left, state });
        }
        if body.budgets > 0 {
            lower.begin_budget(Budget::OWN);
        }
        if body.blocks.iter().any(|block| matches!(block.end, End::MayGoto { .. } | End::Look { .. })) {
            lower.save_context();
        }
        lower.vars.end_block(&mut lower.b, body, None);
        match lower.labels.first() {
            Some(&first) => _ = lower.b.ins().jump(first, &[]),
            None => _ = lower.b.ins().trap(UNREACHED_TRAP),
        }
        lower
    }

    fn block(
        &mut self,
        body: &Body,
        id: BlockId,
        block: &Block,
        label: ir::Block,
    ) -> Result<(), CompileError> {
        self.b.switch_to_block(label);
        self.vars.begin_block();
        if block.cold {
            self.b.set_cold_block(label);
        }
        for step in &block.steps {
            self.b.set_srcloc(location(step.at));
            self.step(step)?;
        }
        self.b.set_srcloc(location(block.at));
        self.vars.end_block(&mut self.b, body, Some(id));
        self.end(block.at.insn, block.end)
    }

    fn step(&mut self, step: &Step) -> Result<(), CompileError> {
        let at = step.at.insn;
        match step.op {
            Op::Alu { width, op, dst, a, b } => self.alu(width, op, dst, a, b),
            Op::Neg { width, dst, src } => self.neg(width, dst, src),
            Op::Mov { width, dst, src } => {
                let value = self.operand(width, src);
                self.set_low(width, dst, value);
            }
            Op::SignExtend { width, from, dst, src } => self.sign_extend(width, from, dst, src),
            Op::ZeroExtend { from, dst, src } => {
                let value = self.get_zero_extended(from, src);
                self.set(dst, value);
            }
            Op::SwapBytes { bits, dst, src } => self.swap_bytes(bits, dst, src),
            Op::Select { dst, test, yes, no } => self.select(dst, test, yes, no),
            Op::Compare { dst, test } => self.compare(dst, test),
            Op::ToUser { dst, src } => self.user_address(dst, src),
            Op::Address { dst, of } => return self.load_address(at, dst, of),
            Op::Element { dst, map, key } => return self.element(at, dst, map, key),
            Op::Load { size, sign_extend, dst, place, order } => {
                return self.load(at, size, sign_extend, dst, place, order);
            }
            Op::Store { size, place, src, order } => return self.store(at, size, place, src, order),
            Op::Atomic { size, op, place, src, expected, old } => {
                return self.atomic(at, size, place, mem::Update { op, src, expected, old });
            }
            Op::LoadPacket { size, from, imm, dst, clobbers } => {
                let value = self.load_packet(at, size, from, imm);
                self.clobber(clobbers);
                self.set(dst, value);
            }
            Op::Call { target, map, stack, args, dst, clobbers } => {
                let result = self.call(at, target, map, stack, args)?;
                self.clobber(clobbers);
                self.set(dst, result);
            }
            Op::Forget { vars } => self.clobber(vars),
            Op::Stopped { dst } => {
                let context = self.cold_context();
                let word = stop_word(&mut self.b, context);
                self.set(dst, word);
            }
            Op::BeginBudget { budget } => self.begin_budget(budget),
            Op::Credit { budget, iterations } => self.credit(budget, iterations),
            Op::WideLoad { .. }
            | Op::WideStore { .. }
            | Op::Spread { .. }
            | Op::WideAlu { .. }
            | Op::WideEqual { .. }
            | Op::Bits { .. }
            | Op::Fold { .. }
            | Op::TrailingZeros { .. }
            | Op::MissedWord { .. }
            | Op::Missed { .. }
            | Op::ForgetMissed { .. } => return self.wide(at, step.op),
        }
        Ok(())
    }

    fn save_context(&mut self) {
        let slot = ir::StackSlotData::new(ir::StackSlotKind::ExplicitSlot, 8, 3);
        let slot = self.b.create_sized_stack_slot(slot);
        self.b.ins().stack_store(types::I64, self.context, slot, 0);
        self.saved_context = Some(slot);
    }

    /// The context, in a loop that needs it only to ask the runtime something: not worth a machine register.
    fn cold_context(&mut self) -> Value {
        let Some(slot) = self.saved_context else { return self.context };
        let address = self.b.ins().stack_addr(types::I64, slot, 0);
        // The backend does not know what it loads.
        self.b.ins().atomic_load(types::I64, context_memory(), address)
    }

    /// The 64 bits of a variable.
    fn get(&mut self, var: Var) -> Value {
        if var == Var::FRAME {
            return self.frame;
        }
        self.vars.get(&mut self.b, var).unwrap_or(self.frame)
    }

    /// Sets the 64 bits of a variable. `r10` cannot be written; verification sees to that.
    fn set(&mut self, var: Var, value: Value) {
        self.vars.set(&mut self.b, var, value);
    }

    /// The low bits of a variable, as wide as the operation.
    fn get_low(&mut self, width: Width, var: Var) -> Value {
        let value = self.get(var);
        match width {
            Width::W32 => self.b.ins().ireduce(types::I32, value),
            Width::W64 => value,
        }
    }

    /// Sets a variable to a result; one of 32 bits is zero-extended.
    fn set_low(&mut self, width: Width, var: Var, value: Value) {
        let value = match width {
            Width::W32 => self.b.ins().uextend(types::I64, value),
            Width::W64 => value,
        };
        self.set(var, value);
    }

    /// A source operand, as wide as the operation.
    fn operand(&mut self, width: Width, src: Src) -> Value {
        match src {
            Src::Var(var) => self.get_low(width, var),
            Src::Imm(imm) => self.immediate(width, imm),
        }
    }

    fn immediate(&mut self, width: Width, imm: i64) -> Value {
        match width {
            // The backend wants constants of narrow types without sign.
            Width::W32 => self.b.ins().iconst(types::I32, imm & 0xffff_ffff),
            Width::W64 => self.b.ins().iconst(types::I64, imm),
        }
    }

    /// A subprogram, as something to call or to take the address of.
    fn function(&mut self, subprogram: usize) -> ir::FuncRef {
        if let Some(&function) = self.functions.get(&subprogram) {
            return function;
        }
        let index = u32::try_from(subprogram).unwrap_or(u32::MAX);
        let name = self.b.func.declare_imported_user_function(ir::UserExternalName::new(SUBPROGRAMS, index));
        let signature = self.b.import_signature(signature(subprogram));
        let data =
            ir::ExtFuncData { name: ExternalName::user(name), signature, colocated: true, patchable: false };
        let function = self.b.import_function(data);
        self.functions.insert(subprogram, function);
        function
    }
}

/// The run's stop word, as it is now.
fn stop_word(b: &mut FunctionBuilder<'_>, context: Value) -> Value {
    let offset = field(offset_of!(VmContext, stop));
    // Where it lies stays the same, but is not worth a register.
    let address = b.ins().load(types::I64, proven_memory().with_readonly(), context, offset);
    // Atomic loads are not merged with others.
    b.ins().atomic_load(types::I64, context_memory(), address)
}

/// The type of an integer in memory.
fn memory_type(size: Size) -> ir::Type {
    match size {
        Size::B => types::I8,
        Size::H => types::I16,
        Size::W => types::I32,
        Size::DW => types::I64,
    }
}

/// Memory of the context that keeps its value during a run.
fn constant_memory() -> MemFlagsData {
    MemFlagsData::trusted().with_readonly().with_can_move()
}

/// Memory of the context that changes during a run.
fn context_memory() -> MemFlagsData {
    MemFlagsData::trusted()
}

/// Memory that verification proved to be there, at any alignment.
fn proven_memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Offset of a field of the context.
fn field(offset: usize) -> i32 {
    i32::try_from(offset).unwrap_or(i32::MAX)
}

/// Bits of the backend's notion of a source location that hold the instruction; above them is the call that the code was put in
/// place of.
const INSN_BITS: u32 = limits::PROGRAM_INSNS.ilog2() + 1;

/// Where code comes from as the backend's notion of a source location.
fn location(at: At) -> SourceLoc {
    SourceLoc::new(at.insn.0 | u32::from(at.inlined.0) << INSN_BITS)
}

/// The way back.
pub(crate) fn located(location: SourceLoc) -> Option<At> {
    let bits = location.bits();
    let inlined = Inlined(u16::try_from(bits >> INSN_BITS).ok()?);
    (!location.is_default()).then_some(At { insn: InsnIdx(bits & ((1 << INSN_BITS) - 1)), inlined })
}
