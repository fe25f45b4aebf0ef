// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that read their maps themselves: members of `struct bpf_map` and of the structure around it. Where these lie is
// settled by CO-RE relocations when a program is linked for an engine.
#include "bpf_arena.h"

#define PAGES 24
#define ENTRIES 5

struct value {
	u8 bytes[12];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PAGES);
} arena SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENTRIES);
	__type(key, u32);
	__type(value, struct value);
} table SEC(".maps");

/* What the compiler knows of them: names and types. Order and offsets are others in every kernel. */
#define RELOCATED __attribute__((preserve_access_index))

enum bpf_map_type___known {
	BPF_MAP_TYPE_ARRAY___known = 2,
};

struct bpf_map___known {
	char name[16];
	u32 id;
	u32 max_entries;
	u32 key_size;
	u32 value_size;
	u32 map_flags;
	enum bpf_map_type___known map_type;
	u32 of_no_engine;
} RELOCATED;

struct bpf_array___known {
	u32 elem_size;
	u32 index_mask;
	struct bpf_map___known map;
} RELOCATED;

struct bpf_arena___known {
	u64 user_vm_start;
	u64 user_vm_end;
	struct bpf_map___known map;
} RELOCATED;

/* The members of an array. Returns 0 if they say what its declaration says. */
SEC("syscall")
int array_members(void *ctx)
{
	struct bpf_array___known *array = (void *)&table;
	u32 key = ENTRIES - 1;

	if (array->map.map_type != BPF_MAP_TYPE_ARRAY)
		return 1;
	if (array->map.max_entries != ENTRIES || array->map.key_size != sizeof(key))
		return 2;
	if (array->map.value_size != sizeof(struct value) || array->elem_size != 16)
		return 3;
	if (array->index_mask != 7 || array->map.map_flags != 0)
		return 4;
	if (array->map.name[0] != 't' || array->map.name[4] != 'e' || array->map.name[5] != 0)
		return 5;
	/* The map in it is a map. */
	return bpf_map_lookup_elem(&array->map, &key) ? 0 : 6;
}

/* The members of an arena, all of whose pages are allocated. */
SEC("syscall")
int arena_members(void *ctx)
{
	struct bpf_arena___known *map = (void *)&arena;
	struct bpf_map___known *other = (void *)&table;
	char __arena *pages;

	if (map->map.map_type != BPF_MAP_TYPE_ARENA || map->map.map_flags != BPF_F_MMAPABLE)
		return 1;
	if (map->map.id == 0 || map->map.id == other->id)
		return 2;
	if (map->user_vm_end - map->user_vm_start != PAGES * PAGE_SIZE)
		return 3;
	pages = bpf_arena_alloc_pages(&map->map, NULL, map->map.max_entries, NUMA_NO_NODE, 0);
	if (!pages)
		return 4;
	if (arena_to_user(pages) != map->user_vm_start)
		return 5;
	bpf_arena_free_pages(&map->map, pages, map->map.max_entries);
	return 0;
}

/* No engine lets a program write there. */
SEC("?syscall")
int writes_member(void *ctx)
{
	struct bpf_arena___known *map = (void *)&arena;

	map->map.max_entries = 1;
	return 0;
}

/* A member that no engine's maps have. */
SEC("?syscall")
int reads_unknown_member(void *ctx)
{
	struct bpf_arena___known *map = (void *)&arena;

	return map->map.of_no_engine;
}

LICENSE("Dual MIT/GPL");
