// SPDX-License-Identifier: MIT OR Apache-2.0
// What `cargo xtask bench arena` measures from the program's side. Each program times its own loop, so that the same
// object gives comparable figures in user space and in the kernel.
#include "bpf_arena.h"

#define MAX_CHUNKS 4096

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 65536);
} arena SEC(".maps");

struct pages_ctx {
	u64 pages; /* a call */
	u64 calls;
	u64 alloc_ns; /* out: all calls together */
	u64 free_ns;
};

struct loads_ctx {
	u64 loads;
	u64 ns; /* out */
	u64 sum;
};

/* In the arena: no bounds for the verifier to follow through the loop. */
void __arena *__arena chunks[MAX_CHUNKS];

SEC("syscall")
int empty(void *ctx)
{
	return 0;
}

/* Allocates `calls` runs of `pages` pages, then frees them all. */
SEC("syscall")
int pages(struct pages_ctx *ctx)
{
	u32 calls = ctx->calls, pages = ctx->pages, i;
	u64 start, middle;

	start = bpf_ktime_get_ns();
	for (i = 0; i < calls && i < MAX_CHUNKS && can_loop; i++) {
		chunks[i] = bpf_arena_alloc_pages(&arena, NULL, pages, NUMA_NO_NODE, 0);
		if (!chunks[i])
			return 1;
	}
	middle = bpf_ktime_get_ns();
	for (i = 0; i < calls && i < MAX_CHUNKS && can_loop; i++)
		bpf_arena_free_pages(&arena, chunks[i], pages);
	ctx->free_ns = bpf_ktime_get_ns() - middle;
	ctx->alloc_ns = middle - start;
	return 0;
}

/* Frees `count` pages from `first` on: what the host touched. */
struct drop_ctx {
	u64 first;
	u64 count;
};

SEC("syscall")
int drop_pages(struct drop_ctx *ctx)
{
	bpf_arena_free_pages(&arena, arena_from_user(void, ctx->first), ctx->count);
	return 0;
}

static __always_inline void load_words(struct loads_ctx *ctx, u64 __arena *word)
{
	u64 loads = ctx->loads, sum = 0, start, i;

	start = bpf_ktime_get_ns();
	for (i = 0; i < loads && can_loop; i++)
		sum += *(volatile u64 __arena *)word;
	ctx->ns = bpf_ktime_get_ns() - start;
	ctx->sum = sum;
}

/* Loads from a page that nobody allocated. */
SEC("syscall")
int missing_loads(struct loads_ctx *ctx)
{
	u64 __arena *page = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);

	if (!page)
		return 1;
	bpf_arena_free_pages(&arena, page, 1);
	load_words(ctx, page);
	return 0;
}

/* The same loop over a page that is there. */
SEC("syscall")
int present_loads(struct loads_ctx *ctx)
{
	u64 __arena *page = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);

	if (!page)
		return 1;
	load_words(ctx, page);
	bpf_arena_free_pages(&arena, page, 1);
	return 0;
}

LICENSE("Dual MIT/GPL");
