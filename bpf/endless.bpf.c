// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that go on for as long as they are let: one for each way of taking long.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

u64 __arena rounds;

/* Waits for something that nobody does. */
SEC("syscall")
int spin(void *ctx)
{
	u64 n = 0;

	while (can_loop)
		n++;
	rounds = n;
	return 0;
}

LICENSE("Dual MIT/GPL");
