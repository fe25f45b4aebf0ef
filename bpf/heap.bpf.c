// SPDX-License-Identifier: MIT OR Apache-2.0
// A small heap on arena pages: size classes of powers of two, freed blocks are kept in lists, large ones are whole pages.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 128);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

#define CLASSES 8 /* 16, 32, .. 2048 bytes */
#define SMALLEST 16
#define LARGEST (SMALLEST << (CLASSES - 1))

struct block {
	struct block __arena *next;
};

struct heap {
	struct block __arena *spare[CLASSES];
	u64 live_blocks;
	u64 live_bytes;
	u64 pages;
};

struct heap __arena heap;

static u32 class_of(u64 size)
{
	u32 class = 0;

	while (class < CLASSES - 1 && (u64)SMALLEST << class < size && can_loop)
		class++;
	return class;
}

/* Cuts a new page into blocks of one class. */
static int refill(u32 class)
{
	char __arena *page = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);
	u32 size = SMALLEST << class, at;

	if (!page)
		return 0;
	heap.pages++;
	for (at = 0; at < PAGE_SIZE && can_loop; at += size) {
		struct block __arena *b = (struct block __arena *)(page + at);

		b->next = heap.spare[class];
		heap.spare[class] = b;
	}
	return 1;
}

static void __arena *heap_alloc(u64 size)
{
	u32 class = class_of(size);
	struct block __arena *b;

	if (size > LARGEST || class >= CLASSES)
		return NULL;
	if (!heap.spare[class] && !refill(class))
		return NULL;
	b = heap.spare[class];
	heap.spare[class] = b->next;
	b->next = NULL;
	heap.live_blocks++;
	heap.live_bytes += SMALLEST << class;
	return b;
}

static void heap_free(void __arena *ptr, u64 size)
{
	u32 class = class_of(size);
	struct block __arena *b = ptr;

	if (!b || class >= CLASSES)
		return;
	b->next = heap.spare[class];
	heap.spare[class] = b;
	heap.live_blocks--;
	heap.live_bytes -= SMALLEST << class;
}

struct heap_request {
	u64 size;    /* in: bytes */
	u64 count;   /* in: how many blocks */
	u64 address; /* alloc: out, the last block; free: in, the block to free */
};

/* Returns how many blocks could not be had. Each block's last 8 bytes point to the block before. */
SEC("syscall")
int alloc(struct heap_request *req)
{
	u64 size = req->size, left = req->count;
	void __arena *previous = NULL;

	if (size < SMALLEST || size > LARGEST)
		return -22;
	for (; left && can_loop; left--) {
		char __arena *b = heap_alloc(size);

		if (!b)
			break;
		*(void __arena * __arena *)(b + size - 8) = previous;
		previous = b;
	}
	req->address = arena_to_user(previous);
	return left;
}

/* Frees the chain of blocks that alloc made. Returns how many. */
SEC("syscall")
int free_chain(struct heap_request *req)
{
	char __arena *b = arena_from_user(char, req->address);
	u64 size = req->size;
	int freed = 0;

	if (size < SMALLEST || size > LARGEST)
		return -22;
	while (b && can_loop) {
		char __arena *before = *(char __arena * __arena *)(b + size - 8);

		heap_free(b, size);
		b = before;
		freed++;
	}
	return freed;
}

LICENSE("Dual MIT/GPL");
