#include "bench.h"
/* two queues as they are shared with a host: a ring of one producer and one consumer with acquire and release, and a queue
 * of many producers and consumers whose cells carry sequence numbers */
#define CELLS 1024
struct ring { u64 head; u64 pad0[7]; u64 tail; u64 pad1[7]; u64 slots[CELLS]; };
struct cell { u64 seq; u64 value; };
struct queue { u64 enqueue; u64 pad0[7]; u64 dequeue; u64 pad1[7]; struct cell cells[CELLS]; };

static always_inline int ring_push(struct ring __arena *r, u64 value)
{
	u64 head = r->head;

	if (head - load_acquire(&r->tail) == CELLS)
		return 0;
	r->slots[head & (CELLS - 1)] = value;
	store_release(&r->head, head + 1);
	return 1;
}

static always_inline int ring_pop(struct ring __arena *r, u64 *value)
{
	u64 tail = r->tail;

	if (tail == load_acquire(&r->head))
		return 0;
	*value = r->slots[tail & (CELLS - 1)];
	store_release(&r->tail, tail + 1);
	return 1;
}

static always_inline int queue_push(struct queue __arena *q, u64 value)
{
	u64 at = load_acquire(&q->enqueue);

	while (can_loop) {
		struct cell __arena *cell = &q->cells[at & (CELLS - 1)];
		s64 ahead = load_acquire(&cell->seq) - at;

		if (ahead == 0) {
			u64 seen = __sync_val_compare_and_swap(&q->enqueue, at, at + 1);

			if (seen == at) {
				cell->value = value;
				store_release(&cell->seq, at + 1);
				return 1;
			}
			at = seen;
		} else if (ahead < 0) {
			return 0;
		} else {
			at = load_acquire(&q->enqueue);
		}
	}
	return 0;
}

static always_inline int queue_pop(struct queue __arena *q, u64 *value)
{
	u64 at = load_acquire(&q->dequeue);

	while (can_loop) {
		struct cell __arena *cell = &q->cells[at & (CELLS - 1)];
		s64 ahead = load_acquire(&cell->seq) - (at + 1);

		if (ahead == 0) {
			u64 seen = __sync_val_compare_and_swap(&q->dequeue, at, at + 1);

			if (seen == at) {
				*value = cell->value;
				store_release(&cell->seq, at + CELLS);
				return 1;
			}
			at = seen;
		} else if (ahead < 0) {
			return 0;
		} else {
			at = load_acquire(&q->dequeue);
		}
	}
	return 0;
}

ENTRY
{
	mem_t mem = MEM(c);
	struct ring __arena *r = (struct ring __arena *)mem;
	struct queue __arena *q = (struct queue __arena *)(mem + 16384);
	u64 __arena *dropped = (u64 __arena *)(mem + 65536);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, j, it;
	USE_ARENA(); const u64 Z = c->zero;

	r->head = r->tail = 0;
	q->enqueue = q->dequeue = 0;
	for (i = Z; i < CELLS && can_loop; i++)
		q->cells[i].seq = i;
	*dropped = 0;
	for (it = Z; it < c->iters && can_loop; it++) {
		for (i = Z; i < n && can_loop; i++) {
			u64 burst, value;

			x = xs64(x);
			burst = x & 31;
			for (j = Z; j < burst && can_loop; j++)
				if (!ring_push(r, x + j))
					__sync_fetch_and_add(dropped, 1);
			burst = (x >> 8) & 31;
			for (j = Z; j < burst && can_loop; j++) {
				if (!ring_pop(r, &value))
					break;
				if (!queue_push(q, value ^ i))
					__sync_fetch_and_add(dropped, 1);
			}
			burst = (x >> 16) & 31;
			for (j = Z; j < burst && can_loop; j++) {
				if (!queue_pop(q, &value))
					break;
				sum = sum * 3 + value;
			}
		}
	}
	c->ret = sum + *dropped;
	return 0;
}
