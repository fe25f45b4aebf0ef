// SPDX-License-Identifier: MIT OR Apache-2.0
// A binary heap in an array: no item is smaller than the one at half its index.
#include "sched.h"

static void put(struct min_heap __arena *heap, u64 at, u64 key, u64 value)
{
	heap->items[at].key = key;
	heap->items[at].value = value;
}

/* Moves up what is larger on the way to the first, and puts the item there. */
static void rise(struct min_heap __arena *heap, u64 at, u64 key, u64 value)
{
	while (at > 0 && can_loop) {
		u64 up = (at - 1) / 2, other = heap->items[up].key;

		if (other <= key)
			break;
		put(heap, at, other, heap->items[up].value);
		at = up;
	}
	put(heap, at, key, value);
}

/* Moves up what is smaller on the way from the first to the last, and puts the item there. */
static void sink(struct min_heap __arena *heap, u64 count, u64 key, u64 value)
{
	u64 at = 0;

	while (can_loop) {
		u64 down = 2 * at + 1;

		if (down >= count)
			break;
		if (down + 1 < count && heap->items[down + 1].key < heap->items[down].key)
			down++;
		if (heap->items[down].key >= key)
			break;
		put(heap, at, heap->items[down].key, heap->items[down].value);
		at = down;
	}
	put(heap, at, key, value);
}

int heap_push(struct min_heap __arena *heap __arg_arena, u64 key, u64 value)
{
	int err = -ENOMEM;

	uses_arena(&arena);
	if (lock_take(&heap->lock))
		return -EBUSY;
	if (heap->count < HEAP_CAPACITY) {
		rise(heap, heap->count, key, value);
		heap->count++;
		err = 0;
	}
	lock_release(&heap->lock);
	return err;
}

int heap_pop(struct min_heap __arena *heap __arg_arena, struct heap_item __arena *item __arg_arena)
{
	int err = -ENOENT;

	uses_arena(&arena);
	if (lock_take(&heap->lock))
		return -EBUSY;
	if (heap->count) {
		u64 last = heap->count - 1;

		item->key = heap->items[0].key;
		item->value = heap->items[0].value;
		heap->count = last;
		sink(heap, last, heap->items[last].key, heap->items[last].value);
		err = 0;
	}
	lock_release(&heap->lock);
	return err;
}

LICENSE("Dual MIT/GPL");
