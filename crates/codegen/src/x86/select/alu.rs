//! Arithmetic. Shifts use the low 5 or 6 bits of the amount, as the machine does.

use isa::{AluOp, Size, SwapBits, Width};

use super::super::insn::{Alu, Insn, Reg, Shift, Src, low_half};
use super::{Select, operand, reg};
use crate::flow::{self, Var};

impl Select<'_> {
    pub(super) fn alu(&mut self, width: Width, op: AluOp, dst: Var, a: Var, b: flow::Src) -> Option<()> {
        let (dst, a, b) = (reg(dst), reg(a), operand(width, b));
        let simple = |op| Insn::Alu { op, width, dst, a, b };
        let insn = match op {
            AluOp::Add => simple(Alu::Add),
            AluOp::Sub => match b {
                // `lea` can add.
                Src::Imm(imm) if imm != i64::MIN => {
                    let imm = if width == Width::W32 { low_half(-imm) } else { -imm };
                    Insn::Alu { op: Alu::Add, width, dst, a, b: Src::Imm(imm) }
                }
                _ => simple(Alu::Sub),
            },
            AluOp::Mul => match b {
                Src::Imm(imm) => match power_of_two(width, imm) {
                    Some(0) => Insn::Mov { width, dst, src: Src::Reg(a) },
                    Some(bits) => Insn::Shift { op: Shift::Left, width, dst, a, by: Src::Imm(bits.into()) },
                    None => simple(Alu::Mul),
                },
                _ => simple(Alu::Mul),
            },
            AluOp::Or => simple(Alu::Or),
            AluOp::And => simple(Alu::And),
            AluOp::Xor => simple(Alu::Xor),
            AluOp::Lsh => self.shift(Shift::Left, width, dst, a, b),
            AluOp::Rsh => self.shift(Shift::Right, width, dst, a, b),
            AluOp::Arsh => self.shift(Shift::Arithmetic, width, dst, a, b),
            AluOp::Div => return self.divide(width, false, dst, a, b),
            AluOp::Mod => return self.divide(width, true, dst, a, b),
            AluOp::SDiv | AluOp::SMod => {
                let b = self.in_register(b);
                Insn::Div { width, signed: true, remainder: op == AluOp::SMod, dst, a, b }
            }
        };
        self.push(insn);
        Some(())
    }

    fn shift(&mut self, op: Shift, width: Width, dst: Reg, a: Reg, by: Src) -> Insn {
        let bits = i64::from(bits(width));
        match by {
            Src::Imm(by) if by & (bits - 1) == 0 => Insn::Mov { width, dst, src: Src::Reg(a) },
            Src::Imm(by) => Insn::Shift { op, width, dst, a, by: Src::Imm(by & (bits - 1)) },
            by => Insn::Shift { op, width, dst, a, by },
        }
    }

    /// An operand as a register.
    pub(super) fn in_register(&mut self, src: Src) -> Reg {
        match src {
            Src::Reg(reg) => reg,
            src => {
                let dst = self.temp();
                self.push(Insn::Mov { width: Width::W64, dst, src });
                dst
            }
        }
    }

    /// Unsigned division; by a number without dividing.
    fn divide(&mut self, width: Width, remainder: bool, dst: Reg, a: Reg, b: Src) -> Option<()> {
        let divisor = match b {
            Src::Imm(imm) if width == Width::W32 => imm.cast_unsigned() & 0xffff_ffff,
            Src::Imm(imm) => imm.cast_unsigned(),
            b => {
                let b = self.in_register(b);
                self.push(Insn::Div { width, signed: false, remainder, dst, a, b });
                return Some(());
            }
        };
        let insn = match (divisor, remainder) {
            // By 0 gives 0, modulo 0 leaves the dividend.
            (0, false) | (1, true) => Insn::Mov { width: Width::W64, dst, src: Src::Imm(0) },
            (0, true) | (1, false) => Insn::Mov { width, dst, src: Src::Reg(a) },
            (divisor, _) if divisor.is_power_of_two() => {
                let bits = i64::from(divisor.trailing_zeros());
                match remainder {
                    false => Insn::Shift { op: Shift::Right, width, dst, a, by: Src::Imm(bits) },
                    true => {
                        let mask = (divisor - 1).cast_signed();
                        let mask = if width == Width::W32 { low_half(mask) } else { mask };
                        Insn::Alu { op: Alu::And, width, dst, a, b: Src::Imm(mask) }
                    }
                }
            }
            _ => {
                let quotient = match width {
                    Width::W32 => self.quotient_32(a, divisor),
                    Width::W64 => self.quotient_64(a, divisor)?,
                };
                match remainder {
                    false => Insn::Mov { width: Width::W64, dst, src: Src::Reg(quotient) },
                    true => {
                        let product = self.temp();
                        let b = if width == Width::W32 {
                            low_half(divisor.cast_signed())
                        } else {
                            divisor.cast_signed()
                        };
                        self.push(Insn::Alu {
                            op: Alu::Mul,
                            width,
                            dst: product,
                            a: quotient,
                            b: Src::Imm(b),
                        });
                        Insn::Alu { op: Alu::Sub, width, dst, a, b: Src::Reg(product) }
                    }
                }
            }
        };
        self.push(insn);
        Some(())
    }

    /// The upper half of the product with 2^64 / divisor, rounded up: exact for dividends and divisors of 32 bits.
    fn quotient_32(&mut self, a: Reg, divisor: u64) -> Reg {
        let factor = u64::MAX / divisor + 1;
        let low = self.temp();
        self.push(Insn::Mov { width: Width::W32, dst: low, src: Src::Reg(a) });
        let b = self.number(factor.cast_signed());
        let dst = self.temp();
        self.push(Insn::MulHigh { dst, a: low, b });
        dst
    }

    /// As for 32 bits with as many bits as it takes; if the factor has 65 (Granlund and Montgomery, "Division by Invariant Integers
    /// using Multiplication"), the uppermost one is added behind.
    fn quotient_64(&mut self, a: Reg, divisor: u64) -> Option<Reg> {
        let log = divisor.ilog2();
        let (wide, power) = (u128::from(divisor), 1_u128.checked_shl(64 + log)?);
        let factor = power.div_ceil(wide);
        let exact = factor * wide - power <= 1_u128 << log;
        let high = self.temp();
        let dst = self.temp();
        if exact {
            let b = self.number(u64::try_from(factor).ok()?.cast_signed());
            self.push(Insn::MulHigh { dst: high, a, b });
            let by = Src::Imm(log.into());
            self.push(Insn::Shift { op: Shift::Right, width: Width::W64, dst, a: high, by });
            return Some(dst);
        }
        // 2^(65 + log) / divisor, rounded up, without its uppermost bit.
        let (quotient, rest) = (power / wide, power % wide);
        let doubled = quotient * 2 + (rest * 2).div_ceil(wide);
        let factor = u64::try_from(doubled & u128::from(u64::MAX)).ok()?;
        let b = self.number(factor.cast_signed());
        self.push(Insn::MulHigh { dst: high, a, b });
        let [difference, half, sum] = [(); 3].map(|()| self.temp());
        self.push(Insn::alu(Alu::Sub, difference, a, Src::Reg(high)));
        let (op, width) = (Shift::Right, Width::W64);
        self.push(Insn::Shift { op, width, dst: half, a: difference, by: Src::Imm(1) });
        self.push(Insn::add(sum, half, Src::Reg(high)));
        match log {
            0 => self.push(Insn::Mov { width, dst, src: Src::Reg(sum) }),
            log => self.push(Insn::Shift { op, width, dst, a: sum, by: Src::Imm(log.into()) }),
        }
        Some(dst)
    }

    pub(super) fn swap_bytes(&mut self, bits: SwapBits, dst: Var, src: Var) {
        let size = match bits {
            SwapBits::B16 => Size::H,
            SwapBits::B32 => Size::W,
            SwapBits::B64 => Size::DW,
        };
        self.push(Insn::SwapBytes { size, dst: reg(dst), src: reg(src) });
    }
}

/// Bits of a width.
pub(super) fn bits(width: Width) -> u8 {
    match width {
        Width::W32 => 32,
        Width::W64 => 64,
    }
}

/// The logarithm of a number that is a power of two.
fn power_of_two(width: Width, imm: i64) -> Option<u32> {
    let value = match width {
        Width::W32 => imm.cast_unsigned() & 0xffff_ffff,
        Width::W64 => imm.cast_unsigned(),
    };
    value.is_power_of_two().then(|| value.trailing_zeros())
}
