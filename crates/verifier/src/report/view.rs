//! Read-only views of the abstract states, for observers.

use bpf_object::Program;
use isa::{InsnIdx, Reg};

use crate::plan::Plan;
use crate::plan::functions::parameters;
use crate::state::reg::{RegState, RegType};
use crate::state::stack::{SLOT, Slot, SlotByte};
use crate::state::{Frame, State};
use crate::walk::origin::{Origin, Origins};

/// What was found out before the walk.
#[derive(Clone, Copy, Debug)]
pub struct PlanView<'a> {
    plan: &'a Plan<'a>,
}

impl<'a> PlanView<'a> {
    pub(crate) fn new(plan: &'a Plan<'a>) -> Self {
        Self { plan }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &'a Program {
        self.plan.program
    }

    /// What the kernel remarks of the entry's parameters where its type is none of a global function; it goes by the
    /// program's type all the same.
    pub(crate) fn entry_remark(&self) -> Option<String> {
        self.plan.program.btf.as_ref()?;
        parameters(self.plan, 0).err().map(|reason| reason.to_string())
    }

    /// Number of the loop the instruction is in, if it is in one: every way around it stays in the loop.
    #[must_use]
    pub fn loop_at(&self, at: InsnIdx) -> Option<u32> {
        self.plan.shape.component(at)
    }

    /// Whether a register may be read from `at` on before it is written.
    #[must_use]
    pub fn is_live(&self, at: InsnIdx, reg: Reg) -> bool {
        self.plan.live.before(at) & 1 << reg.number() != 0
    }
}

/// What was found out about values over the whole walk.
#[derive(Clone, Copy, Debug)]
pub struct ValuesView<'a> {
    origins: &'a Origins,
}

impl<'a> ValuesView<'a> {
    pub(crate) fn new(origins: &'a Origins) -> Self {
        Self { origins }
    }

    /// Whether something depended on the value. If nothing did, a path may have been cut off at a state with another
    /// number in its place: the number is then no bound of what a run sees.
    #[must_use]
    pub fn is_precise(&self, value: ValueId) -> bool {
        self.origins.is_precise(value.0)
    }
}

/// Names a value that the walk made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(Origin);

/// A state that outlives its event. Copies share what they can.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: State,
}

impl Snapshot {
    /// The state.
    #[must_use]
    pub fn view(&self) -> StateView<'_> {
        StateView { state: &self.state }
    }
}

/// The state of the abstract machine at one point of one path.
#[derive(Clone, Copy, Debug)]
pub struct StateView<'a> {
    state: &'a State,
}

impl<'a> StateView<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Self { state }
    }

    /// A copy to keep.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { state: self.state.clone() }
    }

    /// Number of the innermost frame; the entry's is 0.
    #[must_use]
    pub fn depth(&self) -> u8 {
        self.state.depth()
    }

    /// The innermost frame.
    #[must_use]
    pub fn frame(&self) -> Option<FrameView<'a>> {
        self.frame_at(self.depth())
    }

    /// A frame by its number.
    #[must_use]
    pub fn frame_at(&self, number: u8) -> Option<FrameView<'a>> {
        Some(FrameView { number, frame: self.state.frame_at(number)? })
    }

    /// Identities of what must be given back, in the order it was taken.
    pub fn references(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.state.held.all().iter().map(|r| r.id)
    }
}

/// One frame of the call chain.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    number: u8,
    frame: &'a Frame,
}

impl<'a> FrameView<'a> {
    pub(crate) fn new(number: u8, frame: &'a Frame) -> Self {
        Self { number, frame }
    }

    /// Its place in the call chain; the entry's is 0.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The function: index in [`Program::subprograms`](bpf_object::Program::subprograms).
    #[must_use]
    pub fn subprog(&self) -> u32 {
        self.frame.subprog
    }

    /// The call that entered it; 0 for a function verified on its own.
    #[must_use]
    pub fn callsite(&self) -> InsnIdx {
        self.frame.callsite
    }

    /// When it is called back, if the kernel calls it.
    #[must_use]
    pub fn callback(&self) -> Option<CallbackTime> {
        self.frame.callback.map(|how| if how.later { CallbackTime::Later } else { CallbackTime::Now })
    }

    /// A register.
    #[must_use]
    pub fn register(&self, reg: Reg) -> ValueView<'a> {
        ValueView { value: self.frame.reg(reg) }
    }

    /// The slots of eight bytes that were touched, from the frame pointer down, each with the offset of its lowest byte
    /// from the frame pointer.
    pub fn slots(&self) -> impl Iterator<Item = (i32, SlotView<'a>)> + use<'a> {
        let offsets = (1..=64).map(|n| n * -SLOT.cast_signed());
        offsets.zip(self.frame.stack.slots()).map(|(offset, slot)| (offset, SlotView { slot }))
    }
}

/// When a function is called back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackTime {
    /// While the helper runs that was given it.
    Now,
    /// On its own.
    Later,
}

/// Eight bytes of stack.
#[derive(Clone, Copy, Debug)]
pub struct SlotView<'a> {
    slot: &'a Slot,
}

impl<'a> SlotView<'a> {
    /// What its bytes hold, from the lowest address up.
    #[must_use]
    pub fn bytes(&self) -> [SlotByte; SLOT as usize] {
        self.slot.bytes
    }

    /// The register spilled here. It begins at the lowest address and ends with the last [`SlotByte::Spill`].
    #[must_use]
    pub fn spilled(&self) -> Option<ValueView<'a>> {
        (self.slot.spilled_bytes() > 0).then_some(ValueView { value: &self.slot.spill })
    }

    pub(crate) fn slot(&self) -> &'a Slot {
        self.slot
    }
}

/// What kind of value a register or spilled register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueKind {
    /// Nothing was written to it.
    Uninit,
    /// A number.
    Number,
    /// A pointer to the context.
    Context,
    /// A pointer into the stack, relative to the frame pointer of a frame.
    Stack {
        /// Number of the frame.
        frame: u8,
    },
    /// A pointer into the value of a map.
    MapValue {
        /// Index in [`Program::maps`](bpf_object::Program::maps).
        map: u32,
    },
    /// An arena pointer: any number, with the upper half of the window's address or without.
    Arena,
    /// Another pointer.
    Pointer,
}

/// What is known of one value.
#[derive(Clone, Copy, Debug)]
pub struct ValueView<'a> {
    value: &'a RegState,
}

impl<'a> ValueView<'a> {
    /// What kind of value it is.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        match self.value.kind {
            RegType::NotInit => ValueKind::Uninit,
            RegType::Scalar => ValueKind::Number,
            RegType::PtrToCtx => ValueKind::Context,
            RegType::PtrToStack { frame } => ValueKind::Stack { frame },
            RegType::PtrToMapValue { map } => ValueKind::MapValue { map },
            RegType::PtrToArena => ValueKind::Arena,
            _ => ValueKind::Pointer,
        }
    }

    /// Whether the pointer may be NULL instead.
    #[must_use]
    pub fn maybe_null(&self) -> bool {
        self.value.maybe_null()
    }

    /// The constant part of a pointer's offset from the beginning of what it points into; the numbers below are the
    /// variable part.
    #[must_use]
    pub fn offset(&self) -> i64 {
        if self.value.is_scalar() { 0 } else { i64::from(self.value.offset) }
    }

    /// The known bits, and the mask of unknown ones.
    #[must_use]
    pub fn bits(&self) -> (u64, u64) {
        (self.value.scalar.bits.value(), self.value.scalar.bits.mask())
    }

    /// Bounds of the number as unsigned.
    #[must_use]
    pub fn unsigned(&self) -> (u64, u64) {
        (self.value.scalar.wide.umin, self.value.scalar.wide.umax)
    }

    /// Bounds of the number as signed.
    #[must_use]
    pub fn signed(&self) -> (i64, i64) {
        (self.value.scalar.wide.smin, self.value.scalar.wide.smax)
    }

    /// Bounds of the low half as unsigned.
    #[must_use]
    pub fn unsigned32(&self) -> (u32, u32) {
        (self.value.scalar.low.umin, self.value.scalar.low.umax)
    }

    /// Bounds of the low half as signed.
    #[must_use]
    pub fn signed32(&self) -> (i32, i32) {
        (self.value.scalar.low.smin, self.value.scalar.low.smax)
    }

    /// Whether the number, or variable part of the offset, may be `number`.
    #[must_use]
    pub fn admits(&self, number: u64) -> bool {
        let (known, unknown) = self.bits();
        let (low, half) = (crate::domain::scalar::low32(number), number.cast_signed());
        let within = |(min, max): (u64, u64)| min <= number && number <= max;
        let within32 = |(min, max): (u32, u32)| min <= low && low <= max;
        let signed = |(min, max): (i64, i64)| min <= half && half <= max;
        let signed32 = |(min, max): (i32, i32)| min <= low.cast_signed() && low.cast_signed() <= max;
        number & !unknown == known
            && within(self.unsigned())
            && signed(self.signed())
            && within32(self.unsigned32())
            && signed32(self.signed32())
    }

    /// The value's identity, to ask [`ValuesView::is_precise`] at the end.
    #[must_use]
    pub fn id(&self) -> ValueId {
        ValueId(self.value.origin)
    }

    pub(crate) fn state(&self) -> &'a RegState {
        self.value
    }
}
