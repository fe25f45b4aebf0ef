#include "bench.h"
/* records of three kinds, each handled by a function of its own that calls smaller ones: fixed-point arithmetic with checks */
struct record { u32 kind; s32 a; s32 b; s32 value; };
struct totals { s64 sum[4]; u64 errors; u32 top; /* highest power of four */ };

static noinline s32 clamp(s64 value, s32 low, s32 high)
{
	if (value < low)
		return low;
	if (value > high)
		return high;
	return value;
}

static noinline s32 scale(s32 a, s32 by)
{
	return clamp(((s64)a * by) >> 8, -1000000, 1000000);
}

static noinline u32 root(u32 value, u32 bit)
{
	u32 result = 0;

	while (bit > value && can_loop)
		bit >>= 2;
	while (bit && can_loop) {
		if (value >= result + bit) {
			value -= result + bit;
			result = (result >> 1) + bit;
		} else {
			result >>= 1;
		}
		bit >>= 2;
	}
	return result;
}

static noinline s32 blend(struct record __arena *r, struct record __arena *before)
{
	return clamp((s64)scale(r->a, 200) + scale(before->value, 56), -500000, 500000);
}

static noinline s32 distance(struct record __arena *r, struct record __arena *before, struct totals __arena *t)
{
	s32 x = scale(r->a - before->a, 16), y = scale(r->b - before->b, 16);

	return root((u32)clamp((s64)x * x + (s64)y * y, 0, 0x7fffffff), t->top);
}

static noinline s32 average(struct record __arena *r, struct record __arena *before, struct totals __arena *t)
{
	if (!r->b) {
		t->errors++;
		return 0;
	}
	return clamp(((s64)r->a + r->b + before->value) >> 1, -1000000, 1000000);
}

ENTRY
{
	mem_t mem = MEM(c);
	struct totals __arena *t = (struct totals __arena *)mem;
	struct record __arena *records = (struct record __arena *)(mem + 4096);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	for (i = Z; i < 4 && can_loop; i++)
		t->sum[i] = 0;
	t->errors = 0;
	t->top = 1u << 30;
	for (i = Z; i < n && can_loop; i++) {
		x = xs64(x);
		records[i].kind = x % 3;
		records[i].a = (s32)(x >> 32) >> 8;
		records[i].b = (x & 0xf00) ? (s32)(x >> 20) >> 12 : 0;
		records[i].value = 0;
	}
	for (it = Z; it < c->iters && can_loop; it++)
		for (i = Z + 1; i < n && can_loop; i++) {
			struct record __arena *r = &records[i], *before = r - 1;
			s32 value;

			switch (r->kind) {
			case 0:
				value = blend(r, before);
				break;
			case 1:
				value = distance(r, before, t);
				break;
			default:
				value = average(r, before, t);
			}
			r->value = value;
			t->sum[r->kind & 3] += value;
		}
	for (i = Z; i < 4 && can_loop; i++)
		sum = sum * 31 + t->sum[i];
	c->ret = sum + t->errors;
	return 0;
}
