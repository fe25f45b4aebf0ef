//! The conformance groups, stated a second time: by the rules of RFC 9669 rather than row by row.

use bpf_arena_isa::{Form, Group, RawField};

/// The group by the prose of the RFC (sections 4.1 to 5.5) and, for `EXIT`, IANA's registry.
fn by_the_rules(form: &Form) -> Group {
    const DIV_MUL: [u8; 3] = [0x20, 0x30, 0x90];
    let (class, code, mode) = (form.opcode & 7, form.opcode & 0xf0, form.opcode & 0xe0);
    let (source_x, double) = (form.opcode & 8 != 0, form.opcode & 0x18 == 0x18);
    let imm = form.fixed(RawField::Imm);
    match class {
        4 | 7 if DIV_MUL.contains(&code) => {
            if class == 4 {
                Group::DivMul32
            } else {
                Group::DivMul64
            }
        }
        // Byte swaps: by width, whatever the class.
        4 | 7 if code == 0xd0 => {
            if imm == Some(64) {
                Group::Base64
            } else {
                Group::Base32
            }
        }
        7 if form.opcode == 0xbf && form.fixed(RawField::Offset) == Some(1) => Group::Linux,
        4 => Group::Base32,
        7 => Group::Base64,
        // JA, CALL and EXIT; callx, gotox and may_goto are Linux's.
        5 if [0x00, 0x80, 0x90].contains(&code) => {
            if source_x {
                Group::Linux
            } else {
                Group::Base32
            }
        }
        5 if code == 0xe0 => Group::Linux,
        6 => Group::Base32,
        5 => Group::Base64,
        0 if mode == 0x20 || mode == 0x40 => Group::Packet,
        3 if mode == 0xc0 => match imm {
            Some(0x100 | 0x110) => Group::Linux,
            _ => {
                if double {
                    Group::Atomic64
                } else {
                    Group::Atomic32
                }
            }
        },
        _ => {
            if double {
                Group::Base64
            } else {
                Group::Base32
            }
        }
    }
}

#[test]
fn every_row_is_in_the_group_the_rfc_gives_it() {
    for form in Form::all() {
        assert_eq!(form.group, by_the_rules(form), "{}", form.syntax);
    }
}

#[test]
fn the_groups_are_complete() {
    // Forms per group, counted from the RFC's tables.
    let count = |group| Form::all().filter(|form| form.group == group).count();
    // 8 operations x 2 sources, neg, 2 movs, 2 movsx, 6 swaps; 11 conditions x 2, 2 ja, 3 calls, exit; 6 loads,
    // 3 + 3 stores.
    assert_eq!(count(Group::Base32), 16 + 1 + 2 + 2 + 6 + 22 + 2 + 3 + 1 + 6 + 6);
    // 8 x 2, neg, 2 movs, 3 movsx, 3 swaps; 22 branches; 1 load, 2 stores, 7 kinds of lddw.
    assert_eq!(count(Group::Base64), 16 + 1 + 2 + 3 + 3 + 22 + 1 + 2 + 7);
    // mul, div, sdiv, mod, smod.
    assert_eq!((count(Group::DivMul32), count(Group::DivMul64)), (10, 10));
    // 4 operations with and without fetch, exchange, compare-and-exchange.
    assert_eq!((count(Group::Atomic32), count(Group::Atomic64)), (10, 10));
    assert_eq!(count(Group::Packet), 6);
    // Cast, may_goto, gotox, callx, 4 widths of load-acquire and store-release.
    assert_eq!(count(Group::Linux), 4 + 8);
}
