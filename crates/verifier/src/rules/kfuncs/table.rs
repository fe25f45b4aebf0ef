//! The kernel functions of Linux 6.18, sorted by name.
//!
//! Sets and flags are what the kernel registers for them; what their parameters mean is in its BTF.

use super::Filter::{DeviceBound, Iterator, Lsm, Session};
use super::Special::{
    CastToKernCtx, CssTaskNew, DynptrClone, DynptrFromSkb, DynptrFromSkbMeta, DynptrFromXdp, DynptrSlice,
    DynptrSliceWritable, IrqRestore, IrqSave, KmemCache, ListPeek, ListPop, ListPush, ObjDrop, ObjNew,
    PerCpuObjDrop, PerCpuObjNew, PreemptDisable, PreemptEnable, PullData, RbtreeAdd, RbtreePeek,
    RbtreeRemove, RbtreeStep, RcuLock, RcuUnlock, ReadOnlyCast, RefcountAcquire, ResSpinLock, ResSpinLockIrq,
    ResSpinUnlock, ResSpinUnlockIrq, SessionCookie, TaskWork, Throw, Trap, WqInit, WqSetCallback,
};
use super::{Filter, Hooks, Kfunc, KfuncFlags, Special};

const NONE: KfuncFlags = KfuncFlags::NONE;
const ACQUIRE: KfuncFlags = KfuncFlags::ACQUIRE;
const RELEASE: KfuncFlags = KfuncFlags::RELEASE;
const RET_NULL: KfuncFlags = KfuncFlags::RET_NULL;
const TRUSTED_ARGS: KfuncFlags = KfuncFlags::TRUSTED_ARGS;
const SLEEPABLE: KfuncFlags = KfuncFlags::SLEEPABLE;
const RCU: KfuncFlags = KfuncFlags::RCU;
const ITER_NEW: KfuncFlags = KfuncFlags::ITER_NEW;
const ITER_NEXT: KfuncFlags = KfuncFlags::ITER_NEXT;
const ITER_DESTROY: KfuncFlags = KfuncFlags::ITER_DESTROY;
const RCU_PROTECTED: KfuncFlags = KfuncFlags::RCU_PROTECTED;

const COMMON: Hooks = Hooks::COMMON;
const XDP: Hooks = Hooks::XDP;
const TC: Hooks = Hooks::TC;
const STRUCT_OPS: Hooks = Hooks::STRUCT_OPS;
const TRACING: Hooks = Hooks::TRACING;
const SYSCALL: Hooks = Hooks::SYSCALL;
const CGROUP: Hooks = Hooks::CGROUP;
const SCHED_ACT: Hooks = Hooks::SCHED_ACT;
const KPROBE: Hooks = Hooks::KPROBE;
/// Programs that may use objects: tasks, cgroups, lists, trees.
const GENERIC: Hooks = XDP.with(TC).with(STRUCT_OPS).with(TRACING).with(SYSCALL).with(CGROUP);
/// Programs on packets, and those that trace them.
const SKB: Hooks = TC
    .with(TRACING)
    .with(CGROUP)
    .with(SCHED_ACT)
    .with(Hooks::SK_SKB)
    .with(Hooks::SOCKET_FILTER)
    .with(Hooks::LWT)
    .with(Hooks::NETFILTER);

/// Name, number of parameters, flags, program types; then what else it does and which programs of the types.
const fn row(name: &'static str, params: u8, flags: KfuncFlags, hooks: Hooks) -> Kfunc {
    Kfunc { name, params, flags, hooks, special: Special::None, filter: Filter::None }
}

#[rustfmt::skip]
pub(super) static KFUNCS: [Kfunc; 201] = [
    row("__bpf_trap", 0, NONE, COMMON).does(Trap),
    row("bbr_cwnd_event", 2, NONE, STRUCT_OPS),
    row("bbr_init", 1, NONE, STRUCT_OPS),
    row("bbr_main", 4, NONE, STRUCT_OPS),
    row("bbr_min_tso_segs", 1, NONE, STRUCT_OPS),
    row("bbr_set_state", 2, NONE, STRUCT_OPS),
    row("bbr_sndbuf_expand", 1, NONE, STRUCT_OPS),
    row("bbr_ssthresh", 1, NONE, STRUCT_OPS),
    row("bbr_undo_cwnd", 1, NONE, STRUCT_OPS),
    row("bpf_arena_alloc_pages", 5, TRUSTED_ARGS.with(SLEEPABLE), COMMON),
    row("bpf_arena_free_pages", 3, TRUSTED_ARGS.with(SLEEPABLE), COMMON),
    row("bpf_arena_reserve_pages", 3, TRUSTED_ARGS.with(SLEEPABLE), COMMON),
    row("bpf_cast_to_kern_ctx", 1, NONE, COMMON).does(CastToKernCtx),
    row("bpf_cgroup_acquire", 1, ACQUIRE.with(RET_NULL).with(RCU), GENERIC),
    row("bpf_cgroup_ancestor", 2, ACQUIRE.with(RET_NULL).with(RCU), GENERIC),
    row("bpf_cgroup_from_id", 1, ACQUIRE.with(RET_NULL), GENERIC),
    row("bpf_cgroup_read_xattr", 3, RCU, COMMON),
    row("bpf_cgroup_release", 1, RELEASE, GENERIC),
    row("bpf_copy_from_user_dynptr", 4, SLEEPABLE, COMMON),
    row("bpf_copy_from_user_str", 4, SLEEPABLE, COMMON),
    row("bpf_copy_from_user_str_dynptr", 4, SLEEPABLE, COMMON),
    row("bpf_copy_from_user_task_dynptr", 5, TRUSTED_ARGS.with(SLEEPABLE), COMMON),
    row("bpf_copy_from_user_task_str", 5, SLEEPABLE, COMMON),
    row("bpf_copy_from_user_task_str_dynptr", 5, TRUSTED_ARGS.with(SLEEPABLE), COMMON),
    row("bpf_cpumask_acquire", 1, ACQUIRE.with(TRUSTED_ARGS), STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_and", 3, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_any_and_distribute", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_any_distribute", 1, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_clear", 1, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_clear_cpu", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_copy", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_create", 0, ACQUIRE.with(RET_NULL), STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_empty", 1, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_equal", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_first", 1, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_first_and", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_first_zero", 1, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_full", 1, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_intersects", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_or", 3, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_populate", 3, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_release", 1, RELEASE, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_set_cpu", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_setall", 1, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_subset", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_test_and_clear_cpu", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_test_and_set_cpu", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_test_cpu", 2, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_weight", 1, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_cpumask_xor", 3, RCU, STRUCT_OPS.with(TRACING).with(SYSCALL)),
    row("bpf_crypto_ctx_acquire", 1, ACQUIRE.with(RET_NULL).with(RCU), SYSCALL),
    row("bpf_crypto_ctx_create", 3, ACQUIRE.with(RET_NULL).with(SLEEPABLE), SYSCALL),
    row("bpf_crypto_ctx_release", 1, RELEASE, SYSCALL),
    row("bpf_crypto_decrypt", 4, RCU, XDP.with(TC).with(SCHED_ACT)),
    row("bpf_crypto_encrypt", 4, RCU, XDP.with(TC).with(SCHED_ACT)),
    row("bpf_ct_change_status", 2, TRUSTED_ARGS, XDP.with(TC)),
    row("bpf_ct_change_timeout", 2, TRUSTED_ARGS, XDP.with(TC)),
    row("bpf_ct_insert_entry", 1, ACQUIRE.with(RELEASE).with(RET_NULL), XDP.with(TC)),
    row("bpf_ct_release", 1, RELEASE, XDP.with(TC)),
    row("bpf_ct_set_nat_info", 4, TRUSTED_ARGS, XDP.with(TC)),
    row("bpf_ct_set_status", 2, TRUSTED_ARGS, XDP.with(TC)),
    row("bpf_ct_set_timeout", 2, TRUSTED_ARGS, XDP.with(TC)),
    row("bpf_dynptr_adjust", 3, NONE, COMMON),
    row("bpf_dynptr_clone", 2, NONE, COMMON).does(DynptrClone),
    row("bpf_dynptr_copy", 5, NONE, COMMON),
    row("bpf_dynptr_from_skb", 3, TRUSTED_ARGS, SKB).does(DynptrFromSkb),
    row("bpf_dynptr_from_skb_meta", 3, TRUSTED_ARGS, TC.with(SCHED_ACT)).does(DynptrFromSkbMeta),
    row("bpf_dynptr_from_xdp", 3, NONE, XDP).does(DynptrFromXdp),
    row("bpf_dynptr_is_null", 1, NONE, COMMON),
    row("bpf_dynptr_is_rdonly", 1, NONE, COMMON),
    row("bpf_dynptr_memset", 4, NONE, COMMON),
    row("bpf_dynptr_size", 1, NONE, COMMON),
    row("bpf_dynptr_slice", 4, RET_NULL, COMMON).does(DynptrSlice),
    row("bpf_dynptr_slice_rdwr", 4, RET_NULL, COMMON).does(DynptrSliceWritable),
    row("bpf_get_dentry_xattr", 3, TRUSTED_ARGS.with(SLEEPABLE), TRACING).only(Lsm),
    row("bpf_get_file_xattr", 3, TRUSTED_ARGS.with(SLEEPABLE), TRACING).only(Lsm),
    row("bpf_get_kmem_cache", 1, NONE, COMMON).does(KmemCache),
    row("bpf_get_task_exe_file", 1, ACQUIRE.with(RET_NULL).with(TRUSTED_ARGS), TRACING).only(Lsm),
    row("bpf_iter_bits_destroy", 1, ITER_DESTROY, COMMON),
    row("bpf_iter_bits_new", 3, ITER_NEW, COMMON),
    row("bpf_iter_bits_next", 1, RET_NULL.with(ITER_NEXT), COMMON),
    row("bpf_iter_css_destroy", 1, ITER_DESTROY, COMMON),
    row("bpf_iter_css_new", 3, TRUSTED_ARGS.with(ITER_NEW).with(RCU_PROTECTED), COMMON),
    row("bpf_iter_css_next", 1, RET_NULL.with(ITER_NEXT), COMMON),
    row("bpf_iter_css_task_destroy", 1, ITER_DESTROY, COMMON),
    row("bpf_iter_css_task_new", 3, TRUSTED_ARGS.with(ITER_NEW), COMMON).does(CssTaskNew),
    row("bpf_iter_css_task_next", 1, RET_NULL.with(ITER_NEXT), COMMON),
    row("bpf_iter_dmabuf_destroy", 1, SLEEPABLE.with(ITER_DESTROY), COMMON),
    row("bpf_iter_dmabuf_new", 1, SLEEPABLE.with(ITER_NEW), COMMON),
    row("bpf_iter_dmabuf_next", 1, RET_NULL.with(SLEEPABLE).with(ITER_NEXT), COMMON),
    row("bpf_iter_kmem_cache_destroy", 1, SLEEPABLE.with(ITER_DESTROY), COMMON),
    row("bpf_iter_kmem_cache_new", 1, SLEEPABLE.with(ITER_NEW), COMMON),
    row("bpf_iter_kmem_cache_next", 1, RET_NULL.with(SLEEPABLE).with(ITER_NEXT), COMMON),
    row("bpf_iter_num_destroy", 1, ITER_DESTROY, COMMON),
    row("bpf_iter_num_new", 3, ITER_NEW, COMMON),
    row("bpf_iter_num_next", 1, RET_NULL.with(ITER_NEXT), COMMON),
    row("bpf_iter_task_destroy", 1, ITER_DESTROY, COMMON),
    row("bpf_iter_task_new", 3, TRUSTED_ARGS.with(ITER_NEW).with(RCU_PROTECTED), COMMON),
    row("bpf_iter_task_next", 1, RET_NULL.with(ITER_NEXT), COMMON),
    row("bpf_iter_task_vma_destroy", 1, ITER_DESTROY, COMMON),
    row("bpf_iter_task_vma_new", 3, RCU.with(ITER_NEW), COMMON),
    row("bpf_iter_task_vma_next", 1, RET_NULL.with(ITER_NEXT), COMMON),
    row("bpf_key_put", 1, RELEASE, GENERIC),
    row("bpf_kfunc_call_memb_release", 1, RELEASE, TC.with(TRACING).with(SYSCALL)),
    row("bpf_kfunc_call_test_release", 1, RELEASE, TC.with(TRACING).with(SYSCALL)),
    row("bpf_list_back", 1, RET_NULL, GENERIC).does(ListPeek),
    row("bpf_list_front", 1, RET_NULL, GENERIC).does(ListPeek),
    row("bpf_list_pop_back", 1, ACQUIRE.with(RET_NULL), GENERIC).does(ListPop),
    row("bpf_list_pop_front", 1, ACQUIRE.with(RET_NULL), GENERIC).does(ListPop),
    row("bpf_list_push_back_impl", 4, NONE, GENERIC).does(ListPush),
    row("bpf_list_push_front_impl", 4, NONE, GENERIC).does(ListPush),
    row("bpf_local_irq_restore", 1, NONE, COMMON).does(IrqRestore),
    row("bpf_local_irq_save", 1, NONE, COMMON).does(IrqSave),
    row("bpf_lookup_system_key", 1, ACQUIRE.with(RET_NULL), GENERIC),
    row("bpf_lookup_user_key", 2, ACQUIRE.with(RET_NULL).with(SLEEPABLE), GENERIC),
    row("bpf_map_sum_elem_count", 1, TRUSTED_ARGS, COMMON),
    row("bpf_modify_return_test_tp", 1, NONE, COMMON),
    row("bpf_obj_drop_impl", 2, RELEASE, GENERIC).does(ObjDrop),
    row("bpf_obj_new_impl", 2, ACQUIRE.with(RET_NULL), GENERIC).does(ObjNew),
    row("bpf_path_d_path", 3, TRUSTED_ARGS, TRACING).only(Lsm),
    row("bpf_percpu_obj_drop_impl", 2, RELEASE, GENERIC).does(PerCpuObjDrop),
    row("bpf_percpu_obj_new_impl", 2, ACQUIRE.with(RET_NULL), GENERIC).does(PerCpuObjNew),
    row("bpf_preempt_disable", 0, NONE, COMMON).does(PreemptDisable),
    row("bpf_preempt_enable", 0, NONE, COMMON).does(PreemptEnable),
    row("bpf_probe_read_kernel_dynptr", 4, NONE, COMMON),
    row("bpf_probe_read_kernel_str_dynptr", 4, NONE, COMMON),
    row("bpf_probe_read_user_dynptr", 4, NONE, COMMON),
    row("bpf_probe_read_user_str_dynptr", 4, NONE, COMMON),
    row("bpf_put_file", 1, RELEASE, TRACING).only(Lsm),
    row("bpf_rbtree_add_impl", 5, NONE, GENERIC).does(RbtreeAdd),
    row("bpf_rbtree_first", 1, RET_NULL, GENERIC).does(RbtreePeek),
    row("bpf_rbtree_left", 2, RET_NULL, GENERIC).does(RbtreeStep),
    row("bpf_rbtree_remove", 2, ACQUIRE.with(RET_NULL), GENERIC).does(RbtreeRemove),
    row("bpf_rbtree_right", 2, RET_NULL, GENERIC).does(RbtreeStep),
    row("bpf_rbtree_root", 1, RET_NULL, GENERIC).does(RbtreePeek),
    row("bpf_rcu_read_lock", 0, NONE, COMMON).does(RcuLock),
    row("bpf_rcu_read_unlock", 0, NONE, COMMON).does(RcuUnlock),
    row("bpf_rdonly_cast", 2, NONE, COMMON).does(ReadOnlyCast),
    row("bpf_refcount_acquire_impl", 2, ACQUIRE.with(RET_NULL).with(RCU), GENERIC).does(RefcountAcquire),
    row("bpf_remove_dentry_xattr", 2, TRUSTED_ARGS.with(SLEEPABLE), TRACING).only(Lsm),
    row("bpf_res_spin_lock", 1, RET_NULL, COMMON).does(ResSpinLock),
    row("bpf_res_spin_lock_irqsave", 2, RET_NULL, COMMON).does(ResSpinLockIrq),
    row("bpf_res_spin_unlock", 1, NONE, COMMON).does(ResSpinUnlock),
    row("bpf_res_spin_unlock_irqrestore", 2, NONE, COMMON).does(ResSpinUnlockIrq),
    row("bpf_send_signal_task", 4, TRUSTED_ARGS, GENERIC),
    row("bpf_session_cookie", 0, NONE, KPROBE).does(SessionCookie).only(Session),
    row("bpf_session_is_return", 0, NONE, KPROBE).only(Session),
    row("bpf_set_dentry_xattr", 4, TRUSTED_ARGS.with(SLEEPABLE), TRACING).only(Lsm),
    row("bpf_sk_assign_tcp_reqsk", 4, TRUSTED_ARGS, TC),
    row("bpf_skb_ct_alloc", 5, ACQUIRE.with(RET_NULL), XDP.with(TC)),
    row("bpf_skb_ct_lookup", 5, ACQUIRE.with(RET_NULL), XDP.with(TC)),
    row("bpf_sock_addr_set_sun_path", 3, NONE, CGROUP),
    row("bpf_sock_destroy", 1, TRUSTED_ARGS, TRACING).only(Iterator),
    row("bpf_sock_ops_enable_tx_tstamp", 2, TRUSTED_ARGS, CGROUP),
    row("bpf_strcasecmp", 2, NONE, COMMON),
    row("bpf_strchr", 2, NONE, COMMON),
    row("bpf_strchrnul", 2, NONE, COMMON),
    row("bpf_strcmp", 2, NONE, COMMON),
    row("bpf_strcspn", 2, NONE, COMMON),
    // The name before 6.18 settled on another.
    row("bpf_stream_vprintk", 5, TRUSTED_ARGS, COMMON),
    row("bpf_stream_vprintk_impl", 5, TRUSTED_ARGS, COMMON),
    row("bpf_strlen", 1, NONE, COMMON),
    row("bpf_strnchr", 3, NONE, COMMON),
    row("bpf_strnlen", 2, NONE, COMMON),
    row("bpf_strnstr", 3, NONE, COMMON),
    row("bpf_strrchr", 2, NONE, COMMON),
    row("bpf_strspn", 2, NONE, COMMON),
    row("bpf_strstr", 2, NONE, COMMON),
    row("bpf_task_acquire", 1, ACQUIRE.with(RET_NULL).with(RCU), GENERIC),
    row("bpf_task_from_pid", 1, ACQUIRE.with(RET_NULL), GENERIC),
    row("bpf_task_from_vpid", 1, ACQUIRE.with(RET_NULL), GENERIC),
    row("bpf_task_get_cgroup1", 2, ACQUIRE.with(RET_NULL).with(RCU), GENERIC),
    row("bpf_task_release", 1, RELEASE, GENERIC),
    row("bpf_task_under_cgroup", 2, RCU, GENERIC),
    row("bpf_task_work_schedule_resume_impl", 5, TRUSTED_ARGS, COMMON).does(TaskWork),
    row("bpf_task_work_schedule_signal_impl", 5, TRUSTED_ARGS, COMMON).does(TaskWork),
    row("bpf_throw", 1, NONE, GENERIC).does(Throw),
    row("bpf_wq_init", 3, NONE, COMMON).does(WqInit),
    row("bpf_wq_set_callback_impl", 4, NONE, COMMON).does(WqSetCallback),
    row("bpf_wq_start", 2, NONE, COMMON),
    row("bpf_xdp_ct_alloc", 5, ACQUIRE.with(RET_NULL), XDP.with(TC)),
    row("bpf_xdp_ct_lookup", 5, ACQUIRE.with(RET_NULL), XDP.with(TC)),
    row("bpf_xdp_get_xfrm_state", 3, ACQUIRE.with(RET_NULL), XDP),
    row("bpf_xdp_metadata_rx_hash", 3, TRUSTED_ARGS, XDP).only(DeviceBound),
    row("bpf_xdp_metadata_rx_timestamp", 2, TRUSTED_ARGS, XDP).only(DeviceBound),
    row("bpf_xdp_metadata_rx_vlan_tag", 3, TRUSTED_ARGS, XDP).only(DeviceBound),
    row("bpf_xdp_pull_data", 2, NONE, XDP).does(PullData),
    row("bpf_xdp_xfrm_state_release", 1, RELEASE, XDP),
    row("css_rstat_flush", 1, SLEEPABLE, TRACING),
    row("css_rstat_updated", 2, NONE, TRACING),
    row("cubictcp_acked", 2, NONE, STRUCT_OPS),
    row("cubictcp_cong_avoid", 3, NONE, STRUCT_OPS),
    row("cubictcp_cwnd_event", 2, NONE, STRUCT_OPS),
    row("cubictcp_init", 1, NONE, STRUCT_OPS),
    row("cubictcp_recalc_ssthresh", 1, NONE, STRUCT_OPS),
    row("cubictcp_state", 2, NONE, STRUCT_OPS),
    row("tcp_cong_avoid_ai", 3, NONE, STRUCT_OPS),
    row("tcp_reno_cong_avoid", 3, NONE, STRUCT_OPS),
    row("tcp_reno_ssthresh", 1, NONE, STRUCT_OPS),
    row("tcp_reno_undo_cwnd", 1, NONE, STRUCT_OPS),
    row("tcp_slow_start", 2, NONE, STRUCT_OPS),
];
