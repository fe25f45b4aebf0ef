//! Memory accesses. Each is one machine instruction, as often as, and in the order that, the program says; nothing behind moves
//! or joins them. On x86-64 every load is an acquire and every store a release.

use std::mem::offset_of;

use isa::{AtomicOp, Size, Width};
use verifier::Memory;

use super::super::insn::{Access, Address, Callee, End, Insn, Reg, Shift, Src};
use super::{Select, operand, reg};
use crate::Import;
use crate::abi::VmContext;
use crate::flow::{self, PacketIndex, Place, Var};
use crate::machine::Machine;

/// How a place is accessed.
pub(super) enum Way {
    /// By one instruction.
    Native { address: Address, access: Access },
    /// By the runtime, which looks whether there is anything.
    Guarded { address: Address },
}

impl Select<'_> {
    pub(super) fn load(&mut self, size: Size, signed: bool, dst: Var, place: Place) -> Option<()> {
        let dst = reg(dst);
        match self.way(place)? {
            Way::Native { address, access } => self.push(Insn::Load { size, signed, dst, address, access }),
            Way::Guarded { address } => {
                let address = self.address(address);
                let index = i64::from(self.at.insn.0);
                let arguments = [Src::Reg(address), Src::Imm(0), Src::Imm(index), Src::Imm(0), Src::Imm(0)];
                let value = self.temp();
                self.runtime_call(Import::GuardedLoad(size), arguments, Some(value));
                let src = Src::Reg(value);
                self.push(Insn::Extend { from: size, signed, width: Width::W64, dst, src });
            }
        }
        Some(())
    }

    pub(super) fn store(&mut self, size: Size, place: Place, src: flow::Src) -> Option<()> {
        let mut src = operand(Width::W64, src);
        match self.way(place)? {
            Way::Native { address, access } => {
                if let (Size::DW, Src::Imm(imm)) = (size, src)
                    && i32::try_from(imm).is_err()
                {
                    src = Src::Reg(self.number(imm));
                }
                self.push(Insn::Store { size, address, src, access });
            }
            Way::Guarded { address } => {
                let address = self.address(address);
                let index = i64::from(self.at.insn.0);
                let arguments = [Src::Reg(address), src, Src::Imm(index), Src::Imm(0), Src::Imm(0)];
                self.runtime_call(Import::GuardedStore(size), arguments, None);
            }
        }
        Some(())
    }

    pub(super) fn atomic(
        &mut self,
        size: Size,
        op: AtomicOp,
        place: Place,
        src: Var,
        expected: Option<Var>,
        old: Option<Var>,
    ) -> Option<()> {
        let Way::Native { address, access } = self.way(place)? else { return None };
        let (src, dst) = (reg(src), old.map(reg));
        if !Machine::X86_64.can_skip(op, old.is_some()) {
            let dst = dst?;
            if access == Access::Safe {
                self.push(Insn::AtomicLoop { size, op, dst, address, src });
                return Some(());
            }
            // A loop cannot be skipped when a page is missing: the runtime does it, in the window.
            let offset = self.temp();
            let (pointer, _) = address.index?;
            let place = Address { base: pointer, index: None, offset: address.offset };
            self.push(Insn::Lea { width: Width::W64, dst: offset, address: place });
            let missing = self.temp();
            self.push(Insn::Extend {
                from: size,
                signed: false,
                width: Width::W64,
                dst: missing,
                src: Src::Reg(src),
            });
            let index = i64::from(self.at.insn.0);
            let missing = Src::Reg(missing);
            let arguments = [Src::Reg(offset), Src::Reg(src), Src::Imm(index), missing, missing];
            let found = self.temp();
            self.runtime_call(Import::ArenaAtomic(size, op), arguments, Some(found));
            let src = Src::Reg(found);
            self.push(Insn::Extend { from: size, signed: false, width: Width::W64, dst, src });
            return Some(());
        }
        match (op, expected) {
            (AtomicOp::CmpXchg, Some(expected)) => {
                let expected = reg(expected);
                self.push(Insn::CompareExchange { size, dst, address, expected, src, access });
            }
            (AtomicOp::CmpXchg, None) => return None,
            // `xchg` has a result, wanted or not.
            (AtomicOp::Xchg, _) => {
                let dst = Some(dst.unwrap_or_else(|| self.temp()));
                self.push(Insn::Atomic { size, op, dst, address, src, access });
            }
            _ => self.push(Insn::Atomic { size, op, dst, address, src, access }),
        }
        Some(())
    }

    /// `ld_abs` and `ld_ind`: the function returns 0 where the packet has no such byte.
    pub(super) fn load_packet(&mut self, size: Size, from: PacketIndex, imm: i32, dst: Var) -> Option<()> {
        let offset = match from {
            // The sum is of 32 bits, and signed.
            PacketIndex::Var(var) => {
                let [sum, offset] = [(); 2].map(|()| self.temp());
                let address = Address { base: reg(var), index: None, offset: imm };
                self.push(Insn::Lea { width: Width::W32, dst: sum, address });
                let (width, src) = (Width::W64, Src::Reg(sum));
                self.push(Insn::Extend { from: Size::W, signed: true, width, dst: offset, src });
                Src::Reg(offset)
            }
            PacketIndex::None => Src::Imm(i64::from(imm)),
        };
        let index = Src::Imm(i64::from(self.at.insn.0));
        let value = self.temp();
        let arguments = [offset, Src::Imm(0), index, Src::Imm(0), Src::Imm(0)];
        self.runtime_call(Import::PacketLoad(size), arguments, Some(value));
        let missing = self.temp();
        let by = Src::Imm(32);
        let op = Shift::Right;
        self.push(Insn::Shift { op, width: Width::W64, dst: missing, a: value, by });
        let leave = self.new_block();
        if let Some(block) = self.function.blocks.get_mut(leave.index()) {
            (block.end, block.cold) = (End::Exit(Src::Imm(0)), true);
        }
        self.leave_if(Insn::is_not_zero(missing), leave)?;
        self.push(Insn::Mov { width: Width::W64, dst: reg(dst), src: Src::Reg(value) });
        Some(())
    }

    /// How the instruction's memory is to be accessed.
    pub(super) fn way(&mut self, place: Place) -> Option<Way> {
        match place.memory {
            Memory::Proven => Some(Way::Native { address: self.sum(place), access: Access::Safe }),
            Memory::Arena => {
                let pointer = self.arena_pointer(place);
                let address = Address { base: self.window, index: Some((pointer, 0)), offset: place.offset };
                Some(Way::Native { address, access: Access::Arena })
            }
            Memory::Kernel => Some(Way::Guarded { address: self.sum(place) }),
            _ => None,
        }
    }

    /// Base and index, of 64 bits.
    fn sum(&mut self, place: Place) -> Address {
        let index = place.index.map(|(index, shift)| self.scaled(Width::W64, index, shift));
        Address { base: reg(place.base), index, offset: place.offset }
    }

    /// An index with a shift that an address can have.
    fn scaled(&mut self, width: Width, index: Var, shift: u8) -> (Reg, u8) {
        if shift <= 3 {
            return (reg(index), shift);
        }
        let dst = self.temp();
        let (op, by) = (Shift::Left, Src::Imm(shift.into()));
        self.push(Insn::Shift { op, width, dst, a: reg(index), by });
        (dst, 0)
    }

    /// Base and index of an access to the arena: 32 bits, zero-extended.
    fn arena_pointer(&mut self, place: Place) -> Reg {
        let base = reg(place.base);
        let dst = match place.index {
            None if place.clear => return base,
            _ => self.temp(),
        };
        match place.index {
            None => self.push(Insn::Mov { width: Width::W32, dst, src: Src::Reg(base) }),
            Some((index, shift)) => {
                let index = Some(self.scaled(Width::W32, index, shift));
                let address = Address { base, index, offset: 0 };
                self.push(Insn::Lea { width: Width::W32, dst, address });
            }
        }
        dst
    }

    /// An address in a register.
    fn address(&mut self, address: Address) -> Reg {
        let dst = self.temp();
        self.push(Insn::Lea { width: Width::W64, dst, address });
        dst
    }

    /// Calls a function of the runtime with `r1` to `r5`.
    pub(super) fn runtime_call(&mut self, import: Import, arguments: [Src; 5], dst: Option<Reg>) {
        let callee = Callee::Import(self.imports.table_offset(import));
        self.push(Insn::Call { callee, args: arguments.to_vec(), dst });
    }

    /// The CPU that the run has leased.
    pub(super) fn cpu(&mut self) -> Option<Reg> {
        self.imports.uses_cpu = true;
        self.field(offset_of!(VmContext, cpu))
    }
}
