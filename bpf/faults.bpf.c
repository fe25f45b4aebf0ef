// SPDX-License-Identifier: MIT OR Apache-2.0
// Accesses to arena pages that are not there. Execution goes on: a load gives 0, a store and an atomic do nothing.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 8);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

u64 loaded = 0x55;
u64 fetched = 0x55;
u64 survived;

static __noinline u64 read_word(u64 __arena *at)
{
	return *at; /* a load that faults */
}

static __noinline void write_word(u64 __arena *at, u64 value)
{
	*at = value; /* a store that faults */
}

static __noinline u64 add_word(u64 __arena *at, u64 value)
{
	return __sync_fetch_and_add(at, value); /* an atomic that faults */
}

static __noinline u64 __arena *freed_page(void)
{
	u64 __arena *page = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);

	if (page) {
		*page = 0x1234;
		bpf_arena_free_pages(&arena, page, 1);
	}
	return page;
}

/* Reads a page after it was freed. */
SEC("syscall")
int load_after_free(void *ctx)
{
	u64 __arena *page = freed_page();

	if (!page)
		return 1;
	loaded = read_word(page);
	survived++;
	return 0;
}

/* Writes a page after it was freed. */
SEC("syscall")
int store_after_free(void *ctx)
{
	u64 __arena *page = freed_page();

	if (!page)
		return 1;
	write_word(page + 3, 42);
	survived++;
	return 0;
}

/* Adds to a page after it was freed: the register for the old value keeps what it held. */
SEC("syscall")
int atomic_after_free(void *ctx)
{
	u64 __arena *page = freed_page();

	if (!page)
		return 1;
	fetched = add_word(page, 7);
	survived++;
	return 0;
}

/* Follows a pointer that was never set. */
SEC("syscall")
int load_null(void *ctx)
{
	u64 __arena *nowhere = NULL;

	uses_arena(&arena);
	barrier_var(nowhere);
	loaded = read_word(nowhere + 1);
	survived++;
	return 0;
}

LICENSE("Dual MIT/GPL");
