/* One half of a program: calls what the other half defines, and is called by it. */
#include "linked.h"

/* Defined by the library. */
extern u64 library_add(u64 value);
extern struct totals totals;
extern u64 __arena shared_counter;
extern struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, u64);
} table SEC_EXTERN(".maps");

/* Both halves have one, and theirs is the strong one. */
__weak u64 scale = 1;
__weak __noinline u64 transform(u64 value)
{
	return value;
}

/* Both are weak: this one counts, being first. */
__weak __noinline u64 first_wins(void)
{
	return 1;
}

extern int CONFIG_HZ __kconfig;
extern void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, u32 count, int node, u64 flags) __ksym __weak;

/* Static names that the library has too. */
static u64 __arena hidden_counter = 5;
static u64 hidden_state = 6;
static __noinline u64 helper(u64 value)
{
	hidden_state += value;
	return hidden_state;
}

struct record __arena *__arena records;
u64 answer;

SEC("syscall")
int run(void *ctx)
{
	u32 key = 3;
	u64 *found = bpf_map_lookup_elem(&table, &key);
	struct record __arena *record = bpf_arena_alloc_pages(&arena, NULL, 1, -1, 0);

	if (record) {
		record->value = transform(scale);
		records = record;
	}
	hidden_counter++;
	answer = helper(1) + library_add(10) + first_wins() + totals.sum + shared_counter + CONFIG_HZ;
	return found ? *found : 0;
}

SEC("xdp")
int packet(void *ctx)
{
	return 2;
}

char _license[] SEC("license") = "GPL";
