//! Which values of a variable belong together.
//!
//! A program uses its few registers for one thing after the other. Values that no instruction can confuse get registers of their own
//! here: two writes belong together if some read may see either.

use std::collections::HashMap;

use isa::Width;

use super::insn::{BlockId, Class, Function, Insn, Reg, Src, Use};
use super::live::Liveness;

/// Gives each web a register of its own.
pub(super) fn split(function: &mut Function) -> Option<()> {
    let live = Liveness::of(function);
    let mut webs = Webs { parents: Vec::new(), of: Vec::new() };
    // What is at hand at the beginning of each block.
    let mut entries: Vec<HashMap<Reg, usize>> = Vec::with_capacity(function.blocks.len());
    for index in 0..function.blocks.len() {
        let id = BlockId(u32::try_from(index).ok()?);
        let live = live.at(id)?;
        entries.push(live.iter().map(|reg| (reg, webs.add(reg))).collect());
    }
    let order = function.order.clone();
    let first = *order.first()?;
    for id in &order {
        let mut now = entries.get(id.index())?.clone();
        let block = function.block_mut(*id)?;
        for (insn, _) in &mut block.insns {
            insn.each_reg_mut(|reg, how| {
                let web = match how {
                    Use::Write => {
                        let web = webs.add(*reg);
                        now.insert(*reg, web);
                        web
                    }
                    // Nothing is read that was not written.
                    _ => *now.entry(*reg).or_insert_with(|| webs.add(*reg)),
                };
                *reg = Reg(u32::try_from(web).unwrap_or(u32::MAX));
            });
        }
        block.end.each_reg_mut(|reg| {
            let web = *now.entry(*reg).or_insert_with(|| webs.add(*reg));
            *reg = Reg(u32::try_from(web).unwrap_or(u32::MAX));
        });
        for next in block.end.successors() {
            for (reg, &web) in entries.get(next.index())? {
                if let Some(&from) = now.get(reg) {
                    webs.join(from, web);
                }
            }
        }
    }
    let arguments = entries.get(first.index())?;
    for param in &mut function.params {
        if let Some(Src::Reg(reg)) = param {
            match arguments.get(reg) {
                Some(&web) => *reg = Reg(u32::try_from(web).ok()?),
                None => *param = None,
            }
        }
    }
    webs.number(function);
    part_results(function);
    Some(())
}

/// A result that must not be where an operand is, which may still be read when it is written, gets a register of its own where both are
/// one web.
fn part_results(function: &mut Function) {
    for id in function.order.clone() {
        let Some(block) = function.blocks.get_mut(id.index()) else { continue };
        let mut parted = Vec::with_capacity(block.insns.len());
        for (mut insn, at) in std::mem::take(&mut block.insns) {
            let (mut result, mut late) = (None, Vec::new());
            insn.each_reg(|reg, how| match how {
                Use::Write => result = Some(reg),
                Use::ReadLate => late.push(reg),
                Use::Read => {}
            });
            let Some(dst) = result.filter(|result| late.contains(result)) else {
                parted.push((insn, at));
                continue;
            };
            let class = function.classes.get(dst.index()).copied().unwrap_or(Class::General);
            function.classes.push(class);
            let src = Reg(u32::try_from(function.classes.len() - 1).unwrap_or(u32::MAX));
            insn.each_reg_mut(|reg, how| {
                if how == Use::Write {
                    *reg = src;
                }
            });
            parted.push((insn, at));
            let back = match class {
                Class::General => Insn::Mov { width: Width::W64, dst, src: Src::Reg(src) },
                Class::Wide => Insn::WideMov { dst, src },
            };
            parted.push((back, at));
        }
        block.insns = parted;
    }
}

/// Values, each of which knows another of its web, or itself.
struct Webs {
    parents: Vec<usize>,
    of: Vec<Reg>,
}

impl Webs {
    fn add(&mut self, of: Reg) -> usize {
        self.of.push(of);
        self.parents.push(self.parents.len());
        self.parents.len() - 1
    }

    fn find(&mut self, mut web: usize) -> usize {
        while let Some(&parent) = self.parents.get(web).filter(|parent| **parent != web) {
            let above = self.parents.get(parent).copied().unwrap_or(parent);
            if let Some(entry) = self.parents.get_mut(web) {
                *entry = above;
            }
            web = above;
        }
        web
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        if let Some(parent) = self.parents.get_mut(b) {
            *parent = a;
        }
    }

    /// Gives registers numbers without gaps.
    fn number(mut self, function: &mut Function) {
        let mut numbers = HashMap::new();
        let mut classes = Vec::new();
        let before = std::mem::take(&mut function.classes);
        let mut number = |reg: &mut Reg| {
            let web = self.find(reg.index());
            let of = self.of.get(web).copied();
            *reg = *numbers.entry(web).or_insert_with(|| {
                let class = of.and_then(|of| before.get(of.index()));
                classes.push(class.copied().unwrap_or(Class::General));
                Reg(u32::try_from(classes.len() - 1).unwrap_or(u32::MAX))
            });
        };
        for id in &function.order {
            let Some(block) = function.blocks.get_mut(id.index()) else { continue };
            for (insn, _) in &mut block.insns {
                insn.each_reg_mut(|reg, _| number(reg));
            }
            block.end.each_reg_mut(&mut number);
        }
        for param in function.params.iter_mut().flatten() {
            param.each_reg_mut(&mut number);
        }
        function.classes = classes;
    }
}
