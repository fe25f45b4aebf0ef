// SPDX-License-Identifier: MIT OR Apache-2.0
// Variables of the kernel, by name.
#include "bpf_arena.h"

struct limits {
	s32 low, high;
};

extern const s32 number __ksym;
extern const struct limits limits __ksym;
extern const void symbol __ksym;
extern const s32 nobody __ksym __weak;

static long (*bpf_probe_read_kernel)(void *dst, u32 size, const void *from) = (void *)113;

SEC("syscall")
int sum(void *ctx)
{
	return number + limits.low + limits.high + (&nobody ? 1000 : 0);
}

SEC("syscall")
int read(void *ctx)
{
	s32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), &symbol);
	return value;
}

LICENSE("GPL");
