// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs of control groups and of socket lookups.
#include "bpf_arena.h"

struct bpf_sock {
	u32 bound_dev_if, family, type, protocol, mark, priority, src_ip4, src_ip6[4], src_port;
	u16 dst_port, padding;
	u32 dst_ip4, dst_ip6[4], state;
	s32 rx_queue_mapping;
};

struct bpf_sock_addr {
	u32 user_family, user_ip4, user_ip6[4], user_port, family, type, protocol, msg_src_ip4, msg_src_ip6[4];
	struct bpf_sock *sk __attribute__((aligned(8)));
};

struct bpf_sockopt {
	struct bpf_sock *sk;
	u8 *optval, *optval_end;
	s32 level, optname, optlen, retval;
};

/* Connections of marked sockets go to the next address, at the port that the mark is away. */
SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	u32 mark = ctx->sk->mark;

	if (!mark)
		return 0;
	ctx->user_ip4 += 1 << 24;
	ctx->user_port += mark;
	return 1;
}

/* An option is ten times what it is. */
SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *ctx)
{
	u32 *value = (u32 *)ctx->optval;

	if ((u8 *)(value + 1) > ctx->optval_end)
		return 0;
	*value *= 10;
	return 1;
}

SEC("cgroup/sock_create")
int create(struct bpf_sock *ctx)
{
	ctx->mark = ctx->family;
	return 1;
}

struct bpf_cgroup_dev_ctx {
	u32 access_type, major, minor;
};

SEC("cgroup/dev")
int device(struct bpf_cgroup_dev_ctx *ctx)
{
	return ctx->major == 1 && ctx->minor == 3;
}

struct bpf_sysctl {
	u32 write, file_pos;
};

/* Writes are refused, and begin at the start. */
SEC("cgroup/sysctl")
int sysctl(struct bpf_sysctl *ctx)
{
	ctx->file_pos = 0;
	return !ctx->write;
}

struct bpf_sk_lookup {
	struct bpf_sock *sk;
	u32 family, protocol, remote_ip4, remote_ip6[4];
	u16 remote_port, padding;
	u32 local_ip4, local_ip6[4], local_port, ingress_ifindex;
};

/* Only port 80 of one address is served. */
SEC("sk_lookup")
int lookup(struct bpf_sk_lookup *ctx)
{
	return !ctx->sk && ctx->local_port == 80 && ctx->local_ip4 == 0x0100007f && ctx->remote_port == 0x3930;
}

/* What the last lookup looked like. */
u64 seen;

/* Shows all of a lookup, and lets the kernel decide. */
SEC("sk_lookup")
int look(struct bpf_sk_lookup *ctx)
{
	u64 mix = ctx->family;
	int i;

	mix = mix * 31 + ctx->protocol;
	mix = mix * 31 + ctx->remote_ip4;
	mix = mix * 31 + ctx->remote_port;
	mix = mix * 31 + ctx->local_ip4;
	mix = mix * 31 + ctx->local_port;
	mix = mix * 31 + ctx->ingress_ifindex;
	for (i = 0; i < 4; i++)
		mix = mix * 31 + ctx->remote_ip6[i] + 7 * ctx->local_ip6[i];
	seen = mix;
	return 1;
}

LICENSE("GPL");
