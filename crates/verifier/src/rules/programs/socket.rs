//! `struct bpf_sock` and the contexts of program types on sockets (`uapi/linux/bpf.h`).

use bpf_object::AttachType as A;

use super::field::{Field, Gives, Layout, NARROW, field, narrow, pointer, word};

/// `struct bpf_sock`, read through a pointer to a socket.
#[rustfmt::skip]
static SOCK_FIELDS: [Field; 15] = [
    word("bound_dev_if", 0),
    narrow("family", 4).first(),
    narrow("type", 8).first(),
    narrow("protocol", 12).first(),
    word("mark", 16),
    word("priority", 20),
    narrow("src_ip4", 24),
    field("src_ip6", 28, 16, NARROW),
    narrow("src_port", 44).first(),
    // Two bytes that were four once.
    word("dst_port", 48),
    field("dst_port", 48, 2, 1 + 2),
    narrow("dst_ip4", 52),
    field("dst_ip6", 56, 16, NARROW),
    narrow("state", 72).first(),
    narrow("rx_queue_mapping", 76).first(),
];

/// A full socket.
pub(crate) static SOCKET: Layout = Layout { fields: &SOCK_FIELDS, hidden: &[], writable: &[] };

/// Any socket: what only full ones have is not there.
pub(crate) static SOCK_COMMON: Layout =
    Layout { fields: &SOCK_FIELDS, hidden: &["type", "protocol", "mark", "priority"], writable: &[] };

const CREATE_RELEASE: &[A] = &[A::CgroupInetSockCreate, A::CgroupInetSockRelease];
const POST_BIND: &[A] = &[A::CgroupInet4PostBind, A::CgroupInet6PostBind];

/// The same as the context of `cgroup_sock`.
#[rustfmt::skip]
static CGROUP_SOCK_FIELDS: [Field; 15] = [
    word("bound_dev_if", 0).store(4).only(CREATE_RELEASE),
    narrow("family", 4).first(),
    narrow("type", 8).first(),
    narrow("protocol", 12).first(),
    word("mark", 16).store(4).only(CREATE_RELEASE),
    word("priority", 20).store(4).only(CREATE_RELEASE),
    narrow("src_ip4", 24).only(&[A::CgroupInet4PostBind]),
    field("src_ip6", 28, 16, NARROW).only(&[A::CgroupInet6PostBind]),
    narrow("src_port", 44).first().only(POST_BIND),
    word("dst_port", 48),
    field("dst_port", 48, 2, 1 + 2),
    narrow("dst_ip4", 52),
    field("dst_ip6", 56, 16, NARROW),
    narrow("state", 72).first(),
    narrow("rx_queue_mapping", 76).first(),
];

pub(crate) static CGROUP_SOCK: Layout =
    Layout { fields: &CGROUP_SOCK_FIELDS, hidden: &[], writable: &["bound_dev_if", "mark", "priority"] };

/// `struct bpf_tcp_sock`.
#[rustfmt::skip]
static TCP_SOCK_FIELDS: [Field; 4] = [
    field("snd_cwnd to sacked_out", 0, 80, 4),
    field("bytes_received", 80, 8, 8),
    field("bytes_acked", 88, 8, 8),
    field("dsack_dups to icsk_retransmits", 96, 16, 4),
];

pub(crate) static TCP_SOCK: Layout = Layout { fields: &TCP_SOCK_FIELDS, hidden: &[], writable: &[] };

/// `struct bpf_xdp_sock`.
static XDP_SOCK_FIELDS: [Field; 1] = [word("queue_id", 0)];

pub(crate) static XDP_SOCK: Layout = Layout { fields: &XDP_SOCK_FIELDS, hidden: &[], writable: &[] };

const IP4: &[A] = &[
    A::CgroupInet4Bind,
    A::CgroupInet4Connect,
    A::CgroupInet4Getpeername,
    A::CgroupInet4Getsockname,
    A::CgroupUdp4Sendmsg,
    A::CgroupUdp4Recvmsg,
];
const IP6: &[A] = &[
    A::CgroupInet6Bind,
    A::CgroupInet6Connect,
    A::CgroupInet6Getpeername,
    A::CgroupInet6Getsockname,
    A::CgroupUdp6Sendmsg,
    A::CgroupUdp6Recvmsg,
];

/// `struct bpf_sock_addr`. Addresses of IPv6 are also accessed by halves.
#[rustfmt::skip]
static SOCK_ADDR_FIELDS: [Field; 10] = [
    word("user_family", 0),
    narrow("user_ip4", 4).store(4).only(IP4),
    field("user_ip6", 8, 16, NARROW + 8).store(4 + 8).only(IP6),
    narrow("user_port", 24).store(4),
    word("family", 28),
    word("type", 32),
    word("protocol", 36),
    narrow("msg_src_ip4", 40).store(4).only(&[A::CgroupUdp4Sendmsg]),
    field("msg_src_ip6", 44, 16, NARROW + 8).store(4 + 8).only(&[A::CgroupUdp6Sendmsg]),
    pointer("sk", 64, Gives::Socket),
];

pub(crate) static SOCK_ADDR: Layout = Layout {
    fields: &SOCK_ADDR_FIELDS,
    hidden: &[],
    writable: &["user_ip4", "user_ip6", "user_port", "msg_src_ip4", "msg_src_ip6"],
};

/// `struct bpf_sock_ops`.
#[rustfmt::skip]
static SOCK_OPS_FIELDS: [Field; 12] = [
    word("op", 0),
    word("reply", 4).store(4),
    field("replylong to sacked_out", 8, 156, 4),
    word("sk_txhash", 164).store(4),
    field("bytes_received", 168, 8, 8),
    field("bytes_acked", 176, 8, 8),
    pointer("sk", 184, Gives::SocketOrNull),
    pointer("skb_data", 192, Gives::Packet),
    pointer("skb_data_end", 200, Gives::PacketEnd),
    word("skb_len", 208),
    narrow("skb_tcp_flags", 212).first(),
    field("skb_hwtstamp", 216, 8, 8),
];

pub(crate) static SOCK_OPS: Layout =
    Layout { fields: &SOCK_OPS_FIELDS, hidden: &[], writable: &["reply", "sk_txhash"] };

/// `struct bpf_sockopt`.
#[rustfmt::skip]
static SOCKOPT_FIELDS: [Field; 7] = [
    pointer("sk", 0, Gives::Socket),
    pointer("optval", 8, Gives::Packet),
    pointer("optval_end", 16, Gives::PacketEnd),
    field("level and optname", 24, 8, 4),
    field("level and optname", 24, 8, 0).store(4).only(&[A::CgroupSetsockopt]),
    word("optlen", 32).store(4),
    word("retval", 36).store(4).only(&[A::CgroupGetsockopt]),
];

pub(crate) static SOCKOPT: Layout =
    Layout { fields: &SOCKOPT_FIELDS, hidden: &[], writable: &["optlen", "retval", "level and optname"] };

/// `struct sk_msg_md`.
#[rustfmt::skip]
static SK_MSG_FIELDS: [Field; 10] = [
    pointer("data", 0, Gives::Packet),
    pointer("data_end", 8, Gives::PacketEnd),
    word("family", 16),
    word("remote_ip4", 20),
    word("local_ip4", 24),
    field("remote_ip6", 28, 16, 4),
    field("local_ip6", 44, 16, 4),
    word("remote_port", 60),
    field("local_port and size", 64, 8, 4),
    pointer("sk", 72, Gives::Socket),
];

pub(crate) static SK_MSG: Layout = Layout { fields: &SK_MSG_FIELDS, hidden: &[], writable: &[] };

/// `struct sk_reuseport_md`.
#[rustfmt::skip]
static SK_REUSEPORT_FIELDS: [Field; 9] = [
    pointer("data", 0, Gives::Packet),
    pointer("data_end", 8, Gives::PacketEnd),
    narrow("len", 16),
    field("eth_protocol", 20, 4, 2 + 4),
    narrow("ip_protocol", 24),
    narrow("bind_inany", 28),
    word("hash", 32),
    pointer("sk", 40, Gives::Socket),
    pointer("migrating_sk", 48, Gives::SockCommonOrNull),
];

pub(crate) static SK_REUSEPORT: Layout = Layout { fields: &SK_REUSEPORT_FIELDS, hidden: &[], writable: &[] };

/// `struct bpf_sk_lookup`.
#[rustfmt::skip]
static SK_LOOKUP_FIELDS: [Field; 10] = [
    pointer("sk", 0, Gives::SocketOrNull),
    narrow("family", 8),
    narrow("protocol", 12),
    narrow("remote_ip4", 16),
    field("remote_ip6", 20, 16, NARROW),
    narrow("remote_port and padding", 36),
    narrow("local_ip4", 40),
    field("local_ip6", 44, 16, NARROW),
    narrow("local_port", 60),
    narrow("ingress_ifindex", 64),
];

pub(crate) static SK_LOOKUP: Layout = Layout { fields: &SK_LOOKUP_FIELDS, hidden: &[], writable: &[] };
