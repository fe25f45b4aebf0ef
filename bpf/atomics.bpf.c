// SPDX-License-Identifier: MIT OR Apache-2.0
// Counters that any number of threads, processes and programs update at once.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

u64 __arena counter;
u32 __arena counter32;
u64 __arena bits;
u64 __arena token = 1;

/* What the program saw. */
u64 fetched;
u64 swapped;
u64 exchanged;
u32 fetched32;

struct add_request {
	u64 times;
};

/* Adds 1 to both counters, `times` times. */
SEC("syscall")
int add(struct add_request *req)
{
	u64 left = req->times;

	for (; left && can_loop; left--) {
		__sync_fetch_and_add(&counter, 1);
		__sync_fetch_and_add(&counter32, 1);
	}
	return left;
}

/* The operations that return what was there before. (Not and, or, xor: Linux on x86-64 refuses those in an arena.) */
SEC("syscall")
int fetch(void *ctx)
{
	fetched = __sync_fetch_and_add(&counter, 5);
	fetched32 = __sync_fetch_and_sub(&counter32, 3);
	swapped = __sync_val_compare_and_swap(&token, 1, 2);
	exchanged = __sync_lock_test_and_set(&token, 9);
	return 0;
}

/* The operations that return nothing. */
SEC("syscall")
int set_bits(void *ctx)
{
	__atomic_fetch_or(&bits, 0xf0, __ATOMIC_RELAXED);
	__atomic_fetch_and(&bits, 0x3c, __ATOMIC_RELAXED);
	__atomic_fetch_xor(&bits, 0xff, __ATOMIC_RELAXED);
	return 0;
}

LICENSE("Dual MIT/GPL");
