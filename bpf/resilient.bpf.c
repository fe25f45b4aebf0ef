// SPDX-License-Identifier: MIT OR Apache-2.0
// Resilient locks whose holders wait for each other, or for ever.
#include "bpf_maps.h"
#include "bpf_objects.h"

/* Rounds of the outer and of the inner loop in which a program waits for another: seconds. */
#define MOST_ROUNDS (1 << 16)

struct guarded {
	struct bpf_res_spin_lock lock;
	u32 taken;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct guarded);
} guarded SEC(".maps");

/* How many programs hold their first lock; set by the host when the one that waits may go on. */
volatile u32 holding, released;

struct ctx {
	u32 first;
	u32 second;
};

/* Takes one lock, waits until another program has taken one too, and takes the second: the error that this gives. */
SEC("syscall")
int embrace(struct ctx *ctx)
{
	u32 first = ctx->first, second = ctx->second;
	struct guarded *a = bpf_map_lookup_elem(&guarded, &first), *b = bpf_map_lookup_elem(&guarded, &second);
	int i, j, error;

	if (!a || !b)
		return 1;
	if (bpf_res_spin_lock(&a->lock))
		return 2;
	__sync_fetch_and_add(&holding, 1);
	bpf_for(i, 0, MOST_ROUNDS) {
		bpf_for(j, 0, MOST_ROUNDS)
			if (holding > 1)
				break;
		if (holding > 1)
			break;
	}
	error = bpf_res_spin_lock(&b->lock);
	if (!error)
		bpf_res_spin_unlock(&b->lock);
	bpf_res_spin_unlock(&a->lock);
	return error;
}

/* Holds a lock until the host lets it go on. */
SEC("syscall")
int hold(struct ctx *ctx)
{
	u32 first = ctx->first;
	struct guarded *a = bpf_map_lookup_elem(&guarded, &first);
	int i, j;

	if (!a)
		return 1;
	if (bpf_res_spin_lock(&a->lock))
		return 2;
	holding = 1;
	bpf_for(i, 0, MOST_ROUNDS) {
		bpf_for(j, 0, MOST_ROUNDS)
			if (released)
				break;
		if (released)
			break;
	}
	bpf_res_spin_unlock(&a->lock);
	return 0;
}

/* Takes a lock: the error that this gives. */
SEC("syscall")
int take(struct ctx *ctx)
{
	u32 first = ctx->first;
	struct guarded *a = bpf_map_lookup_elem(&guarded, &first);
	int error;

	if (!a)
		return 1;
	error = bpf_res_spin_lock(&a->lock);
	if (!error)
		bpf_res_spin_unlock(&a->lock);
	return error;
}

LICENSE("Dual MIT/GPL");
