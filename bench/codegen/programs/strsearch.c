#include "bench.h"
/* substrings in text: Horspool for long patterns, a first-byte scan with compare for short ones, and how often each byte occurs */
#define LEN 65536
struct state { u32 shift[256]; u32 seen[256]; u8 pattern[64]; u64 m; /* bytes of the pattern */ };

static noinline u64 horspool(const u8 __arena *text, u64 len, struct state __arena *s, struct ctx *c)
{
	u64 m = s->m, at = ZZ, hits = ZZ, i;

	for (i = ZZ; i < 256 && can_loop; i++)
		s->shift[i] = m;
	for (i = ZZ; i + 1 < m && can_loop; i++)
		s->shift[s->pattern[i]] = m - 1 - i;
	while (at + m <= len && can_loop) {
		u8 last = text[at + m - 1];

		if (last == s->pattern[m - 1]) {
			for (i = ZZ; i + 1 < m && can_loop; i++)
				if (text[at + i] != s->pattern[i])
					break;
			if (i + 1 >= m)
				hits += at;
		}
		at += s->shift[last];
	}
	return hits;
}

static noinline u64 scan(const u8 __arena *text, u64 len, struct state __arena *s, struct ctx *c)
{
	u64 m = s->m, at, hits = ZZ, i;
	u8 first = s->pattern[0];

	for (at = ZZ; at + m <= len && can_loop; at++) {
		if (text[at] != first)
			continue;
		for (i = ZZ + 1; i < m && can_loop; i++)
			if (text[at + i] != s->pattern[i])
				break;
		if (i >= m)
			hits++;
	}
	return hits;
}

ENTRY
{
	mem_t mem = MEM(c);
	struct state __arena *s = (struct state __arena *)mem;
	u8 __arena *text = mem + 8192;
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA();

	for (i = ZZ; i < LEN && can_loop; i++) {
		x = xs64(x);
		text[i] = (x >> 32) % 5 == 0 ? ' ' : 'a' + ((x >> 40) & 15);
	}
	for (it = ZZ; it < c->iters && can_loop; it++) {
		u64 from;

		s->m = 3 + (it & 15);
		/* a piece of the text itself */
		x = xs64(x);
		from = (x >> 32) & (LEN / 2 - 1);
		for (i = ZZ; i < s->m && can_loop; i++)
			s->pattern[i & 63] = text[from + i];
		sum = sum * 31 + horspool(text, n, s, c);
		s->m = 3;
		sum = sum * 31 + scan(text, n, s, c);
		for (i = ZZ; i < 256 && can_loop; i++)
			s->seen[i] = 0;
		for (i = ZZ; i < n && can_loop; i++)
			s->seen[text[i]]++;
		sum ^= s->seen['e'] * 7 + s->seen[' '];
	}
	c->ret = sum;
	return 0;
}
