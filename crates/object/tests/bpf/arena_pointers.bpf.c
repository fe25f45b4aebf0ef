/* Arena globals that point to each other: known before loading, since map_extra fixes the arena's address. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__ulong(map_extra, 0x200000000000ull);
} arena SEC(".maps");

struct node {
	struct node __arena *next;
	u64 value;
};

struct node __arena last = { NULL, 2 };
struct node __arena first = { &last, 1 };
u64 __arena *__arena into = &first.value;

SEC("syscall")
int sum(void *ctx)
{
	return first.next->value + *into;
}

char _license[] SEC("license") = "GPL";
