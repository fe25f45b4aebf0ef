// SPDX-License-Identifier: MIT OR Apache-2.0
// Something to look at with profilers and debuggers: a program that spends its time in several functions and a callback, and
// one whose smallest function touches a missing page.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
} arena SEC(".maps");

#define WORDS 512

struct work {
	u32 rounds;
	u32 sum; /* out */
};

u32 __arena words[WORDS];

static __noinline void fill(u32 seed)
{
	u32 i;

	for (i = 0; i < WORDS && can_loop; i++) {
		seed = seed * 1664525 + 1013904223;
		words[i] = seed >> 16;
	}
}

static __noinline void sift(void)
{
	u32 i, above, here;

	for (i = 1; i < WORDS && can_loop; i++) {
		above = words[i - 1];
		here = words[i];
		if (above > here) {
			words[i - 1] = here;
			words[i] = above;
		}
	}
}

static __noinline u32 digest(u32 sum)
{
	u32 i;

	for (i = 0; i < WORDS && can_loop; i++)
		sum = (sum ^ words[i]) * 0x01000193;
	return sum;
}

static long round(u32 index, u32 *sum)
{
	fill(index);
	sift();
	*sum = digest(*sum);
	return 0;
}

SEC("syscall")
int busy(struct work *work)
{
	u32 sum = 0;

	bpf_loop(work->rounds, round, &sum, 0);
	work->sum = sum;
	return 0;
}

/* Small enough to be inlined wherever that is done. */
static __noinline u64 peek(u64 __arena *at)
{
	return *at + 1;
}

/* The first page of the arena holds `words`, the last one nobody has allocated. */
SEC("syscall")
int missing(void *ctx)
{
	u64 __arena *here = (u64 __arena *)words;

	return peek(here + 15 * PAGE_SIZE / 8);
}

LICENSE("Dual MIT/GPL");
