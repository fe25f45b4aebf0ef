// SPDX-License-Identifier: MIT OR Apache-2.0
// Counts packets in the arena, from XDP, traffic control and a socket filter, while the host reads the counts.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__ulong(map_extra, 0x3ull << 44);
} arena SEC(".maps");

struct count {
	u64 packets;
	u64 bytes;
};

/* Read by the host. In the arena's first page, which exists because these have contents. */
struct count __arena at_xdp = {};
struct count __arena at_tc = {};
struct count __arena at_socket = {};

/* struct xdp_md and struct __sk_buff, as far as they are used here. */
struct xdp_packet {
	u32 data;
	u32 data_end;
};

struct socket_buffer {
	u32 len;
};

static __always_inline void add(struct count __arena *count, u64 bytes)
{
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, bytes);
}

SEC("xdp")
int count_xdp(struct xdp_packet *packet)
{
	add(&at_xdp, packet->data_end - packet->data);
	return 2; /* XDP_PASS */
}

SEC("tc")
int count_tc(struct socket_buffer *packet)
{
	add(&at_tc, packet->len);
	return 0; /* TC_ACT_OK */
}

SEC("socket")
int count_socket(struct socket_buffer *packet)
{
	add(&at_socket, packet->len);
	return packet->len; /* keep all of it */
}

LICENSE("Dual MIT/GPL");
