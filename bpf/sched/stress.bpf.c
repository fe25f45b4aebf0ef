// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that use the allocators, trees and queues.
#include "stress.h"

struct thread_state __arena threads[THREADS];

struct slab __arena slab;
struct stack __arena stack;
struct buddy __arena buddy;
struct rb_tree __arena rb_tree;
struct btree __arena btree;
struct min_heap __arena heap;
struct queue __arena queue;
struct bitmap __arena bitmap;
struct topology __arena topology;

/* What the words of an object hold while it is this thread's. */
static u64 mark(struct stress *ctx, u64 address)
{
	return (address ^ ((u64)ctx->thread << 56)) * 0x9e3779b97f4a7c15ull;
}

static void fill(struct stress *ctx, u64 address, u64 size)
{
	u64 __arena *words = arena_from_user(u64, address);
	u64 i, value = mark(ctx, address);

	for (i = 0; i < size / 8 && can_loop; i++)
		words[i] = value + i;
}

static int is_intact(struct stress *ctx, u64 address, u64 size)
{
	u64 __arena *words = arena_from_user(u64, address);
	u64 i, value = mark(ctx, address);

	for (i = 0; i < size / 8 && can_loop; i++) {
		if (words[i] != value + i)
			return 0;
	}
	return 1;
}

SEC("syscall")
int prepare(struct stress *ctx)
{
	int err;

	slab.object_size = 64;
	stack.object_size = 128;
	err = buddy_init(&buddy);
	if (!err)
		err = rb_init(&rb_tree);
	if (!err)
		err = btree_init(&btree);
	if (!err)
		err = queue_init(&queue);
	if (!err)
		err = topology_init(&topology);
	return err;
}

SEC("syscall")
int use_slab(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 slot = random(ctx) % SLOTS, object = state->slab[slot];

		if (!object) {
			object = slab_alloc(&slab);
			if (!object)
				continue;
			fill(ctx, object, 64);
			state->slab[slot] = object;
		} else {
			if (!is_intact(ctx, object, 64))
				return -EUCLEAN;
			if (slab_free(&slab, object))
				continue;
			state->slab[slot] = 0;
		}
		ctx->done++;
	}
	return 0;
}

SEC("syscall")
int use_stack(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 slot = random(ctx) % SLOTS, object = state->stack[slot];

		if (!object) {
			object = stack_alloc(&stack);
			if (!object)
				continue;
			fill(ctx, object, 128);
			state->stack[slot] = object;
		} else {
			if (!is_intact(ctx, object, 128))
				return -EUCLEAN;
			if (stack_free(&stack, object))
				continue;
			state->stack[slot] = 0;
		}
		ctx->done++;
	}
	return 0;
}

SEC("syscall")
int use_buddy(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 slot = random(ctx) % SLOTS, object = state->buddy[slot], size;

		if (!object) {
			size = 8ull << random(ctx) % 8;
			object = buddy_alloc(&buddy, size);
			if (!object)
				continue;
			fill(ctx, object, size);
			state->buddy[slot] = object;
			state->buddy_size[slot] = size;
		} else {
			int err;

			if (!is_intact(ctx, object, state->buddy_size[slot]))
				return -EUCLEAN;
			err = buddy_free(&buddy, object);
			if (err == -EINVAL)
				return -EUCLEAN;
			if (err)
				continue;
			state->buddy[slot] = 0;
		}
		ctx->done++;
	}
	return 0;
}

SEC("syscall")
int use_rbtree(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 r = random(ctx), key = r / 4 % KEYS, found;

		switch (r % 4) {
		case 0:
			found = rb_lower_bound(&rb_tree, key);
			if (found < key)
				return -EUCLEAN;
			break;
		case 1:
			if (rb_remove(&rb_tree, key))
				continue;
			state->rb_removed++;
			break;
		default:
			if (rb_insert(&rb_tree, key, ~key))
				continue;
			state->rb_inserted++;
		}
		ctx->done++;
	}
	return 0;
}

SEC("syscall")
int use_btree(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 r = random(ctx), key = r / 4 % KEYS;
		int err;

		switch (r % 4) {
		case 0:
			btree_contains(&btree, key);
			break;
		case 1:
			err = btree_remove(&btree, key);
			if (err == -EUCLEAN)
				return err;
			if (err)
				continue;
			state->btree_removed++;
			break;
		default:
			if (btree_insert(&btree, key, ~key))
				continue;
			state->btree_inserted++;
		}
		ctx->done++;
	}
	return 0;
}

SEC("syscall")
int use_heap(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 r = random(ctx), key = r / 2 % KEYS;

		if (r % 2) {
			if (heap_push(&heap, key, ~key))
				continue;
			state->heap_pushed++;
			state->heap_sum += key;
		} else {
			if (heap_pop(&heap, &state->popped_item))
				continue;
			if (state->popped_item.value != ~state->popped_item.key)
				return -EUCLEAN;
			state->heap_popped++;
			state->heap_sum -= state->popped_item.key;
		}
		ctx->done++;
	}
	return 0;
}

SEC("syscall")
int use_queue(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 r = random(ctx), value = r / 2;

		if (r % 2) {
			if (queue_push(&queue, value))
				continue;
			state->queue_pushed++;
			state->queue_sum += value;
		} else {
			if (queue_pop(&queue, &state->popped_value))
				continue;
			state->queue_popped++;
			state->queue_sum -= state->popped_value;
		}
		ctx->done++;
	}
	return 0;
}

SEC("syscall")
int use_bitmap(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 r = random(ctx), slot = r % SLOTS, bit = state->bits[slot];

		if (bit) {
			if (bitmap_release(&bitmap, bit - 1))
				return -EUCLEAN;
			state->bits[slot] = 0;
		} else {
			int claimed = bitmap_claim(&bitmap, r / SLOTS);

			if (claimed < 0)
				continue;
			state->bits[slot] = claimed + 1;
		}
		ctx->done++;
	}
	return 0;
}

SEC("syscall")
int use_topology(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 r = random(ctx), slot = r % CPU_SLOTS, cpu = state->cpus[slot];

		if (cpu) {
			/* Another may claim it as soon as it is released. */
			state->cpus[slot] = 0;
			if (topology_release(&topology, cpu - 1))
				return -EUCLEAN;
		} else {
			int claimed = topology_claim(&topology, r / CPU_SLOTS % 32);

			if (claimed < 0)
				continue;
			state->cpus[slot] = claimed + 1;
		}
		ctx->done++;
	}
	return 0;
}

LICENSE("Dual MIT/GPL");
