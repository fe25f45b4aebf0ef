//! What is known of the places in the kernel that tracing and security programs are attached to, besides their types.

use crate::state::reg::Flags;

/// Parameters of tracepoints that may be NULL, by the numbers of the parameters.
#[rustfmt::skip]
static MAY_BE_NULL: [(&[usize], &[&str]); 6] = [
    (&[0], &[
        "afs_protocol_error",
        "cachefiles_io_error",
        "cachefiles_lookup",
        "cachefiles_mark_active",
        "cachefiles_mark_failed",
        "cachefiles_mark_inactive",
        "cachefiles_ondemand_close",
        "cachefiles_ondemand_copen",
        "cachefiles_ondemand_cread",
        "cachefiles_ondemand_fd_release",
        "cachefiles_ondemand_fd_write",
        "cachefiles_ondemand_open",
        "cachefiles_ondemand_read",
        "cachefiles_prep_read",
        "cachefiles_rename",
        "cachefiles_unlink",
        "cachefiles_vfs_error",
        "mm_collapse_huge_page_isolate",
        "mm_page_alloc",
        "mm_page_alloc_zone_locked",
        "mm_page_pcpu_drain",
        "rxrpc_recvdata",
        "tmigr_update_events",
        "xfs_blockgc_flush_all",
        "xfs_blockgc_start",
        "xfs_blockgc_stop",
        "xfs_blockgc_worker",
        "xfs_defer_add_item",
        "xfs_defer_cancel_item",
        "xfs_defer_cancel_list",
        "xfs_defer_create_intent",
        "xfs_defer_finish_item",
        "xfs_defer_isolate_paused",
        "xfs_defer_item_pause",
        "xfs_defer_item_unpause",
        "xfs_defer_pending_abort",
        "xfs_defer_pending_finish",
        "xfs_defer_relog_intent",
        "xfs_fs_sync_fs",
        "xfs_inodegc_flush",
        "xfs_inodegc_push",
        "xfs_inodegc_queue",
        "xfs_inodegc_start",
        "xfs_inodegc_stop",
        "xfs_inodegc_throttle",
        "xs_stream_read_data",
    ]),
    (&[0, 1], &[
        "tcp_send_reset",
    ]),
    (&[1], &[
        "afs_flock_ev",
        "afs_make_fs_call",
        "afs_make_fs_call1",
        "afs_make_fs_call2",
        "afs_make_fs_calli",
        "break_lease_block",
        "break_lease_noblock",
        "break_lease_unblock",
        "device_pm_callback_start",
        "ext4_mballoc_discard",
        "ext4_mballoc_free",
        "fcntl_setlk",
        "flock_lock_inode",
        "folio_wait_writeback",
        "generic_delete_lease",
        "hugetlbfs_alloc_inode",
        "locks_remove_posix",
        "mm_khugepaged_collapse_file",
        "mm_khugepaged_scan_file",
        "mm_khugepaged_scan_pmd",
        "netfs_failure",
        "posix_lock_inode",
        "rxrpc_resend",
        "sched_pi_setprio",
        "time_out_leases",
        "writeback_dirty_folio",
        "xfs_blockgc_free_space",
        "xfs_ioc_free_eofblocks",
        "xprt_get_cong",
        "xprt_put_cong",
        "xprt_release_cong",
        "xprt_reserve_cong",
    ]),
    (&[2], &[
        "fib_table_lookup",
        "sched_stick_numa",
        "sched_swap_numa",
        "tcp_sendmsg_locked",
        "tegra_dma_tx_status",
        "xfs_btree_overlapped_query_range",
        "xfs_btree_updkeys",
    ]),
    (&[3], &[
        "kfree_skb",
        "qdisc_dequeue",
    ]),
    (&[4], &[
        "host1x_cdma_push_gather",
        "xfs_map_blocks_alloc",
        "xfs_map_blocks_found",
    ]),
];

/// Parameters of tracepoints that may hold an error number instead of a pointer.
static MAY_BE_ERROR: [(&str, usize); 2] = [("cachefiles_lookup", 2), ("mr_integ_alloc", 3)];

/// Whether the parameter of the tracepoint may be NULL.
pub(crate) fn may_be_null(tracepoint: &str, parameter: usize) -> bool {
    MAY_BE_NULL
        .iter()
        .any(|(parameters, names)| parameters.contains(&parameter) && names.contains(&tracepoint))
}

/// Whether the parameter of the tracepoint may be an error number.
pub(crate) fn may_be_error(tracepoint: &str, parameter: usize) -> bool {
    MAY_BE_ERROR.contains(&(tracepoint, parameter))
}

/// A parameter of an iterator's program that is not simply valid.
struct IterParameter {
    /// As in `iter/<name>`.
    iterators: &'static [&'static str],
    /// Number of the parameter; the first is the iterator's state.
    parameter: usize,
    is: IterValue,
}

/// What such a parameter is. At the end of the iteration it is NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IterValue {
    /// A pointer to a structure, with these modifiers.
    Structure(Flags),
    /// A buffer of a size that the attachment knows.
    Buffer(Flags),
}

const OR_NULL: IterValue = IterValue::Structure(Flags::MAYBE_NULL);
const TRUSTED_OR_NULL: IterValue = IterValue::Structure(Flags::MAYBE_NULL.with(Flags::TRUSTED));
const BUFFER: IterValue = IterValue::Buffer(Flags::MAYBE_NULL);
const READ_ONLY_BUFFER: IterValue = IterValue::Buffer(Flags::MAYBE_NULL.with(Flags::RDONLY));

const fn row(iterators: &'static [&'static str], parameter: usize, is: IterValue) -> IterParameter {
    IterParameter { iterators, parameter, is }
}

static ITERATORS: [IterParameter; 7] = [
    row(&["bpf_map", "cgroup", "kmem_cache", "task", "tcp", "udp"], 1, TRUSTED_OR_NULL),
    row(
        &["bpf_link", "bpf_prog", "dmabuf", "ipv6_route", "ksym", "netlink", "task_file", "task_vma", "unix"],
        1,
        OR_NULL,
    ),
    row(&["bpf_sk_storage_map", "task_vma"], 2, OR_NULL),
    row(&["sockmap", "task_file"], 3, OR_NULL),
    row(&["bpf_map_elem", "sockmap"], 2, READ_ONLY_BUFFER),
    row(&["bpf_map_elem"], 3, BUFFER),
    row(&["bpf_sk_storage_map"], 3, BUFFER),
];

/// What the parameter of an iterator's program is, if it is not simply valid.
pub(crate) fn iterator_parameter(iterator: &str, parameter: usize) -> Option<IterValue> {
    ITERATORS.iter().find(|r| r.parameter == parameter && r.iterators.contains(&iterator)).map(|r| r.is)
}

/// Whether programs can be attached to an iterator of this name.
pub(crate) fn is_iterator(name: &str) -> bool {
    // Every one of them ends with a parameter that is NULL.
    ITERATORS.iter().any(|r| r.iterators.contains(&name))
}

/// Hooks of security modules whose arguments are being made or destroyed.
static UNTRUSTED_LSM: [&str; 7] = [
    "bpf_map_free",
    "bpf_prog_free",
    "file_alloc_security",
    "file_free_security",
    "sk_alloc_security",
    "sk_free_security",
    "task_free",
];

/// Whether the arguments of a security module's hook are valid.
pub(crate) fn lsm_arguments_are_valid(hook: &str) -> bool {
    !UNTRUSTED_LSM.contains(&hook)
}

/// Hooks of security modules in which programs may sleep.
#[rustfmt::skip]
static SLEEPABLE_LSM: [&str; 84] = [
    "bpf",
    "bpf_map",
    "bpf_map_create",
    "bpf_map_free",
    "bpf_prog",
    "bpf_prog_load",
    "bpf_token_capable",
    "bpf_token_cmd",
    "bpf_token_create",
    "bpf_token_free",
    "bprm_check_security",
    "bprm_committed_creds",
    "bprm_committing_creds",
    "bprm_creds_for_exec",
    "bprm_creds_from_file",
    "capget",
    "capset",
    "cred_prepare",
    "current_getsecid_subj",
    "file_ioctl",
    "file_lock",
    "file_open",
    "file_post_open",
    "file_receive",
    "inode_create",
    "inode_free_security",
    "inode_getattr",
    "inode_getxattr",
    "inode_mknod",
    "inode_need_killpriv",
    "inode_post_setxattr",
    "inode_readlink",
    "inode_rename",
    "inode_rmdir",
    "inode_setattr",
    "inode_setxattr",
    "inode_symlink",
    "inode_unlink",
    "kernel_module_request",
    "kernel_read_file",
    "kernfs_init_security",
    "mmap_file",
    "netlink_send",
    "path_chmod",
    "path_chown",
    "path_link",
    "path_mkdir",
    "path_notify",
    "path_rename",
    "path_rmdir",
    "path_symlink",
    "path_truncate",
    "path_unlink",
    "release_secctx",
    "sb_alloc_security",
    "sb_eat_lsm_opts",
    "sb_kern_mount",
    "sb_mount",
    "sb_remount",
    "sb_set_mnt_opts",
    "sb_show_options",
    "sb_statfs",
    "sb_umount",
    "settime",
    "socket_accept",
    "socket_bind",
    "socket_connect",
    "socket_create",
    "socket_getpeername",
    "socket_getpeersec_dgram",
    "socket_getsockname",
    "socket_getsockopt",
    "socket_listen",
    "socket_post_create",
    "socket_recvmsg",
    "socket_sendmsg",
    "socket_shutdown",
    "socket_socketpair",
    "syslog",
    "task_alloc",
    "task_getsecid_obj",
    "task_prctl",
    "task_setscheduler",
    "userns_create",
];

/// Hooks of security modules that no program may be attached to.
#[rustfmt::skip]
static DISABLED_LSM: [&str; 12] = [
    "audit_rule_match",
    "getprocattr",
    "getselfattr",
    "inode_copy_up_xattr",
    "inode_getsecurity",
    "inode_listsecurity",
    "inode_need_killpriv",
    "ismaclabel",
    "key_getsecurity",
    "setprocattr",
    "vm_enough_memory",
    "xfrm_decode_session",
];

/// Whether programs attached to the hook may sleep.
pub(crate) fn lsm_may_sleep(hook: &str) -> bool {
    SLEEPABLE_LSM.binary_search(&hook).is_ok()
}

/// Whether programs may be attached to the hook.
pub(crate) fn lsm_is_enabled(hook: &str) -> bool {
    !DISABLED_LSM.contains(&hook)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_told_apart() {
        assert!(may_be_null("tcp_send_reset", 0) && may_be_null("tcp_send_reset", 1));
        assert!(
            may_be_null("kfree_skb", 3) && !may_be_null("kfree_skb", 0) && !may_be_null("task_newtask", 0)
        );
        assert_eq!(iterator_parameter("task", 1), Some(TRUSTED_OR_NULL));
        assert_eq!(iterator_parameter("bpf_map_elem", 3), Some(BUFFER));
        assert_eq!(iterator_parameter("task", 0), None);
    }

    #[test]
    fn hooks_of_security_modules_are_found() {
        assert!(SLEEPABLE_LSM.is_sorted() && lsm_may_sleep("file_open") && !lsm_may_sleep("task_free"));
        assert!(lsm_is_enabled("file_open") && !lsm_is_enabled("ismaclabel"));
    }
}
