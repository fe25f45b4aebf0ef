//! `struct __sk_buff` (`uapi/linux/bpf.h`) as the program types on packets see it.

use super::field::{ANY, Field, Gives, Layout, NARROW, field, narrow, word};

/// Every field, with all that any program type may do with it.
#[rustfmt::skip]
static FIELDS: [Field; 34] = [
    narrow("len", 0),
    narrow("pkt_type", 4),
    narrow("mark", 8).store(4),
    narrow("queue_mapping", 12).store(4),
    narrow("protocol", 16),
    narrow("vlan_present", 20),
    narrow("vlan_tci", 24),
    narrow("vlan_proto", 28),
    narrow("priority", 32).store(4),
    narrow("ingress_ifindex", 36),
    narrow("ifindex", 40),
    narrow("tc_index", 44).store(4),
    field("cb", 48, 20, ANY).store(ANY),
    narrow("hash", 68),
    narrow("tc_classid", 72).store(4),
    word("data", 76).gives(Gives::Packet),
    word("data_end", 80).gives(Gives::PacketEnd),
    narrow("napi_id", 84),
    narrow("family", 88),
    word("remote_ip4", 92),
    word("local_ip4", 96),
    field("remote_ip6", 100, 16, 4),
    field("local_ip6", 116, 16, 4),
    narrow("remote_port", 132),
    narrow("local_port", 136),
    word("data_meta", 140).gives(Gives::PacketMeta),
    field("tstamp", 152, 8, 8).store(8),
    narrow("wire_len", 160),
    narrow("gso_segs", 164),
    field("sk", 168, 8, 8).gives(Gives::SockCommonOrNull),
    field("gso_size", 176, 4, NARROW),
    field("tstamp_type", 180, 1, 1),
    field("hwtstamp", 184, 8, 8),
    field("flow_keys", 144, 8, 8).gives(Gives::FlowKeys),
];

pub(crate) static SOCKET_FILTER: Layout = Layout {
    fields: &FIELDS,
    hidden: &[
        "tc_classid",
        "data",
        "data_meta",
        "data_end",
        "family",
        "remote_ip4",
        "local_ip4",
        "remote_ip6",
        "local_ip6",
        "remote_port",
        "local_port",
        "tstamp",
        "wire_len",
        "hwtstamp",
        "tstamp_type",
        "flow_keys",
    ],
    writable: &["cb"],
};

/// `sched_cls` and `sched_act`.
pub(crate) static TRAFFIC_CONTROL: Layout = Layout {
    fields: &FIELDS,
    hidden: &[
        "family",
        "remote_ip4",
        "local_ip4",
        "remote_ip6",
        "local_ip6",
        "remote_port",
        "local_port",
        "flow_keys",
    ],
    writable: &["mark", "tc_index", "priority", "tc_classid", "cb", "tstamp", "queue_mapping"],
};

pub(crate) static CGROUP_SKB: Layout = Layout {
    fields: &FIELDS,
    hidden: &["tc_classid", "data_meta", "wire_len", "tstamp_type", "flow_keys"],
    writable: &["mark", "priority", "cb", "tstamp"],
};

/// `lwt_in`, `lwt_out`, `lwt_xmit` and `lwt_seg6local`.
pub(crate) static LWT: Layout = Layout {
    fields: &FIELDS,
    hidden: &[
        "tc_classid",
        "family",
        "remote_ip4",
        "local_ip4",
        "remote_ip6",
        "local_ip6",
        "remote_port",
        "local_port",
        "data_meta",
        "tstamp",
        "wire_len",
        "hwtstamp",
        "tstamp_type",
        "flow_keys",
    ],
    writable: &["mark", "priority", "cb"],
};

pub(crate) static SK_SKB: Layout = Layout {
    fields: &FIELDS,
    hidden: &[
        "tc_classid",
        "data_meta",
        "tstamp",
        "wire_len",
        "hwtstamp",
        "mark",
        "tstamp_type",
        "flow_keys",
    ],
    writable: &["tc_index", "priority"],
};

#[rustfmt::skip]
static FLOW_DISSECTOR_FIELDS: [Field; 3] = [
    word("data", 76).gives(Gives::Packet),
    word("data_end", 80).gives(Gives::PacketEnd),
    field("flow_keys", 144, 8, 8).gives(Gives::FlowKeys),
];

pub(crate) static FLOW_DISSECTOR: Layout =
    Layout { fields: &FLOW_DISSECTOR_FIELDS, hidden: &[], writable: &[] };
