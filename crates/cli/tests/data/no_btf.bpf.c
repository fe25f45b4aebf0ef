// SPDX-License-Identifier: MIT OR Apache-2.0
// flags: -g0
// An arena program compiled without -g: there is no BTF to say what its maps are.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
} arena SEC(".maps");

SEC("syscall")
int nothing(void *ctx)
{
	return 0;
}

LICENSE("Dual MIT/GPL");
