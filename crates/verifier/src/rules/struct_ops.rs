//! Tables of functions of the kernel that programs may fill in: which functions, and which of those may sleep. Tables that
//! are missing here have no rules of their own.

use super::helpers::id;

/// Whether a program may be a function of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberRule {
    Any,
    /// One that does not sleep.
    Awake,
    /// None.
    Never {
        errno: i32,
    },
}

/// A table (`check_member` of its `struct bpf_struct_ops`).
struct Table {
    name: &'static str,
    /// Functions no program may be.
    never: &'static [&'static str],
    /// If not empty: the only functions that may sleep.
    sleeps: &'static [&'static str],
}

const ENOTSUPP: i32 = 524;

static TABLES: [Table; 3] = [
    Table { name: "tcp_congestion_ops", never: &["get_info"], sleeps: &[] },
    Table { name: "bpf_dummy_ops", never: &[], sleeps: &["test_sleepable"] },
    Table {
        name: "sched_ext_ops",
        never: &[],
        sleeps: &[
            "init_task",
            "cgroup_init",
            "cgroup_exit",
            "cgroup_prep_move",
            "cpu_online",
            "cpu_offline",
            "init",
            "exit",
        ],
    },
];

/// The rule for a member of a table.
pub(crate) fn member(table: &str, member: &str) -> MemberRule {
    let Some(table) = TABLES.iter().find(|t| t.name == table) else { return MemberRule::Any };
    if table.never.contains(&member) {
        MemberRule::Never { errno: ENOTSUPP }
    } else if !table.sleeps.is_empty() && !table.sleeps.contains(&member) {
        MemberRule::Awake
    } else {
        MemberRule::Any
    }
}

/// Helpers that a member of a table may not call although others may.
pub(crate) fn forbidden_helpers(table: &str, member: &str) -> &'static [u32] {
    // A socket that is being released would be given another congestion control.
    if (table, member) == ("tcp_congestion_ops", "release") { &[id::SETSOCKOPT] } else { &[] }
}

/// In the functions of congestion control every socket is a TCP socket.
pub(crate) fn promoted(table: &str, structure: &str) -> Option<&'static str> {
    (table == "tcp_congestion_ops" && structure == "sock").then_some("tcp_sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_rules() {
        assert_eq!(member("tcp_congestion_ops", "get_info"), MemberRule::Never { errno: ENOTSUPP });
        assert_eq!(member("tcp_congestion_ops", "ssthresh"), MemberRule::Any);
        assert_eq!(member("bpf_dummy_ops", "test_1"), MemberRule::Awake);
        assert_eq!(member("sched_ext_ops", "init"), MemberRule::Any);
        assert_eq!(member("other_ops", "anything"), MemberRule::Any);
    }
}
