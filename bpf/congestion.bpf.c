// SPDX-License-Identifier: MIT OR Apache-2.0
// A congestion control: a table of callbacks.
#include "bpf_arena.h"

#define __relocated __attribute__((preserve_access_index))

struct sock {
	int sk_backlog_len;
} __relocated;

struct tcp_sock {
	u32 snd_cwnd;
	u32 snd_ssthresh;
	u32 reordering;
} __relocated;

struct tcp_congestion_ops {
	u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, u32 ack, u32 acked);
	u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
};

u32 acknowledged;

SEC("struct_ops")
u32 half(u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	u32 half = tp->snd_cwnd / 2;

	return half > 2 ? half : 2;
}

SEC("struct_ops")
void count(u64 *ctx)
{
	acknowledged += (u32)ctx[2];
}

SEC("struct_ops")
u32 undo(u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];

	return tp->snd_cwnd;
}

SEC(".struct_ops.link")
struct tcp_congestion_ops halving = {
	.ssthresh = (void *)half,
	.cong_avoid = (void *)count,
	.undo_cwnd = (void *)undo,
	.name = "halving",
};

LICENSE("GPL");
