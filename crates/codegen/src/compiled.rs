//! What compilation gives: position-independent machine code and the tables that describe it.

use isa::{InsnIdx, Size};

use crate::machine::Machine;
use crate::passes::Changes;
use crate::unwind::FrameStep;

/// Machine code of one program. Plain data; the runtime puts it into executable memory.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The machine it is for.
    pub(crate) machine: Machine,
    /// Machine code. Position-independent, no relocations left; it must begin at a multiple of 4096.
    pub text: Vec<u8>,
    /// Offset in `text` of the [`EntryFn`](crate::abi::EntryFn).
    pub entry: u32,
    /// One per reached subprogram.
    pub functions: Vec<Function>,
    /// The functions behind them, which belong to no BPF instruction.
    pub stubs: Vec<Stub>,
    /// Every instruction that may fault on an arena access, by ascending offset.
    pub faults: Vec<FaultSite>,
    /// Where the code of each BPF instruction begins, by ascending offset.
    pub lines: Vec<Line>,
    /// The calls that were replaced by their callees, for lines and faults to refer to.
    pub inlined: Vec<InlinedCall>,
    /// Whether the code reads [`VmContext::cpu`](crate::abi::VmContext::cpu).
    pub uses_cpu: bool,
    /// How often each pass found something to do.
    pub changes: Changes,
    /// Runtime functions the code calls, in the order of [`VmContext::imports`](crate::abi::VmContext::imports).
    pub imports: Vec<Import>,
}

impl Compiled {
    /// The calls that led to inlined code, the innermost first.
    pub fn inlined_calls(&self, inlined: Option<u32>) -> impl Iterator<Item = InsnIdx> + '_ {
        let call = |index: u32| Some((index, self.inlined.get(index as usize)?));
        // Each refers to a smaller one, so it ends.
        let outer = move |&(index, inner): &(u32, &InlinedCall)| call(inner.inlined.filter(|i| *i < index)?);
        core::iter::successors(inlined.and_then(call), outer).map(|(_, call)| call.insn)
    }
}

/// Code of one subprogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Index into [`Program::subprograms`](bpf_object::Program::subprograms).
    pub subprogram: usize,
    /// First byte in the text.
    pub start: u32,
    /// Byte after the last instruction. Constants that the code reads may follow.
    pub end: u32,
    /// Offset of its [`CallbackFn`](crate::abi::CallbackFn), if it is used as a callback: `lddw Func` loads the
    /// address of this offset.
    pub callback: Option<u32>,
    /// How its first instructions build its frame.
    pub frame: Vec<FrameStep>,
}

/// A function that calls one of the runtime's, keeps every machine register, and puts the result into
/// [`VmContext::answer`](crate::abi::VmContext::answer). Called where that hardly ever happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// What it calls, or may call: two stubs may have the same.
    pub import: Import,
    /// First byte in the text.
    pub start: u32,
    /// Byte after the last instruction.
    pub end: u32,
    /// How its first instructions build its frame.
    pub frame: Vec<FrameStep>,
}

/// The code from `offset` on belongs to `insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Offset in the text.
    pub offset: u32,
    /// BPF instruction.
    pub insn: InsnIdx,
    /// The call in whose place it is executed, as an index into [`Compiled::inlined`].
    pub inlined: Option<u32>,
}

/// A call that has no code: that of its callee was put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InlinedCall {
    /// The call instruction.
    pub insn: InsnIdx,
    /// The call in whose place that is executed in turn, as an index into [`Compiled::inlined`]; a smaller one than its own.
    pub inlined: Option<u32>,
}

/// An instruction that may touch a missing arena page, and how execution goes on when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSite {
    /// Offset of the faulting machine instruction.
    pub offset: u32,
    /// Offset where execution continues.
    pub resume: u32,
    /// What the registers are to hold then.
    pub leaves: Leaves,
    /// BPF instruction.
    pub insn: InsnIdx,
    /// The call in whose place it is executed, as an index into [`Compiled::inlined`].
    pub inlined: Option<u32>,
    /// Load, store or atomic.
    pub access: AccessKind,
    /// Bytes that the BPF instruction accesses. The machine's may access 16 for several iterations of a loop.
    pub size: Size,
    /// Whether the word behind [`VmContext::missed`](crate::abi::VmContext::missed) is set and the fault is not noted: the code does
    /// again what it was about to do.
    pub probe: bool,
}

/// What an access to a missing page leaves in the machine's general-purpose registers (x86-64: numbers 0 to 15, AArch64: 0
/// to 30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// What they hold: a store is dropped, and the result of an atomic operation is in the register of its operand, or of the
    /// value that it expects. (At 32 bits that is the register's low half: the instructions that follow zero-extend it.)
    Registers,
    /// Zero in the register of a load's result.
    Zero(u8),
    /// The operand of an atomic operation, as wide as the access and zero-extended, in the register of its result.
    Operand {
        /// Where the operand is.
        from: u8,
        /// Where the result is expected.
        to: u8,
    },
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    /// Reads.
    Load,
    /// Writes.
    Store,
    /// Reads and writes at once.
    Atomic,
}

/// A runtime function that generated code calls, by the [`RuntimeFn`](crate::abi::RuntimeFn) convention.
///
/// The arena functions take the accessed *window offset* in `r1`: `u32(register) + offset` as a signed 64-bit number.
/// Outside `0..1 << 32` it lies in the guards, where every page is missing. `r3` is the index of the BPF instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Import {
    /// Helper by number.
    Helper(u32),
    /// Kfunc, by index into [`Program::externs`](bpf_object::Program::externs).
    Kfunc(u32),
    /// Called when a function has spent the iterations that it was given, or the run is to end, and `may_goto` asks for one more. `r1`:
    /// what the last answer was, at first [`VmContext::loop_state`](crate::abi::VmContext::loop_state), less the iterations
    /// taken of it; `r2`: the index of the instruction. The result is 0 to leave the loop; otherwise its low bits
    /// ([`LOOPS_MASK`](crate::abi::LOOPS_MASK), never 0) are how many iterations the function is given, this one among them.
    LoopBudget,
    /// Called where the stop word is [`STOP`](crate::abi::STOP) in code that stands for a function of the runtime which looks whether
    /// the run is to end: `r1` is the instruction. The result is 0 if it may go on.
    MustEnd,
    /// The helper with this number on a map that the code knows: `r1` is its index in
    /// [`Program::maps`](bpf_object::Program::maps), the other arguments are the helper's. A lookup's map has no maps inside.
    OnMap(u32),
    /// Checked arena load, for arenas without fault support: `r1` window offset, `r3` instruction, `r4` not 0 for
    /// `load_acquire`, result the zero-extended value, 0 if the page is missing.
    ArenaLoad(Size),
    /// Guarded load of a kernel's memory: `r1` address, result the zero-extended value, 0 if nothing is there.
    GuardedLoad(Size),
    /// Guarded store: `r1` address, `r2` value. Dropped if nothing is there.
    GuardedStore(Size),
    /// Load of a packet's bytes (`ld_abs`, `ld_ind`): `r1` offset in the packet as a signed number. The result is the value in
    /// host order, at most 32 bits; with a bit above those set there is no such byte, and the function returns 0.
    PacketLoad(Size),
    /// Checked arena store: `r1` window offset, `r2` value (its low bytes are stored), `r3` instruction, `r4` not 0
    /// for `store_release`.
    ArenaStore(Size),
    /// Arena read-modify-write: `r1` window offset, `r2` operand, `r3` instruction, `r4` expected value (for
    /// compare-exchange), `r5` what to return when the page is missing. The result is the old value, zero-extended.
    /// Used without fault support, and always for what the machine has no single instruction for (fetching or,
    /// and, xor).
    ArenaAtomic(Size, isa::AtomicOp),
}
