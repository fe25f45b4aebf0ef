#include "bench.h"
/* pages copied, filled, compared and summed, word by word and, in part, byte by byte */
#define PAGE 4096
#define WORDS (PAGE / 8)

static always_inline void copy(mem_t to, mem_t from, u64 Z)
{
	u64 __arena *a = (u64 __arena *)to, *b = (u64 __arena *)from;
	u64 i;

	for (i = Z; i < WORDS && can_loop; i++)
		a[i] = b[i];
}

static always_inline void fill(mem_t to, u64 with, u64 Z)
{
	u64 __arena *a = (u64 __arena *)to;
	u64 i;

	for (i = Z; i < WORDS && can_loop; i++)
		a[i] = with;
}

static always_inline void copy_bytes(mem_t to, mem_t from, u64 len, u64 Z)
{
	u64 i;

	for (i = Z; i < len && can_loop; i++)
		to[i] = from[i];
}

static always_inline u64 differ_at(mem_t x, mem_t y, u64 Z)
{
	u64 __arena *a = (u64 __arena *)x, *b = (u64 __arena *)y;
	u64 i;

	for (i = Z; i < WORDS && can_loop; i++)
		if (a[i] != b[i])
			return i;
	return WORDS;
}

static always_inline u32 checksum(mem_t page, u64 Z)
{
	u32 __arena *a = (u32 __arena *)page;
	u32 low = 1, high = 0;
	u64 i;

	for (i = Z; i < WORDS * 2 && can_loop; i++) {
		low += a[i];
		high += low;
	}
	return high ^ low;
}

ENTRY
{
	mem_t mem = MEM(c);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	for (i = Z; i < n * WORDS && can_loop; i++) {
		x = xs64(x);
		((u64 __arena *)mem)[i] = x;
	}
	for (it = Z; it < c->iters && can_loop; it++) {
		mem_t a, b;

		x = xs64(x);
		a = mem + (((x >> 32) * n) >> 32) * PAGE;
		x = xs64(x);
		b = mem + (((x >> 32) * n) >> 32) * PAGE;
		switch (x & 7) {
		case 0:
			fill(a, x, Z);
			break;
		case 1:
			sum = sum * 3 + checksum(a, Z);
			break;
		case 2:
			/* a record in the middle of a page */
			copy_bytes(a + 64 + (x >> 60), b, 200 + ((x >> 8) & 0x3ff), Z);
			break;
		case 3:
		case 4:
			sum = sum * 3 + differ_at(a, b, Z);
			break;
		default:
			copy(a, b, Z);
			sum += differ_at(a, b, Z);
		}
	}
	for (i = Z; i < n && can_loop; i++)
		sum = sum * 31 + checksum(mem + i * PAGE, Z);
	c->ret = sum;
	return 0;
}
