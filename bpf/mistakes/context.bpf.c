// SPDX-License-Identifier: MIT OR Apache-2.0
// Mistakes with the context, packets and what a program type may do.
#include "common.h"

/* The first byte may not be there: the packet may be empty. */
SEC("xdp")
int unchecked_packet(struct packet *packet)
{
	u8 *data = (u8 *)(u64)packet->data;

	return data[12] == 8 ? 2 : 1;
}

/* Checks one byte and reads four. */
SEC("xdp")
int packet_checked_too_short(struct packet *packet)
{
	u8 *data = (u8 *)(u64)packet->data, *end = (u8 *)(u64)packet->data_end;

	if (data + 1 > end)
		return 1;
	return *(u32 *)data ? 2 : 1;
}

/* A pointer into the context, computed by hand. */
SEC("xdp")
int modified_context(struct packet *packet)
{
	u32 *member = (u32 *)packet;

	asm volatile("%[member] += 4" : [member] "+r"(member));
	return *member ? 2 : 1;
}

/* Only programs of traffic control and sockets have a socket buffer to read from. */
SEC("xdp")
int helper_of_another_type(struct packet *packet)
{
	char bytes[4];

	bpf_skb_load_bytes(packet, 0, bytes, sizeof(bytes));
	return 2;
}

/* The key is passed by value. */
SEC("syscall")
int wrong_argument(struct request *req)
{
	u64 key = req->index;
	struct cell *cell = bpf_map_lookup_elem(&cells, (void *)key);

	return cell ? cell->values[0] : 0;
}

/* A kprobe runs where nothing may wait for a page. */
SEC("kprobe/do_nanosleep")
int sleeps(void *ctx)
{
	u64 value = 0;

	bpf_copy_from_user(&value, sizeof(value), (void *)0);
	return value != 0;
}

/* A program for cgroups says yes (1) or no (0). */
SEC("cgroup/skb")
int wrong_return_value(void *ctx)
{
	return bpf_get_prandom_u32() & 7;
}

LICENSE("Dual MIT/GPL");
