// SPDX-License-Identifier: MIT OR Apache-2.0
// Rewrites packets, each kind in its own way: answers pings, drops DNS, tags TCP, cuts other UDP, lets the rest pass.
#include "packets.h"

enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX };

struct ethernet {
	u8 to[6];
	u8 from[6];
	u16 type;
} __attribute__((packed));

struct ipv4 {
	u8 version;
	u8 tos;
	u16 len;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 protocol;
	u16 check;
	u32 from;
	u32 to;
} __attribute__((packed));

struct ports {
	u16 from;
	u16 to;
	u16 len;
	u16 check;
};

struct icmp {
	u8 type;
	u8 code;
	u16 check;
};

/* Packets by IP protocol, for the host. */
u32 seen[256] = {};

#define ntohs(x) __builtin_bswap16(x)

static __always_inline void swap_addresses(struct ethernet *eth)
{
	u8 mac[6];

	__builtin_memcpy(mac, eth->to, 6);
	__builtin_memcpy(eth->to, eth->from, 6);
	__builtin_memcpy(eth->from, mac, 6);
}

/* The answer to an echo request: the type is 0 instead of 8, which the checksum learns. */
static __always_inline int answer(struct ethernet *eth, struct ipv4 *ip, struct icmp *icmp)
{
	u32 sum, address;

	if (icmp->type != 8)
		return XDP_PASS;
	icmp->type = 0;
	sum = (u32)icmp->check + 8;
	icmp->check = (sum & 0xffff) + (sum >> 16);
	address = ip->to;
	ip->to = ip->from;
	ip->from = address;
	swap_addresses(eth);
	return XDP_TX;
}

/* Puts an 802.1Q tag behind the addresses. */
static __always_inline int tag(struct xdp_md *ctx)
{
	struct ethernet old, *eth = pointer(ctx->data);
	u16 *tag;

	if ((void *)(eth + 1) > pointer(ctx->data_end))
		return XDP_ABORTED;
	old = *eth;
	if (bpf_xdp_adjust_head(ctx, -4))
		return XDP_ABORTED;
	eth = pointer(ctx->data);
	tag = (void *)(eth + 1);
	if ((void *)(tag + 2) > pointer(ctx->data_end))
		return XDP_ABORTED;
	*eth = old;
	eth->type = ntohs(0x8100);
	tag[0] = ntohs(42);
	tag[1] = old.type;
	return XDP_PASS;
}

/* Cuts a datagram to its header, and its lengths with it. UDP over IPv4 may go without a checksum. */
static __always_inline int cut(struct xdp_md *ctx, struct ipv4 *ip, struct ports *udp)
{
	u32 payload = ntohs(udp->len) - sizeof(*udp);
	u32 sum;

	if (ntohs(udp->len) < sizeof(*udp) || payload > 1500)
		return XDP_DROP;
	sum = (u16)~ip->check + (u16)~ip->len;
	ip->len = ntohs(ntohs(ip->len) - payload);
	sum += ip->len;
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~((sum & 0xffff) + (sum >> 16));
	udp->len = ntohs(sizeof(*udp));
	udp->check = 0;
	return bpf_xdp_adjust_tail(ctx, -(int)payload) ? XDP_ABORTED : XDP_PASS;
}

SEC("xdp")
int rewrite(struct xdp_md *ctx)
{
	void *end = pointer(ctx->data_end);
	struct ethernet *eth = pointer(ctx->data);
	struct ipv4 *ip = (void *)(eth + 1);
	struct ports *ports = (void *)(ip + 1);

	if ((void *)(ports + 1) > end || eth->type != ntohs(0x0800) || ip->version != 0x45)
		return XDP_PASS;
	__sync_fetch_and_add(&seen[ip->protocol], 1);
	switch (ip->protocol) {
	case 1:
		return answer(eth, ip, (void *)ports);
	case 6:
		return tag(ctx);
	case 17:
		return ports->to == ntohs(53) ? XDP_DROP : cut(ctx, ip, ports);
	}
	return XDP_PASS;
}

/* The same capture for a socket: the first 20 bytes of IP packets, nothing of others. */
SEC("socket")
int headers(struct __sk_buff *ctx)
{
	return ctx->protocol == ntohs(0x0800) ? 20 : 0;
}

LICENSE("Dual MIT/GPL");
