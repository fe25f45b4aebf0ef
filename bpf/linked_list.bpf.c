// SPDX-License-Identifier: MIT OR Apache-2.0
// A singly linked list in the arena, which the host walks with the same pointers.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 64); /* pages */
	__ulong(map_extra, 0x1ull << 44); /* where user space maps it */
} arena SEC(".maps");

struct node {
	struct node __arena *next;
	u64 value;
};

/* Read by the host. */
struct node __arena *head;
u64 length;
u64 sum;

/* Nodes are cut from whole pages; deleted ones are used again. */
static struct node __arena *spare;
static struct node __arena *page;
static u32 used;

#define NODES_PER_PAGE (PAGE_SIZE / sizeof(struct node))

static struct node __arena *take_node(void)
{
	struct node __arena *n = spare;

	if (n) {
		spare = n->next;
		return n;
	}
	if (!page || used == NODES_PER_PAGE) {
		n = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);
		if (!n)
			return NULL;
		page = n;
		used = 0;
	}
	return &page[used++];
}

struct request {
	u64 value; /* insert: first value; delete: the value to delete */
	u64 count; /* insert: how many consecutive values */
};

/* Puts `count` values in front of the list. Returns how many did not fit. */
SEC("syscall")
int insert(struct request *req)
{
	u64 value = req->value, left = req->count;

	for (; left && can_loop; left--) {
		struct node __arena *n = take_node();

		if (!n)
			break;
		n->value = value++;
		n->next = head;
		head = n;
		length++;
	}
	return left;
}

/* Adds all values up into `sum`. Returns the number of nodes walked. */
SEC("syscall")
int walk(void *ctx)
{
	struct node __arena *n;
	u64 total = 0;
	int nodes = 0;

	uses_arena(&arena);
	for (n = head; n && can_loop; n = n->next) {
		total += n->value;
		nodes++;
	}
	sum = total;
	return nodes;
}

/* Deletes the first node that holds `value`. Returns 1 if there was one. */
SEC("syscall")
int delete(struct request *req)
{
	struct node __arena *prev = NULL, *n;
	u64 value = req->value;

	uses_arena(&arena);
	for (n = head; n && can_loop; prev = n, n = n->next) {
		if (n->value != value)
			continue;
		if (prev) {
			prev->next = n->next;
			barrier(); /* `head` is not arena memory */
		} else {
			head = n->next;
		}
		n->next = spare;
		spare = n;
		length--;
		return 1;
	}
	return 0;
}

LICENSE("Dual MIT/GPL");
