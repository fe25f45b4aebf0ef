//! What gets no machine register is moved to memory.
//!
//! A number is written again where it is used. Other values get eight bytes of the frame. In each loop that uses such a value it has a
//! register of its own all the same, which is filled before the loop and put back behind it; so a value that is in the way in one loop may
//! be at hand in another. If there is none either, the same is done for the loops inside of that loop, and at last each instruction
//! reads and writes memory.

mod place;

use std::collections::HashMap;

use isa::Width;

use super::insn::{Block, BlockId, Class, End, Function, Insn, Reg, Slot, Src, Use};
use super::live::{Liveness, Set};
use super::order::{ITERATIONS, Shape, outer, own};
use crate::analysis::LoopId;
use crate::flow::At;
use place::{Home, rewrite};

/// How many times as often as a loop is entered its instructions must use a value for it to have a register there.
const WORTH: f32 = 2.0;
/// What writing memory costs, in fetches: who reads it next waits.
const WRITE: f32 = 1.5;
/// What it costs to write a number again.
const NUMBER: f32 = 0.2;

/// What is known of the registers of a function from one attempt to the next.
#[derive(Default)]
pub(super) struct Spill {
    /// Made to hold a value of memory for an instruction: there is nothing left to do about them.
    brief: Vec<Reg>,
    /// Where those are that were moved.
    homes: HashMap<Reg, Slot>,
    /// Those that live in one loop only, by its header.
    regions: HashMap<Reg, BlockId>,
}

/// What one attempt changes about blocks.
struct Edit<'a> {
    function: &'a mut Function,
    shape: &'a Shape,
    live: Liveness,
    /// The blocks that each of the registers is in.
    mentions: HashMap<Reg, Vec<BlockId>>,
    /// Blocks before loops, by their headers.
    before: HashMap<BlockId, BlockId>,
    /// Blocks on edges.
    between: HashMap<(BlockId, BlockId), BlockId>,
}

impl Spill {
    /// What it would cost to have each register in memory.
    pub(super) fn costs(&self, function: &Function, shape: &Shape) -> Vec<f32> {
        let numbers = numbers(function);
        let mut costs = vec![0.0_f32; function.classes.len()];
        for id in &function.order {
            let weight = shape.weight(*id);
            let Some(block) = function.block(*id) else { continue };
            let mut add = |reg: Reg, cost: f32| {
                if let Some(entry) = costs.get_mut(reg.index()) {
                    *entry += weight * cost;
                }
            };
            for (insn, _) in &block.insns {
                insn.each_reg(|reg, how| add(reg, if how == Use::Write { WRITE } else { 1.0 }));
            }
            let cost = if matches!(block.end, End::Afford { .. }) { 1.0 + WRITE } else { 1.0 };
            block.end.each_reg(|reg| add(reg, cost));
        }
        for (index, cost) in costs.iter_mut().enumerate() {
            let reg = Reg(u32::try_from(index).unwrap_or(u32::MAX));
            if numbers.get(index).is_some_and(|number| matches!(number, Written::Number(_))) {
                *cost *= NUMBER;
            }
            if function.classes.get(index) == Some(&Class::Wide) || self.brief.binary_search(&reg).is_ok() {
                *cost = f32::INFINITY;
            }
        }
        costs
    }

    /// Moves registers to memory.
    pub(super) fn spill(
        &mut self,
        function: &mut Function,
        shape: &Shape,
        live: Liveness,
        regs: &[Reg],
    ) -> Option<()> {
        let numbers = numbers(function);
        let mentions = mentions(function, regs);
        let (before, between) = (HashMap::new(), HashMap::new());
        let mut edit = Edit { function, shape, live, mentions, before, between };
        for &reg in regs {
            match numbers.get(reg.index()) {
                Some(Written::Number(number)) => self.everywhere(&mut edit, reg, Home::Number(*number), &[]),
                _ => self.move_to_memory(&mut edit, reg)?,
            }
        }
        Some(())
    }

    fn move_to_memory(&mut self, edit: &mut Edit<'_>, reg: Reg) -> Option<()> {
        let slot = match self.homes.get(&reg) {
            Some(slot) => *slot,
            None => edit.function.new_slot(),
        };
        let split = self.loops_worth_a_register(edit, reg);
        for &id in &split {
            let inside = edit.function.new_reg(Class::General);
            self.homes.insert(inside, slot);
            self.regions.insert(inside, own(edit.shape.loops.get(id)?.header)?);
            edit.give_register(id, reg, inside, slot)?;
        }
        for param in edit.function.params.iter_mut().flatten() {
            if *param == Src::Reg(reg) {
                *param = Src::Slot(slot);
            }
        }
        self.everywhere(edit, reg, Home::Slot(slot), &split);
        Some(())
    }

    /// The outermost loops, in the one that a register lives in, that use it often enough.
    fn loops_worth_a_register(&self, edit: &Edit<'_>, reg: Reg) -> Vec<LoopId> {
        let loops = &edit.shape.loops;
        let header = self.regions.get(&reg).map(|header| outer(*header));
        let region =
            header.and_then(|header| loops.iter().find(|(_, l)| l.header == header)).map(|(id, _)| id);
        let mut found: Vec<(LoopId, f32, bool)> = Vec::new();
        for id in edit.mentions.get(&reg).into_iter().flatten() {
            let Some(block) = edit.function.block(*id) else { continue };
            let (mut uses, mut written) = (0.0, false);
            for (insn, _) in &block.insns {
                insn.each_reg(|used, how| {
                    if used == reg {
                        uses += 1.0;
                        written |= how == Use::Write;
                    }
                });
            }
            block.end.each_reg(|used| {
                if used == reg {
                    uses += 1.0;
                    written |= matches!(block.end, End::Afford { .. });
                }
            });
            if uses == 0.0 {
                continue;
            }
            // The outermost loop around the block that is inside of the region.
            let mut at = loops.innermost(outer(*id));
            let mut child = None;
            while at != region
                && let Some(around) = at
            {
                child = Some(around);
                at = loops.get(around).and_then(|l| l.parent);
            }
            // What fills a register before its loop and puts it back is outside of it.
            let Some(child) = child.filter(|_| at == region) else { continue };
            let uses = uses * edit.shape.weight(*id);
            match found.iter_mut().find(|(known, ..)| *known == child) {
                Some((_, sum, modified)) => (*sum, *modified) = (*sum + uses, *modified || written),
                None => found.push((child, uses, written)),
            }
        }
        let worth = |(id, uses, written): &(LoopId, f32, bool)| {
            let header = loops.get(*id).and_then(|l| own(l.header));
            let entered = header.map_or(1.0, |header| edit.shape.weight(header)) / ITERATIONS;
            *uses > WORTH * entered * if *written { 1.0 + WRITE } else { 1.0 }
        };
        found.into_iter().filter(worth).map(|(id, ..)| id).collect()
    }

    /// Reads and writes a register's home instead of it, but for the blocks of some loops.
    fn everywhere(&mut self, edit: &mut Edit<'_>, reg: Reg, home: Home, but: &[LoopId]) {
        for id in edit.mentions.get(&reg).cloned().unwrap_or_default() {
            if but.iter().any(|l| edit.shape.loops.contains(*l, outer(id))) {
                continue;
            }
            let Some(block) = edit.function.blocks.get_mut(id.index()) else { continue };
            let classes = &mut edit.function.classes;
            let brief = &mut self.brief;
            rewrite(block, reg, home, &mut || {
                classes.push(Class::General);
                let reg = Reg(u32::try_from(classes.len() - 1).unwrap_or(u32::MAX));
                // Numbers ascend.
                brief.push(reg);
                reg
            });
        }
    }
}

impl Edit<'_> {
    /// Has a register that was moved to memory be in another one in a loop.
    fn give_register(&mut self, id: LoopId, reg: Reg, inside: Reg, slot: Slot) -> Option<()> {
        let header = self.shape.loops.get(id)?.header;
        let blocks = self.mentions.get(&reg).cloned().unwrap_or_default();
        let blocks = blocks.into_iter().filter(|block| self.shape.loops.contains(id, outer(*block)));
        let mut written = false;
        let mut exits = Vec::new();
        for block_id in blocks {
            let block = self.function.blocks.get_mut(block_id.index())?;
            for (insn, _) in &mut block.insns {
                insn.each_reg_mut(|used, how| {
                    if *used == reg {
                        *used = inside;
                        written |= how == Use::Write;
                    }
                });
            }
            let counts = matches!(block.end, End::Afford { .. });
            block.end.each_reg_mut(|used| {
                if *used == reg {
                    *used = inside;
                    written |= counts;
                }
            });
        }
        // Where the edges led before anything was put on them.
        for &from in self.shape.edges.order() {
            if !self.shape.loops.contains(id, from) {
                continue;
            }
            for to in self.shape.successors(from) {
                let is_live = own(to).and_then(|to| self.live.at(to)).is_some_and(|live| live.contains(reg));
                if is_live && !self.shape.loops.contains(id, to) {
                    exits.push((own(from)?, own(to)?));
                }
            }
        }
        let header = own(header)?;
        if self.live.at(header).is_some_and(|live| live.contains(reg)) {
            let before = self.before_loop(id, header)?;
            let block = self.function.block_mut(before)?;
            let load = Insn::Mov { width: Width::W64, dst: inside, src: Src::Slot(slot) };
            let at = block.at;
            block.insns.push((load, at));
        }
        if written {
            exits.sort_unstable();
            exits.dedup();
            for (from, to) in exits {
                let between = self.on_edge(from, to)?;
                let block = self.function.block_mut(between)?;
                let at = block.at;
                block.insns.insert(0, (Insn::ToSlot { slot, src: Src::Reg(inside) }, at));
            }
        }
        Some(())
    }

    /// The block that leads into a loop, and nowhere else.
    fn before_loop(&mut self, id: LoopId, header: BlockId) -> Option<BlockId> {
        if let Some(known) = self.before.get(&header) {
            return Some(*known);
        }
        let mut outside: Vec<_> = self.shape.edges.predecessors(outer(header)).to_vec();
        outside.retain(|from| !self.shape.loops.contains(id, *from));
        let mut outside: Vec<_> = outside.into_iter().filter_map(own).collect();
        outside.sort_unstable();
        outside.dedup();
        let (at, cold) = self.function.block(header).map(|block| (block.at, block.cold))?;
        if let [only] = *outside
            && !self.between.contains_key(&(only, header))
            && self.function.block(only)?.end == End::Jump(header)
        {
            self.before.insert(header, only);
            return Some(only);
        }
        let before = self.function.push(empty(End::Jump(header), at, cold));
        for from in outside {
            let from = self.between.get(&(from, header)).copied().unwrap_or(from);
            self.function.block_mut(from)?.end.redirect(header, before);
        }
        self.before.insert(header, before);
        Some(before)
    }

    /// A block that is executed on the way from one block to another, and at no other time.
    fn on_edge(&mut self, from: BlockId, to: BlockId) -> Option<BlockId> {
        if let Some(known) = self.between.get(&(from, to)) {
            return Some(*known);
        }
        if self.shape.edges.predecessors(outer(to)) == [outer(from)] && !self.before.contains_key(&to) {
            return Some(to);
        }
        let cold = self.function.block(from)?.cold || self.function.block(to)?.cold;
        let at = self.function.block(to)?.at;
        // The edge may lead to the block before a loop by now.
        let leads = self.function.block(from)?.end;
        let target = match self.before.get(&to) {
            Some(before) if leads.successors().any(|next| next == *before) => *before,
            _ => to,
        };
        let between = self.function.push(empty(End::Jump(target), at, cold));
        self.function.block_mut(from)?.end.redirect(target, between);
        self.between.insert((from, to), between);
        Some(between)
    }
}

fn empty(end: End, at: At, cold: bool) -> Block {
    Block { insns: Vec::new(), end, at, cold }
}

/// The blocks that some registers are in.
fn mentions(function: &Function, regs: &[Reg]) -> HashMap<Reg, Vec<BlockId>> {
    let mut wanted = Set::empty(function.classes.len());
    regs.iter().for_each(|reg| _ = wanted.insert(*reg));
    let mut found: HashMap<Reg, Vec<BlockId>> = HashMap::new();
    for id in &function.order {
        let Some(block) = function.block(*id) else { continue };
        let mut note = |reg: Reg| {
            if wanted.contains(reg) {
                let blocks = found.entry(reg).or_default();
                if blocks.last() != Some(id) {
                    blocks.push(*id);
                }
            }
        };
        block.insns.iter().for_each(|(insn, _)| insn.each_reg(|reg, _| note(reg)));
        block.end.each_reg(note);
    }
    found
}

/// What is written to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Nothing,
    /// Always the same number.
    Number(i64),
    Other,
}

/// Which registers are always the same number.
fn numbers(function: &Function) -> Vec<Written> {
    let mut written = vec![Written::Nothing; function.classes.len()];
    let mut note = |reg: Reg, what: Written| {
        if let Some(entry) = written.get_mut(reg.index()) {
            *entry = if *entry == Written::Nothing || *entry == what { what } else { Written::Other };
        }
    };
    for id in &function.order {
        let Some(block) = function.block(*id) else { continue };
        for (insn, _) in &block.insns {
            match insn {
                Insn::Mov { dst, src: Src::Imm(number), .. } => note(*dst, Written::Number(*number)),
                insn => insn.each_reg(|reg, how| {
                    if how == Use::Write {
                        note(reg, Written::Other);
                    }
                }),
            }
        }
        if let End::Afford { left: Src::Reg(left), .. } = block.end {
            note(left, Written::Other);
        }
    }
    for param in function.params.iter().flatten() {
        if let Src::Reg(reg) = param {
            note(*reg, Written::Other);
        }
    }
    written
}
