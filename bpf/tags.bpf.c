// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A client behind a switch that puts it into a virtual network: IPv4 goes out with a tag (802.1Q), and only what has the same
 * tag comes in.
 */
#include "bpf_arena.h"

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol; /* in network order */
	u32 vlan_present;
	u32 vlan_tci;
};

static long (*const bpf_skb_vlan_push)(struct __sk_buff *, u16 protocol, u16 tci) = (void *)18;
static long (*const bpf_skb_vlan_pop)(struct __sk_buff *) = (void *)19;

enum { TC_ACT_OK = 0, TC_ACT_SHOT = 2 };

#define IPV4 0x0008 /* 0x0800 */
#define VLAN 0x0081 /* 0x8100 */
#define TAG 5

SEC("tc")
int put(struct __sk_buff *ctx)
{
	if (ctx->protocol != IPV4)
		return TC_ACT_OK;
	return bpf_skb_vlan_push(ctx, VLAN, TAG) ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("tc")
int take(struct __sk_buff *ctx)
{
	if (!ctx->vlan_present)
		return ctx->protocol == IPV4 ? TC_ACT_SHOT : TC_ACT_OK;
	if ((ctx->vlan_tci & 0xfff) != TAG)
		return TC_ACT_SHOT;
	return bpf_skb_vlan_pop(ctx) ? TC_ACT_SHOT : TC_ACT_OK;
}

LICENSE("Dual MIT/GPL");
