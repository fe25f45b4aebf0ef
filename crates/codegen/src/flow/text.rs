//! Bodies as text, for fixtures and for people.
//!
//! `r0` to `r10` are the registers, `v11` and above the variables that passes made; `w` instead of `r` or `v` is the low half,
//! with a zero-extended result where it is assigned.

use std::fmt::{Display, Formatter, Result, Write};

use isa::{AluOp, AtomicOp, CallTarget, Cond, Imm64, SwapBits, Width};
use verifier::Memory;

use super::{Block, BlockId, Body, End, Op, Order, PacketIndex, Place, Src, Step, Test, Var};

impl Display for Body {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if !self.in_memory.is_empty() {
            f.write_str("in memory:")?;
            self.in_memory.iter().try_for_each(|var| write!(f, " {var}"))?;
            writeln!(f)?;
        }
        for (id, block) in self.each_block() {
            writeln!(f, "{id}:{}", if block.cold { " cold" } else { "" })?;
            write!(f, "{block}")?;
        }
        Ok(())
    }
}

impl Display for Block {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for step in &self.steps {
            writeln!(f, "    {step}")?;
        }
        writeln!(f, "    {}", self.end)
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.op.fmt(f)
    }
}

impl Display for BlockId {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "b{}", self.0)
    }
}

/// A variable as wide as it is used.
struct Part(Var, Width);

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self(Var(number), width) = *self;
        match width {
            Width::W32 => write!(f, "w{number}"),
            Width::W64 if number < Var::REGISTERS => write!(f, "r{number}"),
            Width::W64 => write!(f, "v{number}"),
        }
    }
}

impl Display for Var {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Part(*self, Width::W64).fmt(f)
    }
}

/// An operand as wide as it is used.
struct Operand(Src, Width);

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Src::Var(var) => Part(var, self.1).fmt(f),
            Src::Imm(imm) => imm.fmt(f),
        }
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let cond = match self.cond {
            Cond::Eq => "==",
            Cond::Ne => "!=",
            Cond::Gt => ">",
            Cond::Ge => ">=",
            Cond::Lt => "<",
            Cond::Le => "<=",
            Cond::SGt => "s>",
            Cond::SGe => "s>=",
            Cond::SLt => "s<",
            Cond::SLe => "s<=",
            Cond::Set => "&",
        };
        write!(f, "{} {cond} {}", Part(self.a, self.width), Operand(self.b, self.width))
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let memory = match self.memory {
            Memory::Arena => "arena",
            Memory::Kernel => "guarded",
            _ => "",
        };
        let clear = if self.clear { "clear " } else { "" };
        write!(f, "{memory}[{clear}{}", self.base)?;
        if let Some((index, shift)) = self.index {
            write!(f, " + ({index} << {shift})")?;
        }
        if self.offset != 0 {
            write!(f, " {:+}", self.offset)?;
        }
        f.write_char(']')
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        const WIDE: Width = Width::W64;
        match *self {
            Self::Alu { width, op, dst, a, b } => {
                write!(f, "{} = {} {} {}", Part(dst, width), Part(a, width), symbol(op), Operand(b, width))
            }
            Self::Neg { width, dst, src } => write!(f, "{} = -{}", Part(dst, width), Part(src, width)),
            Self::Mov { width, dst, src } => write!(f, "{} = {}", Part(dst, width), Operand(src, width)),
            Self::SignExtend { width, from, dst, src } => {
                write!(f, "{} = (s{}){}", Part(dst, width), from.bits(), Part(src, width))
            }
            Self::ZeroExtend { from, dst, src } => write!(f, "{dst} = (u{}){src}", from.bits()),
            Self::SwapBytes { bits, dst, src } => {
                let bits = match bits {
                    SwapBits::B16 => 16,
                    SwapBits::B32 => 32,
                    SwapBits::B64 => 64,
                };
                write!(f, "{dst} = swap{bits}({src})")
            }
            Self::Select { dst, test, yes, no } => {
                write!(f, "{dst} = {test} ? {} : {}", Operand(yes, WIDE), Operand(no, WIDE))
            }
            Self::Compare { dst, test } => write!(f, "{dst} = {test}"),
            Self::ToUser { dst, src } => write!(f, "{dst} = user({src})"),
            Self::Address { dst, of } => match of {
                Imm64::MapIdx(map) => write!(f, "{dst} = map {map}"),
                Imm64::MapIdxValue { map, offset } => write!(f, "{dst} = value of map {map} +{offset}"),
                other => write!(f, "{dst} = {other:?}"),
            },
            Self::Element { dst, map, key } => write!(f, "{dst} = element {key} of map {map}"),
            Self::Load { size, sign_extend, dst, place, order } => {
                let sign = if sign_extend { 's' } else { 'u' };
                write!(f, "{dst} = {}{sign}{} {place}", ordered(order, "acquire "), size.bits())
            }
            Self::Store { size, place, src, order } => {
                write!(f, "{}u{} {place} = {}", ordered(order, "release "), size.bits(), Operand(src, WIDE))
            }
            Self::Atomic { size, op, place, src, expected, old } => {
                if let Some(old) = old {
                    write!(f, "{old} = ")?;
                }
                write!(f, "atomic {} u{} {place}", atomic(op), size.bits())?;
                if let Some(expected) = expected {
                    write!(f, ", {expected}")?;
                }
                write!(f, ", {src}")
            }
            Self::LoadPacket { size, from, imm, dst, .. } => {
                write!(f, "{dst} = u{} packet[{imm}", size.bits())?;
                if let PacketIndex::Var(index) = from {
                    write!(f, " + {index}")?;
                }
                f.write_char(']')
            }
            Self::Call { target, stack, args, dst, .. } => {
                let [a, b, c, d, e] = args;
                match target {
                    CallTarget::Helper(number) => write!(f, "{dst} = helper {number}")?,
                    CallTarget::Local(offset) => write!(f, "{dst} = local {offset:+}")?,
                    CallTarget::Kfunc { btf_id, .. } => write!(f, "{dst} = kfunc {btf_id}")?,
                    CallTarget::Register(reg) => write!(f, "{dst} = call r{}", reg.number())?,
                }
                write!(f, "({a}, {b}, {c}, {d}, {e})")?;
                if stack == 0 { Ok(()) } else { write!(f, " stack {stack}") }
            }
            Self::Stopped { dst } => write!(f, "{dst} = stopped"),
            Self::Forget { vars: [a, b, c, d, e] } => write!(f, "forget {a}, {b}, {c}, {d}, {e}"),
            Self::BeginBudget { budget } => write!(f, "begin budget {}", budget.0),
            Self::Credit { budget, iterations } => {
                write!(f, "credit budget {} {}", budget.0, Operand(iterations, WIDE))
            }
            Self::WideLoad { dst, place } => write!(f, "{dst} = wide {place}"),
            Self::WideStore { place, src } => write!(f, "wide {place} = {src}"),
            Self::Spread { lanes, dst, src } => {
                write!(f, "{dst} = u{} lanes {}", lanes.bits(), Operand(src, WIDE))
            }
            Self::WideAlu { lanes, op, dst, a, b } => {
                write!(f, "{dst} = u{} lanes {a} {} {b}", lanes.bits(), symbol(op))
            }
            Self::WideEqual { lanes, dst, a, b } => {
                write!(f, "{dst} = u{} lanes {a} == {b}", lanes.bits())
            }
            Self::Bits { dst, src } => write!(f, "{dst} = bits {src}"),
            Self::Fold { lanes, op, dst, src } => {
                write!(f, "{dst} = all u{} lanes {} of {src}", lanes.bits(), symbol(op))
            }
            Self::TrailingZeros { dst, src } => write!(f, "{dst} = zeros below {src}"),
            Self::MissedWord { dst } => write!(f, "{dst} = missed word"),
            Self::Missed { dst, word } => write!(f, "{dst} = missed {word}"),
            Self::ForgetMissed { word } => write!(f, "forget missed {word}"),
        }
    }
}

impl Display for End {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match *self {
            Self::Jump(to) => write!(f, "goto {to}"),
            Self::Branch { test, taken, next } => write!(f, "if {test} goto {taken} else {next}"),
            Self::MayGoto { budget, taken, next } => {
                write!(f, "may_goto budget {} over {taken} else {next}", budget.0)
            }
            Self::Pretend { never, next } => write!(f, "never goto {never} else {next}"),
            Self::Look { taken, next } => write!(f, "look goto {taken} else {next}"),
            Self::Afford { budget, iterations, asks, enough, short } => {
                let take = if asks { "take" } else { "take left of" };
                write!(f, "{take} budget {} {iterations} goto {enough} short {short}", budget.0)
            }
            Self::Exit(value) => write!(f, "exit {value}"),
            Self::Trap => f.write_str("trap"),
        }
    }
}

fn ordered(order: Order, synchronizing: &'static str) -> &'static str {
    match order {
        Order::Plain => "",
        Order::Synchronizing => synchronizing,
    }
}

fn symbol(op: AluOp) -> &'static str {
    match op {
        AluOp::Add => "+",
        AluOp::Sub => "-",
        AluOp::Mul => "*",
        AluOp::Div => "/",
        AluOp::SDiv => "s/",
        AluOp::Or => "|",
        AluOp::And => "&",
        AluOp::Lsh => "<<",
        AluOp::Rsh => ">>",
        AluOp::Mod => "%",
        AluOp::SMod => "s%",
        AluOp::Xor => "^",
        AluOp::Arsh => "s>>",
    }
}

fn atomic(op: AtomicOp) -> &'static str {
    match op {
        AtomicOp::Add => "add",
        AtomicOp::Or => "or",
        AtomicOp::And => "and",
        AtomicOp::Xor => "xor",
        AtomicOp::Xchg => "xchg",
        AtomicOp::CmpXchg => "cmpxchg",
    }
}
