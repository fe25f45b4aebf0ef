// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs on packets that do what the host has written down: one helper a step, with the host's arguments. What each gave,
// and what the context shows after it, is there for the host to compare between engines.
#include "packets.h"

#define STEPS 12
#define FIELDS 32
#define BUFFER 64

struct step {
	u32 operation;
	u32 a;
	u32 b;
	u32 c;
	u64 flags;
};

struct result {
	s64 value;
	u64 bytes;
	u32 fields[FIELDS];
};

struct step steps[STEPS] = {};
struct result results[STEPS] = {};
u32 count = 0;
u32 verdict = 0;
u8 buffer[BUFFER] = {};

enum operation {
	NOTHING,
	LOAD,
	LOAD_RELATIVE,
	STORE,
	PULL,
	L3_CSUM,
	L4_CSUM,
	CSUM_UPDATE,
	CSUM_LEVEL,
	VLAN_PUSH,
	VLAN_POP,
	CHANGE_PROTO,
	CHANGE_TYPE,
	CHANGE_TAIL,
	CHANGE_HEAD,
	ADJUST_ROOM,
	HASH,
	HASH_INVALID,
	SET_HASH,
	SET_FIELDS,
	POKE,
	REDIRECT,
	CHECK_MTU,
	FIB,
	SOCKET,
	ECN,
	SET_TSTAMP,
	ABOUT,
	CLONE,
	XDP_HEAD,
	XDP_META,
	XDP_TAIL,
	XDP_LEN,
	XDP_PULL,
	TUNNEL,
	LOOKUP,
	OPERATIONS,
};

enum kind { TC, LWT_XMIT, LWT_IN, CGROUP, SOCKET_FILTER };

static __always_inline u64 first_bytes(void)
{
	u64 bytes = 0;

	for (int i = 0; i < 8; i++)
		bytes = bytes << 8 | buffer[i];
	return bytes;
}

static __always_inline s64 poke(void *data, void *end, u32 offset, u32 value)
{
	u8 *byte = data + (offset & 0xfff);

	if ((void *)(byte + 1) > end)
		return -1;
	*byte = value;
	return *byte;
}

static __always_inline s64 peek(void *data, void *end, u32 offset)
{
	u8 *byte = data + (offset & 0xfff);

	return (void *)(byte + 1) > end ? -1 : *byte;
}

static __always_inline s64 ask_socket(struct bpf_sock *sk, u32 a)
{
	struct bpf_sock *other;

	if (!sk)
		return -1;
	switch (a & 7) {
	case 0:
		return (s64)sk->family << 32 | sk->src_ip4;
	case 1:
		return (s64)sk->state << 32 | sk->dst_ip4;
	case 2:
		other = bpf_sk_fullsock(sk);
		return other ? (s64)other->protocol << 32 | other->type << 8 | other->priority : -2;
	case 3:
		return bpf_tcp_sock(sk) != NULL;
	case 4:
		return bpf_get_listener_sock(sk) != NULL;
	case 5:
		return (s64)sk->src_ip6[3] << 32 | sk->dst_ip6[0];
	case 6:
		return (s64)sk->dst_port << 32 | sk->src_port;
	default:
		return sk->rx_queue_mapping;
	}
}

static __always_inline s64 ask_route(void *ctx, const struct step *s)
{
	u32 params[16] = {};

	params[0] = s->a;
	params[2] = s->b;
	params[8] = s->c;
	return bpf_fib_lookup(ctx, params, (s->flags & 64) ? sizeof(params) : 40, s->flags & 0x8000003f);
}

static __always_inline s64 ask_mtu(void *ctx, const struct step *s)
{
	u32 mtu = s->b;
	long answer = bpf_check_mtu(ctx, s->a, &mtu, s->c, s->flags);

	return answer << 32 | mtu;
}

static __always_inline s64 ask_sockets(void *ctx, const struct step *s)
{
	struct bpf_sock_tuple tuple = { .saddr = s->a, .daddr = s->b, .sport = s->c >> 16, .dport = s->c };
	struct bpf_sock *sk;
	s64 answer;

	if (s->flags & 1)
		sk = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple), s->flags >> 32, s->flags >> 1 & 1);
	else
		sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple), s->flags >> 32, s->flags >> 1 & 1);
	if (!sk)
		return -1;
	answer = (s64)sk->state << 32 | sk->protocol << 24 | sk->src_port;
	bpf_sk_release(sk);
	return answer;
}

/* What only traffic control may do. */
static __always_inline s64 control(struct __sk_buff *ctx, const struct step *s)
{
	switch (s->operation) {
	case VLAN_PUSH:
		return bpf_skb_vlan_push(ctx, s->a, s->b);
	case VLAN_POP:
		return bpf_skb_vlan_pop(ctx);
	case CHANGE_PROTO:
		return bpf_skb_change_proto(ctx, s->a, s->flags);
	case CHANGE_TYPE:
		return bpf_skb_change_type(ctx, s->a);
	case ADJUST_ROOM:
		return bpf_skb_adjust_room(ctx, s->a, s->b, s->flags);
	case SET_HASH:
		return bpf_set_hash(ctx, s->a);
	case SET_FIELDS:
		ctx->mark = s->a;
		ctx->priority = s->b;
		ctx->tc_index = s->c;
		ctx->tc_classid = s->c;
		ctx->queue_mapping = s->b;
		ctx->tstamp = s->flags;
		ctx->cb[3] = s->c;
		return 0;
	case CHECK_MTU:
		return ask_mtu(ctx, s);
	case FIB:
		return ask_route(ctx, s);
	case SOCKET:
		return ask_socket(ctx->sk, s->a);
	case ECN:
		return bpf_skb_ecn_set_ce(ctx);
	case SET_TSTAMP:
		return bpf_skb_set_tstamp(ctx, s->flags, s->a);
	case LOOKUP:
		return ask_sockets(ctx, s);
	case ABOUT:
		switch (s->a & 3) {
		case 0:
			return bpf_get_socket_cookie(ctx) != 0;
		case 1:
			return bpf_get_socket_uid(ctx);
		case 2:
			return bpf_get_netns_cookie(ctx) != 0;
		default:
			return bpf_skb_get_xfrm_state(ctx, s->b, buffer, 28, s->flags);
		}
	}
	return -1000;
}

/* What traffic control and outgoing tunnels may do. */
static __always_inline s64 mangle(struct __sk_buff *ctx, const struct step *s, enum kind kind)
{
	switch (s->operation) {
	case STORE:
		return bpf_skb_store_bytes(ctx, s->a, buffer, (s->c & (BUFFER - 1)) + 1, s->flags);
	case L3_CSUM:
		return bpf_l3_csum_replace(ctx, s->a, s->b, s->c, s->flags);
	case L4_CSUM:
		return bpf_l4_csum_replace(ctx, s->a, s->b, s->c, s->flags);
	case CSUM_UPDATE:
		return bpf_csum_update(ctx, s->a);
	case CSUM_LEVEL:
		return bpf_csum_level(ctx, s->flags);
	case CHANGE_TAIL:
		return bpf_skb_change_tail(ctx, s->a, s->flags);
	case CHANGE_HEAD:
		return bpf_skb_change_head(ctx, s->a, s->flags);
	case HASH_INVALID:
		bpf_set_hash_invalid(ctx);
		return 0;
	case REDIRECT:
		return bpf_redirect(s->a, s->flags);
	case CLONE:
		return bpf_clone_redirect(ctx, s->a, s->flags);
	case TUNNEL:
		return bpf_skb_get_tunnel_key(ctx, buffer, 44, s->flags);
	case POKE:
		return poke(pointer(ctx->data), pointer(ctx->data_end), s->a, s->b);
	}
	return kind == TC ? control(ctx, s) : -1000;
}

static __always_inline s64 inspect(struct __sk_buff *ctx, const struct step *s, enum kind kind)
{
	if (s->operation == LOAD)
		return bpf_skb_load_bytes(ctx, s->a, buffer, (s->c & (BUFFER - 1)) + 1);
	if (s->operation == LOAD_RELATIVE && (kind == TC || kind == CGROUP || kind == SOCKET_FILTER))
		return bpf_skb_load_bytes_relative(ctx, s->a, buffer, (s->c & (BUFFER - 1)) + 1, s->b);
	if (kind == TC || kind == LWT_XMIT || kind == LWT_IN) {
		if (s->operation == PULL)
			return bpf_skb_pull_data(ctx, s->a);
		if (s->operation == HASH)
			return bpf_get_hash_recalc(ctx) != 0;
		if (s->operation == ABOUT && (s->a & 4))
			return bpf_get_route_realm(ctx);
	}
	if (kind == TC || kind == LWT_XMIT)
		return mangle(ctx, s, kind);
	if (kind == CGROUP) {
		if (s->operation == SOCKET)
			return ask_socket(ctx->sk, s->a);
		if (s->operation == ECN)
			return bpf_skb_ecn_set_ce(ctx);
		if (s->operation == LOOKUP)
			return ask_sockets(ctx, s);
		if (s->operation == POKE)
			return peek(pointer(ctx->data), pointer(ctx->data_end), s->a);
	}
	return -1000;
}

static __always_inline void show(struct __sk_buff *ctx, struct result *r, enum kind kind)
{
	u32 *f = r->fields;

	f[0] = ctx->len;
	f[1] = ctx->pkt_type;
	f[2] = ctx->mark;
	f[3] = ctx->queue_mapping;
	f[4] = ctx->protocol;
	f[5] = ctx->vlan_present;
	f[6] = ctx->vlan_tci;
	f[7] = ctx->vlan_proto;
	f[8] = ctx->priority;
	f[9] = ctx->ingress_ifindex;
	f[10] = ctx->ifindex;
	f[11] = ctx->tc_index;
	f[12] = ctx->cb[0];
	f[13] = ctx->cb[3];
	f[14] = ctx->hash != 0;
	f[15] = ctx->napi_id;
	f[16] = ctx->gso_segs;
	f[17] = ctx->gso_size;
	if (kind != SOCKET_FILTER)
		f[18] = pointer(ctx->data_end) ? pointer(ctx->data_end) - pointer(ctx->data) : 0;
	if (kind == TC) {
		f[19] = ctx->tc_classid;
		f[20] = pointer(ctx->data) - pointer(ctx->data_meta);
		f[21] = ctx->tstamp;
		f[22] = ctx->wire_len;
		f[23] = ctx->hwtstamp;
		f[24] = ctx->tstamp_type;
	}
	if (kind == CGROUP) {
		f[19] = ctx->family;
		f[20] = ctx->remote_ip4;
		f[21] = ctx->local_ip4;
		f[22] = ctx->remote_ip6[0] ^ ctx->remote_ip6[3];
		f[23] = ctx->local_ip6[1] ^ ctx->local_ip6[2];
		f[24] = ctx->remote_port;
		f[25] = ctx->local_port;
		f[26] = ctx->tstamp;
	}
}

#define SCRIPT(section, name, kind)                                                                                    \
	SEC(section)                                                                                                   \
	int name(struct __sk_buff *ctx)                                                                                \
	{                                                                                                              \
		int i;                                                                                                 \
                                                                                                                       \
		bpf_for(i, 0, STEPS) {                                                                                 \
			if (i < 0 || i >= STEPS || i >= count)                                                         \
				break;                                                                                 \
			results[i].value = inspect(ctx, &steps[i], kind);                                              \
			results[i].bytes = first_bytes();                                                              \
			show(ctx, &results[i], kind);                                                                  \
		}                                                                                                      \
		return verdict;                                                                                        \
	}

SCRIPT("tc", script_tc, TC)
SCRIPT("lwt_xmit", script_lwt_xmit, LWT_XMIT)
SCRIPT("lwt_in", script_lwt_in, LWT_IN)
SCRIPT("socket", script_socket, SOCKET_FILTER)

SEC("cgroup_skb/egress")
int script_cgroup(struct __sk_buff *ctx)
{
	int i;

	bpf_for(i, 0, STEPS) {
		if (i < 0 || i >= STEPS || i >= count)
			break;
		results[i].value = inspect(ctx, &steps[i], CGROUP);
		results[i].bytes = first_bytes();
		show(ctx, &results[i], CGROUP);
	}
	return verdict & 3;
}

static __always_inline s64 frame(struct xdp_md *ctx, const struct step *s)
{
	switch (s->operation) {
	case LOAD:
		return bpf_xdp_load_bytes(ctx, s->a, buffer, (s->c & (BUFFER - 1)) + 1);
	case STORE:
		return bpf_xdp_store_bytes(ctx, s->a, buffer, (s->c & (BUFFER - 1)) + 1);
	case XDP_HEAD:
		return bpf_xdp_adjust_head(ctx, s->a);
	case XDP_META:
		return bpf_xdp_adjust_meta(ctx, s->a);
	case XDP_TAIL:
		return bpf_xdp_adjust_tail(ctx, s->a);
	case XDP_LEN:
		return bpf_xdp_get_buff_len(ctx);
	case XDP_PULL:
		return bpf_xdp_pull_data ? bpf_xdp_pull_data(ctx, s->a) : -1000;
	case REDIRECT:
		return bpf_redirect(s->a, s->flags);
	case CHECK_MTU:
		return ask_mtu(ctx, s);
	case FIB:
		return ask_route(ctx, s);
	case LOOKUP:
		return ask_sockets(ctx, s);
	case POKE:
		return poke(pointer(ctx->data), pointer(ctx->data_end), s->a, s->b);
	}
	return -1000;
}

SEC("xdp.frags")
int script_xdp(struct xdp_md *ctx)
{
	int i;

	bpf_for(i, 0, STEPS) {
		struct result *r;

		if (i < 0 || i >= STEPS || i >= count)
			break;
		r = &results[i];
		r->value = frame(ctx, &steps[i]);
		r->bytes = first_bytes();
		r->fields[0] = pointer(ctx->data_end) - pointer(ctx->data);
		r->fields[1] = pointer(ctx->data) - pointer(ctx->data_meta);
		r->fields[2] = ctx->ingress_ifindex;
		r->fields[3] = ctx->rx_queue_index;
	}
	return verdict;
}

/* The old way to read packets. */
#define LEGACY(section, name)                                                                                          \
	SEC(section)                                                                                                   \
	int name(struct __sk_buff *ctx)                                                                                \
	{                                                                                                              \
		u64 value;                                                                                             \
                                                                                                                       \
		results[0].value = -1;                                                                                 \
		if (steps[0].b == 1)                                                                                   \
			value = load_byte(ctx, steps[0].a);                                                            \
		else if (steps[0].b == 2)                                                                              \
			value = load_half(ctx, steps[0].a);                                                            \
		else                                                                                                   \
			value = load_word(ctx, steps[0].a);                                                            \
		results[0].value = value;                                                                              \
		return 1;                                                                                              \
	}

LEGACY("tc", legacy_tc)
LEGACY("socket", legacy_socket)

SEC("flow_dissector")
int dissect(struct __sk_buff *ctx)
{
	struct bpf_flow_keys *keys = ctx->flow_keys;
	u8 *byte = pointer(ctx->data);

	results[0].value = pointer(ctx->data_end) - pointer(ctx->data);
	results[0].fields[0] = keys->nhoff;
	results[0].fields[1] = keys->thoff;
	results[0].fields[2] = keys->n_proto;
	results[0].fields[3] = keys->flags;
	results[0].fields[4] = bpf_skb_load_bytes(ctx, 0, buffer, 8);
	if ((void *)(byte + 14) <= pointer(ctx->data_end)) {
		keys->ip_proto = byte[12];
		keys->sport = byte[0];
	}
	keys->nhoff = steps[0].a;
	keys->thoff = steps[0].b;
	return verdict;
}

LICENSE("Dual MIT/GPL");
