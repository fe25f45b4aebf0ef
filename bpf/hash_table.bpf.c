// SPDX-License-Identifier: MIT OR Apache-2.0
// A chained hash table in the arena: buckets are an arena global, entries come from pages taken on demand.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 256);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

#define BUCKETS 256

struct entry {
	struct entry __arena *next;
	u32 key;
	u32 hits; /* how often the key was put */
	s64 value;
};

struct table {
	struct entry __arena *buckets[BUCKETS];
	u64 entries;
};

struct table __arena table;

static struct entry __arena *page;
static u32 used;

struct put_request {
	u32 key;
	u32 count; /* puts key, key + 1, .. with value, value + 1, .. */
	s64 value;
};

struct get_request {
	u32 key;
	u32 found; /* out: 0 or 1 */
	s64 value; /* out */
};

static __always_inline u32 bucket_of(u32 key)
{
	return (key * 0x9e3779b1u) >> 24; /* BUCKETS is 1 << 8 */
}

static struct entry __arena *find(u32 key)
{
	struct entry __arena *e;

	for (e = table.buckets[bucket_of(key)]; e && can_loop; e = e->next)
		if (e->key == key)
			return e;
	return NULL;
}

static struct entry __arena *add(u32 key)
{
	u32 bucket = bucket_of(key);
	struct entry __arena *e;

	if (!page || used == PAGE_SIZE / sizeof(struct entry)) {
		page = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);
		used = 0;
	}
	if (!page)
		return NULL;
	e = &page[used++];
	e->key = key;
	e->next = table.buckets[bucket];
	table.buckets[bucket] = e;
	table.entries++;
	return e;
}

/* Returns how many keys found no room. */
SEC("syscall")
int put(struct put_request *req)
{
	u32 key = req->key, left = req->count;
	s64 value = req->value;

	for (; left && can_loop; left--, key++, value++) {
		struct entry __arena *e = find(key);

		if (!e)
			e = add(key);
		if (!e)
			break;
		e->value = value;
		e->hits++;
	}
	return left;
}

SEC("syscall")
int get(struct get_request *req)
{
	struct entry __arena *e = find(req->key);

	req->found = e != NULL;
	req->value = e ? e->value : 0;
	return 0;
}

LICENSE("Dual MIT/GPL");
