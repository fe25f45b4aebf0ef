// SPDX-License-Identifier: MIT OR Apache-2.0
// Mistakes with arenas.
#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

struct node {
	u64 value;
	struct node __arena *next;
	struct cell *cell;
};

struct node __arena *head;

/* The pointer is an arena pointer, but its type does not say so. */
SEC("syscall")
int missing_cast(struct request *req)
{
	struct node *node = (struct node *)(u64)head;

	uses_arena(&arena);
	return node ? node->value : 0;
}

/* Nothing in this program says which arena is meant. */
SEC("syscall")
int no_arena(struct request *req)
{
	struct node __arena *node = head;

	return node ? node->value : 0;
}

/* A pointer to a map value survives in the arena, but not as a pointer. */
SEC("syscall")
int kernel_pointer_in_arena(struct request *req)
{
	u32 key = req->index;
	struct cell *cell = bpf_map_lookup_elem(&cells, &key);
	struct node __arena *node = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);

	if (!node || !cell)
		return 0;
	node->cell = cell;
	barrier();
	return node->cell->values[0];
}

LICENSE("Dual MIT/GPL");
