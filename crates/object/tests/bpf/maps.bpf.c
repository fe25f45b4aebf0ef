/* Map definitions: types and sizes, flags, 64-bit attributes, inner maps, static contents, declaration tags. */
#include "bpf.h"

struct key {
	u32 a, b;
};

struct value {
	u64 count;
	u8 bytes[24];
};

typedef struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct key);
	__type(value, struct value);
	__uint(map_flags, BPF_F_NUMA_NODE);
	__uint(numa_node, 1);
	__uint(pinning, 1);
} typed_map;

typed_map by_type SEC(".maps") __tag("counters") __tag("shared");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 48);
	__ulong(map_extra, 0xfedcba9876543210ull);
} by_size SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__uint(map_extra, 5);
} small_extra SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} first SEC(".maps"), second SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { [1] = &second, [3] = &first },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, struct inner);
} outer_hash SEC(".maps");

int tail(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { [2] = (void *)&tail },
};

SEC("socket")
int tail(void *ctx)
{
	return 1;
}

SEC("socket")
int use(void *ctx)
{
	struct key key = { 1, 2 };
	u32 zero = 0;

	bpf_map_lookup_elem(&by_type, &key);
	bpf_map_lookup_elem(&outer, &zero);
	bpf_tail_call(ctx, &jumps, 2);
	return 0;
}

char _license[] SEC("license") = "GPL";
