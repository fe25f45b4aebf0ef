/* Describes `linked_library`'s map otherwise than it does. */
#include "bpf.h"

extern struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 9);
	__type(key, u32);
	__type(value, u64);
} table __attribute__((section(".maps")));

SEC("syscall")
int wrong_table(void *ctx)
{
	u32 key = 0;

	return bpf_map_lookup_elem(&table, &key) ? 1 : 0;
}

char _license[] SEC("license") = "GPL";
