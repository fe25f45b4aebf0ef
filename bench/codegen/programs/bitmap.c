#include "bench.h"
/* bitmap allocator of ids: the lowest free one, ranges set and cleared, bits counted, next set bit */
struct map { u64 words; u64 first; u64 used; u64 bits[]; };
typedef struct map __arena *map_t;

static noinline u64 alloc(map_t m)
{
	u64 w;

	for (w = m->first; w < m->words && can_loop; w++) {
		u64 free = ~m->bits[w], bit;

		if (!free)
			continue;
		bit = __builtin_ctzll(free);
		m->bits[w] |= 1ULL << bit;
		m->first = w;
		m->used++;
		return w * 64 + bit;
	}
	m->first = m->words;
	return ~0ULL;
}

static noinline u64 release(map_t m, u64 id)
{
	u64 w = id >> 6, bit = 1ULL << (id & 63);

	if (w >= m->words || !(m->bits[w] & bit))
		return 0;
	m->bits[w] &= ~bit;
	if (w < m->first)
		m->first = w;
	m->used--;
	return 1;
}

/* ids in [low, high) that are taken afterwards and were not before */
static noinline u64 set_range(map_t m, u64 low, u64 high)
{
	u64 w, taken = 0;

	for (w = low >> 6; w * 64 < high && can_loop; w++) {
		u64 mask = ~0ULL;

		if (w == low >> 6)
			mask &= ~0ULL << (low & 63);
		if (high - w * 64 < 64)
			mask &= ~(~0ULL << (high & 63));
		taken += __builtin_popcountll(mask & ~m->bits[w]);
		m->bits[w] |= mask;
	}
	m->used += taken;
	return taken;
}

static noinline u64 next_set(map_t m, u64 from)
{
	u64 w = from >> 6, word;

	if (w >= m->words)
		return ~0ULL;
	word = m->bits[w] & (~0ULL << (from & 63));
	while (!word && can_loop) {
		w++;
		if (w >= m->words)
			return ~0ULL;
		word = m->bits[w];
	}
	return w * 64 + __builtin_ctzll(word);
}

ENTRY
{
	mem_t mem = MEM(c);
	map_t m = (map_t)mem;
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	m->words = n / 64;
	for (it = Z; it < c->iters && can_loop; it++) {
		m->first = 0;
		m->used = 0;
		for (i = Z; i < n / 64 && can_loop; i++)
			m->bits[i] = 0;
		for (i = Z; i < n && can_loop; i++) {
			u64 low;

			x = xs64(x);
			low = ((x >> 32) * n) >> 32;
			if ((x & 7) < 4)
				sum += alloc(m);
			else if ((x & 7) < 7)
				sum = sum * 3 + release(m, low);
			else if ((x & 0xff) == 7)
				sum += set_range(m, low & ~63ULL, (low & ~63ULL) + ((x >> 8) & 255) % (n - (low & ~63ULL)));
			else
				sum += next_set(m, low);
		}
		sum = sum * 31 + m->used;
	}
	c->ret = sum;
	return 0;
}
