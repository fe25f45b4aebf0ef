#include "bench.h"
/* buddy allocator: 4 MiB of 64-byte units, one byte of state for each, free lists per order; random allocations and frees */
#define UNITS 65536
#define UNIT 64
#define ORDERS 17
#define FREE 0x80

struct block { PTR(struct block, next); PTR(struct block, prev); };
struct buddy {
	struct block __arena *free[ORDERS];
	u32 top; /* order of the whole heap */
	u64 allocated;
	u64 failed;
};
struct slot { u64 offset; u64 order; };

static always_inline u32 unit_of(mem_t heap, struct block __arena *b)
{
	return (u32)((mem_t)b - heap) / UNIT;
}

static always_inline void push(struct buddy __arena *s, u8 __arena *state, mem_t heap, u32 unit, u32 order)
{
	struct block __arena *b = (struct block __arena *)(heap + (u64)unit * UNIT);
	struct block __arena *first = s->free[order];

	b->next = first;
	b->prev = 0;
	if (first)
		first->prev = b;
	s->free[order] = b;
	state[unit] = FREE | order;
}

static always_inline void unlink(struct buddy __arena *s, struct block __arena *b, u32 order)
{
	if (b->prev)
		b->prev->next = b->next;
	else
		s->free[order] = b->next;
	if (b->next)
		b->next->prev = b->prev;
}

/* unit + 1, or 0 */
static noinline u32 take(struct buddy __arena *s, u8 __arena *state, mem_t heap, u32 order)
{
	struct block __arena *b = 0;
	u32 unit, from = order;

	for (; from <= s->top && can_loop; from++) {
		b = s->free[from];
		if (b)
			break;
	}
	if (!b) {
		s->failed++;
		return 0;
	}
	unlink(s, b, from);
	unit = unit_of(heap, b);
	while (from > order && can_loop) {
		from--;
		push(s, state, heap, unit + (1u << from), from);
	}
	state[unit] = order;
	s->allocated += 1ull << order;
	return unit + 1;
}

static noinline u32 give(struct buddy __arena *s, u8 __arena *state, mem_t heap, u32 unit)
{
	u32 order = state[unit] & 31;

	s->allocated -= 1ull << order;
	while (order < s->top && can_loop) {
		u32 other = unit ^ (1u << order);

		if (state[other] != (FREE | order))
			break;
		unlink(s, (struct block __arena *)(heap + (u64)other * UNIT), order);
		state[other] = 0;
		unit &= ~(1u << order);
		order++;
	}
	push(s, state, heap, unit, order);
	return order;
}

ENTRY
{
	mem_t mem = MEM(c);
	struct buddy __arena *s = (struct buddy __arena *)mem;
	u8 __arena *state = mem + 4096;
	struct slot __arena *slots = (struct slot __arena *)(mem + 4096 + UNITS);
	mem_t heap = mem + (1 << 21);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i;
	USE_ARENA(); const u64 Z = c->zero;

	for (i = Z; i < ORDERS && can_loop; i++)
		s->free[i] = 0;
	for (i = Z; i < UNITS / 8 && can_loop; i++)
		((u64 __arena *)state)[i] = 0;
	for (i = Z; i < n && can_loop; i++)
		slots[i].offset = 0;
	s->top = ORDERS - 1;
	s->allocated = 0;
	s->failed = 0;
	push(s, state, heap, 0, ORDERS - 1);
	for (i = Z; i < c->iters * 1024 && can_loop; i++) {
		struct slot __arena *slot;

		x = xs64(x);
		slot = &slots[((x >> 32) * n) >> 32];
		if (slot->offset) {
			sum += give(s, state, heap, slot->offset - 1);
			slot->offset = 0;
		} else {
			/* small ones are more frequent */
			slot->order = (x & 7) < 6 ? x & 1 : (x >> 3) & 7;
			slot->offset = take(s, state, heap, slot->order);
			sum = sum * 3 + slot->offset;
		}
	}
	c->ret = sum + s->allocated * 7 + s->failed;
	return 0;
}
