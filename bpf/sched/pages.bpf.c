// SPDX-License-Identifier: MIT OR Apache-2.0
// Pages, for the allocators.
#include "sched.h"

u64 pages_alloc(u32 count)
{
	return arena_to_user(bpf_arena_alloc_pages(&arena, NULL, count, NUMA_NO_NODE, 0));
}

int pages_free(u64 address, u32 count)
{
	bpf_arena_free_pages(&arena, arena_from_user(void, address), count);
	return 0;
}

LICENSE("Dual MIT/GPL");
