//! What is written, as text.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use isa::{AtomicOp, InsnIdx, Size, Width};

use super::*;
use crate::x86::insn::{Alu, Block, Callee, Cc, Class, End, Insn, Shift, Src, Test, WideOp};

const RAX: Reg = Reg(0);
const RCX: Reg = Reg(1);
const RDX: Reg = Reg(2);
const RBX: Reg = Reg(3);
const RSI: Reg = Reg(6);
const RDI: Reg = Reg(7);
const R8: Reg = Reg(8);
const R9: Reg = Reg(9);
const R13: Reg = Reg(13);
const XMM0: Reg = Reg(16);
const XMM1: Reg = Reg(17);
const XMM9: Reg = Reg(25);

const W32: Width = Width::W32;
const W64: Width = Width::W64;

fn at(insn: u32) -> At {
    InsnIdx(insn).into()
}

fn block(insns: Vec<Insn>, end: End) -> Block {
    Block { insns: insns.into_iter().map(|insn| (insn, at(1))).collect(), end, at: at(2), cold: false }
}

/// Registers 0 to 15 are those of the machine, 16 to 31 the wide ones.
fn function(blocks: Vec<Block>) -> (Function, Vec<u8>) {
    let classes = [[Class::General; 16], [Class::Wide; 16]].concat();
    let order = (0..).take(blocks.len()).map(BlockId).collect();
    let function = Function { blocks, order, classes, slots: 4, context: Slot(0), params: Vec::new() };
    (function, (0..32).map(|number| number % 16).collect())
}

fn emitted(blocks: Vec<Block>) -> Emitted {
    let (function, assigned) = function(blocks);
    emit(&function, &assigned, &mut |_| 3).unwrap()
}

/// The instructions of a stretch of code.
fn text(emitted: &Emitted, from: u32, to: u32) -> Vec<String> {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_space_after_operand_separator(true);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_rip_relative_addresses(true);
    options.set_show_branch_size(false);
    let bytes = emitted.code.bytes.get(from as usize..to as usize).unwrap();
    Decoder::with_ip(64, bytes, u64::from(from), DecoderOptions::NONE)
        .iter()
        .map(|instruction| {
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            text
        })
        .collect()
}

/// The code that belongs to one instruction, in the order of its places.
fn of(emitted: &Emitted, insn: u32) -> Vec<String> {
    let ends = emitted.code.locations.iter().skip(1).map(|(offset, _)| *offset).chain([emitted.code.length]);
    let stretches = emitted.code.locations.iter().zip(ends).filter(|((_, place), _)| *place == at(insn));
    stretches.flat_map(|((from, _), to)| text(emitted, *from, to)).collect()
}

/// What an instruction becomes.
fn written(insn: Insn) -> Vec<String> {
    of(&emitted(vec![block(vec![insn], End::Trap)]), 1)
}

fn refused(insn: Insn) -> bool {
    let (function, assigned) = function(vec![block(vec![insn], End::Trap)]);
    emit(&function, &assigned, &mut |_| 0).is_err()
}

fn alu(op: Alu, width: Width, dst: Reg, a: Reg, b: Src) -> Vec<String> {
    written(Insn::Alu { op, width, dst, a, b })
}

#[test]
fn numbers_take_the_shortest_form() {
    let mov = |width, value| written(Insn::Mov { width, dst: R8, src: Src::Imm(value) }).join("; ");
    assert_eq!(mov(W64, 0), "xor r8d, r8d");
    assert_eq!(mov(W64, 0xffff_ffff), "mov r8d, 0xffffffff");
    assert_eq!(mov(W64, -2), "mov r8, 0xfffffffffffffffe");
    assert_eq!(mov(W64, 1 << 40), "mov r8, 0x10000000000");
    assert_eq!(mov(W32, -1), "mov r8d, 0xffffffff");
    assert_eq!(mov(W32, 1 << 32), "xor r8d, r8d");
}

#[test]
fn moves_of_32_bits_clear_the_upper_half() {
    assert_eq!(written(Insn::Mov { width: W32, dst: RAX, src: Src::Reg(RAX) }), ["mov eax, eax"]);
    assert!(written(Insn::Mov { width: W64, dst: RAX, src: Src::Reg(RAX) }).is_empty());
    assert_eq!(written(Insn::Mov { width: W64, dst: RAX, src: Src::Slot(Slot(2)) }), ["mov rax, [rbp-0x18]"]);
    assert_eq!(
        written(Insn::ToSlot { slot: Slot(1), src: Src::Imm(-1) }),
        ["mov qword ptr [rbp-0x10], 0xffffffffffffffff"]
    );
    assert!(refused(Insn::ToSlot { slot: Slot(1), src: Src::Imm(1 << 31) }));
    assert!(refused(Insn::ToSlot { slot: Slot(4), src: Src::Imm(1) }));
}

#[test]
fn three_operands_become_two() {
    use Alu::{Add, And, Mul, Or, Sub, Xor};
    let reg = Src::Reg;
    assert_eq!(alu(Add, W64, RAX, RAX, reg(RCX)), ["add rax, rcx"]);
    assert_eq!(alu(Add, W64, RCX, RAX, reg(RCX)), ["add rcx, rax"]);
    assert_eq!(alu(Add, W32, RDX, RAX, reg(RCX)), ["lea edx, [rax+rcx]"]);
    assert_eq!(alu(Add, W64, RDX, R13, reg(RCX)), ["lea rdx, [rcx+r13]"]);
    assert_eq!(alu(Add, W64, RDX, RDX, reg(RDX)), ["add rdx, rdx"]);
    assert_eq!(alu(Sub, W64, RCX, RAX, reg(RCX)), ["neg rcx", "add rcx, rax"]);
    assert_eq!(alu(Sub, W32, RDX, RAX, reg(RCX)), ["mov edx, eax", "sub edx, ecx"]);
    assert_eq!(alu(Sub, W64, RDX, RDX, reg(RDX)), ["sub rdx, rdx"]);
    assert_eq!(alu(Or, W64, RCX, RAX, reg(RCX)), ["or rcx, rax"]);
    assert_eq!(alu(Xor, W64, RDX, RAX, reg(RCX)), ["mov rdx, rax", "xor rdx, rcx"]);
    assert_eq!(alu(Mul, W64, RCX, RAX, reg(RCX)), ["imul rcx, rax"]);
    assert_eq!(alu(And, W64, RCX, RAX, Src::Slot(Slot(1))), ["mov rcx, rax", "and rcx, [rbp-0x10]"]);
}

#[test]
fn numbers_as_operands() {
    use Alu::{Add, And, Mul, Or, Sub, Xor};
    let imm = Src::Imm;
    assert_eq!(alu(Add, W64, RAX, RAX, imm(128)), ["sub rax, 0xffffffffffffff80"]);
    assert_eq!(alu(Add, W64, RAX, RCX, imm(128)), ["lea rax, [rcx+0x80]"]);
    assert_eq!(alu(Sub, W32, RAX, RCX, imm(1)), ["lea eax, [rcx-0x1]"]);
    assert_eq!(alu(Add, W32, RAX, RAX, imm(0)), ["mov eax, eax"]);
    assert_eq!(alu(And, W64, RAX, RCX, imm(0xff)), ["movzx eax, cl"]);
    assert_eq!(alu(And, W64, RSI, RSI, imm(0xffff)), ["movzx esi, si"]);
    assert_eq!(alu(And, W64, RAX, RCX, imm(0xffff_ffff)), ["mov eax, ecx"]);
    assert_eq!(alu(And, W64, RAX, RAX, imm(0xffff_fff0)), ["and eax, 0xfffffff0"]);
    assert_eq!(alu(And, W64, RAX, RAX, imm(-16)), ["and rax, 0xfffffffffffffff0"]);
    assert_eq!(alu(Xor, W32, RAX, RAX, imm(-1)), ["not eax"]);
    assert_eq!(alu(Mul, W64, RAX, RCX, imm(9)), ["lea rax, [rcx+rcx*8]"]);
    assert_eq!(alu(Mul, W64, RAX, RCX, imm(7)), ["imul rax, rcx, 0x7"]);
    assert_eq!(alu(Or, W32, RAX, RAX, imm(0x1_0000_0001)), ["or eax, 0x1"]);
}

#[test]
fn large_numbers_lie_behind_the_code() {
    let or = |dst, value| Insn::Alu { op: Alu::Or, width: W64, dst, a: RCX, b: Src::Imm(value) };
    let insns = vec![or(RAX, 0x1122_3344_5566_7788), or(RCX, 0x1122_3344_5566_7788), or(RCX, i64::MAX)];
    let emitted = emitted(vec![block(insns, End::Trap)]);
    let constants = &emitted.code.bytes[emitted.code.length as usize..];
    assert_eq!(constants, [0x1122_3344_5566_7788_i64.to_le_bytes(), i64::MAX.to_le_bytes()].concat());
    let (first, second) = (emitted.code.length, emitted.code.length + 8);
    assert_eq!(
        of(&emitted, 1),
        [
            "mov rax, rcx".to_owned(),
            format!("or rax, [rip+{:#x}]", first - (after(&emitted, "or rax"))),
            format!("or rcx, [rip+{:#x}]", first - (after(&emitted, "or rcx"))),
            format!("or rcx, [rip+{:#x}]", second - (emitted.code.length - 2)),
        ]
    );
}

/// Where the first such instruction ends.
fn after(emitted: &Emitted, start: &str) -> u32 {
    let ends = (0..=emitted.code.length).filter(|end| {
        let all = text(emitted, 0, *end);
        all.last().is_some_and(|last| last.starts_with(start))
    });
    ends.min().unwrap()
}

#[test]
fn shifts() {
    let shift = |op, dst, by| written(Insn::Shift { op, width: W64, dst, a: RCX, by }).join("; ");
    assert_eq!(shift(Shift::Left, RAX, Src::Imm(1)), "lea rax, [rcx+rcx]");
    assert_eq!(shift(Shift::Left, RAX, Src::Imm(3)), "lea rax, [rcx*8]");
    assert_eq!(shift(Shift::Left, RAX, Src::Imm(4)), "mov rax, rcx; shl rax, 0x4");
    assert_eq!(shift(Shift::Left, RCX, Src::Imm(1)), "add rcx, rcx");
    assert_eq!(shift(Shift::Arithmetic, RCX, Src::Imm(63)), "sar rcx, 0x3f");
    assert_eq!(shift(Shift::Rotate, RAX, Src::Imm(65)), "rorx rax, rcx, 0x1");
    assert_eq!(shift(Shift::Rotate, RCX, Src::Imm(13)), "ror rcx, 0xd");
    assert_eq!(shift(Shift::Right, RDX, Src::Reg(RDX)), "shrx rdx, rcx, rdx");
    assert_eq!(
        written(Insn::Shift { op: Shift::Left, width: W32, dst: RAX, a: RAX, by: Src::Imm(32) }),
        ["mov eax, eax"]
    );
}

#[test]
fn extensions_and_byte_orders() {
    let extend =
        |from, signed, width, src| written(Insn::Extend { from, signed, width, dst: RAX, src }).join("; ");
    assert_eq!(extend(Size::B, false, W64, Src::Reg(RSI)), "movzx eax, sil");
    assert_eq!(extend(Size::B, true, W32, Src::Reg(RAX)), "movsx eax, al");
    assert_eq!(extend(Size::W, true, W64, Src::Slot(Slot(3))), "movsxd rax, [rbp-0x20]");
    assert_eq!(extend(Size::W, false, W64, Src::Reg(RAX)), "mov eax, eax");
    let swap = |size, dst| written(Insn::SwapBytes { size, dst, src: RDI }).join("; ");
    assert_eq!(swap(Size::H, RAX), "mov eax, edi; rol ax, 0x8; movzx eax, ax");
    assert_eq!(swap(Size::W, RDI), "bswap edi");
    assert_eq!(swap(Size::DW, RAX), "mov rax, rdi; bswap rax");
}

fn test(a: Src, b: Src) -> Test {
    Test { cc: Cc::Below, and: false, width: W64, a, b }
}

#[test]
fn selection_keeps_flags() {
    let ab = test(Src::Reg(RCX), Src::Reg(RDX));
    let select = |yes, no| written(Insn::Select { dst: RAX, test: ab, yes, no }).split_off(1).join("; ");
    let (dst, other, third) = (Src::Reg(RAX), Src::Reg(RSI), Src::Reg(RDI));
    assert_eq!(select(dst, other), "cmovae rax, rsi");
    assert_eq!(select(other, dst), "cmovb rax, rsi");
    assert_eq!(select(other, third), "mov rax, rdi; cmovb rax, rsi");
    assert_eq!(select(dst, dst), "");
    assert_eq!(select(other, Src::Imm(0)), "mov eax, 0x0; cmovb rax, rsi");
    assert_eq!(select(Src::Imm(1), other), "mov eax, 0x1; cmovae rax, rsi");
    assert_eq!(select(Src::Slot(Slot(1)), Src::Slot(Slot(2))), "mov rax, [rbp-0x18]; cmovb rax, [rbp-0x10]");
    assert!(select(Src::Imm(1), dst).starts_with("cmovb rax, [rip+"));
    assert!(select(dst, Src::Imm(1)).starts_with("cmovae rax, [rip+"));
    // The comparison reads what is overwritten.
    let test = test(Src::Reg(RAX), Src::Reg(RCX));
    let insn = Insn::Select { dst: RAX, test, yes: Src::Reg(RCX), no: Src::Reg(RDX) };
    assert_eq!(written(insn), ["cmp rax, rcx", "mov rax, rdx", "cmovb rax, rcx"]);
}

#[test]
fn flags_become_numbers() {
    let set = |test| written(Insn::Set { dst: RSI, test }).join("; ");
    assert_eq!(set(test(Src::Reg(RCX), Src::Imm(5))), "xor esi, esi; cmp rcx, 0x5; setb sil");
    assert_eq!(set(test(Src::Reg(RCX), Src::Reg(RSI))), "cmp rcx, rsi; setb sil; movzx esi, sil");
}

#[test]
fn comparisons() {
    let compare = |cc, and, width, a, b| {
        let test = Test { cc, and, width, a, b };
        let end = End::Branch { test, yes: BlockId(0), no: BlockId(1) };
        let emitted = emitted(vec![block(Vec::new(), end), block(vec![], End::Trap)]);
        let mut all = text(&emitted, 0, emitted.code.length);
        all.truncate(all.len() - 2);
        all.pop().unwrap()
    };
    let (reg, slot, imm) = (Src::Reg(RCX), Src::Slot(Slot(1)), Src::Imm);
    assert_eq!(compare(Cc::Less, false, W64, reg, imm(0)), "test rcx, rcx");
    assert_eq!(compare(Cc::Less, false, W32, reg, imm(0xffff_ffff)), "cmp ecx, 0xffffffff");
    assert_eq!(compare(Cc::Less, false, W64, slot, imm(0)), "cmp qword ptr [rbp-0x10], 0x0");
    assert_eq!(compare(Cc::Less, false, W64, reg, slot), "cmp rcx, [rbp-0x10]");
    assert_eq!(compare(Cc::Less, false, W32, slot, reg), "cmp [rbp-0x10], ecx");
    assert!(compare(Cc::Less, false, W64, reg, imm(1 << 40)).starts_with("cmp rcx, [rip+"));
    assert_eq!(compare(Cc::Equal, true, W64, reg, imm(0x80)), "test cl, 0x80");
    assert_eq!(compare(Cc::Less, true, W64, reg, imm(0x80)), "test ecx, 0x80");
    assert_eq!(compare(Cc::Equal, true, W64, reg, imm(0x8000_0000)), "test ecx, 0x80000000");
    assert_eq!(compare(Cc::Less, true, W64, reg, imm(-8)), "test rcx, 0xfffffffffffffff8");
    assert!(compare(Cc::Less, true, W64, reg, imm(0x8000_0000)).starts_with("test [rip+"));
    assert!(refused(Insn::Set { dst: RAX, test: test(slot, slot) }));
    assert!(refused(Insn::Set { dst: RAX, test: test(slot, imm(1 << 40)) }));
}

#[test]
fn divisions_have_cold_parts() {
    let div = Insn::Div { width: W64, signed: true, remainder: false, dst: RDX, a: RDX, b: RCX };
    let emitted = emitted(vec![block(vec![div], End::Trap)]);
    let all = of(&emitted, 1).join("; ");
    let (hot, cold) = all.split_once("xor").unwrap();
    let targets =
        |text: &str| text.split(' ').filter(|word| !word.starts_with("0x")).collect::<Vec<_>>().join(" ");
    assert_eq!(
        targets(hot),
        "test rcx, rcx; je cmp rcx, je mov rax, rdx; cqo idiv rcx; mov rdx, rax; "
            .replace("cqo idiv", "cqo; idiv")
    );
    assert_eq!(targets(cold), " edx, edx; jmp neg rdx; jmp");
    let div = Insn::Div { width: W32, signed: false, remainder: true, dst: RSI, a: RSI, b: RCX };
    let all = written(div).join("; ");
    assert!(all.contains("mov eax, esi; xor edx, edx; div ecx; mov esi, edx; mov esi, esi; jmp"), "{all}");
    let div = Insn::Div { width: W32, signed: false, remainder: true, dst: RSI, a: RSI, b: RDX };
    assert!(refused(div));
    let high = Insn::MulHigh { dst: RAX, a: RAX, b: RCX };
    assert_eq!(written(high), ["mov rdx, rax", "mulx rax, rax, rcx"]);
}

fn address(base: Reg, offset: i32) -> Address {
    Address { base, index: None, offset }
}

#[test]
fn accesses_are_single_instructions_of_known_places() {
    let access = Access::Arena;
    let cases = [
        (
            Insn::Load { size: Size::B, signed: false, dst: RAX, address: address(R13, 0), access },
            "movzx eax, byte ptr [r13]",
        ),
        (
            Insn::Load { size: Size::W, signed: true, dst: RAX, address: address(RAX, -8), access },
            "movsxd rax, [rax-0x8]",
        ),
        (
            Insn::Load { size: Size::DW, signed: true, dst: RAX, address: address(RCX, 300), access },
            "mov rax, [rcx+0x12c]",
        ),
        (
            Insn::Store { size: Size::B, address: address(RDI, 1), src: Src::Reg(RSI), access },
            "mov [rdi+0x1], sil",
        ),
        (
            Insn::Store { size: Size::H, address: address(RDI, 1), src: Src::Imm(-1), access },
            "mov word ptr [rdi+0x1], 0xffff",
        ),
        (
            Insn::Store { size: Size::DW, address: address(RDI, 1), src: Src::Imm(-1), access },
            "mov qword ptr [rdi+0x1], 0xffffffffffffffff",
        ),
        (
            Insn::Atomic {
                size: Size::W,
                op: AtomicOp::Xor,
                dst: None,
                address: address(RDI, 0),
                src: RAX,
                access,
            },
            "lock xor [rdi], eax",
        ),
        (Insn::WideLoad { dst: XMM9, address: address(RDI, 0), access }, "movdqu xmm9, [rdi]"),
        (Insn::WideStore { address: address(RDI, 16), src: XMM0, access }, "movdqu [rdi+0x10], xmm0"),
    ];
    for (insn, expected) in cases {
        let emitted = emitted(vec![block(vec![insn], End::Trap)]);
        assert_eq!(of(&emitted, 1), [expected]);
        let start = emitted.code.locations[1].0;
        assert_eq!(emitted.code.traps, [(start, false)], "{expected}");
    }
    let indexed = Address { base: R13, index: Some((R9, 2)), offset: 0 };
    let insn = Insn::Load { size: Size::H, signed: true, dst: RAX, address: indexed, access };
    assert_eq!(written(insn), ["movsx rax, word ptr [r13+r9*4]"]);
    assert!(refused(Insn::Store {
        size: Size::DW,
        address: address(RDI, 1),
        src: Src::Imm(1 << 31),
        access
    }));
}

#[test]
fn atomics_with_results() {
    let access = Access::Probe;
    let at = address(RDI, 0);
    let add =
        Insn::Atomic { size: Size::W, op: AtomicOp::Add, dst: Some(RAX), address: at, src: RAX, access };
    let emitted = emitted(vec![block(vec![add], End::Trap)]);
    assert_eq!(of(&emitted, 1), ["mov eax, eax", "lock xadd [rdi], eax"]);
    assert_eq!(emitted.code.traps, [(emitted.code.locations[1].0 + 2, true)]);
    let exchange =
        Insn::Atomic { size: Size::DW, op: AtomicOp::Xchg, dst: Some(RAX), address: at, src: RCX, access };
    assert_eq!(written(exchange), ["mov rax, rcx", "xchg [rdi], rax"]);
    let compare = |dst, expected| {
        written(Insn::CompareExchange { size: Size::W, dst, address: at, expected, src: RCX, access })
            .join("; ")
    };
    assert_eq!(compare(Some(RDX), RSI), "mov eax, esi; lock cmpxchg [rdi], ecx; mov edx, eax");
    assert_eq!(compare(Some(RAX), RAX), "mov eax, eax; lock cmpxchg [rdi], ecx");
    let or = |dst| written(Insn::AtomicLoop { size: Size::DW, op: AtomicOp::Or, dst, address: at, src: RCX });
    let all = or(RDX);
    assert_eq!(all[..4], ["mov rax, [rdi]", "mov rdx, rax", "or rdx, rcx", "lock cmpxchg [rdi], rdx"]);
    assert_eq!(all[5..], ["mov rdx, rax"]);
    // No other register than `rax` is free.
    let all = or(RAX);
    assert_eq!(all[..3], ["mov [rbp-0x28], rdx", "mov rax, [rdi]", "mov rdx, rax"]);
    assert_eq!(all[6..], ["mov rdx, [rbp-0x28]"]);
}

#[test]
fn arguments_move_at_once() {
    // rsi -> rdx -> rcx -> rsi is a circle.
    let args = vec![Src::Reg(RCX), Src::Reg(RSI), Src::Reg(RDX), Src::Slot(Slot(1)), Src::Imm(0)];
    let call = Insn::Call { callee: Callee::Import(24), args, dst: Some(RBX) };
    let all = written(call);
    assert_eq!(all[..2], ["xchg rcx, rdx", "xchg rdx, rsi"]);
    assert_eq!(all[2..5], ["mov r8, [rbp-0x10]", "xor r9d, r9d", "mov rdi, [rbp-0x8]"]);
    assert_eq!(all[6..], ["call qword ptr [rax+0x18]", "mov rbx, rax"]);
    let args = vec![Src::Reg(R8), Src::Reg(RSI), Src::Reg(RSI), Src::Imm(1), Src::Reg(RAX), Src::Reg(RDI)];
    let call = Insn::Call { callee: Callee::Subprogram(5), args: args.clone(), dst: None };
    let emitted = emitted(vec![block(vec![call, Insn::Subprogram { dst: RAX, index: 2 }], End::Trap)]);
    let all = of(&emitted, 1);
    assert_eq!(all[0], "mov [rsp], rdi");
    assert_eq!(all[1..6], ["mov rdx, rsi", "mov rcx, rsi", "mov rsi, r8", "mov r9, rax", "mov r8d, 0x1"]);
    let field = after(&emitted, "call") - 4;
    let targets = [Target::Subprogram(5), Target::Subprogram(2)];
    let references = [(field, targets[0]), (field + 4 + 3, targets[1])];
    assert_eq!(emitted.code.references, references.map(|(at, to)| reference(at, to)));
    assert!(refused(Insn::Call { callee: Callee::Import(0), args, dst: None }));
}

#[test]
fn wide_operations() {
    let wide = |op| written(Insn::WideAlu { op, dst: XMM9, a: XMM0, b: XMM1 }).join("; ");
    assert_eq!(wide(WideOp::Add(Size::W)), "movdqa xmm9, xmm0; paddd xmm9, xmm1");
    assert_eq!(wide(WideOp::InterleaveHigh(Size::DW)), "movdqa xmm9, xmm0; punpckhqdq xmm9, xmm1");
    let same = Insn::WideAlu { op: WideOp::Equal(Size::B), dst: XMM0, a: XMM0, b: XMM1 };
    assert_eq!(written(same), ["pcmpeqb xmm0, xmm1"]);
    assert_eq!(written(Insn::ToWide { dst: XMM0, src: R9 }), ["movq xmm0, r9"]);
    assert_eq!(written(Insn::FromWide { dst: R9, src: XMM1 }), ["movq r9, xmm1"]);
    assert_eq!(written(Insn::SignBits { dst: R9, src: XMM1 }), ["pmovmskb r9d, xmm1"]);
    let shuffle = Insn::Shuffle { low_words: true, dst: XMM0, src: XMM1, order: 0x1b };
    assert_eq!(written(shuffle), ["pshuflw xmm0, xmm1, 0x1b"]);
}

#[test]
fn frames() {
    let (mut function, mut assigned) = function(vec![block(vec![], End::Exit(Src::Slot(Slot(1))))]);
    function.classes = vec![Class::General; 3];
    function.params = vec![
        Some(Src::Reg(Reg(0))),
        Some(Src::Reg(Reg(1))),
        Some(Src::Slot(Slot(1))),
        None,
        None,
        Some(Src::Reg(Reg(2))),
    ];
    // `rdx`, `rsi`: the other way round than they come.
    assigned.clear();
    assigned.extend([2, 6, 12]);
    let made = emit(&function, &assigned, &mut |_| 0).unwrap();
    assert_eq!(
        text(&made, 0, made.code.length),
        [
            "push rbp",
            "mov rbp, rsp",
            "sub rsp, 0x30",
            "mov [rbp-0x28], r12",
            "mov [rbp-0x8], rdi",
            "mov [rbp-0x10], rcx",
            "xchg rsi, rdx",
            "mov r12, [rbp+0x10]",
            "mov rax, [rbp-0x10]",
            "mov r12, [rbp-0x28]",
            "mov rsp, rbp",
            "pop rbp",
            "ret",
        ]
    );
    let steps = [
        (1, FrameChange::Pushed { below: 16 }),
        (4, FrameChange::Established),
        (12, FrameChange::Saved { register: 12, below: 56 }),
    ];
    assert_eq!(made.code.frame, steps.map(|(offset, change)| FrameStep { offset, change }));
    assert_eq!(made.stack, 64);
    function.slots = 600;
    assert!(matches!(emit(&function, &assigned, &mut |_| 0), Err(EmitError::Frame { slots: 600 })));
}

#[test]
fn blocks_fall_through_and_cold_ones_are_last() {
    let test = test(Src::Reg(RAX), Src::Reg(RCX));
    let mut cold = block(vec![], End::Jump(BlockId(2)));
    cold.cold = true;
    let blocks = vec![
        block(vec![], End::Branch { test, yes: BlockId(2), no: BlockId(1) }),
        cold,
        block(vec![], End::Trap),
    ];
    let emitted = emitted(blocks);
    let all = text(&emitted, 0, emitted.code.length);
    let ud2 = emitted.code.length - 4;
    assert_eq!(
        all[all.len() - 4..],
        ["cmp rax, rcx".to_owned(), format!("jae {:#x}", ud2 + 2), "ud2".to_owned(), format!("jmp {ud2:#x}"),]
    );
}

#[test]
fn budgets_and_looks_ask_stubs() {
    let (enough, short) = (BlockId(1), BlockId(2));
    let afford = |left| End::Afford { left, state: Slot(2), iterations: 1, asks: true, enough, short };
    let cold = |end| {
        let (function, assigned) =
            function(vec![block(vec![], end), block(vec![], End::Trap), block(vec![], End::Trap)]);
        let mut asked = Vec::new();
        let made = emit(&function, &assigned, &mut |stub| {
            asked.push(stub);
            7
        });
        let made = made.unwrap();
        let all = text(&made, 0, made.code.length);
        let start = all.iter().rposition(|line| line == "ud2").unwrap() + 1;
        let call = after(&made, "call") - 4;
        assert_eq!(made.code.references, [reference(call, Target::Stub(7))]);
        let lines = all[start..].iter().map(|line| line.split(" 0x").next().unwrap_or_default().to_owned());
        (asked, lines.collect::<Vec<_>>())
    };
    let (asked, lines) = cold(afford(Src::Reg(RDX)));
    assert_eq!(asked, [StubOf::Loops]);
    assert_eq!(
        lines[..7],
        [
            "mov [rbp-0x28], rdi",
            "mov [rbp-0x30], rsi",
            "mov [rbp-0x38], rdx",
            "mov rdi, [rbp-0x8]",
            "mov rsi, [rbp-0x18]",
            "mov edx,",
            "call",
        ]
    );
    assert_eq!(lines[8], "mov [rbp-0x18], rsi");
    assert_eq!(
        lines[10..],
        [
            "mov rsi, [rbp-0x30]",
            "mov [rbp-0x30], rdx",
            "mov rdi, [rbp-0x28]",
            "mov rdx, [rbp-0x38]",
            "add rdx, [rbp-0x30]",
            "jb",
            "add rdx,",
            "jmp",
        ]
    );
    let (_, lines) = cold(afford(Src::Slot(Slot(3))));
    assert_eq!(
        lines[10..],
        [
            "add [rbp-0x20], rdx",
            "mov rdi, [rbp-0x28]",
            "mov rsi, [rbp-0x30]",
            "mov rdx, [rbp-0x38]",
            "jb",
            "add qword ptr [rbp-0x20],",
            "jmp",
        ]
    );
    let (asked, lines) = cold(End::Look { word: address(RCX, 0), taken: enough, next: short });
    assert_eq!(asked, [StubOf::Call(crate::Import::MustEnd)]);
    assert!(lines[7].starts_with("cmp qword ptr [rdi+"));
    assert_eq!(lines[11..], ["jne", "jmp"]);
}

fn reference(at: u32, to: Target) -> Reference {
    Reference { form: Form::Distance, at, to, addend: -4 }
}
