/* What the two halves of the linked program know of one another. */
#pragma once
#include "bpf.h"

/* The section of a declaration, which `used` would be wrong on. */
#define SEC_EXTERN(name) __attribute__((section(name)))

struct record {
	struct record __arena *next;
	u64 value;
};

struct totals {
	u64 calls;
	u64 sum;
};

/* Every object that uses the arena declares it; being weak, one is enough and several are one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__ulong(map_extra, 0x1ull << 44);
} arena __weak SEC(".maps");
