//! Machine instructions before they have registers.
//!
//! An operand is a [`Reg`] that is yet to be assigned, a number, or memory of the function's own frame. Instructions have three
//! operands where the machine's have two, and need no particular register: what the machine wants (`rax` for a division, arguments of
//! calls) is moved there when the instruction is written, and [`Insn::taken`] says which machine registers that overwrites. Flags live
//! within one instruction, or the end of a block, only.

use isa::{AtomicOp, Size, Width};

use crate::flow::At;

/// A register that is to be assigned: a machine register for as long as anything needs its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Reg(pub(super) u32);

impl Reg {
    /// The index as a `usize`.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which of the machine's registers can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// General-purpose.
    General,
    /// `xmm`.
    Wide,
}

/// Eight bytes of the function's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(pub(super) u32);

/// An operand that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Src {
    /// A register.
    Reg(Reg),
    /// A number. One that no instruction can hold lies behind the code, where the instruction does not move it.
    Imm(i64),
    /// Memory of the frame.
    Slot(Slot),
}

/// An address: `base + (index << shift) + offset`, of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Base.
    pub(super) base: Reg,
    /// Index, and by how many bits (0 to 3) it is shifted.
    pub(super) index: Option<(Reg, u8)>,
    /// Bytes.
    pub(super) offset: i32,
}

/// What may happen when memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Safe,
    /// The page may be missing: the access is one machine instruction that can be skipped.
    Arena,
    /// As `Arena`, but nobody is told.
    Probe,
}

/// Operations with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alu {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Mul,
}

/// Shifts and rotations. By the low 5 or 6 bits of the amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    Left,
    Right,
    Arithmetic,
    /// Rotation to the right, by a number.
    Rotate,
}

/// Conditions of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cc {
    Equal,
    NotEqual,
    Above,
    AboveEqual,
    Below,
    BelowEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

impl Cc {
    /// The condition that holds where this one does not.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Above => Self::BelowEqual,
            Self::AboveEqual => Self::Below,
            Self::Below => Self::AboveEqual,
            Self::BelowEqual => Self::Above,
            Self::Greater => Self::LessEqual,
            Self::GreaterEqual => Self::Less,
            Self::Less => Self::GreaterEqual,
            Self::LessEqual => Self::Greater,
        }
    }
}

/// A comparison: sets the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// How the flags are read.
    pub(super) cc: Cc,
    /// `test a, b`, which ands, in place of `cmp a, b`.
    pub(super) and: bool,
    pub(super) width: Width,
    /// A register or memory of the frame. If `b` is a slot, a register.
    pub(super) a: Src,
    pub(super) b: Src,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callee {
    /// A function of the runtime, by the offset of its address in the table of imports. The first argument, the context, is not among
    /// the arguments.
    Import(i32),
    /// A subprogram, by its index. The first argument is not among the arguments, either.
    Subprogram(usize),
}

/// One instruction, or a few that belong together. Results of 32 bits are zero-extended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Insn {
    /// `dst = src`.
    Mov { width: Width, dst: Reg, src: Src },
    /// Memory of the frame = `src`, a register or a number of 32 bits that is sign-extended.
    ToSlot { slot: Slot, src: Src },
    /// `dst = a op b`.
    Alu { op: Alu, width: Width, dst: Reg, a: Reg, b: Src },
    /// `slot = slot op b`, which is a register or a number of 32 bits; no product.
    SlotAlu { op: Alu, slot: Slot, b: Src },
    /// `dst = a shifted by by`, a register or a number.
    Shift { op: Shift, width: Width, dst: Reg, a: Reg, by: Src },
    /// `dst = !a & b`.
    AndNot { width: Width, dst: Reg, a: Reg, b: Reg },
    /// `dst =` the address; of 32 bits, its low half.
    Lea { width: Width, dst: Reg, address: Address },
    /// `dst = -src`.
    Neg { width: Width, dst: Reg, src: Reg },
    /// `dst =` the low bytes of `src` (a register or slot), extended to 64 bits, or to 32 and then with zeros.
    Extend { from: Size, signed: bool, width: Width, dst: Reg, src: Src },
    /// `dst =` the low bytes of `src`, as many as `size` says (2, 4, 8), in the other order.
    SwapBytes { size: Size, dst: Reg, src: Reg },
    /// `dst =` the number of zeros below the lowest bit of `src` that is set, of 64 bits.
    TrailingZeros { dst: Reg, src: Reg },
    /// `dst =` the upper half of the product of 64 bits and 64 bits without sign.
    MulHigh { dst: Reg, a: Reg, b: Reg },
    /// `dst = a / b` or `a % b` by BPF's rules for 0 and -1. `b` is a register.
    Div { width: Width, signed: bool, remainder: bool, dst: Reg, a: Reg, b: Reg },
    /// `dst = *(size *)address`.
    Load { size: Size, signed: bool, dst: Reg, address: Address, access: Access },
    /// `*(size *)address = src`, a register or a number.
    Store { size: Size, address: Address, src: Src, access: Access },
    /// `dst = test ? yes : no`, of 64 bits.
    Select { dst: Reg, test: Test, yes: Src, no: Src },
    /// `dst = test ? 1 : 0`.
    Set { dst: Reg, test: Test },
    /// Read-modify-write by `add`, `or`, `and`, `xor`, without a result; or by `add` or `xchg` with one.
    Atomic { size: Size, op: AtomicOp, dst: Option<Reg>, address: Address, src: Reg, access: Access },
    /// Compare and exchange.
    CompareExchange {
        size: Size,
        dst: Option<Reg>,
        address: Address,
        expected: Reg,
        src: Reg,
        access: Access,
    },
    /// Read-modify-write by `or`, `and`, `xor` with a result, of memory that is there.
    AtomicLoop { size: Size, op: AtomicOp, dst: Reg, address: Address, src: Reg },
    /// `dst = callee(context, args)`. Arguments are registers, slots, or numbers; there are at most 6.
    Call { callee: Callee, args: Vec<Src>, dst: Option<Reg> },
    /// `dst =` the address of a subprogram.
    Subprogram { dst: Reg, index: usize },
    /// `dst =` 16 bytes.
    WideLoad { dst: Reg, address: Address, access: Access },
    /// 16 bytes `= src`.
    WideStore { address: Address, src: Reg, access: Access },
    /// `dst = a op b`, which the machine has for lanes.
    WideAlu { op: WideOp, dst: Reg, a: Reg, b: Reg },
    /// `dst = src`, of 16 bytes.
    WideMov { dst: Reg, src: Reg },
    /// `dst =` zeros.
    WideZero { dst: Reg },
    /// `dst` (wide) `=` the 64 bits of `src`, and zeros above.
    ToWide { dst: Reg, src: Reg },
    /// `dst =` the low 64 bits of `src` (wide).
    FromWide { dst: Reg, src: Reg },
    /// `dst = src` with its parts in another order: `pshufd`, `pshuflw` by the number.
    Shuffle { low_words: bool, dst: Reg, src: Reg, order: u8 },
    /// `dst =` the uppermost bit of each byte of `src` (wide).
    SignBits { dst: Reg, src: Reg },
}

/// Operations on 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WideOp {
    /// Lane by lane.
    Add(Size),
    Sub(Size),
    Equal(Size),
    And,
    Or,
    Xor,
    /// Lanes of the lower halves of `a` and `b` in turn.
    InterleaveLow(Size),
    /// Lanes of the upper halves.
    InterleaveHigh(Size),
}

/// Index of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlockId(pub(super) u32);

impl BlockId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How control leaves a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// To another block.
    Jump(BlockId),
    /// To `yes` if the test holds, else to `no`.
    Branch { test: Test, yes: BlockId, no: BlockId },
    /// Takes iterations from a budget and goes to `enough`; with too few left, asks for more for the instruction that `asks`; if there are
    /// still too few takes none and goes to `short`. `left` is a register or a slot; `state` is what the runtime answered last.
    Afford { left: Src, state: Slot, iterations: u32, asks: bool, enough: BlockId, short: BlockId },
    /// To `next`, unless `word` in memory is not 0 and the runtime, which is asked then, says that the run is to end: then to `taken`.
    Look { word: Address, taken: BlockId, next: BlockId },
    /// Return of a value: a register, slot or number.
    Exit(Src),
    /// Where execution never comes.
    Trap,
}

impl End {
    /// The blocks that may come next.
    pub(super) fn successors(&self) -> impl Iterator<Item = BlockId> + use<> {
        let (first, second) = match *self {
            Self::Jump(to) => (Some(to), None),
            Self::Branch { yes, no, .. } => (Some(yes), Some(no)),
            Self::Afford { enough, short, .. } => (Some(enough), Some(short)),
            Self::Look { taken, next, .. } => (Some(taken), Some(next)),
            Self::Exit(_) | Self::Trap => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// Calls `each` with every block that may come next, to lead elsewhere.
    pub(super) fn each_successor_mut(&mut self, mut each: impl FnMut(&mut BlockId)) {
        match self {
            Self::Jump(to) => each(to),
            Self::Branch { yes: a, no: b, .. }
            | Self::Afford { enough: a, short: b, .. }
            | Self::Look { taken: a, next: b, .. } => {
                each(a);
                each(b);
            }
            Self::Exit(_) | Self::Trap => {}
        }
    }
}

/// Instructions that are executed one after the other.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) insns: Vec<(Insn, At)>,
    pub(super) end: End,
    pub(super) at: At,
    /// Whether it is rarely executed.
    pub(super) cold: bool,
}

/// A function.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// Its blocks; execution begins at the first.
    pub(super) blocks: Vec<Block>,
    /// The blocks in the order in which they are written, those that are reached.
    pub(super) order: Vec<BlockId>,
    /// Of each register.
    pub(super) classes: Vec<Class>,
    /// Slots of the frame.
    pub(super) slots: u32,
    /// Where the context is kept, the function's first argument.
    pub(super) context: Slot,
    /// Where the arguments behind the context go, in order; what is not needed goes nowhere.
    pub(super) params: Vec<Option<Src>>,
}

/// How an instruction uses a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Its value is read before any result is written.
    Read,
    /// Its value is read, perhaps after a result was written.
    ReadLate,
    /// It gets a value.
    Write,
}

/// Machine registers, as bits of a mask: `rax`, `rcx`, `rdx`, `rbx`, `rsp`, `rbp`, `rsi`, `rdi`, `r8` to `r15` are 0 to 15, as
/// the machine numbers them.
pub(super) type Machine = u32;

/// What a function that is called may overwrite: `rax`, `rcx`, `rdx`, `rsi`, `rdi`, `r8` to `r11`.
pub(super) const CALLER_SAVED: Machine = 0b0000_1111_1100_0111;
const RAX: Machine = 1 << 0;
const RDX: Machine = 1 << 2;

impl Insn {
    /// Calls `each` with every register of the instruction, what is read before what is written.
    pub(super) fn each_reg_mut(&mut self, mut each: impl FnMut(&mut Reg, Use)) {
        use Use::{Read, ReadLate, Write};
        match self {
            Self::Mov { dst, src, .. } | Self::Extend { dst, src, .. } => {
                src.each_reg_mut(|reg| each(reg, Read));
                each(dst, Write);
            }
            Self::ToSlot { src, .. } | Self::SlotAlu { b: src, .. } => {
                src.each_reg_mut(|reg| each(reg, Read))
            }
            Self::Alu { dst, a, b, .. } | Self::Shift { dst, a, by: b, .. } => {
                each(a, Read);
                b.each_reg_mut(|reg| each(reg, Read));
                each(dst, Write);
            }
            Self::AndNot { dst, a, b, .. } => {
                each(a, Read);
                each(b, Read);
                each(dst, Write);
            }
            Self::Lea { dst, address, .. } => {
                address.each_reg_mut(|reg| each(reg, Read));
                each(dst, Write);
            }
            Self::Neg { dst, src, .. }
            | Self::SwapBytes { dst, src, .. }
            | Self::TrailingZeros { dst, src }
            | Self::WideMov { dst, src }
            | Self::ToWide { dst, src }
            | Self::FromWide { dst, src }
            | Self::Shuffle { dst, src, .. }
            | Self::SignBits { dst, src } => {
                each(src, Read);
                each(dst, Write);
            }
            Self::MulHigh { dst, a, b } | Self::Div { dst, a, b, .. } | Self::WideAlu { dst, a, b, .. } => {
                each(a, Read);
                each(b, ReadLate);
                each(dst, Write);
            }
            Self::Load { dst, address, .. } | Self::WideLoad { dst, address, .. } => {
                address.each_reg_mut(|reg| each(reg, Read));
                each(dst, Write);
            }
            Self::Store { address, src, .. } => {
                address.each_reg_mut(|reg| each(reg, Read));
                src.each_reg_mut(|reg| each(reg, Read));
            }
            Self::WideStore { address, src, .. } => {
                address.each_reg_mut(|reg| each(reg, Read));
                each(src, Read);
            }
            Self::Select { dst, test, yes, no } => {
                test.each_reg_mut(|reg| each(reg, Read));
                yes.each_reg_mut(|reg| each(reg, Read));
                no.each_reg_mut(|reg| each(reg, Read));
                each(dst, Write);
            }
            Self::Set { dst, test } => {
                test.each_reg_mut(|reg| each(reg, Read));
                each(dst, Write);
            }
            Self::Atomic { dst, address, src, .. } => {
                each(src, Read);
                address.each_reg_mut(|reg| each(reg, ReadLate));
                dst.iter_mut().for_each(|reg| each(reg, Write));
            }
            Self::CompareExchange { dst, address, expected, src, .. } => {
                each(expected, Read);
                each(src, ReadLate);
                address.each_reg_mut(|reg| each(reg, ReadLate));
                dst.iter_mut().for_each(|reg| each(reg, Write));
            }
            Self::AtomicLoop { dst, address, src, .. } => {
                each(src, ReadLate);
                address.each_reg_mut(|reg| each(reg, ReadLate));
                each(dst, Write);
            }
            Self::Call { args, dst, .. } => {
                args.iter_mut().for_each(|arg| arg.each_reg_mut(|reg| each(reg, Read)));
                dst.iter_mut().for_each(|reg| each(reg, Write));
            }
            Self::Subprogram { dst, .. } | Self::WideZero { dst } => each(dst, Write),
        }
    }

    /// Calls `each` with every register of the instruction, what is read before what is written.
    pub(super) fn each_reg(&self, mut each: impl FnMut(Reg, Use)) {
        // A copy of its arguments would be costly.
        if let Self::Call { args, dst, .. } = self {
            for arg in args {
                if let Src::Reg(reg) = arg {
                    each(*reg, Use::Read);
                }
            }
            dst.iter().for_each(|reg| each(*reg, Use::Write));
            return;
        }
        self.clone().each_reg_mut(|reg, how| each(*reg, how));
    }

    /// The machine registers that the instruction overwrites besides its result. What lives on behind it, and what is
    /// [read late](Use::ReadLate), is in none of them.
    pub(super) fn taken(&self) -> Machine {
        match self {
            Self::Div { .. } => RAX | RDX,
            Self::MulHigh { .. } => RDX,
            Self::CompareExchange { .. } | Self::AtomicLoop { .. } => RAX,
            Self::Call { .. } => CALLER_SAVED,
            _ => 0,
        }
    }

    /// Whether the instruction overwrites every wide register.
    pub(super) fn takes_wide(&self) -> bool {
        matches!(self, Self::Call { .. })
    }
}

impl Src {
    pub(super) fn each_reg_mut(&mut self, mut each: impl FnMut(&mut Reg)) {
        if let Self::Reg(reg) = self {
            each(reg);
        }
    }
}

impl Address {
    pub(super) fn each_reg_mut(&mut self, mut each: impl FnMut(&mut Reg)) {
        each(&mut self.base);
        if let Some((index, _)) = &mut self.index {
            each(index);
        }
    }
}

impl Test {
    pub(super) fn each_reg_mut(&mut self, mut each: impl FnMut(&mut Reg)) {
        self.a.each_reg_mut(&mut each);
        self.b.each_reg_mut(each);
    }
}

impl End {
    /// Calls `each` with every register that is read; that of a budget is written, too.
    pub(super) fn each_reg_mut(&mut self, each: impl FnMut(&mut Reg)) {
        match self {
            Self::Branch { test, .. } => test.each_reg_mut(each),
            Self::Afford { left: src, .. } | Self::Exit(src) => src.each_reg_mut(each),
            Self::Look { word, .. } => word.each_reg_mut(each),
            Self::Jump(_) | Self::Trap => {}
        }
    }

    /// Calls `each` with every register that is read.
    pub(super) fn each_reg(&self, mut each: impl FnMut(Reg)) {
        let mut copy = *self;
        copy.each_reg_mut(|reg| each(*reg));
    }
}

impl Insn {
    /// `dst = a op b`, of 64 bits.
    pub(super) fn alu(op: Alu, dst: Reg, a: Reg, b: Src) -> Self {
        Self::Alu { op, width: Width::W64, dst, a, b }
    }

    /// `dst = a + b`, of 64 bits.
    pub(super) fn add(dst: Reg, a: Reg, b: Src) -> Self {
        Self::alu(Alu::Add, dst, a, b)
    }

    /// Eight bytes of memory that is there.
    pub(super) fn load(dst: Reg, address: Address) -> Self {
        Self::Load { size: Size::DW, signed: false, dst, address, access: Access::Safe }
    }

    /// Sets eight bytes of memory that is there.
    pub(super) fn store(address: Address, src: Src) -> Self {
        Self::Store { size: Size::DW, address, src, access: Access::Safe }
    }

    /// Whether a register is not 0.
    pub(super) fn is_not_zero(reg: Reg) -> Test {
        Test { cc: Cc::NotEqual, and: false, width: Width::W64, a: Src::Reg(reg), b: Src::Imm(0) }
    }
}

impl End {
    /// Has what led to `from` lead to `to`.
    pub(super) fn redirect(&mut self, from: BlockId, to: BlockId) {
        self.each_successor_mut(|successor| {
            if *successor == from {
                *successor = to;
            }
        });
    }
}

impl Insn {
    /// The register that gets a value, of an instruction that does nothing else.
    pub(super) fn result_only(&self) -> Option<Reg> {
        match *self {
            Self::Mov { dst, .. }
            | Self::Alu { dst, .. }
            | Self::Shift { dst, .. }
            | Self::AndNot { dst, .. }
            | Self::Lea { dst, .. }
            | Self::Neg { dst, .. }
            | Self::Extend { dst, .. }
            | Self::SwapBytes { dst, .. }
            | Self::TrailingZeros { dst, .. }
            | Self::MulHigh { dst, .. }
            | Self::Div { dst, .. }
            | Self::Select { dst, .. }
            | Self::Set { dst, .. }
            | Self::Subprogram { dst, .. }
            | Self::WideAlu { dst, .. }
            | Self::WideMov { dst, .. }
            | Self::WideZero { dst }
            | Self::ToWide { dst, .. }
            | Self::FromWide { dst, .. }
            | Self::Shuffle { dst, .. }
            | Self::SignBits { dst, .. } => Some(dst),
            _ => None,
        }
    }
}

/// The low half of a number, sign-extended: how the machine writes a number of 32 bits.
pub(super) fn low_half(number: i64) -> i64 {
    (number << 32) >> 32
}
