//! The instruction set, one row per form. Everything else in this crate reads these rows.
//!
//! A row gives the opcode byte, the conformance group, the values of the fields that are not operands (zero if
//! not mentioned), the kernel's spelling with a `{hole}` per operand, LLVM's spelling where it differs, the
//! operands, and the [`Insn`] - which is both the expression the decoder builds and the pattern the encoder
//! matches, so that they cannot disagree.
//!
//! Operands are named after the field that holds them:
//!
//! | operand | field | type |
//! | --- | --- | --- |
//! | `dst`, `src` | `dst_reg`, `src_reg` | `Reg` |
//! | `offset` | `offset` | `i16` |
//! | `near` | `offset` | `i32` |
//! | `imm`, `uimm` | `imm` | `i32`, `u32` |
//! | `dst_as`, `src_as` | high and low half of `imm` | `u16` |
//! | `next` | `imm` of the second slot | `u32` |
//! | `wide` | both `imm`s, the first being the low half | `u64` |
//!
//! The holes of the text are listed in [`crate::template`].

use crate::form::{FieldSet, Fields, Form, Group};
use crate::{
    AluOp, AtomicOp, ByteOrder, CallTarget, Cond, Imm64, Insn, JumpForm, Operand, PacketBase, RawField,
    RawInsn, Size, SwapBits, Width,
};

/// Opcode of the only instruction of two slots.
pub(crate) const LDDW: u8 = 0x18;

/// The whole table.
pub(crate) fn sections() -> [&'static [Form]; 8] {
    [
        ALU.as_flattened(),
        MOVES,
        LOADS_AND_STORES,
        READ_MODIFY_WRITES.as_flattened(),
        &EXCHANGES,
        ORDERED.as_flattened(),
        BRANCHES.as_flattened(),
        CONTROL,
    ]
}

macro_rules! bits {
    (dst) => {
        1 << RawField::DstReg as u8
    };
    (src) => {
        1 << RawField::SrcReg as u8
    };
    (offset) => {
        1 << RawField::Offset as u8
    };
    (near) => {
        1 << RawField::Offset as u8
    };
    (wide) => {
        1 << RawField::Imm as u8 | 1 << RawField::NextImm as u8
    };
    (next) => {
        1 << RawField::NextImm as u8
    };
    ($any_other:ident) => {
        1 << RawField::Imm as u8
    };
}

macro_rules! get {
    (dst, $f:ident) => {
        $f.dst()?
    };
    (src, $f:ident) => {
        $f.src()?
    };
    (offset, $f:ident) => {
        $f.raw.offset
    };
    (near, $f:ident) => {
        i32::from($f.raw.offset)
    };
    (imm, $f:ident) => {
        $f.raw.imm
    };
    (uimm, $f:ident) => {
        $f.raw.imm.cast_unsigned()
    };
    (dst_as, $f:ident) => {
        halves($f.raw.imm).0
    };
    (src_as, $f:ident) => {
        halves($f.raw.imm).1
    };
    (next, $f:ident) => {
        $f.next_imm.cast_unsigned()
    };
    (wide, $f:ident) => {
        u64::from($f.next_imm.cast_unsigned()) << 32 | u64::from($f.raw.imm.cast_unsigned())
    };
}

macro_rules! put {
    (dst, $f:ident, $v:ident) => {
        $f.raw.dst_reg = $v.number()
    };
    (src, $f:ident, $v:ident) => {
        $f.raw.src_reg = $v.number()
    };
    (offset, $f:ident, $v:ident) => {
        $f.raw.offset = $v
    };
    (near, $f:ident, $v:ident) => {
        $f.raw.offset = i16::try_from($v).ok()?
    };
    (imm, $f:ident, $v:ident) => {
        $f.raw.imm = $v
    };
    (uimm, $f:ident, $v:ident) => {
        $f.raw.imm = $v.cast_signed()
    };
    (dst_as, $f:ident, $v:ident) => {
        $f.raw.imm |= (u32::from($v) << 16).cast_signed()
    };
    (src_as, $f:ident, $v:ident) => {
        $f.raw.imm |= i32::from($v)
    };
    (next, $f:ident, $v:ident) => {
        $f.next_imm = $v.cast_signed()
    };
    (wide, $f:ident, $v:ident) => {{ ($f.raw.imm, $f.next_imm) = low_and_high($v) }};
}

macro_rules! row {
    ($opcode:expr, $group:ident, { $($fixed:ident: $value:expr),* }, $syntax:expr $(, $alias:expr)*;
     ($($operand:ident),*) => $($insn:tt)+) => {
        Form {
            opcode: $opcode,
            group: Group::$group,
            syntax: $syntax,
            aliases: &[$($alias),*],
            fixed: fixed(RawInsn { $($fixed: $value,)* ..slot($opcode) }),
            operands: FieldSet(0 $(| bits!($operand))*),
            read: |_fields| {
                $(let $operand = get!($operand, _fields);)*
                Ok($($insn)+)
            },
            write: |insn| match *insn {
                $($insn)+ => {
                    #[allow(unused_mut, reason = "rows without operands")]
                    let mut fields = fixed(RawInsn { $($fixed: $value,)* ..slot($opcode) });
                    $(put!($operand, fields, $operand);)*
                    Some(fields)
                }
                _ => None,
            },
        }
    };
}

const fn slot(opcode: u8) -> RawInsn {
    RawInsn { opcode, dst_reg: 0, src_reg: 0, offset: 0, imm: 0 }
}

const fn fixed(raw: RawInsn) -> Fields {
    Fields { raw, next_imm: 0 }
}

#[allow(clippy::cast_possible_truncation, reason = "splits a word into its halves")]
const fn halves(imm: i32) -> (u16, u16) {
    ((imm.cast_unsigned() >> 16) as u16, imm.cast_unsigned() as u16)
}

#[allow(clippy::cast_possible_truncation, reason = "splits a double word into its halves")]
const fn low_and_high(wide: u64) -> (i32, i32) {
    (wide as i32, (wide >> 32) as i32)
}

/// Four rows per operation: `ALU` and `ALU64`, each with an immediate and with a register.
macro_rules! alu {
    ($($op:ident $code:literal offset $offset:literal $sign:literal $group32:ident $group64:ident;)+) => {
        [$([
            row!($code | 0x04, $group32, { offset: $offset }, concat!("w{dst} ", $sign, " {imm32}"); (dst, imm) =>
                Insn::Alu { width: Width::W32, op: AluOp::$op, dst, src: Operand::Imm(imm) }),
            row!($code | 0x0c, $group32, { offset: $offset }, concat!("w{dst} ", $sign, " w{src}"); (dst, src) =>
                Insn::Alu { width: Width::W32, op: AluOp::$op, dst, src: Operand::Reg(src) }),
            row!($code | 0x07, $group64, { offset: $offset }, concat!("r{dst} ", $sign, " {imm}"); (dst, imm) =>
                Insn::Alu { width: Width::W64, op: AluOp::$op, dst, src: Operand::Imm(imm) }),
            row!($code | 0x0f, $group64, { offset: $offset }, concat!("r{dst} ", $sign, " r{src}"); (dst, src) =>
                Insn::Alu { width: Width::W64, op: AluOp::$op, dst, src: Operand::Reg(src) }),
        ]),+]
    };
}

static ALU: [[Form; 4]; 13] = alu! {
    Add  0x00 offset 0 "+="   Base32 Base64;
    Sub  0x10 offset 0 "-="   Base32 Base64;
    Mul  0x20 offset 0 "*="   DivMul32 DivMul64;
    Div  0x30 offset 0 "/="   DivMul32 DivMul64;
    SDiv 0x30 offset 1 "s/="  DivMul32 DivMul64;
    Or   0x40 offset 0 "|="   Base32 Base64;
    And  0x50 offset 0 "&="   Base32 Base64;
    Lsh  0x60 offset 0 "<<="  Base32 Base64;
    Rsh  0x70 offset 0 ">>="  Base32 Base64;
    Mod  0x90 offset 0 "%="   DivMul32 DivMul64;
    SMod 0x90 offset 1 "s%="  DivMul32 DivMul64;
    Xor  0xa0 offset 0 "^="   Base32 Base64;
    Arsh 0xc0 offset 0 "s>>=" Base32 Base64;
};

macro_rules! swap {
    ($opcode:literal $group:ident $text:literal $order:ident $bits:ident $imm:literal) => {
        row!($opcode, $group, { imm: $imm }, concat!("r{dst} = ", $text, " r{dst}"); (dst) =>
            Insn::ByteSwap { order: ByteOrder::$order, bits: SwapBits::$bits, dst })
    };
}

macro_rules! movsx {
    ($opcode:literal $group:ident $offset:literal $text:literal $width:ident $from:ident) => {
        row!($opcode, $group, { offset: $offset }, $text; (dst, src) =>
            Insn::MovSx { width: Width::$width, from: Size::$from, dst, src })
    };
}

static MOVES: &[Form] = &[
    row!(0x84, Base32, {}, "w{dst} = -w{dst}"; (dst) => Insn::Neg { width: Width::W32, dst }),
    row!(0x87, Base64, {}, "r{dst} = -r{dst}"; (dst) => Insn::Neg { width: Width::W64, dst }),
    row!(0xb4, Base32, {}, "w{dst} = {imm32}"; (dst, imm) =>
        Insn::Mov { width: Width::W32, dst, src: Operand::Imm(imm) }),
    row!(0xbc, Base32, {}, "w{dst} = w{src}"; (dst, src) =>
        Insn::Mov { width: Width::W32, dst, src: Operand::Reg(src) }),
    row!(0xb7, Base64, {}, "r{dst} = {dec}"; (dst, imm) =>
        Insn::Mov { width: Width::W64, dst, src: Operand::Imm(imm) }),
    row!(0xbf, Base64, {}, "r{dst} = r{src}"; (dst, src) =>
        Insn::Mov { width: Width::W64, dst, src: Operand::Reg(src) }),
    movsx!(0xbc Base32  8 "w{dst} = (s8)w{src}" W32 B),
    movsx!(0xbc Base32 16 "w{dst} = (s16)w{src}" W32 H),
    movsx!(0xbf Base64  8 "r{dst} = (s8)r{src}" W64 B),
    movsx!(0xbf Base64 16 "r{dst} = (s16)r{src}" W64 H),
    movsx!(0xbf Base64 32 "r{dst} = (s32)r{src}" W64 W),
    swap!(0xd4 Base32 "le16" ToLe B16 16),
    swap!(0xd4 Base32 "le32" ToLe B32 32),
    swap!(0xd4 Base64 "le64" ToLe B64 64),
    swap!(0xdc Base32 "be16" ToBe B16 16),
    swap!(0xdc Base32 "be32" ToBe B32 32),
    swap!(0xdc Base64 "be64" ToBe B64 64),
    swap!(0xd7 Base32 "bswap16" Swap B16 16),
    swap!(0xd7 Base32 "bswap32" Swap B32 32),
    swap!(0xd7 Base64 "bswap64" Swap B64 64),
    row!(0xbf, Linux, { offset: 1 }, "r{dst} = addr_space_cast(r{src}, {dst_as}, {src_as})";
        (dst, src, dst_as, src_as) => Insn::AddrSpaceCast { dst, src, dst_as, src_as }),
    // The kernel's text has a bare number for all of these; the bracketed ones are bpftool's idea.
    row!(LDDW, Base64, {}, "r{dst} = {wide}", "r{dst} = {any64} ll"; (dst, wide) =>
        Insn::LoadImm64 { dst, value: Imm64::Const(wide) }),
    row!(LDDW, Base64, { src_reg: 1 }, "r{dst} = map[fd:{int}]"; (dst, imm) =>
        Insn::LoadImm64 { dst, value: Imm64::MapFd(imm) }),
    row!(LDDW, Base64, { src_reg: 2 }, "r{dst} = map[fd:{int}][0]+{next}"; (dst, imm, next) =>
        Insn::LoadImm64 { dst, value: Imm64::MapValue { fd: imm, offset: next } }),
    row!(LDDW, Base64, { src_reg: 3 }, "r{dst} = btf_var[id:{int},fd:{next}]"; (dst, imm, next) =>
        Insn::LoadImm64 { dst, value: Imm64::BtfVar { btf_id: imm, btf_fd: next } }),
    row!(LDDW, Base64, { src_reg: 4 }, "r{dst} = subprog[{func}]"; (dst, imm) =>
        Insn::LoadImm64 { dst, value: Imm64::Func(imm) }),
    row!(LDDW, Base64, { src_reg: 5 }, "r{dst} = map[idx:{uint}]"; (dst, uimm) =>
        Insn::LoadImm64 { dst, value: Imm64::MapIdx(uimm) }),
    row!(LDDW, Base64, { src_reg: 6 }, "r{dst} = map[idx:{uint}][0]+{next}"; (dst, uimm, next) =>
        Insn::LoadImm64 { dst, value: Imm64::MapIdxValue { map: uimm, offset: next } }),
];

macro_rules! load {
    ($opcode:literal $group:ident $ty:literal $size:ident $sx:literal $($alias:literal)?) => {
        row!($opcode, $group, {}, concat!("r{dst} = *(", $ty, " *)(r{src} {off})")
            $(, concat!($alias, "{dst} = *(", $ty, " *)(r{src} {off})"))?; (dst, src, offset) =>
            Insn::Load { size: Size::$size, sign_extend: $sx, dst, base: src, offset })
    };
}

macro_rules! store {
    ($opcode:literal reg $group:ident $ty:literal $size:ident $($alias:literal)?) => {
        row!($opcode, $group, {}, concat!("*(", $ty, " *)(r{dst} {off}) = r{src}")
            $(, concat!("*(", $ty, " *)(r{dst} {off}) = ", $alias, "{src}"))?; (dst, src, offset) =>
            Insn::Store { size: Size::$size, base: dst, offset, src: Operand::Reg(src) })
    };
    ($opcode:literal imm $group:ident $ty:literal $size:ident) => {
        row!($opcode, $group, {}, concat!("*(", $ty, " *)(r{dst} {off}) = {imm}"); (dst, imm, offset) =>
            Insn::Store { size: Size::$size, base: dst, offset, src: Operand::Imm(imm) })
    };
}

macro_rules! packet {
    (abs $opcode:literal $ty:literal $size:ident) => {
        row!($opcode, Packet, {}, concat!("r0 = *(", $ty, " *)skb[{int}]"); (imm) =>
            Insn::LoadPacket { size: Size::$size, from: PacketBase::Abs, imm })
    };
    (ind $opcode:literal $ty:literal $size:ident) => {
        row!($opcode, Packet, {}, concat!("r0 = *(", $ty, " *)skb[r{src} + {int}]"),
            concat!("r0 = *(", $ty, " *)skb[r{src}]"); (src, imm) =>
            Insn::LoadPacket { size: Size::$size, from: PacketBase::Ind(src), imm })
    };
}

static LOADS_AND_STORES: &[Form] = &[
    load!(0x61 Base32 "u32" W false "w"),
    load!(0x69 Base32 "u16" H false "w"),
    load!(0x71 Base32 "u8" B false "w"),
    load!(0x79 Base64 "u64" DW false),
    load!(0x81 Base32 "s32" W true),
    load!(0x89 Base32 "s16" H true),
    load!(0x91 Base32 "s8" B true),
    store!(0x62 imm Base32 "u32" W),
    store!(0x6a imm Base32 "u16" H),
    store!(0x72 imm Base32 "u8" B),
    store!(0x7a imm Base64 "u64" DW),
    store!(0x63 reg Base32 "u32" W "w"),
    store!(0x6b reg Base32 "u16" H "w"),
    store!(0x73 reg Base32 "u8" B "w"),
    store!(0x7b reg Base64 "u64" DW),
    packet!(abs 0x20 "u32" W),
    packet!(abs 0x28 "u16" H),
    packet!(abs 0x30 "u8" B),
    packet!(ind 0x40 "u32" W),
    packet!(ind 0x48 "u16" H),
    packet!(ind 0x50 "u8" B),
];

const FETCH: i32 = 0x01;
const LOAD_ACQUIRE: i32 = 0x100;
const STORE_RELEASE: i32 = 0x110;

macro_rules! atomic {
    (plain $op:ident $imm:literal $sign:literal) => {
        [
            row!(0xc3, Atomic32, { imm: $imm }, concat!("lock *(u32 *)(r{dst} {off}) ", $sign, " r{src}"),
                concat!("lock *(u32 *)(r{dst} {off}) ", $sign, " w{src}"); (dst, src, offset) =>
                Insn::Atomic { size: Size::W, op: AtomicOp::$op, fetch: false, base: dst, offset, src }),
            row!(0xdb, Atomic64, { imm: $imm }, concat!("lock *(u64 *)(r{dst} {off}) ", $sign, " r{src}");
                (dst, src, offset) =>
                Insn::Atomic { size: Size::DW, op: AtomicOp::$op, fetch: false, base: dst, offset, src }),
        ]
    };
    (fetch $op:ident $imm:literal $name:literal) => {
        [
            row!(0xc3, Atomic32, { imm: $imm | FETCH },
                concat!("r{src} = atomic_fetch_", $name, "((u32 *)(r{dst} {off}), r{src})"),
                concat!("w{src} = atomic_fetch_", $name, "((u32 *)(r{dst} {off}), w{src})"); (dst, src, offset) =>
                Insn::Atomic { size: Size::W, op: AtomicOp::$op, fetch: true, base: dst, offset, src }),
            row!(0xdb, Atomic64, { imm: $imm | FETCH },
                concat!("r{src} = atomic64_fetch_", $name, "((u64 *)(r{dst} {off}), r{src})"),
                concat!("r{src} = atomic_fetch_", $name, "((u64 *)(r{dst} {off}), r{src})"); (dst, src, offset) =>
                Insn::Atomic { size: Size::DW, op: AtomicOp::$op, fetch: true, base: dst, offset, src }),
        ]
    };
    ($opcode:literal $group:ident $size:ident $op:ident $imm:literal $text:literal $alias:literal) => {
        row!($opcode, $group, { imm: $imm }, $text, $alias; (dst, src, offset) =>
            Insn::Atomic { size: Size::$size, op: AtomicOp::$op, fetch: true, base: dst, offset, src })
    };
}

macro_rules! ordered {
    ($opcode:literal $ty:literal $size:ident $reg:literal) => {
        [
            row!($opcode, Linux, { imm: LOAD_ACQUIRE },
                concat!("r{dst} = load_acquire((", $ty, " *)(r{src} {off}))"),
                concat!($reg, "{dst} = load_acquire((", $ty, " *)(r{src} {off}))"); (dst, src, offset) =>
                Insn::LoadAcquire { size: Size::$size, dst, base: src, offset }),
            row!($opcode, Linux, { imm: STORE_RELEASE },
                concat!("store_release((", $ty, " *)(r{dst} {off}), r{src})"),
                concat!("store_release((", $ty, " *)(r{dst} {off}), ", $reg, "{src})"); (dst, src, offset) =>
                Insn::StoreRelease { size: Size::$size, base: dst, offset, src }),
        ]
    };
}

static EXCHANGES: [Form; 4] = [
    atomic!(0xc3 Atomic32 W Xchg 0xe1 "r{src} = atomic_xchg((u32 *)(r{dst} {off}), r{src})"
        "w{src} = xchg32_32(r{dst} {off}, w{src})"),
    atomic!(0xdb Atomic64 DW Xchg 0xe1 "r{src} = atomic64_xchg((u64 *)(r{dst} {off}), r{src})"
        "r{src} = xchg_64(r{dst} {off}, r{src})"),
    atomic!(0xc3 Atomic32 W CmpXchg 0xf1 "r0 = atomic_cmpxchg((u32 *)(r{dst} {off}), r0, r{src})"
        "w0 = cmpxchg32_32(r{dst} {off}, w0, w{src})"),
    atomic!(0xdb Atomic64 DW CmpXchg 0xf1 "r0 = atomic64_cmpxchg((u64 *)(r{dst} {off}), r0, r{src})"
        "r0 = cmpxchg_64(r{dst} {off}, r0, r{src})"),
];

static READ_MODIFY_WRITES: [[Form; 2]; 8] = [
    atomic!(plain Add 0x00 "+="),
    atomic!(plain Or  0x40 "|="),
    atomic!(plain And 0x50 "&="),
    atomic!(plain Xor 0xa0 "^="),
    atomic!(fetch Add 0x00 "add"),
    atomic!(fetch Or  0x40 "or"),
    atomic!(fetch And 0x50 "and"),
    atomic!(fetch Xor 0xa0 "xor"),
];

static ORDERED: [[Form; 2]; 4] = [
    ordered!(0xd3 "u8" B "w"),
    ordered!(0xcb "u16" H "w"),
    ordered!(0xc3 "u32" W "w"),
    ordered!(0xdb "u64" DW "r"),
];

/// Four rows per condition: `JMP32` and `JMP`, each with an immediate and with a register.
macro_rules! branch {
    ($($cond:ident $code:literal $sign:literal;)+) => {
        [$([
            row!($code | 0x06, Base32, {}, concat!("if w{dst} ", $sign, " {hex} goto {near}"); (dst, imm, offset) =>
                Insn::Branch { width: Width::W32, cond: Cond::$cond, dst, src: Operand::Imm(imm), offset }),
            row!($code | 0x0e, Base32, {}, concat!("if w{dst} ", $sign, " w{src} goto {near}"); (dst, src, offset) =>
                Insn::Branch { width: Width::W32, cond: Cond::$cond, dst, src: Operand::Reg(src), offset }),
            row!($code | 0x05, Base64, {}, concat!("if r{dst} ", $sign, " {hex} goto {near}"); (dst, imm, offset) =>
                Insn::Branch { width: Width::W64, cond: Cond::$cond, dst, src: Operand::Imm(imm), offset }),
            row!($code | 0x0d, Base64, {}, concat!("if r{dst} ", $sign, " r{src} goto {near}"); (dst, src, offset) =>
                Insn::Branch { width: Width::W64, cond: Cond::$cond, dst, src: Operand::Reg(src), offset }),
        ]),+]
    };
}

static BRANCHES: [[Form; 4]; 11] = branch! {
    Eq  0x10 "==";
    Gt  0x20 ">";
    Ge  0x30 ">=";
    Set 0x40 "&";
    Ne  0x50 "!=";
    SGt 0x60 "s>";
    SGe 0x70 "s>=";
    Lt  0xa0 "<";
    Le  0xb0 "<=";
    SLt 0xc0 "s<";
    SLe 0xd0 "s<=";
};

static CONTROL: &[Form] = &[
    row!(0x05, Base32, {}, "goto {near}"; (near) => Insn::Jump { form: JumpForm::Short, offset: near }),
    row!(0x06, Base32, {}, "gotol {far}"; (imm) => Insn::Jump { form: JumpForm::Long, offset: imm }),
    row!(0x85, Base32, {}, "call {helper}"; (uimm) => Insn::Call { target: CallTarget::Helper(uimm) }),
    row!(0x85, Base32, { src_reg: 1 }, "call {far}"; (imm) => Insn::Call { target: CallTarget::Local(imm) }),
    row!(0x85, Base32, { src_reg: 2 }, "call {kfunc}"; (imm, offset) =>
        Insn::Call { target: CallTarget::Kfunc { btf_id: imm, module: offset } }),
    // IANA's registry has EXIT in base32, the group every implementation must support.
    row!(0x95, Base32, {}, "exit"; () => Insn::Exit),
    row!(0x8d, Linux, {}, "callx r{dst}"; (dst) => Insn::Call { target: CallTarget::Register(dst) }),
    row!(0x0d, Linux, {}, "gotox r{dst}"; (dst) => Insn::IndirectJump { target: dst }),
    row!(0xe5, Linux, {}, "may_goto {near}"; (offset) => Insn::MayGoto { offset }),
];
