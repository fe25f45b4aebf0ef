// SPDX-License-Identifier: MIT OR Apache-2.0
// A buddy allocator: blocks are halved until they fit, and joined with their other half when both are free.
#include "sched.h"

static void push(struct buddy __arena *buddy, u32 index, u32 order)
{
	struct buddy_block __arena *block = &buddy->blocks[index];
	u32 first = buddy->free[order];

	block->order = order;
	block->state = BUDDY_FREE;
	block->previous = BUDDY_NONE;
	block->next = first;
	if (first != BUDDY_NONE)
		buddy->blocks[first].previous = index;
	buddy->free[order] = index;
}

static void unlink(struct buddy __arena *buddy, u32 index)
{
	struct buddy_block __arena *block = &buddy->blocks[index];
	u32 next = block->next, previous = block->previous;

	if (previous != BUDDY_NONE)
		buddy->blocks[previous].next = next;
	else
		buddy->free[block->order] = next;
	if (next != BUDDY_NONE)
		buddy->blocks[next].previous = previous;
	block->state = BUDDY_INSIDE;
}

int buddy_init(struct buddy __arena *buddy __arg_arena)
{
	u32 order;

	uses_arena(&arena);
	buddy->base = pages_alloc(BUDDY_BLOCKS * BUDDY_BLOCK_BYTES / PAGE_SIZE);
	if (!buddy->base)
		return -ENOMEM;
	for (order = 0; order < BUDDY_ORDERS && can_loop; order++)
		buddy->free[order] = BUDDY_NONE;
	push(buddy, 0, BUDDY_ORDERS - 1);
	return 0;
}

static u64 take(struct buddy __arena *buddy, u32 wanted)
{
	u32 order = wanted, index;

	while (order < BUDDY_ORDERS && buddy->free[order] == BUDDY_NONE && can_loop)
		order++;
	if (order >= BUDDY_ORDERS)
		return 0;
	index = buddy->free[order];
	unlink(buddy, index);
	while (order > wanted && can_loop) {
		order--;
		push(buddy, index + (1u << order), order);
	}
	buddy->blocks[index].order = wanted;
	buddy->blocks[index].state = BUDDY_USED;
	buddy->live++;
	buddy->live_blocks += 1u << wanted;
	return buddy->base + index * BUDDY_BLOCK_BYTES;
}

u64 buddy_alloc(struct buddy __arena *buddy __arg_arena, u64 size)
{
	u32 order = 0;
	u64 address;

	uses_arena(&arena);
	while (order < BUDDY_ORDERS && (BUDDY_BLOCK_BYTES << order) < size && can_loop)
		order++;
	if (order >= BUDDY_ORDERS || lock_take(&buddy->lock))
		return 0;
	address = take(buddy, order);
	lock_release(&buddy->lock);
	return address;
}

static int give(struct buddy __arena *buddy, u32 index)
{
	u32 order = buddy->blocks[index].order;

	if (buddy->blocks[index].state != BUDDY_USED)
		return -EINVAL;
	buddy->blocks[index].state = BUDDY_INSIDE;
	buddy->live--;
	buddy->live_blocks -= 1u << order;
	while (order < BUDDY_ORDERS - 1 && can_loop) {
		u32 other = index ^ (1u << order);

		if (buddy->blocks[other].state != BUDDY_FREE || buddy->blocks[other].order != order)
			break;
		unlink(buddy, other);
		index &= other;
		order++;
	}
	push(buddy, index, order);
	return 0;
}

int buddy_free(struct buddy __arena *buddy __arg_arena, u64 address)
{
	u64 offset = address - buddy->base;
	int err;

	uses_arena(&arena);
	if (offset % BUDDY_BLOCK_BYTES || offset >= BUDDY_BLOCKS * BUDDY_BLOCK_BYTES)
		return -EINVAL;
	if (lock_take(&buddy->lock))
		return -EBUSY;
	err = give(buddy, offset / BUDDY_BLOCK_BYTES);
	lock_release(&buddy->lock);
	return err;
}

LICENSE("Dual MIT/GPL");
