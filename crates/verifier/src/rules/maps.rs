//! Map types: which helpers take them, and which of them a helper takes; whether their value has a fixed address.

use bpf_object::{BPF_F_RDONLY_PROG, MapOrigin, MapSpec, MapType, ProgType, ProgramKind};

use super::helpers::callers::{attach, attach_type};
use super::helpers::id;
use MapType as M;

/// What a map type allows.
#[derive(Debug)]
pub(crate) struct MapRules {
    pub(crate) map_type: MapType,
    /// The helpers that take it; `None` for those that leave it to the helper.
    helpers: Option<&'static [u32]>,
    /// `lddw` of an address inside the only value (`map_direct_value_addr`).
    pub(crate) direct_value: bool,
    /// Elements can be gone through by a callback (`map_for_each_callback`).
    pub(crate) callback: bool,
    /// Every key below the number of entries has a value.
    pub(crate) dense: bool,
}

/// The rules for this type, if there are any.
pub(crate) fn find(map_type: MapType) -> Option<&'static MapRules> {
    MAPS.iter().find(|m| m.map_type == map_type)
}

/// Whether a helper takes a map of this type (`check_map_func_compatibility`), in a program of this kind.
pub(crate) fn compatible(kind: &ProgramKind, map_type: MapType, helper: u32) -> bool {
    let from_map = find(map_type).and_then(|m| m.helpers).is_none_or(|h| h.contains(&helper))
        || is_socket_map(map_type) && may_update_sockets(kind, helper);
    let from_helper = HELPERS.iter().find(|(helpers, _)| helpers.contains(&helper));
    from_map && from_helper.is_none_or(|(_, maps)| maps.contains(&map_type))
}

/// Whether nobody changes what is in the map once the program is loaded.
pub(crate) fn is_frozen(map: &MapSpec) -> bool {
    matches!(map.origin, MapOrigin::Data { read_only: true, .. } | MapOrigin::Kconfig)
}

/// Whether programs may not write the map's values: the map's flags say so, or its values are the kernel's own.
pub(crate) fn is_read_only(map: &MapSpec) -> bool {
    map.flags & BPF_F_RDONLY_PROG != 0 || matches!(map.map_type, M::Devmap | M::DevmapHash)
}

/// Maps whose values are sockets: a lookup gives a socket that must be released.
pub(crate) fn is_socket_map(map_type: MapType) -> bool {
    matches!(map_type, M::Sockmap | M::Sockhash)
}

/// Whether programs of this kind may change the sockets in a map (`may_update_sockmap`): where no socket can be locked.
fn may_update_sockets(kind: &ProgramKind, helper: u32) -> bool {
    use ProgType as P;
    match (kind.prog_type, helper) {
        (Some(P::Tracing), id::MAP_UPDATE_ELEM | id::MAP_DELETE_ELEM) => {
            attach_type(kind) == attach::TRACE_ITER
        }
        (Some(P::SockOps), id::MAP_DELETE_ELEM) => true,
        (
            Some(
                P::SocketFilter
                | P::SchedCls
                | P::SchedAct
                | P::Xdp
                | P::SkReuseport
                | P::FlowDissector
                | P::SkLookup,
            ),
            id::MAP_UPDATE_ELEM | id::MAP_DELETE_ELEM,
        ) => true,
        _ => false,
    }
}

/// Helpers that take maps of some types only.
#[rustfmt::skip]
static HELPERS: &[(&[u32], &[MapType])] = &[
    (&[id::TAIL_CALL], &[M::ProgArray]),
    (&[id::PERF_EVENT_READ, id::PERF_EVENT_OUTPUT, id::PERF_EVENT_READ_VALUE, id::SKB_OUTPUT, id::XDP_OUTPUT],
        &[M::PerfEventArray]),
    (&[id::RINGBUF_OUTPUT, id::RINGBUF_RESERVE, id::RINGBUF_QUERY, id::RINGBUF_RESERVE_DYNPTR,
        id::RINGBUF_SUBMIT_DYNPTR, id::RINGBUF_DISCARD_DYNPTR], &[M::Ringbuf]),
    (&[id::USER_RINGBUF_DRAIN], &[M::UserRingbuf]),
    (&[id::GET_STACKID], &[M::StackTrace]),
    (&[id::CURRENT_TASK_UNDER_CGROUP, id::SKB_UNDER_CGROUP], &[M::CgroupArray]),
    (&[id::REDIRECT_MAP], &[M::Devmap, M::DevmapHash, M::Cpumap, M::Xskmap]),
    (&[id::SK_REDIRECT_MAP, id::MSG_REDIRECT_MAP, id::SOCK_MAP_UPDATE], &[M::Sockmap]),
    (&[id::SK_REDIRECT_HASH, id::MSG_REDIRECT_HASH, id::SOCK_HASH_UPDATE], &[M::Sockhash]),
    (&[id::GET_LOCAL_STORAGE], &[M::CgroupStorage, M::PercpuCgroupStorage]),
    (&[id::SK_SELECT_REUSEPORT], &[M::ReuseportSockarray, M::Sockmap, M::Sockhash]),
    (&[id::MAP_POP_ELEM], &[M::Queue, M::Stack]),
    (&[id::MAP_PEEK_ELEM, id::MAP_PUSH_ELEM], &[M::Queue, M::Stack, M::BloomFilter]),
    (&[id::MAP_LOOKUP_PERCPU_ELEM], &[M::PercpuArray, M::PercpuHash, M::LruPercpuHash]),
    (&[id::SK_STORAGE_GET, id::SK_STORAGE_DELETE], &[M::SkStorage]),
    (&[id::INODE_STORAGE_GET, id::INODE_STORAGE_DELETE], &[M::InodeStorage]),
    (&[id::TASK_STORAGE_GET, id::TASK_STORAGE_DELETE], &[M::TaskStorage]),
    (&[id::CGRP_STORAGE_GET, id::CGRP_STORAGE_DELETE], &[M::CgrpStorage]),
];

/// A map type that leaves it to the helper.
const fn any(map_type: MapType) -> MapRules {
    MapRules { map_type, helpers: None, direct_value: false, callback: false, dense: false }
}

const fn only(map_type: MapType, helpers: &'static [u32]) -> MapRules {
    MapRules { helpers: Some(helpers), ..any(map_type) }
}

#[rustfmt::skip]
static MAPS: [MapRules; 33] = [
    MapRules { callback: true, ..any(M::Hash) },
    MapRules { callback: true, ..any(M::LruHash) },
    MapRules { callback: true, ..any(M::PercpuHash) },
    MapRules { callback: true, ..any(M::LruPercpuHash) },
    MapRules { callback: true, dense: true, direct_value: true, ..any(M::Array) },
    MapRules { callback: true, dense: true, ..any(M::PercpuArray) },
    any(M::LpmTrie),
    any(M::StructOps),
    MapRules { direct_value: true, ..any(M::Arena) },
    only(M::ProgArray, &[id::TAIL_CALL]),
    only(M::PerfEventArray, &[
        id::PERF_EVENT_READ, id::PERF_EVENT_OUTPUT, id::SKB_OUTPUT, id::PERF_EVENT_READ_VALUE, id::XDP_OUTPUT,
    ]),
    only(M::Ringbuf, &[
        id::RINGBUF_OUTPUT, id::RINGBUF_RESERVE, id::RINGBUF_QUERY, id::RINGBUF_RESERVE_DYNPTR,
        id::RINGBUF_SUBMIT_DYNPTR, id::RINGBUF_DISCARD_DYNPTR,
    ]),
    only(M::UserRingbuf, &[id::USER_RINGBUF_DRAIN]),
    only(M::StackTrace, &[id::GET_STACKID]),
    only(M::CgroupArray, &[id::SKB_UNDER_CGROUP, id::CURRENT_TASK_UNDER_CGROUP]),
    only(M::CgroupStorage, &[id::GET_LOCAL_STORAGE]),
    only(M::PercpuCgroupStorage, &[id::GET_LOCAL_STORAGE]),
    only(M::Devmap, &[id::REDIRECT_MAP, id::MAP_LOOKUP_ELEM]),
    only(M::DevmapHash, &[id::REDIRECT_MAP, id::MAP_LOOKUP_ELEM]),
    only(M::Cpumap, &[id::REDIRECT_MAP]),
    only(M::Xskmap, &[id::REDIRECT_MAP, id::MAP_LOOKUP_ELEM]),
    only(M::ArrayOfMaps, &[id::MAP_LOOKUP_ELEM]),
    only(M::HashOfMaps, &[id::MAP_LOOKUP_ELEM]),
    only(M::Sockmap, &[
        id::SK_REDIRECT_MAP, id::SOCK_MAP_UPDATE, id::MSG_REDIRECT_MAP, id::SK_SELECT_REUSEPORT, id::MAP_LOOKUP_ELEM,
    ]),
    only(M::Sockhash, &[
        id::SK_REDIRECT_HASH, id::SOCK_HASH_UPDATE, id::MSG_REDIRECT_HASH, id::SK_SELECT_REUSEPORT, id::MAP_LOOKUP_ELEM,
    ]),
    only(M::ReuseportSockarray, &[id::SK_SELECT_REUSEPORT]),
    only(M::Queue, &[id::MAP_PEEK_ELEM, id::MAP_POP_ELEM, id::MAP_PUSH_ELEM]),
    only(M::Stack, &[id::MAP_PEEK_ELEM, id::MAP_POP_ELEM, id::MAP_PUSH_ELEM]),
    only(M::SkStorage, &[id::SK_STORAGE_GET, id::SK_STORAGE_DELETE, id::KPTR_XCHG]),
    only(M::InodeStorage, &[id::INODE_STORAGE_GET, id::INODE_STORAGE_DELETE, id::KPTR_XCHG]),
    only(M::TaskStorage, &[id::TASK_STORAGE_GET, id::TASK_STORAGE_DELETE, id::KPTR_XCHG]),
    only(M::CgrpStorage, &[id::CGRP_STORAGE_GET, id::CGRP_STORAGE_DELETE, id::KPTR_XCHG]),
    only(M::BloomFilter, &[id::MAP_PEEK_ELEM, id::MAP_PUSH_ELEM]),
];
