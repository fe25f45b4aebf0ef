#include "bench.h"
/* sorts records of a 32-bit key and a 32-bit tag: quicksort with its own stack, insertion sort for short runs */
#define SHORT 16
struct rec { u32 key; u32 tag; };
struct span { u32 low; u32 high; };

static always_inline void swap(struct rec __arena *a, u32 i, u32 j)
{
	u32 key = a[i].key, tag = a[i].tag;

	a[i].key = a[j].key;
	a[i].tag = a[j].tag;
	a[j].key = key;
	a[j].tag = tag;
}

static noinline int insertion(struct rec __arena *a, u32 low, u32 high)
{
	u32 i, j;

	for (i = low + 1; i <= high && can_loop; i++) {
		u32 key = a[i].key, tag = a[i].tag;

		for (j = i; j > low && a[j - 1].key > key && can_loop; j--) {
			a[j].key = a[j - 1].key;
			a[j].tag = a[j - 1].tag;
		}
		a[j].key = key;
		a[j].tag = tag;
	}
	return 0;
}

static noinline int sort(struct rec __arena *a, u32 count, struct span __arena *stack, u64 Z)
{
	u32 depth = Z;

	stack[depth].low = Z;
	stack[depth++].high = count - 1;
	while (depth > 0 && can_loop) {
		struct span __arena *top = &stack[--depth];
		u32 low = top->low, high = top->high;

		while (high - low > SHORT && can_loop) {
			u32 mid = low + (high - low) / 2, i = low, j = high, pivot;

			if (a[mid].key < a[low].key)
				swap(a, mid, low);
			if (a[high].key < a[low].key)
				swap(a, high, low);
			if (a[high].key < a[mid].key)
				swap(a, high, mid);
			pivot = a[mid].key;
			while (can_loop) {
				while (a[i].key < pivot && can_loop)
					i++;
				while (a[j].key > pivot && can_loop)
					j--;
				if (i >= j)
					break;
				swap(a, i++, j--);
			}
			/* the shorter part goes on, the longer one waits */
			if (j - low < high - j) {
				stack[depth].low = j + 1;
				stack[depth++].high = high;
				high = j;
			} else {
				stack[depth].low = low;
				stack[depth++].high = j;
				low = j + 1;
			}
		}
		insertion(a, low, high);
	}
	return 0;
}

ENTRY
{
	mem_t mem = MEM(c);
	struct span __arena *stack = (struct span __arena *)mem;
	struct rec __arena *a = (struct rec __arena *)(mem + 4096);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	for (it = Z; it < c->iters && can_loop; it++) {
		for (i = Z; i < n && can_loop; i++) {
			x = xs64(x);
			a[i].key = x >> 40;
			a[i].tag = i;
		}
		sort(a, n, stack, Z);
		for (i = Z; i + 1 < n && can_loop; i++) {
			if (a[i].key > a[i + 1].key)
				sum ^= ~i;
			sum = sum * 3 + a[i].key;
		}
	}
	c->ret = sum;
	return 0;
}
