//! Program types: what their context looks like, what they may do with packets, what they may return, where they may be
//! attached.

pub(crate) mod ctx_type;
mod field;
mod other;
mod skb;
mod socket;

use bpf_object::{AttachType as A, MapType, ProgType as P};

use crate::report::reason::LoadFault;

use field::Layout;
pub(crate) use field::{Gives, Query};
pub(crate) use socket::{SOCK_COMMON, SOCKET, TCP_SOCK, XDP_SOCK};

/// What a program type's context is.
#[derive(Debug)]
pub(crate) enum Ctx {
    /// A structure of which some fields may be accessed.
    Fields(&'static Layout),
    /// The arguments of a function of the kernel, 8 bytes each, as BTF describes them.
    Function,
    /// As in the program it replaces.
    Target,
}

/// What a program type may do with the bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// Neither write them nor give them to helpers.
    None,
    /// Read them, and give them to helpers that take packets.
    Read,
    /// Write them besides.
    Write,
    /// It is no packet but memory checked like one: any helper takes it.
    Memory,
}

/// The range `R0` must be in when a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    /// None: any number.
    Any,
    /// From one to the other.
    Range(i32, i32),
    /// What the hook it is attached to says.
    Hook,
}

/// A program type.
#[derive(Debug)]
pub(crate) struct ProgRules {
    pub(crate) prog_type: P,
    pub(crate) ctx: Ctx,
    /// The kernel translates accesses to the context (`convert_ctx_access`); helpers cannot be given it as memory then.
    pub(crate) converts: bool,
    pub(crate) packet: Packet,
    /// What it may return. The first row for its attach type counts; a row without attach types is for all.
    returns: &'static [(&'static [A], Returns)],
    /// Attach types it may be loaded for; empty: the kernel does not look.
    attach: &'static [A],
    /// What no attach type (0) stands for.
    default_attach: Option<A>,
    /// Packet loads of classic BPF (`BPF_LD_ABS`, `BPF_LD_IND`).
    pub(crate) classic_loads: bool,
    /// May run anywhere in the kernel, so that locks could be taken twice.
    pub(crate) anywhere: bool,
    /// For which attach types it may sleep.
    sleeps: Sleeps,
}

/// Whether programs of a type may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleeps {
    Never,
    Always,
    /// Only as a sleepable program does it load at all.
    Must,
    For(&'static [A]),
}

impl ProgRules {
    /// The attach type of a program that was asked to be loaded for number `attach`.
    pub(crate) fn attach_type(&self, attach: Option<u32>) -> Option<A> {
        match (attach.unwrap_or(0), self.default_attach) {
            (0, Some(default)) => Some(default),
            (number, _) => A::from_number(number),
        }
    }

    /// Checks what the program is to be attached to; `number` is what was asked for.
    pub(crate) fn check_attach(&self, attach: Option<A>, number: u32) -> Result<(), LoadFault> {
        let accepted = self.attach.is_empty() || attach.is_some_and(|a| self.attach.contains(&a));
        if accepted { Ok(()) } else { Err(LoadFault::AttachType { attach: number }) }
    }

    /// Checks whether the program may be loaded as one that sleeps, or one that does not.
    pub(crate) fn check_sleep(&self, attach: Option<A>, sleepable: bool) -> Result<(), LoadFault> {
        let may_sleep = match self.sleeps {
            Sleeps::Never => false,
            Sleeps::Always => true,
            Sleeps::Must if !sleepable => return Err(LoadFault::MustSleep),
            Sleeps::Must => true,
            Sleeps::For(attach_types) => attach.is_some_and(|a| attach_types.contains(&a)),
        };
        if sleepable && !may_sleep { Err(LoadFault::CannotSleep) } else { Ok(()) }
    }

    /// What a program with this attach type may return.
    pub(crate) fn returns(&self, attach: Option<A>) -> Returns {
        let fits = |types: &[A]| types.is_empty() || attach.is_some_and(|a| types.contains(&a));
        self.returns.iter().find(|(types, _)| fits(types)).map_or(Returns::Any, |(_, returns)| *returns)
    }
}

/// Maps that programs which sleep may use.
pub(crate) static SLEEPABLE_MAPS: [MapType; 17] = [
    MapType::Hash,
    MapType::LruHash,
    MapType::Array,
    MapType::PercpuHash,
    MapType::PercpuArray,
    MapType::LruPercpuHash,
    MapType::ArrayOfMaps,
    MapType::HashOfMaps,
    MapType::Ringbuf,
    MapType::UserRingbuf,
    MapType::InodeStorage,
    MapType::SkStorage,
    MapType::TaskStorage,
    MapType::CgrpStorage,
    MapType::Queue,
    MapType::Stack,
    MapType::Arena,
];

/// The rules for this type, if there are any.
pub(crate) fn find(prog_type: P) -> Option<&'static ProgRules> {
    PROGRAMS.iter().find(|p| p.prog_type == prog_type)
}

/// A program type with a context of fields that the kernel translates.
const fn program(prog_type: P, layout: &'static Layout) -> ProgRules {
    ProgRules {
        prog_type,
        ctx: Ctx::Fields(layout),
        converts: true,
        packet: Packet::None,
        returns: &[],
        attach: &[],
        default_attach: None,
        classic_loads: false,
        anywhere: false,
        sleeps: Sleeps::Never,
    }
}

impl ProgRules {
    /// The same, with direct access to packets.
    const fn packet(self, packet: Packet) -> Self {
        Self { packet, ..self }
    }

    /// The same, with a context of which the kernel translates nothing.
    const fn plain(self) -> Self {
        Self { converts: false, ..self }
    }

    const fn classic(self) -> Self {
        Self { classic_loads: true, ..self }
    }

    /// The same, for programs on events of the whole kernel.
    const fn anywhere(self) -> Self {
        Self { anywhere: true, converts: false, ..self }
    }

    const fn attach(self, attach: &'static [A]) -> Self {
        Self { attach, ..self }
    }

    const fn returns_one_of(self, returns: &'static [(&'static [A], Returns)]) -> Self {
        Self { returns, ..self }
    }
}

/// Yes or no.
const BOOL: &[(&[A], Returns)] = &[(&[], Returns::Range(0, 1))];

const SESSIONS: &[A] = &[A::TraceKprobeSession, A::TraceUprobeSession];
const CANNOT_REFUSE: &[A] = &[
    A::CgroupUdp4Recvmsg,
    A::CgroupUdp6Recvmsg,
    A::CgroupUnixRecvmsg,
    A::CgroupInet4Getpeername,
    A::CgroupInet6Getpeername,
    A::CgroupUnixGetpeername,
    A::CgroupInet4Getsockname,
    A::CgroupInet6Getsockname,
    A::CgroupUnixGetsockname,
];
const SOCK_ADDR_ATTACH: &[A] = &[
    A::CgroupInet4Bind,
    A::CgroupInet6Bind,
    A::CgroupInet4Connect,
    A::CgroupInet6Connect,
    A::CgroupUnixConnect,
    A::CgroupInet4Getpeername,
    A::CgroupInet6Getpeername,
    A::CgroupUnixGetpeername,
    A::CgroupInet4Getsockname,
    A::CgroupInet6Getsockname,
    A::CgroupUnixGetsockname,
    A::CgroupUdp4Sendmsg,
    A::CgroupUdp6Sendmsg,
    A::CgroupUnixSendmsg,
    A::CgroupUdp4Recvmsg,
    A::CgroupUdp6Recvmsg,
    A::CgroupUnixRecvmsg,
];
const CGROUP_SOCK_ATTACH: &[A] =
    &[A::CgroupInetSockCreate, A::CgroupInetSockRelease, A::CgroupInet4PostBind, A::CgroupInet6PostBind];
/// No attach type.
const NO_ATTACH: &[A] = &[A::CgroupInetIngress];

const TRACING_SLEEPS: &[A] = &[A::TraceFentry, A::TraceFexit, A::ModifyReturn, A::TraceIter];
const TRACING_RETURNS: &[(&[A], Returns)] =
    &[(&[A::TraceFentry, A::TraceFexit], Returns::Range(0, 0)), (&[A::TraceIter], Returns::Range(0, 1))];
const LSM_RETURNS: &[(&[A], Returns)] = &[(&[], Returns::Hook)];

static PROGRAMS: [ProgRules; 32] = [
    program(P::SocketFilter, &skb::SOCKET_FILTER).classic(),
    program(P::SchedCls, &skb::TRAFFIC_CONTROL).classic().packet(Packet::Write),
    program(P::SchedAct, &skb::TRAFFIC_CONTROL).classic().packet(Packet::Write),
    program(P::Xdp, &other::XDP).packet(Packet::Write),
    program(P::CgroupSkb, &skb::CGROUP_SKB)
        .packet(Packet::Read)
        .attach(&[A::CgroupInetIngress, A::CgroupInetEgress])
        .returns_one_of(&[(&[A::CgroupInetEgress], Returns::Range(0, 3)), (&[], Returns::Range(0, 1))]),
    program(P::LwtIn, &skb::LWT).packet(Packet::Read),
    program(P::LwtOut, &skb::LWT).packet(Packet::Read),
    program(P::LwtXmit, &skb::LWT).packet(Packet::Write),
    program(P::LwtSeg6local, &skb::LWT).packet(Packet::Read),
    program(P::SkSkb, &skb::SK_SKB).packet(Packet::Write),
    program(P::FlowDissector, &skb::FLOW_DISSECTOR).packet(Packet::Read),
    ProgRules {
        default_attach: Some(A::CgroupInetSockCreate),
        ..program(P::CgroupSock, &socket::CGROUP_SOCK).attach(CGROUP_SOCK_ATTACH).returns_one_of(BOOL)
    },
    program(P::CgroupSockAddr, &socket::SOCK_ADDR).attach(SOCK_ADDR_ATTACH).returns_one_of(&[
        (CANNOT_REFUSE, Returns::Range(1, 1)),
        (&[A::CgroupInet4Bind, A::CgroupInet6Bind], Returns::Range(0, 3)),
        (&[], Returns::Range(0, 1)),
    ]),
    program(P::CgroupSockopt, &socket::SOCKOPT)
        .packet(Packet::Memory)
        .attach(&[A::CgroupSetsockopt, A::CgroupGetsockopt])
        .returns_one_of(BOOL),
    program(P::CgroupSysctl, &other::SYSCTL).returns_one_of(BOOL),
    program(P::CgroupDevice, &other::CGROUP_DEVICE).returns_one_of(BOOL),
    program(P::SockOps, &socket::SOCK_OPS).returns_one_of(BOOL),
    program(P::SkMsg, &socket::SK_MSG).packet(Packet::Write),
    program(P::SkLookup, &socket::SK_LOOKUP).attach(&[A::SkLookup]).returns_one_of(BOOL),
    ProgRules {
        default_attach: Some(A::SkReuseportSelect),
        ..program(P::SkReuseport, &socket::SK_REUSEPORT)
            .packet(Packet::Read)
            .attach(&[A::SkReuseportSelect, A::SkReuseportSelectOrMigrate])
    },
    program(P::Netfilter, &other::NETFILTER).plain().attach(&[A::Netfilter]).returns_one_of(BOOL),
    program(P::LircMode2, &other::LIRC_MODE2).plain(),
    ProgRules { sleeps: Sleeps::Must, ..program(P::Syscall, &other::SYSCALL).plain().attach(NO_ATTACH) },
    ProgRules {
        // Only uprobes do; the attachment decides.
        sleeps: Sleeps::Always,
        ..program(P::Kprobe, &other::KPROBE).anywhere().returns_one_of(&[(SESSIONS, Returns::Range(0, 1))])
    },
    program(P::Tracepoint, &other::TRACEPOINT).anywhere(),
    ProgRules { converts: true, ..program(P::PerfEvent, &other::PERF_EVENT).anywhere() },
    program(P::RawTracepoint, &other::RAW_TRACEPOINT).anywhere(),
    program(P::RawTracepointWritable, &other::RAW_TRACEPOINT_WRITABLE).anywhere(),
    ProgRules {
        ctx: Ctx::Function,
        sleeps: Sleeps::For(TRACING_SLEEPS),
        ..program(P::Tracing, &other::RAW_TRACEPOINT).plain().returns_one_of(TRACING_RETURNS)
    },
    ProgRules {
        ctx: Ctx::Function,
        sleeps: Sleeps::Always,
        ..program(P::Lsm, &other::RAW_TRACEPOINT).plain().returns_one_of(LSM_RETURNS)
    },
    ProgRules {
        ctx: Ctx::Function,
        sleeps: Sleeps::Always,
        ..program(P::StructOps, &other::RAW_TRACEPOINT).plain().returns_one_of(LSM_RETURNS)
    },
    ProgRules { ctx: Ctx::Target, ..program(P::Ext, &other::RAW_TRACEPOINT).attach(NO_ATTACH) },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_one_row() {
        for number in 1..=32 {
            let rows = PROGRAMS.iter().filter(|p| p.prog_type as u32 == number).count();
            assert_eq!(rows, 1, "{number}");
        }
    }

    #[test]
    fn the_attach_type_decides_what_is_returned() {
        let rules = find(P::CgroupSockAddr).map(|r| {
            [A::CgroupInet4Bind, A::CgroupUdp4Recvmsg, A::CgroupInet4Connect].map(|a| r.returns(Some(a)))
        });
        assert_eq!(rules, Some([Returns::Range(0, 3), Returns::Range(1, 1), Returns::Range(0, 1)]));
        assert_eq!(find(P::Xdp).map(|r| r.returns(None)), Some(Returns::Any));
    }

    #[test]
    fn loading_is_checked_by_type() {
        let check = |prog_type, attach: Option<u32>, sleepable| {
            find(prog_type).map(|r| {
                let number = attach.unwrap_or(0);
                let attach = r.attach_type(attach);
                r.check_attach(attach, number).and_then(|()| r.check_sleep(attach, sleepable))
            })
        };
        assert_eq!(check(P::CgroupSock, None, false), Some(Ok(())));
        assert_eq!(check(P::SkLookup, None, false), Some(Err(LoadFault::AttachType { attach: 0 })));
        assert_eq!(check(P::SkLookup, Some(36), false), Some(Ok(())));
        assert_eq!(check(P::Syscall, None, false), Some(Err(LoadFault::MustSleep)));
        assert_eq!(check(P::Syscall, Some(1), true), Some(Err(LoadFault::AttachType { attach: 1 })));
        assert_eq!(check(P::Xdp, Some(37), true), Some(Err(LoadFault::CannotSleep)));
        assert_eq!(check(P::Tracing, Some(24), true), Some(Ok(())));
        assert_eq!(check(P::Tracing, Some(23), true), Some(Err(LoadFault::CannotSleep)));
    }
}
