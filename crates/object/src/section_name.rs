//! Section names and the program types they stand for: libbpf's `SEC()` conventions as a table.

use AttachType as A;
use ProgType as P;

use crate::{ProgType, ProgramKind};

macro_rules! attach_types {
    ($($name:ident = $number:literal,)*) => {
        /// Attach types, with the kernel's numbers (`enum bpf_attach_type`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are the kernel's BPF_* attach types")]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum AttachType { $($name = $number,)* }

        impl AttachType {
            /// The type with this number in `enum bpf_attach_type`.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

attach_types! {
    CgroupInetIngress = 0,
    CgroupInetEgress = 1,
    CgroupInetSockCreate = 2,
    CgroupSockOps = 3,
    SkSkbStreamParser = 4,
    SkSkbStreamVerdict = 5,
    CgroupDevice = 6,
    SkMsgVerdict = 7,
    CgroupInet4Bind = 8,
    CgroupInet6Bind = 9,
    CgroupInet4Connect = 10,
    CgroupInet6Connect = 11,
    CgroupInet4PostBind = 12,
    CgroupInet6PostBind = 13,
    CgroupUdp4Sendmsg = 14,
    CgroupUdp6Sendmsg = 15,
    LircMode2 = 16,
    FlowDissector = 17,
    CgroupSysctl = 18,
    CgroupUdp4Recvmsg = 19,
    CgroupUdp6Recvmsg = 20,
    CgroupGetsockopt = 21,
    CgroupSetsockopt = 22,
    TraceRawTp = 23,
    TraceFentry = 24,
    TraceFexit = 25,
    ModifyReturn = 26,
    LsmMac = 27,
    TraceIter = 28,
    CgroupInet4Getpeername = 29,
    CgroupInet6Getpeername = 30,
    CgroupInet4Getsockname = 31,
    CgroupInet6Getsockname = 32,
    XdpDevmap = 33,
    CgroupInetSockRelease = 34,
    XdpCpumap = 35,
    SkLookup = 36,
    Xdp = 37,
    SkSkbVerdict = 38,
    SkReuseportSelect = 39,
    SkReuseportSelectOrMigrate = 40,
    PerfEvent = 41,
    TraceKprobeMulti = 42,
    LsmCgroup = 43,
    StructOps = 44,
    Netfilter = 45,
    TcxIngress = 46,
    TcxEgress = 47,
    TraceUprobeMulti = 48,
    CgroupUnixConnect = 49,
    CgroupUnixSendmsg = 50,
    CgroupUnixRecvmsg = 51,
    CgroupUnixGetpeername = 52,
    CgroupUnixGetsockname = 53,
    NetkitPrimary = 54,
    NetkitPeer = 55,
    TraceKprobeSession = 56,
    TraceUprobeSession = 57,
}

/// How a row's name is compared with a section's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The whole name.
    Exact,
    /// The name alone, or followed by `/` and a target (libbpf writes `name+`).
    Target,
}

/// A row: what a section name says.
struct Row {
    name: &'static str,
    form: Form,
    prog_type: ProgType,
    attach_type: Option<AttachType>,
    sleepable: bool,
    xdp_frags: bool,
}

const fn row(name: &'static str, form: Form, prog_type: ProgType, attach_type: Option<AttachType>) -> Row {
    Row { name, form, prog_type, attach_type, sleepable: false, xdp_frags: false }
}

/// A section whose whole name is given.
const fn exact(name: &'static str, prog_type: ProgType) -> Row {
    row(name, Form::Exact, prog_type, None)
}

/// The same, with an attach type.
const fn attached(name: &'static str, prog_type: ProgType, attach_type: AttachType) -> Row {
    row(name, Form::Exact, prog_type, Some(attach_type))
}

/// A section that may name a target.
const fn target(name: &'static str, prog_type: ProgType) -> Row {
    row(name, Form::Target, prog_type, None)
}

/// The same, with an attach type.
const fn traced(name: &'static str, prog_type: ProgType, attach_type: AttachType) -> Row {
    row(name, Form::Target, prog_type, Some(attach_type))
}

const fn sleepable(row: Row) -> Row {
    Row { sleepable: true, ..row }
}

const fn frags(row: Row) -> Row {
    Row { xdp_frags: true, ..row }
}

/// Every section name that libbpf knows. The first row that fits counts.
const TABLE: &[Row] = &[
    exact("socket", P::SocketFilter),
    attached("sk_reuseport/migrate", P::SkReuseport, A::SkReuseportSelectOrMigrate),
    attached("sk_reuseport", P::SkReuseport, A::SkReuseportSelect),
    target("kprobe", P::Kprobe),
    target("uprobe", P::Kprobe),
    sleepable(target("uprobe.s", P::Kprobe)),
    target("kretprobe", P::Kprobe),
    target("uretprobe", P::Kprobe),
    sleepable(target("uretprobe.s", P::Kprobe)),
    traced("kprobe.multi", P::Kprobe, A::TraceKprobeMulti),
    traced("kretprobe.multi", P::Kprobe, A::TraceKprobeMulti),
    traced("kprobe.session", P::Kprobe, A::TraceKprobeSession),
    traced("uprobe.multi", P::Kprobe, A::TraceUprobeMulti),
    traced("uretprobe.multi", P::Kprobe, A::TraceUprobeMulti),
    traced("uprobe.session", P::Kprobe, A::TraceUprobeSession),
    sleepable(traced("uprobe.multi.s", P::Kprobe, A::TraceUprobeMulti)),
    sleepable(traced("uretprobe.multi.s", P::Kprobe, A::TraceUprobeMulti)),
    sleepable(traced("uprobe.session.s", P::Kprobe, A::TraceUprobeSession)),
    target("ksyscall", P::Kprobe),
    target("kretsyscall", P::Kprobe),
    target("usdt", P::Kprobe),
    sleepable(target("usdt.s", P::Kprobe)),
    attached("tc/ingress", P::SchedCls, A::TcxIngress),
    attached("tc/egress", P::SchedCls, A::TcxEgress),
    attached("tcx/ingress", P::SchedCls, A::TcxIngress),
    attached("tcx/egress", P::SchedCls, A::TcxEgress),
    exact("tc", P::SchedCls),
    exact("classifier", P::SchedCls),
    exact("action", P::SchedAct),
    attached("netkit/primary", P::SchedCls, A::NetkitPrimary),
    attached("netkit/peer", P::SchedCls, A::NetkitPeer),
    target("tracepoint", P::Tracepoint),
    target("tp", P::Tracepoint),
    target("raw_tracepoint", P::RawTracepoint),
    target("raw_tp", P::RawTracepoint),
    target("raw_tracepoint.w", P::RawTracepointWritable),
    target("raw_tp.w", P::RawTracepointWritable),
    traced("tp_btf", P::Tracing, A::TraceRawTp),
    traced("fentry", P::Tracing, A::TraceFentry),
    traced("fmod_ret", P::Tracing, A::ModifyReturn),
    traced("fexit", P::Tracing, A::TraceFexit),
    sleepable(traced("fentry.s", P::Tracing, A::TraceFentry)),
    sleepable(traced("fmod_ret.s", P::Tracing, A::ModifyReturn)),
    sleepable(traced("fexit.s", P::Tracing, A::TraceFexit)),
    target("freplace", P::Ext),
    traced("lsm", P::Lsm, A::LsmMac),
    sleepable(traced("lsm.s", P::Lsm, A::LsmMac)),
    traced("lsm_cgroup", P::Lsm, A::LsmCgroup),
    traced("iter", P::Tracing, A::TraceIter),
    sleepable(traced("iter.s", P::Tracing, A::TraceIter)),
    sleepable(exact("syscall", P::Syscall)),
    frags(attached("xdp.frags/devmap", P::Xdp, A::XdpDevmap)),
    attached("xdp/devmap", P::Xdp, A::XdpDevmap),
    frags(attached("xdp.frags/cpumap", P::Xdp, A::XdpCpumap)),
    attached("xdp/cpumap", P::Xdp, A::XdpCpumap),
    frags(attached("xdp.frags", P::Xdp, A::Xdp)),
    attached("xdp", P::Xdp, A::Xdp),
    exact("perf_event", P::PerfEvent),
    exact("lwt_in", P::LwtIn),
    exact("lwt_out", P::LwtOut),
    exact("lwt_xmit", P::LwtXmit),
    exact("lwt_seg6local", P::LwtSeg6local),
    attached("sockops", P::SockOps, A::CgroupSockOps),
    attached("sk_skb/stream_parser", P::SkSkb, A::SkSkbStreamParser),
    attached("sk_skb/stream_verdict", P::SkSkb, A::SkSkbStreamVerdict),
    attached("sk_skb/verdict", P::SkSkb, A::SkSkbVerdict),
    exact("sk_skb", P::SkSkb),
    attached("sk_msg", P::SkMsg, A::SkMsgVerdict),
    attached("lirc_mode2", P::LircMode2, A::LircMode2),
    attached("flow_dissector", P::FlowDissector, A::FlowDissector),
    attached("cgroup_skb/ingress", P::CgroupSkb, A::CgroupInetIngress),
    attached("cgroup_skb/egress", P::CgroupSkb, A::CgroupInetEgress),
    exact("cgroup/skb", P::CgroupSkb),
    attached("cgroup/sock_create", P::CgroupSock, A::CgroupInetSockCreate),
    attached("cgroup/sock_release", P::CgroupSock, A::CgroupInetSockRelease),
    attached("cgroup/sock", P::CgroupSock, A::CgroupInetSockCreate),
    attached("cgroup/post_bind4", P::CgroupSock, A::CgroupInet4PostBind),
    attached("cgroup/post_bind6", P::CgroupSock, A::CgroupInet6PostBind),
    attached("cgroup/bind4", P::CgroupSockAddr, A::CgroupInet4Bind),
    attached("cgroup/bind6", P::CgroupSockAddr, A::CgroupInet6Bind),
    attached("cgroup/connect4", P::CgroupSockAddr, A::CgroupInet4Connect),
    attached("cgroup/connect6", P::CgroupSockAddr, A::CgroupInet6Connect),
    attached("cgroup/connect_unix", P::CgroupSockAddr, A::CgroupUnixConnect),
    attached("cgroup/sendmsg4", P::CgroupSockAddr, A::CgroupUdp4Sendmsg),
    attached("cgroup/sendmsg6", P::CgroupSockAddr, A::CgroupUdp6Sendmsg),
    attached("cgroup/sendmsg_unix", P::CgroupSockAddr, A::CgroupUnixSendmsg),
    attached("cgroup/recvmsg4", P::CgroupSockAddr, A::CgroupUdp4Recvmsg),
    attached("cgroup/recvmsg6", P::CgroupSockAddr, A::CgroupUdp6Recvmsg),
    attached("cgroup/recvmsg_unix", P::CgroupSockAddr, A::CgroupUnixRecvmsg),
    attached("cgroup/getpeername4", P::CgroupSockAddr, A::CgroupInet4Getpeername),
    attached("cgroup/getpeername6", P::CgroupSockAddr, A::CgroupInet6Getpeername),
    attached("cgroup/getpeername_unix", P::CgroupSockAddr, A::CgroupUnixGetpeername),
    attached("cgroup/getsockname4", P::CgroupSockAddr, A::CgroupInet4Getsockname),
    attached("cgroup/getsockname6", P::CgroupSockAddr, A::CgroupInet6Getsockname),
    attached("cgroup/getsockname_unix", P::CgroupSockAddr, A::CgroupUnixGetsockname),
    attached("cgroup/sysctl", P::CgroupSysctl, A::CgroupSysctl),
    attached("cgroup/getsockopt", P::CgroupSockopt, A::CgroupGetsockopt),
    attached("cgroup/setsockopt", P::CgroupSockopt, A::CgroupSetsockopt),
    attached("cgroup/dev", P::CgroupDevice, A::CgroupDevice),
    target("struct_ops", P::StructOps),
    sleepable(target("struct_ops.s", P::StructOps)),
    attached("sk_lookup", P::SkLookup, A::SkLookup),
    attached("netfilter", P::Netfilter, A::Netfilter),
];

impl Row {
    fn fits(&self, section: &str) -> bool {
        match section.strip_prefix(self.name) {
            Some("") => true,
            Some(rest) => self.form == Form::Target && rest.starts_with('/'),
            None => false,
        }
    }
}

impl ProgramKind {
    /// Reads a section name as libbpf does. An unknown name gives `prog_type: None`.
    #[must_use]
    pub fn from_section(section: &str) -> Self {
        let (optional, name) = match section.strip_prefix('?') {
            Some(rest) => (true, rest),
            None => (false, section),
        };
        let row = TABLE.iter().find(|row| row.fits(name));
        Self {
            prog_type: row.map(|r| r.prog_type),
            attach_type: row.and_then(|r| r.attach_type).map(|a| a as u32),
            sleepable: row.is_some_and(|r| r.sleepable),
            xdp_frags: row.is_some_and(|r| r.xdp_frags),
            target: name.split_once('/').map(|(_, t)| t.to_owned()),
            optional,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(section: &str) -> ProgramKind {
        ProgramKind::from_section(section)
    }

    #[test]
    fn a_target_follows_a_slash_where_the_table_allows_one() {
        let fentry = kind("fentry.s/bpf_fentry_test1");
        assert_eq!(fentry.prog_type, Some(P::Tracing));
        assert_eq!(fentry.attach_type, Some(24));
        assert_eq!(fentry.target.as_deref(), Some("bpf_fentry_test1"));
        assert!(fentry.sleepable);
        assert_eq!(kind("tp/syscalls/sys_enter_open").target.as_deref(), Some("syscalls/sys_enter_open"));
        assert_eq!(kind("fentry").prog_type, Some(P::Tracing), "the target may be given later");
        for unknown in ["fentry.x/f", "fentryfoo", "xdp/foo", "socket/x", "syscall/x", "", "?", "/", ".text"]
        {
            assert_eq!(kind(unknown).prog_type, None, "{unknown}");
        }
    }

    #[test]
    fn flags_follow_the_name() {
        let syscall = kind("?syscall");
        assert!(syscall.optional && syscall.sleepable && !syscall.xdp_frags);
        assert_eq!((syscall.prog_type, syscall.attach_type), (Some(P::Syscall), None));
        let xdp = kind("xdp.frags/cpumap");
        assert!(xdp.xdp_frags && !xdp.sleepable && !xdp.optional);
        assert_eq!(xdp.attach_type, Some(35));
        assert_eq!(kind("cgroup_skb/ingress").attach_type, Some(0), "0 is an attach type of its own");
        assert_eq!(kind("cgroup/skb").attach_type, None);
    }

    #[test]
    fn every_row_is_the_first_that_fits_its_own_name() {
        for row in TABLE {
            let found = kind(row.name);
            assert_eq!(found.prog_type, Some(row.prog_type), "{}", row.name);
            assert_eq!(found.attach_type, row.attach_type.map(|a| a as u32), "{}", row.name);
            assert_eq!((found.sleepable, found.xdp_frags), (row.sleepable, row.xdp_frags), "{}", row.name);
        }
    }

    #[test]
    fn numbers_are_dense() {
        for number in 0..=57 {
            assert_eq!(AttachType::from_number(number).map(|a| a as u32), Some(number));
        }
        assert_eq!(AttachType::from_number(58), None);
    }
}
