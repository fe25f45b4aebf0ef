//! Operations: what one BPF instruction becomes, and what passes make of several.

use isa::{AluOp, AtomicOp, CallTarget, Cond, Imm64, PacketBase, Reg, Size, SwapBits, Width};
use verifier::Memory;

/// A variable of 64 bits. The first ten are `r0` to `r9`, then comes `r10`, which nothing writes; passes make more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Var(pub(crate) u16);

impl Var {
    /// `r0`.
    pub(crate) const RESULT: Self = Self(0);
    /// `r10`: the end of the function's stack.
    pub(crate) const FRAME: Self = Self(10);
    /// Number of variables that are registers.
    pub(crate) const REGISTERS: u16 = 11;

    /// The index as a `usize`.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl From<Reg> for Var {
    fn from(reg: Reg) -> Self {
        Self(u16::from(reg.number()))
    }
}

/// An operand that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Src {
    /// A variable.
    Var(Var),
    /// A number; of operations of 32 bits the low half.
    Imm(i64),
}

impl From<isa::Operand> for Src {
    fn from(operand: isa::Operand) -> Self {
        match operand {
            isa::Operand::Reg(reg) => Self::Var(reg.into()),
            isa::Operand::Imm(imm) => Self::Imm(imm.into()),
        }
    }
}

/// Where memory is accessed: `base + (index << shift) + offset`.
///
/// In an arena the sum of base and index is of 32 bits, and the offset is added to the address in the window: that is how
/// the kernel accesses what pointer arithmetic and an instruction's offset make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// Pointer.
    pub(crate) base: Var,
    /// What is added to it, and by how many bits it is shifted before.
    pub(crate) index: Option<(Var, u8)>,
    /// Bytes.
    pub(crate) offset: i32,
    /// Whose memory it is.
    pub(crate) memory: Memory,
    /// Whether the upper half of `base` is known to be 0.
    pub(crate) clear: bool,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Test {
    /// Width of the operands.
    pub(crate) width: Width,
    /// The comparison.
    pub(crate) cond: Cond,
    /// Left operand.
    pub(crate) a: Var,
    /// Right operand.
    pub(crate) b: Src,
}

/// Which earlier and later accesses an access must stay behind or in front of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// None, but that it happens.
    Plain,
    /// `load_acquire` and `store_release`.
    Synchronizing,
}

/// A group of `may_goto`s that have their iterations together: those of one entry of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Budget(pub(crate) u16);

impl Budget {
    /// Of the function itself.
    pub(crate) const OWN: Self = Self(0);

    /// The index as a `usize`.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What is done between the beginning and the end of a block. Results of 32 bits are zero-extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// `dst = a op b`.
    Alu { width: Width, op: AluOp, dst: Var, a: Var, b: Src },
    /// `dst = -src`.
    Neg { width: Width, dst: Var, src: Var },
    /// `dst = src`.
    Mov { width: Width, dst: Var, src: Src },
    /// `dst = (s8|s16|s32)src`.
    SignExtend { width: Width, from: Size, dst: Var, src: Var },
    /// `dst = (u8|u16|u32)src`.
    ZeroExtend { from: Size, dst: Var, src: Var },
    /// `dst =` the low `bits` of `src`, the bytes in the other order.
    SwapBytes { bits: SwapBits, dst: Var, src: Var },
    /// `dst = test ? yes : no`, of 64 bits.
    Select { dst: Var, test: Test, yes: Src, no: Src },
    /// `dst = test ? 1 : 0`.
    Compare { dst: Var, test: Test },
    /// `dst =` the user's address of an arena pointer.
    ToUser { dst: Var, src: Var },
    /// `dst =` an address that is known when the program is loaded (never [`Imm64::Const`]).
    Address { dst: Var, of: Imm64 },
    /// `dst =` the address of the value with the number `key` in an array, of this CPU if it has one for each. `key` has nothing in
    /// its upper half; past the end the address is none to use.
    Element { dst: Var, map: u32, key: Var },
    /// `dst = *(size *)place`.
    Load { size: Size, sign_extend: bool, dst: Var, place: Place, order: Order },
    /// `*(size *)place = src`.
    Store { size: Size, place: Place, src: Src, order: Order },
    /// Read-modify-write. `old` receives what was there; where the page is missing, the operand (the expected value of a
    /// comparison).
    Atomic { size: Size, op: AtomicOp, place: Place, src: Var, expected: Option<Var>, old: Option<Var> },
    /// `dst =` bytes of a packet; the function returns 0 where there are none. `clobbers` as for a call.
    LoadPacket { size: Size, from: PacketIndex, imm: i32, dst: Var, clobbers: [Var; 5] },
    /// `dst = target(args)`. Afterwards the variables that a call clobbers have no particular value. What is called finds its own
    /// stack `stack` bytes below `r10`.
    Call { target: CallTarget, map: Option<u32>, stack: u32, args: [Var; 5], dst: Var, clobbers: [Var; 5] },
    /// `dst =` something that is not 0 if the run is to end.
    Stopped { dst: Var },
    /// The variables have no particular value from here on.
    Forget { vars: [Var; 5] },
    /// Gives `may_goto` a whole budget, as each entry of a function does.
    BeginBudget { budget: Budget },
    /// Gives back iterations that were taken and not used.
    Credit { budget: Budget, iterations: Src },
    /// `dst =` the 16 bytes at `place`. Where a page of an arena is missing, `dst` has no particular value, the program is told nothing,
    /// and the word that [`Op::Missed`] reads is not 0 from then on.
    WideLoad { dst: Var, place: Place },
    /// The 16 bytes at `place` = `src`; dropped where a page is missing, as a store is.
    WideStore { place: Place, src: Var },
    /// `dst =` lanes that are all the low part of `src`.
    Spread { lanes: Size, dst: Var, src: Src },
    /// `dst = a op b`, lane by lane: a sum, difference, or logical operation.
    WideAlu { lanes: Size, op: AluOp, dst: Var, a: Var, b: Var },
    /// `dst =` ones in the lanes in which `a` and `b` are equal, zeros in the others.
    WideEqual { lanes: Size, dst: Var, a: Var, b: Var },
    /// `dst =` the uppermost bit of each of the 16 bytes of `src`, that of the first one lowest.
    Bits { dst: Var, src: Var },
    /// `dst =` all lanes of `src` and 0 combined by a sum or logical operation, as numbers of 64 bits.
    Fold { lanes: Size, op: AluOp, dst: Var, src: Var },
    /// `dst =` the number of zeros below the lowest bit of `src` that is set. One is.
    TrailingZeros { dst: Var, src: Var },
    /// `dst =` the address of the word that says that wide loads missed a page.
    MissedWord { dst: Var },
    /// `dst =` that word.
    Missed { dst: Var, word: Var },
    /// Sets that word to 0.
    ForgetMissed { word: Var },
}

/// What is added to the offset of a packet load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PacketIndex {
    /// Nothing.
    None,
    /// The low half of a variable.
    Var(Var),
}

impl PacketIndex {
    pub(crate) fn new(from: PacketBase) -> Self {
        match from {
            PacketBase::Abs => Self::None,
            PacketBase::Ind(reg) => Self::Var(reg.into()),
        }
    }
}

/// How an operation uses a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Its value is read.
    Read,
    /// It gets a value.
    Write,
    /// It has no particular value afterwards.
    Clobber,
}

impl Op {
    /// Calls `each` with every variable of the operation, what is read before what is written.
    pub(crate) fn each_var(&self, mut each: impl FnMut(Var, Use)) {
        let mut copy = *self;
        copy.each_var_mut(|var, how| each(*var, how));
    }

    /// The variables that are read.
    pub(crate) fn reads(&self, mut each: impl FnMut(Var)) {
        self.each_var(|var, how| {
            if how == Use::Read {
                each(var);
            }
        });
    }

    /// The variables that get a value, or lose the one they have.
    pub(crate) fn writes(&self, mut each: impl FnMut(Var)) {
        self.each_var(|var, how| {
            if how != Use::Read {
                each(var);
            }
        });
    }

    /// The variable that gets the result.
    pub(crate) fn result(&self) -> Option<Var> {
        let mut result = None;
        self.each_var(|var, how| {
            if how == Use::Write {
                result = Some(var);
            }
        });
        result
    }

    /// Whether the operation does nothing but give its result a value, which depends on nothing but what it reads: it may be
    /// done once more, earlier, or not at all.
    pub(crate) fn is_pure(&self) -> bool {
        match self {
            Self::Alu { .. }
            | Self::Neg { .. }
            | Self::Mov { .. }
            | Self::SignExtend { .. }
            | Self::ZeroExtend { .. }
            | Self::SwapBytes { .. }
            | Self::Select { .. }
            | Self::Compare { .. }
            | Self::ToUser { .. }
            | Self::Address { .. }
            | Self::Element { .. }
            | Self::Spread { .. }
            | Self::WideAlu { .. }
            | Self::WideEqual { .. }
            | Self::Bits { .. }
            | Self::Fold { .. }
            | Self::TrailingZeros { .. }
            | Self::MissedWord { .. } => true,
            Self::Load { .. }
            | Self::Store { .. }
            | Self::Atomic { .. }
            | Self::LoadPacket { .. }
            | Self::Call { .. }
            | Self::Stopped { .. }
            | Self::Forget { .. }
            | Self::BeginBudget { .. }
            | Self::Credit { .. }
            | Self::WideLoad { .. }
            | Self::WideStore { .. }
            | Self::Missed { .. }
            | Self::ForgetMissed { .. } => false,
        }
    }

    /// The memory that is accessed, but for a packet's.
    pub(crate) fn place(&self) -> Option<&Place> {
        match self {
            Self::Load { place, .. }
            | Self::Store { place, .. }
            | Self::Atomic { place, .. }
            | Self::WideLoad { place, .. }
            | Self::WideStore { place, .. } => Some(place),
            _ => None,
        }
    }

    /// Whether the result is of 128 bits.
    pub(crate) fn is_wide(&self) -> bool {
        matches!(
            self,
            Self::WideLoad { .. } | Self::Spread { .. } | Self::WideAlu { .. } | Self::WideEqual { .. }
        )
    }

    /// Whether it is one of those that a wide loop is made of, but for its counting.
    pub(crate) fn is_of_wide_loop(&self) -> bool {
        self.is_wide()
            || matches!(
                self,
                Self::WideStore { .. } | Self::Missed { .. } | Self::Bits { .. } | Self::Fold { .. }
            )
    }

    /// Whether it accesses an arena.
    pub(crate) fn accesses_arena(&self) -> bool {
        self.place().is_some_and(Place::is_in_arena)
    }

    /// The memory that is accessed, to change it.
    pub(crate) fn place_mut(&mut self) -> Option<&mut Place> {
        match self {
            Self::Load { place, .. }
            | Self::Store { place, .. }
            | Self::Atomic { place, .. }
            | Self::WideLoad { place, .. }
            | Self::WideStore { place, .. } => Some(place),
            _ => None,
        }
    }

    /// Calls `each` with every variable of the operation, to rename it; what is read comes before what is written.
    pub(crate) fn each_var_mut(&mut self, mut each: impl FnMut(&mut Var, Use)) {
        use Use::{Clobber, Read, Write};
        match self {
            Self::Alu { dst, a, b, .. } => {
                each(a, Read);
                read(b, &mut each);
                each(dst, Write);
            }
            Self::Neg { dst, src, .. }
            | Self::SignExtend { dst, src, .. }
            | Self::ZeroExtend { dst, src, .. }
            | Self::SwapBytes { dst, src, .. }
            | Self::ToUser { dst, src }
            | Self::Element { dst, key: src, .. } => {
                each(src, Read);
                each(dst, Write);
            }
            Self::Mov { dst, src, .. } => {
                read(src, &mut each);
                each(dst, Write);
            }
            Self::Select { dst, test, yes, no } => {
                test.each_var_mut(|var| each(var, Read));
                read(yes, &mut each);
                read(no, &mut each);
                each(dst, Write);
            }
            Self::Compare { dst, test } => {
                test.each_var_mut(|var| each(var, Read));
                each(dst, Write);
            }
            Self::Address { dst, .. } | Self::MissedWord { dst } => each(dst, Write),
            Self::Spread { dst, src, .. } => {
                read(src, &mut each);
                each(dst, Write);
            }
            Self::WideAlu { dst, a, b, .. } | Self::WideEqual { dst, a, b, .. } => {
                each(a, Read);
                each(b, Read);
                each(dst, Write);
            }
            Self::Bits { dst, src }
            | Self::Fold { dst, src, .. }
            | Self::TrailingZeros { dst, src }
            | Self::Missed { dst, word: src } => {
                each(src, Read);
                each(dst, Write);
            }
            Self::ForgetMissed { word } => each(word, Read),
            Self::WideStore { place, src } => {
                place.each_var_mut(|var| each(var, Read));
                each(src, Read);
            }
            Self::Load { dst, place, .. } | Self::WideLoad { dst, place } => {
                place.each_var_mut(|var| each(var, Read));
                each(dst, Write);
            }
            Self::Store { place, src, .. } => {
                place.each_var_mut(|var| each(var, Read));
                read(src, &mut each);
            }
            Self::Atomic { place, src, expected, old, .. } => {
                place.each_var_mut(|var| each(var, Read));
                each(src, Read);
                expected.iter_mut().for_each(|var| each(var, Read));
                old.iter_mut().for_each(|var| each(var, Write));
            }
            Self::LoadPacket { from, dst, clobbers, .. } => {
                if let PacketIndex::Var(var) = from {
                    each(var, Read);
                }
                clobbers.iter_mut().for_each(|var| each(var, Clobber));
                each(dst, Write);
            }
            Self::Call { args, dst, clobbers, .. } => {
                args.iter_mut().for_each(|var| each(var, Read));
                clobbers.iter_mut().for_each(|var| each(var, Clobber));
                each(dst, Write);
            }
            Self::Stopped { dst } => each(dst, Write),
            Self::Forget { vars } => vars.iter_mut().for_each(|var| each(var, Clobber)),
            Self::Credit { iterations, .. } => read(iterations, &mut each),
            Self::BeginBudget { .. } => {}
        }
    }
}

fn read(src: &mut Src, each: &mut impl FnMut(&mut Var, Use)) {
    if let Src::Var(var) = src {
        each(var, Use::Read);
    }
}

impl Test {
    /// Calls `each` with the variables that are compared.
    pub(crate) fn each_var_mut(&mut self, mut each: impl FnMut(&mut Var)) {
        each(&mut self.a);
        if let Src::Var(b) = &mut self.b {
            each(b);
        }
    }

    /// The test that holds where this one does not; `a & b == 0` is none.
    pub(crate) fn negated(self) -> Option<Self> {
        let cond = match self.cond {
            Cond::Eq => Cond::Ne,
            Cond::Ne => Cond::Eq,
            Cond::Gt => Cond::Le,
            Cond::Le => Cond::Gt,
            Cond::Ge => Cond::Lt,
            Cond::Lt => Cond::Ge,
            Cond::SGt => Cond::SLe,
            Cond::SLe => Cond::SGt,
            Cond::SGe => Cond::SLt,
            Cond::SLt => Cond::SGe,
            Cond::Set => return None,
        };
        Some(Self { cond, ..self })
    }
}

impl Place {
    /// Calls `each` with the variables the address is made of.
    pub(crate) fn each_var_mut(&mut self, mut each: impl FnMut(&mut Var)) {
        each(&mut self.base);
        if let Some((index, _)) = &mut self.index {
            each(index);
        }
    }

    /// Whether it is in an arena.
    pub(crate) fn is_in_arena(&self) -> bool {
        self.memory == Memory::Arena
    }

    /// Whether it is stack that is addressed by `r10` itself.
    pub(crate) fn is_own_stack(&self) -> bool {
        self.base == Var::FRAME && self.index.is_none() && self.memory == Memory::Proven
    }
}
