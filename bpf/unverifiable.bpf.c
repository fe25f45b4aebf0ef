// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that the verifier refuses.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");


struct request {
	u64 index;
};

struct cell {
	u64 values[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cell);
} cells SEC(".maps");

/* The pointer may be NULL. */
SEC("syscall")
int unchecked_lookup(struct request *req)
{
	u32 key = req->index;
	struct cell *c = bpf_map_lookup_elem(&cells, &key);

	return c->values[0];
}

/* The index is not bounded. */
SEC("syscall")
int unbounded_index(struct request *req)
{
	u32 key = 0;
	struct cell *c = bpf_map_lookup_elem(&cells, &key);

	if (!c)
		return 0;
	return c->values[req->index];
}

/* Nothing bounds the loop. */
SEC("syscall")
int endless_loop(struct request *req)
{
	u64 i = req->index;

	while (i) {
		barrier_var(i);
		i = i * 3 + 1;
	}
	return 0;
}

/* An arena pointer without its cast is a number. */
SEC("syscall")
int pointer_without_cast(struct request *req)
{
	uses_arena(&arena);
	return *(u64 *)req->index;
}

LICENSE("Dual MIT/GPL");
