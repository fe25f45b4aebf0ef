//! From blocks of BPF instructions to Cranelift's intermediate form.
//!
//! BPF registers are variables of 64 bits; in huge functions they stay in memory (see [`Effort`]). `r10` never changes,
//! so it is a plain value: the function's last parameter. The context comes first; what it says of the arena is read
//! once, at entry.

mod alu;
mod call;
mod cast;
mod inline;
mod jump;
mod mem;

use std::collections::HashMap;
use std::mem::offset_of;

use cranelift_codegen::ir::{
    self, AbiParam, ExternalName, InstBuilder, MemFlagsData, Signature, SourceLoc, TrapCode, UserFuncName,
    Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use isa::{Insn, InsnIdx, Operand, Reg, Size, Width};

use crate::abi::VmContext;
use crate::flow::{Block, Body, Step};
use crate::machine::{Effort, Machine};
use crate::source::Source;
use crate::{CompileError, Import, Options, limits};

/// Marks an access to arena memory in the backend's table of traps.
pub(crate) const ARENA_TRAP: TrapCode = TrapCode::unwrap_user(1);
/// Marks code where, by verification, execution never comes.
const UNREACHED_TRAP: TrapCode = TrapCode::unwrap_user(2);

/// Runtime functions the program calls, numbered in the order they are first needed.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    order: Vec<Import>,
    numbers: HashMap<Import, i32>,
    /// Whether the code reads the number of its CPU.
    pub(crate) uses_cpu: bool,
}

impl Imports {
    /// The byte offset of an import's address in the table of imports.
    fn table_offset(&mut self, import: Import) -> i32 {
        let order = &mut self.order;
        let number = *self.numbers.entry(import).or_insert_with(|| {
            order.push(import);
            i32::try_from(order.len() - 1).unwrap_or(i32::MAX / 8)
        });
        number * 8
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
    for (block, label) in body.blocks.iter().zip(labels) {
        lower.block(block, label)?;
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

/// Where a BPF register, or the loop budget, is kept.
#[derive(Clone, Copy)]
enum Register {
    /// Wherever the backend likes.
    Variable(Variable),
    /// In the function's frame.
    Slot(ir::StackSlot),
}

/// The iterations that the `may_goto` of one function have, together.
#[derive(Clone, Copy)]
struct Budget {
    /// How many until the runtime is asked.
    left: Register,
    /// What it answered the last time.
    state: Register,
}

/// State while one function is lowered.
struct Lower<'a, 'f> {
    b: FunctionBuilder<'f>,
    unit: &'a Unit<'a>,
    imports: &'a mut Imports,
    /// The blocks of the body, in order.
    labels: Vec<ir::Block>,
    /// `r0` to `r9`.
    registers: [Register; 10],
    /// `r10`.
    frame: Value,
    /// The context.
    context: Value,
    /// Base of the arena window.
    window: Value,
    /// The loop budget, if the function has `may_goto`.
    budget: Option<Budget>,
    /// Bytes of stack the function uses.
    stack_bytes: i64,
    /// Whether a helper or kfunc may enter a callback of this program.
    has_callbacks: bool,
    /// Whether the program throws exceptions.
    throws: bool,
    /// How runtime functions are called.
    import_signature: Option<ir::SigRef>,
    /// Subprograms this function refers to.
    functions: HashMap<usize, ir::FuncRef>,
}

impl<'a, 'f> Lower<'a, 'f> {
    /// Makes the blocks and the entry code.
    fn begin(unit: &'a Unit<'a>, body: &Body, imports: &'a mut Imports, mut b: FunctionBuilder<'f>) -> Self {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        if let Some(first) = body.blocks.first() {
            b.set_srcloc(location(first.start));
        }
        let params = b.block_params(entry).to_vec();
        let zero = b.ins().iconst(types::I64, 0);
        let (context, frame) = (params.first().copied(), params.last().copied());
        let (context, frame) = (context.unwrap_or(zero), frame.unwrap_or(zero));
        let arguments = params.get(1..params.len().saturating_sub(1)).unwrap_or_default();
        let effort = limits::effort(body);
        let registers: [Register; 10] = core::array::from_fn(|number| {
            let register = Register::new(&mut b, effort);
            let argument = number.checked_sub(1).and_then(|i| arguments.get(i));
            // What the program cannot read before it writes it is only ever passed on, unread, by calls.
            register.set(&mut b, argument.copied().unwrap_or(frame));
            register
        });
        let window =
            b.ins().load(types::I64, constant_memory(), context, field(offset_of!(VmContext, window_base)));
        let frames = unit.source.frames();
        let stack_bytes = frames.get(body.subprogram).map_or(0, |f| i64::from(f.stack_bytes));
        let labels: Vec<_> = body.blocks.iter().map(|_| b.create_block()).collect();
        let mut lower = Self {
            b,
            unit,
            imports,
            labels,
            registers,
            frame,
            context,
            window,
            budget: None,
            stack_bytes,
            has_callbacks: frames.iter().any(|f| f.callback),
            throws: unit.source.program().externs.iter().any(|e| e.name == "bpf_throw"),
            import_signature: None,
            functions: HashMap::new(),
        };
        if body.uses_budget {
            let [left, state] = [(); 2].map(|()| Register::new(&mut lower.b, effort));
            lower.begin_budget(left, state);
        }
        match lower.labels.first() {
            Some(&first) => _ = lower.b.ins().jump(first, &[]),
            None => _ = lower.b.ins().trap(UNREACHED_TRAP),
        }
        lower
    }

    fn block(&mut self, block: &Block, label: ir::Block) -> Result<(), CompileError> {
        self.b.switch_to_block(label);
        for step in &block.steps {
            self.b.set_srcloc(location(step.at));
            self.step(step)?;
        }
        self.end(block.end)
    }

    fn step(&mut self, step: &Step) -> Result<(), CompileError> {
        match step.insn {
            Insn::Alu { width, op, dst, src } => self.alu(width, op, dst, src),
            Insn::Neg { width, dst } => self.neg(width, dst),
            Insn::Mov { width, dst, src } => self.mov(width, dst, src),
            Insn::MovSx { width, from, dst, src } => self.mov_sx(width, from, dst, src),
            Insn::ByteSwap { order, bits, dst } => self.byte_swap(order, bits, dst),
            Insn::AddrSpaceCast { dst, src, dst_as, .. } => self.addr_space_cast(dst, src, dst_as),
            Insn::LoadImm64 { dst, value } => return self.load_imm64(step, dst, value),
            Insn::Load { size, sign_extend, dst, base, offset } => {
                return self.load(step, mem::Place { size, base, offset }, sign_extend, dst);
            }
            Insn::LoadAcquire { size, dst, base, offset } => {
                return self.load(step, mem::Place { size, base, offset }, false, dst);
            }
            Insn::Store { size, base, offset, src } => {
                return self.store(step, mem::Place { size, base, offset }, src);
            }
            Insn::StoreRelease { size, base, offset, src } => {
                return self.store(step, mem::Place { size, base, offset }, Operand::Reg(src));
            }
            Insn::Atomic { size, op, fetch, base, offset, src } => {
                return self.atomic(step, mem::Place { size, base, offset }, mem::Update { op, fetch, src });
            }
            Insn::LoadPacket { size, from, imm } => self.load_packet(step, size, from, imm),
            Insn::Call { target } => return self.call(step, target),
            _ => return Err(CompileError::UnsupportedInsn { at: step.at, insn: step.insn }),
        }
        Ok(())
    }

    /// The 64 bits of a register.
    fn get(&mut self, reg: Reg) -> Value {
        match self.registers.get(reg.index()) {
            Some(register) => register.get(&mut self.b),
            None => self.frame,
        }
    }

    /// Sets the 64 bits of a register. `r10` cannot be written; verification sees to that.
    fn set(&mut self, reg: Reg, value: Value) {
        if let Some(register) = self.registers.get(reg.index()) {
            register.set(&mut self.b, value);
        }
    }

    /// The low bits of a register, as wide as the operation.
    fn get_low(&mut self, width: Width, reg: Reg) -> Value {
        let value = self.get(reg);
        match width {
            Width::W32 => self.b.ins().ireduce(types::I32, value),
            Width::W64 => value,
        }
    }

    /// Sets a register to a result; one of 32 bits is zero-extended.
    fn set_low(&mut self, width: Width, reg: Reg, value: Value) {
        let value = match width {
            Width::W32 => self.b.ins().uextend(types::I64, value),
            Width::W64 => value,
        };
        self.set(reg, value);
    }

    /// A source operand: the immediate is sign-extended to the width of the operation.
    fn operand(&mut self, width: Width, src: Operand) -> Value {
        match src {
            Operand::Reg(reg) => self.get_low(width, reg),
            Operand::Imm(imm) => self.immediate(width, imm),
        }
    }

    fn immediate(&mut self, width: Width, imm: i32) -> Value {
        match width {
            // The backend wants constants of narrow types without sign.
            Width::W32 => self.b.ins().iconst(types::I32, i64::from(imm.cast_unsigned())),
            Width::W64 => self.b.ins().iconst(types::I64, i64::from(imm)),
        }
    }

    /// A subprogram, as something to call or to take the address of.
    fn function(&mut self, subprogram: usize) -> ir::FuncRef {
        if let Some(&function) = self.functions.get(&subprogram) {
            return function;
        }
        let index = u32::try_from(subprogram).unwrap_or(u32::MAX);
        let name = self.b.func.declare_imported_user_function(ir::UserExternalName::new(0, index));
        let signature = self.b.import_signature(signature(subprogram));
        let data =
            ir::ExtFuncData { name: ExternalName::user(name), signature, colocated: true, patchable: false };
        let function = self.b.import_function(data);
        self.functions.insert(subprogram, function);
        function
    }
}

impl Register {
    fn new(b: &mut FunctionBuilder<'_>, effort: Effort) -> Self {
        match effort {
            Effort::Full => Self::Variable(b.declare_var(types::I64)),
            Effort::Linear => {
                let slot = ir::StackSlotData::new(ir::StackSlotKind::ExplicitSlot, 8, 3);
                Self::Slot(b.create_sized_stack_slot(slot))
            }
        }
    }

    fn get(self, b: &mut FunctionBuilder<'_>) -> Value {
        match self {
            Self::Variable(variable) => b.use_var(variable),
            Self::Slot(slot) => b.ins().stack_load(types::I64, types::I64, slot, 0),
        }
    }

    fn set(self, b: &mut FunctionBuilder<'_>, value: Value) {
        match self {
            Self::Variable(variable) => b.def_var(variable, value),
            Self::Slot(slot) => _ = b.ins().stack_store(types::I64, value, slot, 0),
        }
    }
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

/// The instruction as the backend's notion of a source location.
fn location(at: InsnIdx) -> SourceLoc {
    SourceLoc::new(at.0)
}
