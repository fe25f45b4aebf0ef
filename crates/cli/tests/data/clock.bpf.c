// SPDX-License-Identifier: MIT OR Apache-2.0
// What no two runs do alike.
#include "bpf_arena.h"

u64 now;

SEC("syscall")
int read_clock(void *ctx)
{
	now = bpf_ktime_get_ns();
	return 0;
}

LICENSE("Dual MIT/GPL");
