// SPDX-License-Identifier: MIT OR Apache-2.0
// A queue in a ring, without a lock. The sequence number of a cell says whose turn it is: that of the push with this
// number, or, one more, that of the pop.
#include "sched.h"

int queue_init(struct queue __arena *queue __arg_arena)
{
	u64 i;

	uses_arena(&arena);
	for (i = 0; i < QUEUE_CELLS && can_loop; i++)
		queue->cells[i].sequence = i;
	return 0;
}

int queue_push(struct queue __arena *queue __arg_arena, u64 value)
{
	u64 at = load_relaxed(&queue->tail);

	uses_arena(&arena);
	while (can_loop) {
		struct queue_cell __arena *cell = &queue->cells[at % QUEUE_CELLS];
		s64 ahead = load_acquire(&cell->sequence) - at;
		u64 seen;

		if (ahead < 0)
			return -ENOMEM;
		if (ahead > 0) {
			at = load_relaxed(&queue->tail);
			continue;
		}
		seen = cmpxchg(&queue->tail, at, at + 1);
		if (seen == at) {
			cell->value = value;
			store_release(&cell->sequence, at + 1);
			return 0;
		}
		at = seen;
	}
	return -EBUSY;
}

int queue_pop(struct queue __arena *queue __arg_arena, u64 __arena *value __arg_arena)
{
	u64 at = load_relaxed(&queue->head);

	uses_arena(&arena);
	while (can_loop) {
		struct queue_cell __arena *cell = &queue->cells[at % QUEUE_CELLS];
		s64 ahead = load_acquire(&cell->sequence) - (at + 1);
		u64 seen;

		if (ahead < 0)
			return -ENOENT;
		if (ahead > 0) {
			at = load_relaxed(&queue->head);
			continue;
		}
		seen = cmpxchg(&queue->head, at, at + 1);
		if (seen == at) {
			*value = cell->value;
			store_release(&cell->sequence, at + QUEUE_CELLS);
			return 0;
		}
		at = seen;
	}
	return -EBUSY;
}

LICENSE("Dual MIT/GPL");
