// SPDX-License-Identifier: MIT OR Apache-2.0
// A test that passes and one that fails, for `bpf-arena test`.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");


u64 __arena answer;

SEC("syscall")
int passes(void *ctx)
{
	answer = 42;
	return answer == 42 ? 0 : 1;
}

SEC("syscall")
int fails(void *ctx)
{
	answer = 43;
	return answer == 42 ? 0 : 3;
}

LICENSE("Dual MIT/GPL");
