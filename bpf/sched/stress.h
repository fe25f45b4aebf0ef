/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the programs have in common that use every part of the library at random: each run does `rounds` operations for
 * one thread, and leaves what it holds and has done in the arena, where the host adds it all up.
 */
#pragma once

#include "sched.h"

#define THREADS 16
#define SLOTS 32
#define CPU_SLOTS 4
#define KEYS 4096

struct stress {
	u64 seed;
	u32 thread;
	u32 rounds;
	u64 done; /* operations that did what they were asked for */
};

/* What a thread holds and has done. Only its own runs write it. */
struct thread_state {
	u64 slab[SLOTS];
	u64 stack[SLOTS];
	u64 buddy[SLOTS];
	u64 buddy_size[SLOTS];
	u64 bits[SLOTS];      /* number + 1 */
	u64 cpus[CPU_SLOTS]; /* number + 1 */
	u64 rb_inserted;
	u64 rb_removed;
	u64 btree_inserted;
	u64 btree_removed;
	u64 heap_pushed;
	u64 heap_popped;
	u64 heap_sum; /* of what was pushed, less what was popped */
	u64 queue_pushed;
	u64 queue_popped;
	u64 queue_sum;
	u64 task_uses;
	u64 popped_value;
	struct heap_item popped_item;
};

extern struct thread_state __arena threads[THREADS];

static __always_inline u64 random(struct stress *ctx)
{
	u64 x = ctx->seed;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	ctx->seed = x;
	return x >> 11;
}

static __always_inline struct thread_state __arena *state_of(struct stress *ctx)
{
	return &threads[ctx->thread % THREADS];
}
