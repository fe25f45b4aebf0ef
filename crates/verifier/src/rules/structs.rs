//! Structures of the kernel that programs reach: which stands for which map, and which fields may be written.

use bpf_object::{MapType, ProgType};

/// The structure behind a pointer to a map of this type (`map_btf_id`).
pub(crate) fn map_structure(map_type: MapType) -> &'static str {
    match map_type {
        MapType::Hash
        | MapType::PercpuHash
        | MapType::LruHash
        | MapType::LruPercpuHash
        | MapType::HashOfMaps => "bpf_htab",
        MapType::Array
        | MapType::PercpuArray
        | MapType::ProgArray
        | MapType::PerfEventArray
        | MapType::CgroupArray
        | MapType::ArrayOfMaps => "bpf_array",
        MapType::StackTrace => "bpf_stack_map",
        MapType::LpmTrie => "lpm_trie",
        MapType::Devmap | MapType::DevmapHash => "bpf_dtab",
        MapType::Sockmap => "bpf_stab",
        MapType::Sockhash => "bpf_shtab",
        MapType::Cpumap => "bpf_cpu_map",
        MapType::Xskmap => "xsk_map",
        MapType::CgroupStorage | MapType::PercpuCgroupStorage => "bpf_cgroup_storage_map",
        MapType::ReuseportSockarray => "reuseport_array",
        MapType::Queue | MapType::Stack => "bpf_queue_stack",
        MapType::SkStorage | MapType::InodeStorage | MapType::TaskStorage | MapType::CgrpStorage => {
            "bpf_local_storage_map"
        }
        MapType::StructOps => "bpf_struct_ops_map",
        MapType::Ringbuf | MapType::UserRingbuf => "bpf_ringbuf_map",
        MapType::BloomFilter => "bpf_bloom_filter",
        MapType::Arena => "bpf_arena",
        _ => "bpf_map",
    }
}

/// Fields that programs of a type may write.
struct Writable {
    prog_types: &'static [ProgType],
    structure: &'static str,
    /// Paths of members.
    fields: &'static [&'static str],
}

/// Packet filters may set the mark of a connection; congestion control has its state in the socket.
static WRITABLE: [Writable; 4] = [
    Writable { prog_types: &[ProgType::SchedCls, ProgType::Xdp], structure: "nf_conn", fields: &["mark"] },
    Writable {
        prog_types: &[ProgType::SchedCls, ProgType::Xdp],
        structure: "nf_conn___init",
        fields: &["mark"],
    },
    Writable {
        prog_types: &[ProgType::StructOps],
        structure: "tcp_sock",
        fields: &[
            "inet_conn.icsk_inet.sk.sk_pacing_rate",
            "inet_conn.icsk_inet.sk.sk_pacing_status",
            "inet_conn.icsk_ca_priv",
            "inet_conn.icsk_ack.pending",
            "snd_cwnd",
            "snd_cwnd_cnt",
            "snd_cwnd_stamp",
            "snd_ssthresh",
            "ecn_flags",
            "app_limited",
        ],
    },
    Writable { prog_types: &[ProgType::StructOps], structure: "bpf_dummy_ops_state", fields: &["val"] },
];

/// The fields of a structure that programs of this type may write.
pub(crate) fn writable_fields(
    prog_type: Option<ProgType>,
    structure: &str,
) -> impl Iterator<Item = &'static str> + use<> {
    let wanted =
        |w: &&Writable| w.structure == structure && prog_type.is_some_and(|p| w.prog_types.contains(&p));
    WRITABLE.iter().find(wanted).into_iter().flat_map(|w| w.fields).copied()
}
