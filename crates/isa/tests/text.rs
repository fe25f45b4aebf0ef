//! Text as the kernel prints it, the further spellings that are read, and errors with their place.

#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::borrow::Cow;

use bpf_arena_isa::{
    AsmErrorKind, CallTarget, Code, Imm64, Insn, InsnIdx, Names, Reg, assemble, assemble_with, decode,
};

/// Bytes and the text of Linux 6.18's verifier log for them.
const KERNEL: &[([u8; 8], &str)] = &[
    ([0x0f, 0x21, 0, 0, 0, 0, 0, 0], "(0f) r1 += r2"),
    ([0x0c, 0x10, 0, 0, 0, 0, 0, 0], "(0c) w0 += w1"),
    ([0x07, 0x01, 0, 0, 0xff, 0xff, 0xff, 0xff], "(07) r1 += -1"),
    ([0xc7, 0x01, 0, 0, 0x20, 0, 0, 0], "(c7) r1 s>>= 32"),
    ([0x3f, 0x21, 1, 0, 0, 0, 0, 0], "(3f) r1 s/= r2"),
    ([0x94, 0x01, 1, 0, 7, 0, 0, 0], "(94) w1 s%= 7"),
    ([0x87, 0x05, 0, 0, 0, 0, 0, 0], "(87) r5 = -r5"),
    ([0xbf, 0xa1, 0, 0, 0, 0, 0, 0], "(bf) r1 = r10"),
    ([0xbf, 0x21, 32, 0, 0, 0, 0, 0], "(bf) r1 = (s32)r2"),
    ([0xbc, 0x21, 8, 0, 0, 0, 0, 0], "(bc) w1 = (s8)w2"),
    ([0xb7, 0x00, 0, 0, 0xfe, 0xff, 0xff, 0xff], "(b7) r0 = -2"),
    ([0xdc, 0x01, 0, 0, 0x10, 0, 0, 0], "(dc) r1 = be16 r1"),
    ([0xd7, 0x01, 0, 0, 0x40, 0, 0, 0], "(d7) r1 = bswap64 r1"),
    ([0xbf, 0x21, 1, 0, 1, 0, 0, 0], "(bf) r1 = addr_space_cast(r2, 0, 1)"),
    ([0xbf, 0x21, 1, 0, 0, 0, 1, 0], "(bf) r1 = addr_space_cast(r2, 1, 0)"),
    ([0x79, 0xa1, 0xf8, 0xff, 0, 0, 0, 0], "(79) r1 = *(u64 *)(r10 -8)"),
    ([0x91, 0x21, 4, 0, 0, 0, 0, 0], "(91) r1 = *(s8 *)(r2 +4)"),
    ([0x6b, 0x21, 0, 0, 0, 0, 0, 0], "(6b) *(u16 *)(r1 +0) = r2"),
    ([0x7a, 0x0a, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff], "(7a) *(u64 *)(r10 -16) = -1"),
    ([0xdb, 0x21, 0, 0, 0x50, 0, 0, 0], "(db) lock *(u64 *)(r1 +0) &= r2"),
    ([0xdb, 0x01, 0, 0, 1, 0, 0, 0], "(db) r0 = atomic64_fetch_add((u64 *)(r1 +0), r0)"),
    ([0xc3, 0x21, 8, 0, 0xa1, 0, 0, 0], "(c3) r2 = atomic_fetch_xor((u32 *)(r1 +8), r2)"),
    ([0xc3, 0x21, 0, 0, 0xe1, 0, 0, 0], "(c3) r2 = atomic_xchg((u32 *)(r1 +0), r2)"),
    ([0xdb, 0x21, 0, 0, 0xf1, 0, 0, 0], "(db) r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)"),
    ([0xd3, 0x21, 0, 0, 0, 1, 0, 0], "(d3) r1 = load_acquire((u8 *)(r2 +0))"),
    ([0xdb, 0x21, 0xff, 0xff, 0x10, 1, 0, 0], "(db) store_release((u64 *)(r1 -1), r2)"),
    ([0x30, 0, 0, 0, 12, 0, 0, 0], "(30) r0 = *(u8 *)skb[12]"),
    ([0x48, 0x70, 0, 0, 12, 0, 0, 0], "(48) r0 = *(u16 *)skb[r7 + 12]"),
    ([0x05, 0, 3, 0, 0, 0, 0, 0], "(05) goto pc+3"),
    ([0x05, 0, 0xff, 0xff, 0, 0, 0, 0], "(05) goto pc-1"),
    ([0x06, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "(06) gotol pc-1"),
    ([0x65, 0x01, 3, 0, 0xff, 0xff, 0xff, 0xff], "(65) if r1 s> 0xffffffff goto pc+3"),
    ([0x46, 0x01, 3, 0, 7, 0, 0, 0], "(46) if w1 & 0x7 goto pc+3"),
    ([0x2d, 0x21, 3, 0, 0, 0, 0, 0], "(2d) if r1 > r2 goto pc+3"),
    ([0xe5, 0, 2, 0, 0, 0, 0, 0], "(e5) may_goto pc+2"),
    ([0x85, 0, 0, 0, 1, 0, 0, 0], "(85) call bpf_map_lookup_elem#1"),
    ([0x85, 0, 0, 0, 0x10, 0x27, 0, 0], "(85) call unknown#10000"),
    ([0x85, 0x10, 0, 0, 3, 0, 0, 0], "(85) call pc+3"),
    ([0x85, 0x20, 0, 0, 9, 0, 0, 0], "(85) call kernel-function#9"),
    ([0x95, 0, 0, 0, 0, 0, 0, 0], "(95) exit"),
];

fn one(text: &str) -> Insn {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_kernels_text() {
    for (bytes, text) in KERNEL {
        let code = decode(bytes).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(code.to_string(), format!("0: {text}\n"));
        assert_eq!(assemble(text).map(|a| a.code), Ok(code), "{text}");
    }
    let wide = [[0x18, 0x01, 0, 0, 0x78, 0x56, 0x34, 0x12], [0, 0, 0, 0, 0xef, 0xcd, 0xab, 0]].concat();
    assert_eq!(decode(&wide).expect("decodes").to_string(), "0: (18) r1 = 0xabcdef12345678\n");
}

#[test]
fn llvms_text() {
    for (llvm, ours) in [
        ("r1 = 5 ll", "r1 = 0x5"),
        ("r1 = -1 ll", "r1 = 0xffffffffffffffff"),
        ("w1 = *(u32 *)(r2 + 4)", "r1 = *(u32 *)(r2 +4)"),
        ("*(u8 *)(r2 - 4) = w3", "*(u8 *)(r2 -4) = r3"),
        ("w3 = atomic_fetch_add((u32 *)(r1 + 8), w3)", "r3 = atomic_fetch_add((u32 *)(r1 +8), r3)"),
        ("r3 = atomic_fetch_or((u64 *)(r1 + 8), r3)", "r3 = atomic64_fetch_or((u64 *)(r1 +8), r3)"),
        ("r0 = cmpxchg_64(r1 + 0, r0, r2)", "r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)"),
        ("w2 = xchg32_32(r1 + 0, w2)", "r2 = atomic_xchg((u32 *)(r1 +0), r2)"),
        ("w1 = load_acquire((u16 *)(r2 + 4))", "r1 = load_acquire((u16 *)(r2 +4))"),
        ("if r1 == -1 goto +3", "if r1 == 0xffffffff goto pc+3"),
        ("goto -1", "goto pc-1"),
        ("call 1", "call bpf_map_lookup_elem#1"),
        ("r0 = *(u32 *)skb[r3]", "r0 = *(u32 *)skb[r3 + 0]"),
    ] {
        assert_eq!(one(llvm).to_string(), ours, "{llvm}");
    }
}

#[test]
fn a_move_is_decimal_and_a_wide_load_hexadecimal() {
    assert!(matches!(one("r1 = 16"), Insn::Mov { .. }));
    assert!(matches!(one("r1 = 0x10"), Insn::LoadImm64 { value: Imm64::Const(16), .. }));
    // 32-bit moves have no such neighbour, and no sign to extend.
    assert_eq!(one("w1 = 0xffffffff"), one("w1 = -1"));
}

#[test]
fn labels_comments_and_lines() {
    let text = "
entry:  r1 = 0x1          ; two slots
        call sub          // a subprogram of ours
        r2 = subprog[sub]
        gotol end
sub:
again:  may_goto end
        if w0 != 0 goto again
end:
        exit
";
    let assembly = assemble(text).expect("assembles");
    let ours: Vec<String> = assembly.code.iter().map(|(_, insn)| insn.to_string()).collect();
    assert_eq!(
        ours,
        [
            "r1 = 0x1",
            "call pc+3",
            "r2 = subprog[+2]",
            "gotol pc+2",
            "may_goto pc+1",
            "if w0 != 0x0 goto pc-2",
            "exit"
        ]
    );
    let labels: Vec<(&str, u32)> = assembly.labels.iter().map(|(name, at)| (name.as_str(), at.0)).collect();
    assert_eq!(labels, [("again", 6), ("end", 8), ("entry", 0), ("sub", 6)]);
    assert_eq!(assembly.lines, [2, 2, 3, 4, 4, 5, 7, 8, 10]);
}

#[test]
fn a_verifier_log_can_be_assembled() {
    let log = "0: (b7) r0 = 0                        ; R0_w=0\n1: (5e) if w0 != w1 goto pc+1\n2: (95) exit\n";
    assert_eq!(assemble(log).expect("assembles").code.len(), 3);
}

struct Known;

impl Names for Known {
    fn call(&self, at: InsnIdx, target: CallTarget) -> Option<Cow<'_, str>> {
        match target {
            CallTarget::Local(offset) => {
                at.offset(i64::from(offset) + 1).map(|to| format!("sub_{to}").into())
            }
            CallTarget::Kfunc { btf_id: 4, .. } => Some("bpf_arena_alloc_pages".into()),
            _ => None,
        }
    }
    fn imm64(&self, _: InsnIdx, value: Imm64) -> Option<Cow<'_, str>> {
        matches!(value, Imm64::MapIdx(0)).then(|| "map[idx:0]".into())
    }
    fn label(&self, target: InsnIdx) -> Option<Cow<'_, str>> {
        Some(format!("L{target}").into())
    }
}

#[test]
fn names_replace_numbers_and_are_read_again() {
    let text = "call sub_2\nexit\nsub_2: call bpf_arena_alloc_pages#4\ngoto L4\nL4: exit\n";
    let kfuncs =
        |name: &str| (name == "bpf_arena_alloc_pages").then_some(CallTarget::Kfunc { btf_id: 4, module: 0 });
    let code = assemble_with(text, &kfuncs).expect("assembles").code;
    let shown: Vec<String> = code.iter().map(|(at, insn)| insn.text(at, &Known).to_string()).collect();
    assert_eq!(shown, ["call sub_2", "exit", "call bpf_arena_alloc_pages#4", "goto L4", "exit"]);
    assert_eq!(
        assemble_with("call bpf_arena_alloc_pages\n", &kfuncs).expect("assembles").code.get(InsnIdx(0)),
        code.get(InsnIdx(2))
    );
    let map = Insn::LoadImm64 { dst: Reg::R1, value: Imm64::MapIdx(0) };
    assert_eq!(map.text(InsnIdx(0), &Known).to_string(), "r1 = map[idx:0]");
    assert_eq!(Code::from_iter([map]).text(&Known).to_string(), "0: (18) r1 = map[idx:0]\n");
}

#[test]
fn errors_have_a_place_and_a_kind() {
    let kind_at = |text: &str| {
        let error = assemble(text).expect_err(text);
        ((error.line, error.column), error.kind)
    };
    let place = |text: &str| kind_at(text).0;
    assert_eq!(
        kind_at("exit\n  r1 += 0x80000000"),
        ((2, 9), AsmErrorKind::Range { value: 0x8000_0000, min: i32::MIN.into(), max: i32::MAX.into() })
    );
    assert_eq!(kind_at("goto nowhere"), ((1, 6), AsmErrorKind::UnknownName("nowhere".into())));
    assert_eq!(kind_at("a: exit\na: exit"), ((2, 1), AsmErrorKind::DuplicateLabel("a".into())));
    assert_eq!(kind_at("exit é"), ((1, 6), AsmErrorKind::Character('é')));
    assert_eq!(
        kind_at("call bpf_map_lookup_elem#2"),
        ((1, 6), AsmErrorKind::HelperNumber { name: "bpf_map_lookup_elem".into(), number: 1 })
    );
    assert_eq!(place("r11 = 1"), (1, 1));
    assert_eq!(place("r1 = r11"), (1, 6));
    assert_eq!(place("r1 = *(u64 *)(r2 +32768)"), (1, 18));
    assert_eq!(place("exit exit"), (1, 6));
    // An operator of the wrong width points behind what was understood.
    let (at, kind) = kind_at("w1 += r2");
    assert_eq!(at, (1, 7));
    assert_eq!(kind.to_string(), "found r2, expected a number or w0 to w10");
    assert_eq!(
        kind_at("r1").1.to_string(),
        "found end of line, expected += or -= or *= or /= or s/= or |= or &= or <<= or >>= or %= or s%= or ^= or s>>= or ="
    );
}

#[test]
fn a_branch_to_a_label_keeps_its_number() {
    let text = "if r1 < 49 goto out\nif w2 s> -5 goto out\nout: exit";
    let code = assemble(text).unwrap().code;
    assert_eq!(code, assemble("if r1 < 49 goto +1\nif w2 s> -5 goto +0\nexit").unwrap().code);
}

#[test]
fn a_label_too_far_away() {
    let text = format!("goto end\n{}end: exit\n", "r0 = 0\n".repeat(40_000));
    let error = assemble(&text).expect_err("too far");
    assert_eq!(error.kind, AsmErrorKind::TooFar { label: "end".into(), distance: 40_000 });
    let text = text.replacen("goto", "gotol", 1);
    assert_eq!(assemble(&text).map(|a| a.code.len()), Ok(40_002));
}
