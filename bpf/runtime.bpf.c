// SPDX-License-Identifier: MIT OR Apache-2.0
// One program for each service of the runtime. Each returns 0 when the service did what it should.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

struct locked {
	struct bpf_spin_lock lock;
	u32 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct locked);
} cell SEC(".maps");

u64 __arena total;

/* Number iterator. */
SEC("syscall")
int count_with_iterator(void *ctx)
{
	int i;

	total = 0;
	bpf_for(i, 0, 100)
		total += i;
	return total == 4950 ? 0 : 1;
}

struct sum_ctx {
	u64 sum;
};

static int add_round(u32 round, struct sum_ctx *sum)
{
	sum->sum += round;
	return round == 49; /* 1 ends the loop */
}

/* bpf_loop with a callback that ends it early. */
SEC("syscall")
int count_with_loop(void *ctx)
{
	struct sum_ctx sum = {};

	if (bpf_loop(1000, add_round, &sum, 0) != 50)
		return 1;
	return sum.sum == 1225 ? 0 : 2;
}

SEC("syscall")
int trace(void *ctx)
{
	bpf_printk("traced %d of %d", 1, 2);
	return 0;
}

SEC("syscall")
int stream(void *ctx)
{
	bpf_stream_printk(BPF_STDOUT, "out %d %d\n", 7, 8);
	bpf_stream_printk(BPF_STDERR, "err %llx\n", 0xfeedull);
	return 0;
}

SEC("syscall")
int spin_lock(void *ctx)
{
	u32 key = 0;
	struct locked *l = bpf_map_lookup_elem(&cell, &key);

	if (!l)
		return 1;
	bpf_spin_lock(&l->lock);
	l->value++;
	bpf_spin_unlock(&l->lock);
	return 0;
}

SEC("syscall")
int preempt(void *ctx)
{
	u32 cpu, again;

	bpf_preempt_disable();
	cpu = bpf_get_smp_processor_id();
	again = bpf_get_smp_processor_id();
	bpf_preempt_enable();
	return cpu == again ? 0 : 1;
}

SEC("syscall")
int clock_and_random(void *ctx)
{
	u64 before = bpf_ktime_get_ns();
	u32 random = bpf_get_prandom_u32() | bpf_get_prandom_u32() | bpf_get_prandom_u32();
	u64 after = bpf_ktime_get_ns();

	return random && before && after >= before ? 0 : 1;
}

/* Pages one by one, in bulk, at an address; reserved ones are never given out. */
SEC("syscall")
int pages(void *ctx)
{
	char __arena *one = bpf_arena_alloc_pages(&arena, NULL, 1, NUMA_NO_NODE, 0);
	char __arena *bulk, *there;

	if (!one)
		return 1;
	*one = 1;
	bulk = bpf_arena_alloc_pages(&arena, NULL, 4, NUMA_NO_NODE, 0);
	if (!bulk)
		return 2;
	if (bpf_arena_alloc_pages(&arena, bulk, 1, NUMA_NO_NODE, 0))
		return 3; /* taken */
	if (bpf_arena_reserve_pages(&arena, bulk + 4 * PAGE_SIZE, 2))
		return 4;
	if (bpf_arena_alloc_pages(&arena, bulk + 5 * PAGE_SIZE, 1, NUMA_NO_NODE, 0))
		return 5; /* reserved */
	there = bpf_arena_alloc_pages(&arena, bulk + 6 * PAGE_SIZE, 1, NUMA_NO_NODE, 0);
	if (there != bulk + 6 * PAGE_SIZE)
		return 6;
	if (bpf_arena_alloc_pages(&arena, NULL, 1000, NUMA_NO_NODE, 0))
		return 7; /* more than there is */
	bpf_arena_free_pages(&arena, one, 1);
	bpf_arena_free_pages(&arena, bulk, 7);
	return 0;
}

LICENSE("Dual MIT/GPL");
