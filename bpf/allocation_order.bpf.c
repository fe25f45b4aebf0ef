// SPDX-License-Identifier: MIT OR Apache-2.0
// Which of two gaps an allocation takes. The user engine takes the lowest that is large enough, as Linux 6.9 to 6.12 did;
// 6.13 and later look for the smallest one first.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 128);
} arena SEC(".maps");

#define FAILED 1000

static __always_inline u32 page_number(char __arena *page, char __arena *first)
{
	return ((u32)arena_to_user(page) - (u32)arena_to_user(first)) / PAGE_SIZE;
}

/* Returns the page that one page is allocated at, when five are free from 10 on and one at 50. */
SEC("syscall")
int gap_taken(void *ctx)
{
	char __arena *first = bpf_arena_alloc_pages(&arena, NULL, 128, NUMA_NO_NODE, 0);
	char __arena *page;

	if (!first)
		return FAILED;
	bpf_arena_free_pages(&arena, first + 10 * PAGE_SIZE, 5);
	bpf_arena_free_pages(&arena, first + 50 * PAGE_SIZE, 1);
	page = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);
	return page ? page_number(page, first) : FAILED;
}

/* Pages come out one after the other, and a gap is filled before the end is: returns 0 if they do. */
SEC("syscall")
int sequence(void *ctx)
{
	char __arena *first = bpf_arena_alloc_pages(&arena, NULL, 4, NUMA_NO_NODE, 0);
	char __arena *next = bpf_arena_alloc_pages(&arena, NULL, 2, NUMA_NO_NODE, 0);
	char __arena *again, *last;

	if (!first || !next)
		return FAILED;
	if (page_number(next, first) != 4)
		return 1;
	bpf_arena_free_pages(&arena, first + PAGE_SIZE, 2);
	again = bpf_arena_alloc_pages(&arena, NULL, 2, NUMA_NO_NODE, 0);
	if (!again || page_number(again, first) != 1)
		return 2;
	last = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);
	if (!last || page_number(last, first) != 6)
		return 3;
	bpf_arena_free_pages(&arena, first, 7);
	return 0;
}

LICENSE("Dual MIT/GPL");
