//! Whether what a run does lies in what the verifier said it may do: while the interpreter runs an accepted program with
//! random inputs, every register and stack slot must be in one of the states the verifier had at that instruction.
//!
//! Where no path was cut off every run follows a path that was walked, and everything in its state counts. Otherwise a run
//! may be on a path that an earlier state covers: numbers that nothing depended on, and registers that nobody reads any
//! more, are then of no account, and of the stack only the slots that the instruction reads.

use std::fmt;

use bpf_arena::{Engine, LoopLimit, Moment, UserEngine};
use bpf_object::Program;
use fastrand::Rng;
use isa::{Imm64, Insn, InsnIdx, Reg};
use verifier::events::{Detail, Event, Observer};
use verifier::view::{Snapshot, ValueKind, ValueView};
use verifier::{Env, SlotByte, Verified};

use crate::generate::{Case, Features};
use crate::program::subprograms;
use crate::verdicts::{generate, link, simple_maps};

/// Most states that are kept of one instruction; where there are more nothing is compared.
const MOST_STATES: usize = 256;
/// Most instructions of a run that are compared.
const MOST_MOMENTS: usize = 600;
/// Runs of each program.
const RUNS: usize = 4;
const CTX_BYTES: usize = 256;

/// How much was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Programs that were accepted and run.
    pub programs: u64,
    /// Instructions of their runs.
    pub moments: u64,
    /// Registers and slots that were compared.
    pub values: u64,
}

impl Checked {
    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.programs += other.programs;
        self.moments += other.moments;
        self.values += other.values;
    }
}

/// A run that did what the verifier excluded.
#[derive(Clone, Debug)]
pub struct Escape {
    /// The program's seed.
    pub seed: u64,
    /// Where.
    pub at: InsnIdx,
    /// What, and for each state at that instruction the first thing that is not in it.
    pub what: String,
    /// The program.
    pub listing: String,
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, instruction {}: {}\n{}", self.seed, self.at, self.what, self.listing)
    }
}

impl std::error::Error for Escape {}

/// Compares runs of programs with their verification.
#[derive(Debug)]
pub struct Checker {
    engine: UserEngine,
    maps: bpf_arena::MapSet,
}

impl Checker {
    /// With maps of its own.
    ///
    /// # Errors
    /// They cannot be created.
    pub fn new() -> Result<Self, bpf_arena::LoadError> {
        let engine = Engine::user().interpreter();
        let engine = engine.loop_limit(LoopLimit::Iterations(100)).instruction_limit(1 << 14);
        let maps = engine.maps(&generate(0))?;
        Ok(Self { engine, maps })
    }

    /// The program of this seed; nothing is compared if it is refused.
    ///
    /// # Errors
    /// A run leaves what the verifier knows.
    pub fn check(&self, seed: u64) -> Result<Checked, Box<Escape>> {
        let program = program(seed);
        let mut collector = Collector::new(program.code.len());
        let Ok(verified) = verifier::verify_with(&program, &Env::default(), &mut collector) else {
            return Ok(Checked::default());
        };
        let Ok(instance) = self.engine.instantiate(&verified, &self.maps) else {
            return Ok(Checked::default());
        };
        let mut checked = Checked { programs: 1, ..Checked::default() };
        let mut rng = Rng::with_seed(seed);
        for _ in 0..RUNS {
            let mut ctx: Vec<u8> = (0..CTX_BYTES).map(|_| byte(&mut rng)).collect();
            let Ok(moments) = instance.trace(&mut ctx, MOST_MOMENTS) else { continue };
            checked.values += compare(&collector, &verified, &moments).map_err(|(at, what)| {
                Box::new(Escape { seed, at, what, listing: crate::verdicts::listing(&program) })
            })?;
            checked.moments += moments.len() as u64;
        }
        Ok(checked)
    }
}

fn byte(rng: &mut Rng) -> u8 {
    match rng.u8(..4) {
        0 => 0,
        1 => 0xff,
        _ => rng.u8(..),
    }
}

fn program(seed: u64) -> Program {
    if !seed.is_multiple_of(4) {
        return generate(seed);
    }
    let mut program = Program::from_code("case", "syscall", Case::new(seed, Features::default()).code);
    program.maps = simple_maps();
    if let Ok(linked) = link(&program) {
        program.subprograms = subprograms(&linked.slots);
    }
    program
}

/// A state of the verifier.
struct Known {
    state: Snapshot,
    /// Registers of the innermost frame whose number something depended on, and its spilled ones, by slot.
    precise: u16,
    precise_slots: u64,
}

/// Everything the verifier knew.
struct Collector {
    states: Vec<Vec<Known>>,
    /// By instruction: registers that are read later.
    live: Vec<u16>,
    /// Whether a path was cut off.
    cut: bool,
}

impl Collector {
    fn new(slots: usize) -> Self {
        let states = std::iter::repeat_with(Vec::new).take(slots).collect();
        Self { states, live: vec![0; slots], cut: false }
    }
}

impl Observer for Collector {
    fn detail(&self) -> Detail {
        Detail::Steps
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Planned { plan } => {
                for (at, live) in (0_u32..).zip(&mut self.live) {
                    let bit = |reg: &Reg| u16::from(plan.is_live(InsnIdx(at), *reg)) << reg.number();
                    *live = Reg::ALL.iter().map(bit).sum();
                }
            }
            Event::Insn { at, state } => {
                if let Some(known) = self.states.get_mut(at.index()).filter(|s| s.len() <= MOST_STATES) {
                    known.push(Known { state: state.snapshot(), precise: 0, precise_slots: 0 });
                }
            }
            Event::Pruned { .. } => self.cut = true,
            Event::Restart { .. } => self.states.iter_mut().for_each(Vec::clear),
            Event::Walked { values, .. } => {
                for known in self.states.iter_mut().flatten() {
                    let Some(frame) = known.state.view().frame() else { continue };
                    let bit =
                        |reg: &Reg| u16::from(values.is_precise(frame.register(*reg).id())) << reg.number();
                    known.precise = Reg::ALL.iter().map(bit).sum();
                    let spilled = |(offset, slot): (i32, verifier::view::SlotView<'_>)| {
                        let precise = slot.spilled().is_some_and(|value| values.is_precise(value.id()));
                        u64::from(precise) << slot_number(offset)
                    };
                    known.precise_slots = frame.slots().map(spilled).fold(0, |all, bit| all | bit);
                }
            }
            _ => {}
        }
    }
}

/// 0 for the slot right below the frame pointer.
fn slot_number(offset: i32) -> u32 {
    (-offset / 8 - 1).cast_unsigned().min(63)
}

/// Compares the moments of a run with the states; gives the number of values that were compared.
fn compare(collector: &Collector, verified: &Verified, moments: &[Moment]) -> Result<u64, (InsnIdx, String)> {
    let Some(first) = moments.first() else { return Ok(0) };
    let mut run = Run { collector, verified, frames: Vec::new(), values: 0, map_values: Vec::new() };
    for (number, moment) in moments.iter().enumerate() {
        run.enter(moment);
        run.compare(moment, first).map_err(|what| (moment.at, what))?;
        run.learn(moment, moments.get(number + 1));
    }
    Ok(run.values)
}

/// One run beside the states.
struct Run<'a> {
    collector: &'a Collector,
    verified: &'a Verified,
    /// Frame pointers of the functions that were entered, the entry's first.
    frames: Vec<u64>,
    /// Where values of maps are, as the program learned it.
    map_values: Vec<(u32, u64)>,
    values: u64,
}

impl Run<'_> {
    fn enter(&mut self, moment: &Moment) {
        self.frames.truncate(moment.depth);
        self.frames.push(moment.register(Reg::R10));
    }

    /// A reference to a map's value tells where it is.
    fn learn(&mut self, moment: &Moment, next: Option<&Moment>) {
        let insn = self.verified.program().code.get(moment.at);
        if let (Some(Insn::LoadImm64 { dst, value: Imm64::MapIdxValue { map, offset } }), Some(next)) =
            (insn, next)
        {
            let start = next.register(dst).wrapping_sub(offset.into());
            if !self.map_values.iter().any(|(known, _)| *known == map) {
                self.map_values.push((map, start));
            }
        }
    }

    fn compare(&mut self, moment: &Moment, first: &Moment) -> Result<(), String> {
        let Some(states) = self.collector.states.get(moment.at.index()) else { return Ok(()) };
        if states.len() > MOST_STATES {
            return Ok(());
        }
        let context = first.register(Reg::R1);
        let mut misses = Vec::new();
        for known in states {
            match self.in_state(known, moment, context) {
                Ok(values) => {
                    self.values += values;
                    return Ok(());
                }
                Err(miss) => misses.push(miss),
            }
        }
        Err(format!("in none of {} states: {}", states.len(), misses.join("; ")))
    }

    fn in_state(&self, known: &Known, moment: &Moment, context: u64) -> Result<u64, String> {
        let state = known.state.view();
        if usize::from(state.depth()) != moment.depth {
            return Err(format!("at depth {}", state.depth()));
        }
        let Some(frame) = state.frame() else { return Err("without a frame".to_owned()) };
        let live = self.collector.live.get(moment.at.index()).copied().unwrap_or_default();
        let mut values = 0;
        for reg in Reg::ALL {
            let value = frame.register(reg);
            let bit = 1 << reg.number();
            let counts = !self.collector.cut
                || (live & bit != 0 && (value.kind() != ValueKind::Number || known.precise & bit != 0));
            if counts {
                self.admitted(value, moment.register(reg), context)
                    .map_err(|miss| format!("{reg:?} {miss}"))?;
                values += 1;
            }
        }
        let read = self.slot_read(moment.at);
        for (offset, slot) in frame.slots() {
            if self.collector.cut && read != Some(offset) {
                continue;
            }
            let Some(bytes) = bytes_at(&moment.stack, offset) else { continue };
            let kinds = slot.bytes();
            let zero = kinds.iter().zip(bytes).any(|(kind, byte)| *kind == SlotByte::Zero && byte != 0);
            if zero {
                return Err(format!("fp{offset} {bytes:02x?} is not zero"));
            }
            let spilled = kinds.iter().rposition(|kind| *kind == SlotByte::Spill).map_or(0, |last| last + 1);
            let precise = known.precise_slots & 1 << slot_number(offset) != 0;
            let Some(value) = slot.spilled() else { continue };
            if self.collector.cut && value.kind() == ValueKind::Number && !precise {
                continue;
            }
            if spilled < 8 {
                // A narrow spill keeps the whole register; its low bits are what is in memory.
                let (known, unknown) = value.bits();
                let differs = |(i, byte): (usize, u8)| {
                    let part = |number: u64| number.to_le_bytes().get(i).copied().unwrap_or(0);
                    (byte ^ part(known)) & !part(unknown) != 0
                };
                if value.kind() == ValueKind::Number
                    && bytes.into_iter().take(spilled).enumerate().any(differs)
                {
                    return Err(format!("fp{offset} {bytes:02x?} is no part of ({known:#x}; {unknown:#x})"));
                }
            } else {
                self.admitted(value, u64::from_le_bytes(bytes), context)
                    .map_err(|miss| format!("fp{offset} {miss}"))?;
            }
            values += 1;
        }
        Ok(values)
    }

    /// The slot that the instruction reads by the frame pointer.
    fn slot_read(&self, at: InsnIdx) -> Option<i32> {
        match self.verified.program().code.get(at)? {
            Insn::Load { base: Reg::R10, offset, .. } => Some(i32::from(offset).div_euclid(8) * 8),
            _ => None,
        }
    }

    fn admitted(&self, value: ValueView<'_>, number: u64, context: u64) -> Result<(), String> {
        if value.maybe_null() && number == 0 {
            return Ok(());
        }
        let base = match value.kind() {
            ValueKind::Number => Some(0),
            ValueKind::Context => Some(context),
            ValueKind::Stack { frame } => self.frames.get(usize::from(frame)).copied(),
            ValueKind::MapValue { map } => {
                self.map_values.iter().find(|(known, _)| *known == map).map(|(_, start)| *start)
            }
            _ => None,
        };
        let Some(base) = base else { return Ok(()) };
        let part = number.wrapping_sub(base).wrapping_sub(value.offset().cast_unsigned());
        if value.admits(part) {
            return Ok(());
        }
        let (known, unknown) = value.bits();
        Err(format!(
            "{number:#x} (part {part:#x}) is no {:?} of {:?} {:?} {:?} {:?} ({known:#x}; {unknown:#x})",
            value.kind(),
            value.unsigned(),
            value.signed(),
            value.unsigned32(),
            value.signed32()
        ))
    }
}

/// Eight bytes at an offset from the frame pointer, where the stack ends.
fn bytes_at(stack: &[u8], offset: i32) -> Option<[u8; 8]> {
    let start = i64::try_from(stack.len()).ok()? + i64::from(offset);
    let start = usize::try_from(start).ok()?;
    stack.get(start..start + 8)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_excluded_is_found() {
        let text = "r6 = *(u32 *)(r1 +0)\nr6 &= 7\n*(u64 *)(r10 -8) = r6\nr0 = *(u64 *)(r10 -8)\nexit";
        let mut program = Program::from_code("test", "syscall", isa::assemble(text).unwrap().code);
        program.maps = simple_maps();
        let checker = Checker::new().unwrap();
        let mut collector = Collector::new(program.code.len());
        let verified = verifier::verify_with(&program, &Env::default(), &mut collector).unwrap();
        let instance = checker.engine.instantiate(&verified, &checker.maps).unwrap();
        let moments = instance.trace(&mut [0xff; 16], 100).unwrap();
        assert_eq!(moments.len(), 5);
        assert!(compare(&collector, &verified, &moments).unwrap() > 10);
        let mut number = moments.clone();
        number[2].registers[6] = 8;
        assert_eq!(compare(&collector, &verified, &number).unwrap_err().0, InsnIdx(2));
        let mut slot = moments.clone();
        let below = slot[3].stack.len() - 8;
        slot[3].stack[below] = 9;
        assert_eq!(compare(&collector, &verified, &slot).unwrap_err().0, InsnIdx(3));
        let mut pointer = moments;
        pointer[1].registers[1] += 8;
        assert_eq!(compare(&collector, &verified, &pointer).unwrap_err().0, InsnIdx(1));
    }
}
