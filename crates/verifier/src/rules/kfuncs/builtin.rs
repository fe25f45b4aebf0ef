//! Prototypes that are known without the kernel's BTF: arenas, numeric iterators, regions, output.

use std::borrow::Cow;

use bpf_object::TypeId;

use super::prototype::{Arg, IterRole, Memory, Prototype, Ret, Role};

/// The prototype of a function that programs may call where no kernel's types are known.
pub(super) fn find(name: &str) -> Option<Prototype> {
    let (_, args, ret) = PROTOTYPES.iter().find(|(n, _, _)| *n == name)?;
    Some(Prototype { args: Cow::Borrowed(args), ret: *ret })
}

const MAP: Arg = Arg::pointer(Role::Map, Memory::Void);
const NUM: Arg = Arg::pointer(Role::Iter(IterRole::Kind(0)), Memory::Numbers(8));
const TEXT: Arg = Arg::pointer(Role::ConstString, Memory::Numbers(1));
const BYTES: Arg = Arg::pointer(Role::Plain, Memory::Void);
const IRQ_STATE: Arg = Arg::pointer(Role::IrqFlag, Memory::Numbers(8));
const IGNORED: Arg = Arg::Ignored;
const NUMBER: Arg = Arg::NUMBER;
const INT: Ret = Ret::Number(4);
const ELEMENT: Ret = Ret::Memory { ty: TypeId::VOID, size: Some(4) };

const PRINTK: &[Arg] = &[NUMBER, TEXT, BYTES, Arg::SIZE, Arg::Program];

static PROTOTYPES: [(&str, &[Arg], Ret); 14] = [
    ("bpf_arena_alloc_pages", &[MAP, IGNORED, NUMBER, NUMBER, NUMBER], Ret::VoidPointer),
    ("bpf_arena_free_pages", &[MAP, IGNORED, NUMBER], Ret::Void),
    ("bpf_arena_reserve_pages", &[MAP, IGNORED, NUMBER], INT),
    ("bpf_iter_num_new", &[NUM, NUMBER, NUMBER], INT),
    ("bpf_iter_num_next", &[NUM], ELEMENT),
    ("bpf_iter_num_destroy", &[NUM], Ret::Void),
    ("bpf_local_irq_restore", &[IRQ_STATE], Ret::Void),
    ("bpf_local_irq_save", &[IRQ_STATE], Ret::Void),
    ("bpf_preempt_disable", &[], Ret::Void),
    ("bpf_preempt_enable", &[], Ret::Void),
    ("bpf_rcu_read_lock", &[], Ret::Void),
    ("bpf_rcu_read_unlock", &[], Ret::Void),
    ("bpf_stream_vprintk", PRINTK, INT),
    ("bpf_stream_vprintk_impl", PRINTK, INT),
];
