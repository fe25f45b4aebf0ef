//! Machine registers for registers: colours for a graph in which those are neighbours that live at the same time (Chaitin; Briggs,
//! Cooper and Torczon, "Improvements to graph coloring register allocation").
//!
//! Copies are joined where that makes nothing harder. What does not get a machine register is [moved to memory](super::spill), and
//! everything is done once more.

mod graph;

use super::insn::{Class, Function, Insn, Machine, Reg, Src};
use super::live::Liveness;
use super::order::Shape;
use graph::Graph;

/// The registers that hand out machine registers are tried in: those first that need not be saved, and of these the ones whose
/// instructions are shorter.
const PREFERENCE: [u8; 14] = [0, 1, 2, 6, 7, 8, 9, 10, 11, 3, 12, 13, 14, 15];
/// All general-purpose registers but the stack's and the frame's pointer.
pub(super) const GENERAL: Machine = 0b1111_1111_1100_1111;
const WIDE: Machine = 0xffff;

/// What came of it.
pub(super) enum Assignment {
    /// A machine register for each register.
    Complete(Vec<u8>),
    /// These must be moved to memory.
    Crowded(Vec<Reg>),
}

/// Two registers that would like to be the same, and how much: the move that it saves.
#[derive(Clone, Copy)]
struct Affinity {
    a: Reg,
    b: Wanted,
    weight: f32,
    /// Whether it is a plain copy, so that both may become one.
    copy: bool,
}

/// What a register would like to be the same as.
#[derive(Clone, Copy)]
enum Wanted {
    Reg(Reg),
    Machine(u8),
}

/// Assigns machine registers. `costs` is what it would cost to have each in memory.
pub(super) fn assign(
    function: &Function,
    shape: &Shape,
    live: &Liveness,
    costs: &[f32],
) -> Option<Assignment> {
    let mut graph = Graph::of(function, live)?;
    let affinities = affinities(function, shape);
    let mut copies: Vec<_> = affinities.iter().filter(|affinity| affinity.copy).collect();
    copies.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let mut costs = costs.to_vec();
    for affinity in copies {
        if let Wanted::Reg(b) = affinity.b {
            graph.join(affinity.a, b, &mut costs);
        }
    }
    let (order, hopeless) = graph.simplify(&costs);
    let mut wanted: Vec<Vec<(Wanted, f32)>> = vec![Vec::new(); function.classes.len()];
    for affinity in affinities {
        let a = graph.find(affinity.a);
        let b = match affinity.b {
            Wanted::Reg(b) => Wanted::Reg(graph.find(b)),
            machine => machine,
        };
        wanted.get_mut(a.index())?.push((b, affinity.weight));
        if let Wanted::Reg(b) = b {
            wanted.get_mut(b.index())?.push((Wanted::Reg(a), affinity.weight));
        }
    }
    let mut colours: Vec<Option<u8>> = vec![None; function.classes.len()];
    let mut crowded = hopeless;
    for reg in order.into_iter().rev() {
        let free = graph.free(reg, &colours);
        match choose(free, wanted.get(reg.index())?, &colours) {
            Some(colour) => *colours.get_mut(reg.index())? = Some(colour),
            None => crowded.push(reg),
        }
    }
    if !crowded.is_empty() {
        if crowded.iter().any(|reg| costs.get(reg.index()).is_none_or(|cost| cost.is_infinite())) {
            return None;
        }
        // What was joined with them is moved, too.
        let all = (0..function.classes.len()).filter_map(|index| u32::try_from(index).ok().map(Reg));
        let crowded = all.filter(|reg| crowded.contains(&graph.find(*reg))).collect();
        return Some(Assignment::Crowded(crowded));
    }
    let numbers = (0..function.classes.len()).map(|index| {
        let reg = graph.find(Reg(u32::try_from(index).unwrap_or(u32::MAX)));
        colours.get(reg.index()).copied().flatten().unwrap_or(0)
    });
    Some(Assignment::Complete(numbers.collect()))
}

/// One of the free machine registers: the one that saves most moves.
fn choose(free: Machine, wanted: &[(Wanted, f32)], colours: &[Option<u8>]) -> Option<u8> {
    if free == 0 {
        return None;
    }
    let mut gains = [0.0_f32; 16];
    for (wanted, weight) in wanted {
        let colour = match wanted {
            Wanted::Reg(reg) => colours.get(reg.index()).copied().flatten(),
            Wanted::Machine(machine) => Some(*machine),
        };
        if let Some(gain) = colour.and_then(|colour| gains.get_mut(usize::from(colour))) {
            *gain += weight;
        }
    }
    let is_free = |colour: &u8| free >> colour & 1 != 0;
    let gain = |colour: u8| gains.get(usize::from(colour)).copied().unwrap_or(0.0);
    let candidates = PREFERENCE.into_iter().chain([4, 5]).filter(is_free);
    candidates.fold(None, |best: Option<u8>, colour| match best {
        Some(best) if gain(best) >= gain(colour) => Some(best),
        _ => Some(colour),
    })
}

/// The machine registers of arguments behind the context.
const ARGUMENTS: [u8; 5] = [6, 2, 1, 8, 9];

/// Which registers would like to be the same.
fn affinities(function: &Function, shape: &Shape) -> Vec<Affinity> {
    let mut found = Vec::new();
    for (param, machine) in function.params.iter().zip(ARGUMENTS) {
        if let Some(Src::Reg(a)) = param {
            found.push(Affinity { a: *a, b: Wanted::Machine(machine), weight: 1.0, copy: false });
        }
    }
    for id in &function.order {
        let weight = shape.weight(*id);
        let Some(block) = function.block(*id) else { continue };
        for (insn, _) in &block.insns {
            let mut add = |a: Reg, b: Wanted, copy| found.push(Affinity { a, b, weight, copy });
            let mut both = |a: Reg, b: Src| {
                if let Src::Reg(b) = b {
                    add(a, Wanted::Reg(b), false);
                }
            };
            match insn {
                Insn::Mov { width, dst, src: Src::Reg(src) } => {
                    add(*dst, Wanted::Reg(*src), *width == isa::Width::W64);
                }
                Insn::WideMov { dst, src } => add(*dst, Wanted::Reg(*src), true),
                Insn::Alu { dst, a, .. } | Insn::WideAlu { dst, a, .. } => both(*dst, Src::Reg(*a)),
                Insn::Shift { dst, a, by: Src::Imm(_), .. } => both(*dst, Src::Reg(*a)),
                Insn::Neg { dst, src, .. } | Insn::SwapBytes { dst, src, .. } => both(*dst, Src::Reg(*src)),
                Insn::Select { dst, yes, no, .. } => {
                    both(*dst, *yes);
                    both(*dst, *no);
                }
                Insn::Atomic { dst: Some(dst), src, .. } => both(*dst, Src::Reg(*src)),
                Insn::Div { remainder, dst, a, .. } => {
                    add(*a, Wanted::Machine(0), false);
                    add(*dst, Wanted::Machine(if *remainder { 2 } else { 0 }), false);
                }
                Insn::MulHigh { a, .. } => add(*a, Wanted::Machine(2), false),
                Insn::CompareExchange { dst, expected, .. } => {
                    add(*expected, Wanted::Machine(0), false);
                    if let Some(dst) = dst {
                        add(*dst, Wanted::Machine(0), false);
                    }
                }
                Insn::Call { args, dst, .. } => {
                    for (arg, machine) in args.iter().zip(ARGUMENTS) {
                        if let Src::Reg(arg) = arg {
                            add(*arg, Wanted::Machine(machine), false);
                        }
                    }
                    if let Some(dst) = dst {
                        add(*dst, Wanted::Machine(0), false);
                    }
                }
                _ => {}
            }
        }
    }
    found
}

impl Graph {
    /// The machine registers that a register may have, beside those of its neighbours.
    fn free(&self, reg: Reg, colours: &[Option<u8>]) -> Machine {
        let mut free = self.allowed(reg);
        for neighbour in self.neighbours(reg) {
            if let Some(colour) = colours.get(neighbour.index()).copied().flatten() {
                free &= !(1 << colour);
            }
        }
        free
    }
}

/// All that a class has.
fn all(class: Class) -> Machine {
    match class {
        Class::General => GENERAL,
        Class::Wide => WIDE,
    }
}
