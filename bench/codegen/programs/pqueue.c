#include "bench.h"
/* timers in a binary heap: a simulation takes the next event and puts in later ones, sometimes cancels one */
struct event { u64 when; u32 id; u32 kind; };
struct heap { u64 count; u64 pad; struct event events[]; };

static noinline int put(struct heap __arena *h, u64 when, u32 id)
{
	u64 at = h->count++;

	while (at > 0 && can_loop) {
		u64 up = (at - 1) / 2;

		if (h->events[up].when <= when)
			break;
		h->events[at].when = h->events[up].when;
		h->events[at].id = h->events[up].id;
		h->events[at].kind = h->events[up].kind;
		at = up;
	}
	h->events[at].when = when;
	h->events[at].id = id;
	h->events[at].kind = id & 3;
	return 0;
}

/* removes the event in this place */
static noinline u64 take(struct heap __arena *h, u64 at)
{
	u64 count = --h->count, when = h->events[at].when;
	struct event __arena *last = &h->events[count];
	u64 moved = last->when;

	while (at * 2 + 1 < count && can_loop) {
		u64 child = at * 2 + 1;

		if (child + 1 < count && h->events[child + 1].when < h->events[child].when)
			child++;
		if (moved <= h->events[child].when)
			break;
		h->events[at].when = h->events[child].when;
		h->events[at].id = h->events[child].id;
		h->events[at].kind = h->events[child].kind;
		at = child;
	}
	h->events[at].when = moved;
	h->events[at].id = last->id;
	h->events[at].kind = last->kind;
	return when;
}

ENTRY
{
	mem_t mem = MEM(c);
	struct heap __arena *h = (struct heap __arena *)mem;
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, now = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	h->count = 0;
	for (i = Z; i < n && can_loop; i++) {
		x = xs64(x);
		put(h, x >> 48, i);
	}
	for (it = Z; it < c->iters && can_loop; it++)
		for (i = Z; i < n && can_loop; i++) {
			u32 kind = h->events[0].kind, id = h->events[0].id;

			now = take(h, 0);
			x = xs64(x);
			sum = sum * 3 + now + id;
			put(h, now + 1 + (x >> 50), id ^ (u32)(x & 0xff));
			if (kind == 1 && h->count > n / 2) {
				take(h, h->count - 1 - ((x >> 8) & 7));
			} else if (kind == 2 && h->count < n) {
				put(h, now + (x >> 52), id + 1);
			}
		}
	c->ret = sum + h->count;
	return 0;
}
