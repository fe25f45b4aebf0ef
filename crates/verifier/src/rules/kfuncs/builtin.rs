//! Prototypes that are known without the kernel's BTF: arenas, iterators over numbers and bits, regions, output, strings, reads of
//! memory that may not be there, and objects of the program's own with what they are kept in.

use std::borrow::Cow;

use bpf_object::TypeId;

use super::prototype::{Arg, IterRole, Memory, Pointer, Prototype, Ret, Role, SizeKind, Target};

/// The prototype of a function that programs may call where no kernel's types are known.
pub(super) fn find(name: &str) -> Option<Prototype> {
    let (_, args, ret) = PROTOTYPES.iter().find(|(n, _, _)| *n == name)?;
    Some(Prototype { args: Cow::Borrowed(args), ret: *ret })
}

const MAP: Arg = Arg::pointer(Role::Map, Memory::Void);
const NUM: Arg = Arg::pointer(Role::Iter(IterRole::Kind(0)), Memory::Numbers(8));
const BITS: Arg = Arg::pointer(Role::Iter(IterRole::Kind(1)), Memory::Numbers(16));
const TEXT: Arg = Arg::pointer(Role::ConstString, Memory::Numbers(1));
const BYTES: Arg = Arg::pointer(Role::Plain, Memory::Void);
const IRQ_STATE: Arg = Arg::pointer(Role::IrqFlag, Memory::Numbers(8));
const IGNORED: Arg = Arg::Ignored;
const CTX: Arg = Arg::pointer(Role::Ctx, Memory::Struct);
const OBJECT: Arg = Arg::pointer(Role::Alloc, Memory::Void);
const COUNTED: Arg = Arg::pointer(Role::RefcountedKptr, Memory::Void);
const HEAD: Arg = Arg::pointer(Role::ListHead, Memory::Numbers(16));
const NODE: Arg = Arg::pointer(Role::ListNode, Memory::Numbers(24));
const ROOT: Arg = Arg::pointer(Role::RbRoot, Memory::Numbers(16));
const BRANCH: Arg = Arg::pointer(Role::RbNode, Memory::Numbers(32));
const WORK: Arg = Arg::pointer(Role::Wq, Memory::Numbers(16));
const LOCK: Arg = Arg::pointer(Role::ResSpinLock, Memory::Numbers(4));
const DYNPTR: Arg = Arg::pointer(Role::Dynptr, Memory::Numbers(16));
const NEW_DYNPTR: Arg = Arg::Pointer(Pointer { uninit: true, ..plain(Role::Dynptr, Memory::Numbers(16)) });
const BUFFER: Arg = Arg::Pointer(Pointer { optional: true, ..plain(Role::Plain, Memory::Void) });
const FUNCTION: Arg = Arg::Pointer(Pointer {
    target: Target { ty: TypeId::VOID, memory: Memory::Other, structure: false, function: true },
    ..plain(Role::Plain, Memory::Other)
});
const TYPE: Arg = Arg::Number { constant: true, size: None, result_size: None };
const KNOWN_SIZE: Arg = Arg::Number { constant: false, size: Some(SizeKind::Constant), result_size: None };
const BOOL: Ret = Ret::Number(1);
const NUMBER: Arg = Arg::NUMBER;
const INT: Ret = Ret::Number(4);
const ELEMENT: Ret = Ret::Memory { ty: TypeId::VOID, size: Some(4) };

const fn plain(role: Role, memory: Memory) -> Pointer {
    let target = Target { ty: TypeId::VOID, memory, structure: false, function: false };
    Pointer { role, nullable: false, uninit: false, optional: false, target }
}

const INTO_DYNPTR: &[Arg] = &[DYNPTR, NUMBER, NUMBER, IGNORED];
const PRINTK: &[Arg] = &[NUMBER, TEXT, BYTES, Arg::SIZE, Arg::Program];

static PROTOTYPES: [(&str, &[Arg], Ret); 74] = [
    ("bpf_arena_alloc_pages", &[MAP, IGNORED, NUMBER, NUMBER, NUMBER], Ret::VoidPointer),
    ("bpf_arena_free_pages", &[MAP, IGNORED, NUMBER], Ret::Void),
    ("bpf_arena_reserve_pages", &[MAP, IGNORED, NUMBER], INT),
    ("bpf_copy_from_user_dynptr", INTO_DYNPTR, INT),
    ("bpf_copy_from_user_str", &[BYTES, Arg::SIZE, IGNORED, NUMBER], INT),
    ("bpf_copy_from_user_str_dynptr", INTO_DYNPTR, INT),
    ("bpf_dynptr_adjust", &[DYNPTR, NUMBER, NUMBER], INT),
    ("bpf_dynptr_clone", &[DYNPTR, NEW_DYNPTR], INT),
    ("bpf_dynptr_copy", &[DYNPTR, NUMBER, DYNPTR, NUMBER, NUMBER], INT),
    ("bpf_dynptr_from_skb", &[CTX, NUMBER, NEW_DYNPTR], INT),
    ("bpf_dynptr_from_skb_meta", &[CTX, NUMBER, NEW_DYNPTR], INT),
    ("bpf_dynptr_from_xdp", &[CTX, NUMBER, NEW_DYNPTR], INT),
    ("bpf_dynptr_is_null", &[DYNPTR], BOOL),
    ("bpf_dynptr_is_rdonly", &[DYNPTR], BOOL),
    ("bpf_dynptr_memset", &[DYNPTR, NUMBER, NUMBER, NUMBER], INT),
    ("bpf_dynptr_size", &[DYNPTR], INT),
    ("bpf_dynptr_slice", &[DYNPTR, NUMBER, BUFFER, KNOWN_SIZE], Ret::VoidPointer),
    ("bpf_dynptr_slice_rdwr", &[DYNPTR, NUMBER, BUFFER, KNOWN_SIZE], Ret::VoidPointer),
    ("bpf_iter_bits_destroy", &[BITS], Ret::Void),
    ("bpf_iter_bits_new", &[BITS, IGNORED, NUMBER], INT),
    ("bpf_iter_bits_next", &[BITS], ELEMENT),
    ("bpf_iter_num_destroy", &[NUM], Ret::Void),
    ("bpf_iter_num_new", &[NUM, NUMBER, NUMBER], INT),
    ("bpf_iter_num_next", &[NUM], ELEMENT),
    ("bpf_list_back", &[HEAD], Ret::VoidPointer),
    ("bpf_list_front", &[HEAD], Ret::VoidPointer),
    ("bpf_list_pop_back", &[HEAD], Ret::VoidPointer),
    ("bpf_list_pop_front", &[HEAD], Ret::VoidPointer),
    ("bpf_list_push_back_impl", &[HEAD, NODE, IGNORED, NUMBER], INT),
    ("bpf_list_push_front_impl", &[HEAD, NODE, IGNORED, NUMBER], INT),
    ("bpf_local_irq_restore", &[IRQ_STATE], Ret::Void),
    ("bpf_local_irq_save", &[IRQ_STATE], Ret::Void),
    ("bpf_obj_drop_impl", &[OBJECT, IGNORED], Ret::Void),
    ("bpf_obj_new_impl", &[TYPE, IGNORED], Ret::VoidPointer),
    ("bpf_percpu_obj_drop_impl", &[OBJECT, IGNORED], Ret::Void),
    ("bpf_percpu_obj_new_impl", &[TYPE, IGNORED], Ret::VoidPointer),
    ("bpf_preempt_disable", &[], Ret::Void),
    ("bpf_preempt_enable", &[], Ret::Void),
    ("bpf_probe_read_kernel_dynptr", INTO_DYNPTR, INT),
    ("bpf_probe_read_kernel_str_dynptr", INTO_DYNPTR, INT),
    ("bpf_probe_read_user_dynptr", INTO_DYNPTR, INT),
    ("bpf_probe_read_user_str_dynptr", INTO_DYNPTR, INT),
    ("bpf_rbtree_add_impl", &[ROOT, BRANCH, FUNCTION, IGNORED, NUMBER], INT),
    ("bpf_rbtree_first", &[ROOT], Ret::VoidPointer),
    ("bpf_rbtree_left", &[ROOT, BRANCH], Ret::VoidPointer),
    ("bpf_rbtree_remove", &[ROOT, BRANCH], Ret::VoidPointer),
    ("bpf_rbtree_right", &[ROOT, BRANCH], Ret::VoidPointer),
    ("bpf_rbtree_root", &[ROOT], Ret::VoidPointer),
    ("bpf_rcu_read_lock", &[], Ret::Void),
    ("bpf_rcu_read_unlock", &[], Ret::Void),
    ("bpf_refcount_acquire_impl", &[COUNTED, IGNORED], Ret::VoidPointer),
    ("bpf_res_spin_lock", &[LOCK], INT),
    ("bpf_res_spin_lock_irqsave", &[LOCK, IRQ_STATE], INT),
    ("bpf_res_spin_unlock", &[LOCK], Ret::Void),
    ("bpf_res_spin_unlock_irqrestore", &[LOCK, IRQ_STATE], Ret::Void),
    ("bpf_strcasecmp", &[IGNORED, IGNORED], INT),
    ("bpf_strchr", &[IGNORED, NUMBER], INT),
    ("bpf_strchrnul", &[IGNORED, NUMBER], INT),
    ("bpf_strcmp", &[IGNORED, IGNORED], INT),
    ("bpf_strcspn", &[IGNORED, IGNORED], INT),
    ("bpf_stream_vprintk", PRINTK, INT),
    ("bpf_stream_vprintk_impl", PRINTK, INT),
    ("bpf_strlen", &[IGNORED], INT),
    ("bpf_strnchr", &[IGNORED, NUMBER, NUMBER], INT),
    ("bpf_strnlen", &[IGNORED, NUMBER], INT),
    ("bpf_strnstr", &[IGNORED, IGNORED, NUMBER], INT),
    ("bpf_strrchr", &[IGNORED, NUMBER], INT),
    ("bpf_strspn", &[IGNORED, IGNORED], INT),
    ("bpf_strstr", &[IGNORED, IGNORED], INT),
    ("bpf_throw", &[NUMBER], Ret::Void),
    ("bpf_wq_init", &[WORK, MAP, NUMBER], INT),
    ("bpf_wq_set_callback_impl", &[WORK, FUNCTION, NUMBER, Arg::Program], INT),
    ("bpf_wq_start", &[WORK, NUMBER], INT),
    ("bpf_xdp_pull_data", &[CTX, NUMBER], INT),
];

#[cfg(test)]
mod tests {
    use bpf_object::Btf;

    use super::super::{find as row, resolve};
    use super::*;

    /// What matters of a parameter besides the number of its type.
    fn shape(arg: &Arg) -> String {
        match arg {
            Arg::Pointer(p) => {
                format!("{:?} {} {} {} {}", p.role, p.nullable, p.uninit, p.optional, p.target.function)
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_kernel_says_the_same() {
        let Some(kernel) = std::fs::read("/sys/kernel/btf/vmlinux").ok().and_then(|b| Btf::parse(&b).ok())
        else {
            return;
        };
        for (name, args, _) in &PROTOTYPES {
            let Some(kfunc) = row(name) else { panic!("{name} has no row") };
            let prog_type = match *name {
                "bpf_dynptr_from_xdp" | "bpf_xdp_pull_data" => bpf_object::ProgType::Xdp,
                _ => bpf_object::ProgType::SchedCls,
            };
            // Kernels do not have all of them.
            let Some(theirs) = resolve::prototype(Some(&kernel), kfunc, Some(prog_type)) else { continue };
            let (ours, theirs): (Vec<_>, Vec<_>) =
                (args.iter().map(shape).collect(), theirs.args.iter().map(shape).collect());
            assert_eq!(ours, theirs, "{name}");
        }
    }
}
