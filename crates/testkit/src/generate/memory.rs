//! Statements that access stack, context and arena.

use isa::{AtomicOp, Insn, Operand, Reg, Size, Width};

use super::flow::Body;
use super::shapes::SIZES;
use super::{ARENA, CTX, Generator, INPUT_BYTES, SCALARS, SLOTS, SPILL, load, mov, store};

const ATOMICS: [AtomicOp; 6] =
    [AtomicOp::Add, AtomicOp::Or, AtomicOp::And, AtomicOp::Xor, AtomicOp::Xchg, AtomicOp::CmpXchg];

/// What an access may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Loads and stores.
    Plain,
    /// Ordered accesses and read-modify-writes too.
    All,
    /// As `All`, without what Linux 6.18 on x86-64 cannot do on arena memory.
    KernelArena,
}

impl Generator {
    /// Aligned accesses to a slot that holds a scalar.
    pub(super) fn stack_statement(&mut self, body: &mut Body) {
        if self.whole_slots {
            let (slot, reg) = (-8 * self.rng.i16(1..=SLOTS), self.scalar_reg());
            return body.push(match self.rng.bool() {
                true => load(Size::DW, false, reg, Reg::R10, slot),
                false => store(Size::DW, Reg::R10, slot, Operand::Reg(reg)),
            });
        }
        let size = self.choose(&SIZES);
        let bytes = i16::from(size.bytes());
        let offset = -8 * SLOTS + bytes * self.rng.i16(0..8 * SLOTS / bytes);
        let insn = self.access(Reg::R10, offset, size, Rules::All);
        body.push(insn);
    }

    /// Aligned loads and stores of the input.
    pub(super) fn ctx_statement(&mut self, body: &mut Body) {
        let size = self.choose(&SIZES);
        let bytes = i16::from(size.bytes());
        let offset = bytes * self.rng.i16(0..i16::try_from(INPUT_BYTES).unwrap_or_default() / bytes);
        let insn = match self.access(CTX, offset, size, Rules::Plain) {
            // The context is no memory to the kernel: sign extension is left out.
            Insn::Load { size, dst, base, offset, .. } => load(size, false, dst, base, offset),
            other => other,
        };
        body.push(insn);
    }

    /// An access by the arena pointer or by one made for it. Offsets may lead out of the page and of the arena.
    pub(super) fn arena_statement(&mut self, body: &mut Body) {
        let size = self.choose(&SIZES);
        let base = if self.rng.bool() { ARENA } else { self.pointer_reg() };
        if base != ARENA {
            self.arena_address(body, base);
        }
        let offset = match self.rng.u8(..6) {
            0 => self.rng.i16(-16..16),
            1 => self.choose(&[i16::MIN, i16::MAX, -4096, 4096, 4088, 0x7ff8]),
            _ => 8 * self.rng.i16(-8..64),
        };
        let rules = if self.features.beyond_kernel { Rules::All } else { Rules::KernelArena };
        let insn = self.access(base, offset, size, rules);
        let result = known_difference(&insn).filter(|_| !self.features.beyond_kernel);
        if let (Some(reg), Insn::LoadAcquire { .. }) = (result, insn) {
            body.push(mov(reg, Operand::Imm(0)));
        }
        body.push(insn);
        if let (Some(reg), Insn::Atomic { .. }) = (result, insn) {
            body.push(Insn::Mov { width: Width::W32, dst: reg, src: Operand::Reg(reg) });
        }
        if base != ARENA && written(&insn) != Some(base) {
            // A scalar again.
            body.push(mov(base, Operand::Imm(self.imm())));
        }
    }

    /// A register for an arena pointer of a statement; not `r0`, which compare-and-exchange reads.
    fn pointer_reg(&mut self) -> Reg {
        let reg = self.choose(&SCALARS[1..]);
        if self.held { self.choose(&Reg::ARGS) } else { reg }
    }

    /// The arena pointer to the stack or back.
    pub(super) fn spill_statement(&mut self, body: &mut Body) {
        if self.rng.bool() {
            body.push(store(Size::DW, Reg::R10, SPILL, Operand::Reg(ARENA)));
        } else {
            body.push(load(Size::DW, false, ARENA, Reg::R10, SPILL));
        }
    }

    fn access(&mut self, base: Reg, offset: i16, size: Size, rules: Rules) -> Insn {
        // Anything but the base: storing the pointer itself is fine, but a compare-and-exchange would leak it.
        let value = loop {
            let reg = self.scalar_reg();
            if reg != base {
                break reg;
            }
        };
        match self.rng.u8(..if rules == Rules::Plain { 4 } else { 8 }) {
            0 | 1 => {
                let sign_extend = size != Size::DW && self.rng.bool();
                load(size, sign_extend, value, base, offset)
            }
            2 => store(size, base, offset, Operand::Reg(value)),
            3 => store(size, base, offset, Operand::Imm(self.imm())),
            4 => Insn::LoadAcquire { size, dst: value, base, offset },
            5 => Insn::StoreRelease { size, base, offset, src: value },
            _ => self.atomic(base, offset, size, value, rules),
        }
    }

    fn atomic(&mut self, base: Reg, offset: i16, size: Size, src: Reg, rules: Rules) -> Insn {
        let size = if size == Size::DW || (rules == Rules::All && base == Reg::R10 && offset % 8 == 0) {
            Size::DW
        } else {
            Size::W
        };
        // The stack wants aligned accesses; elsewhere an unaligned one that crosses a cache line would stall the machine.
        let offset = offset & !i16::from(size.bytes() - 1);
        let op = self.choose(&ATOMICS);
        let always = matches!(op, AtomicOp::Xchg | AtomicOp::CmpXchg);
        let cannot =
            rules == Rules::KernelArena && matches!(op, AtomicOp::Or | AtomicOp::And | AtomicOp::Xor);
        let fetch = always || (!cannot && self.rng.bool());
        Insn::Atomic { size, op, fetch, base, offset, src }
    }
}

/// The result register of an instruction that Linux 6.18 on x86-64 leaves another value in when the page is missing: all
/// of the register as it was, where the engines of this process zero-extend (32-bit atomics) or give 0 (load-acquire).
fn known_difference(insn: &Insn) -> Option<Reg> {
    match *insn {
        Insn::LoadAcquire { dst, .. } => Some(dst),
        Insn::Atomic { size: Size::W, op: AtomicOp::CmpXchg, .. } => Some(Reg::R0),
        Insn::Atomic { size: Size::W, fetch: true, src, .. } => Some(src),
        _ => None,
    }
}

/// The register an access writes.
fn written(insn: &Insn) -> Option<Reg> {
    match *insn {
        Insn::Load { dst, .. } | Insn::LoadAcquire { dst, .. } => Some(dst),
        _ => None,
    }
}
