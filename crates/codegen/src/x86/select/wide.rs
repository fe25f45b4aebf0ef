//! Operations on 16 bytes at once. In an arena a wide load is a probe: where the page is missing it is skipped, and the run's word says
//! so.

use isa::{AluOp, Size, Width};

use super::super::insn::{Access, Alu, Class, Insn, Reg, Shift, Src, WideOp};
use super::mem::Way;
use super::{Select, operand, reg};
use crate::flow::Op;

/// Of `pshufd`: the upper half in the place of the lower one.
const UPPER_HALF: u8 = 0b11_10_11_10;

impl Select<'_> {
    /// One of the operations that passes make for wide accesses.
    pub(super) fn wide(&mut self, op: Op) -> Option<()> {
        match op {
            Op::WideLoad { dst, place } => {
                let Way::Native { address, access } = self.way(place)? else { return None };
                let access = if access == Access::Arena { Access::Probe } else { access };
                self.push(Insn::WideLoad { dst: reg(dst), address, access });
            }
            Op::WideStore { place, src } => {
                let Way::Native { address, access } = self.way(place)? else { return None };
                self.push(Insn::WideStore { address, src: reg(src), access });
            }
            Op::Spread { lanes, dst, src } => {
                let src = self.in_register(operand(Width::W64, src));
                self.spread(lanes, reg(dst), src);
            }
            Op::WideAlu { lanes, op, dst, a, b } => {
                let op = match op {
                    AluOp::Add => WideOp::Add(lanes),
                    AluOp::Sub => WideOp::Sub(lanes),
                    AluOp::And => WideOp::And,
                    AluOp::Or => WideOp::Or,
                    AluOp::Xor => WideOp::Xor,
                    _ => return None,
                };
                self.push(Insn::WideAlu { op, dst: reg(dst), a: reg(a), b: reg(b) });
            }
            Op::WideEqual { lanes, dst, a, b } => {
                let op = WideOp::Equal(lanes);
                self.push(Insn::WideAlu { op, dst: reg(dst), a: reg(a), b: reg(b) });
            }
            Op::Bits { dst, src } => self.push(Insn::SignBits { dst: reg(dst), src: reg(src) }),
            Op::Fold { lanes, op, dst, src } => self.fold(lanes, op, reg(dst), reg(src))?,
            Op::TrailingZeros { dst, src } => {
                self.push(Insn::TrailingZeros { dst: reg(dst), src: reg(src) });
            }
            _ => return None,
        }
        Some(())
    }

    fn wide_temp(&mut self) -> Reg {
        self.function.new_reg(Class::Wide)
    }

    /// A new register that holds `a op b`.
    fn wide_alu(&mut self, op: WideOp, a: Reg, b: Reg) -> Reg {
        let dst = self.wide_temp();
        self.push(Insn::WideAlu { op, dst, a, b });
        dst
    }

    /// All lanes the low part of a number.
    fn spread(&mut self, lanes: Size, dst: Reg, src: Reg) {
        let mut low = self.wide_temp();
        self.push(Insn::ToWide { dst: low, src });
        if lanes == Size::B {
            low = self.wide_alu(WideOp::InterleaveLow(Size::B), low, low);
        }
        if matches!(lanes, Size::B | Size::H) {
            let words = self.wide_temp();
            self.push(Insn::Shuffle { low_words: true, dst: words, src: low, order: 0 });
            low = words;
        }
        match lanes {
            Size::DW => {
                self.push(Insn::WideAlu { op: WideOp::InterleaveLow(Size::DW), dst, a: low, b: low });
            }
            _ => self.push(Insn::Shuffle { low_words: false, dst, src: low, order: 0 }),
        }
    }

    /// All lanes combined, as a number of 64 bits. Sums are of lanes that are as wide as they must be to hold them.
    fn fold(&mut self, lanes: Size, op: AluOp, dst: Reg, src: Reg) -> Option<()> {
        let mut value = src;
        if op == AluOp::Add {
            let zero = self.wide_temp();
            self.push(Insn::WideZero { dst: zero });
            let wider = [(Size::B, Size::H), (Size::H, Size::W), (Size::W, Size::DW)];
            for (from, to) in wider.into_iter().skip_while(|(from, _)| *from != lanes) {
                let low = self.wide_alu(WideOp::InterleaveLow(from), value, zero);
                let high = self.wide_alu(WideOp::InterleaveHigh(from), value, zero);
                value = self.wide_alu(WideOp::Add(to), low, high);
            }
        }
        let (wide, narrow) = match op {
            AluOp::Add => (WideOp::Add(Size::DW), Alu::Add),
            AluOp::And => (WideOp::And, Alu::And),
            AluOp::Or => (WideOp::Or, Alu::Or),
            AluOp::Xor => (WideOp::Xor, Alu::Xor),
            _ => return None,
        };
        let upper = self.wide_temp();
        self.push(Insn::Shuffle { low_words: false, dst: upper, src: value, order: UPPER_HALF });
        let both = self.wide_alu(wide, value, upper);
        if op == AluOp::Add {
            self.push(Insn::FromWide { dst, src: both });
            return Some(());
        }
        let mut folded = self.temp();
        self.push(Insn::FromWide { dst: folded, src: both });
        let mut bits = 64;
        while bits > lanes.bits() {
            bits /= 2;
            let [above, next] = [(); 2].map(|()| self.temp());
            let (op, by) = (Shift::Right, Src::Imm(bits.into()));
            self.push(Insn::Shift { op, width: Width::W64, dst: above, a: folded, by });
            self.push(Insn::alu(narrow, next, folded, Src::Reg(above)));
            folded = next;
        }
        let src = Src::Reg(folded);
        self.push(Insn::Extend { from: lanes, signed: false, width: Width::W64, dst, src });
        Some(())
    }
}
