// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs over the maps that are no tables of values: rings in both directions, maps and programs inside of maps, storage of the running
// task. The host looks at what they leave.
#include "bpf_maps.h"

struct bpf_dynptr {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_tail_call)(void *ctx, void *prog_array, u32 index) = (void *)12;
static long (*const bpf_ringbuf_reserve_dynptr)(void *ringbuf, u32 size, u64 flags, struct bpf_dynptr *ptr) = (void *)198;
static void (*const bpf_ringbuf_submit_dynptr)(struct bpf_dynptr *ptr, u64 flags) = (void *)199;
static void (*const bpf_ringbuf_discard_dynptr)(struct bpf_dynptr *ptr, u64 flags) = (void *)200;
static long (*const bpf_dynptr_read)(void *dst, u32 len, const struct bpf_dynptr *src, u32 offset, u64 flags) = (void *)201;
static long (*const bpf_dynptr_write)(const struct bpf_dynptr *dst, u32 offset, void *src, u32 len, u64 flags) = (void *)202;
static long (*const bpf_user_ringbuf_drain)(void *map, void *callback, void *ctx, u64 flags) = (void *)209;

enum {
	BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
	BPF_MAP_TYPE_STACK_TRACE = 7,
	BPF_MAP_TYPE_CGROUP_ARRAY = 8,
};

static long (*const bpf_perf_event_output)(void *ctx, void *map, u64 flags, void *data, u64 size) = (void *)25;
static long (*const bpf_current_task_under_cgroup)(void *map, u32 index) = (void *)37;
static long (*const bpf_get_stackid)(void *ctx, void *map, u64 flags) = (void *)27;
static long (*const bpf_get_stack)(void *ctx, void *buf, u32 size, u64 flags) = (void *)67;

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 64);
	__uint(key_size, 4);
	__uint(value_size, 4);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16);
	__uint(key_size, 4);
	__uint(value_size, 8 * 4);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} requests SEC(".maps");

struct counter {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} first SEC(".maps"), second SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, u32);
	__array(values, struct counter);
} by_index SEC(".maps") = {
	.values = { &first, NULL, &second },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, u32);
	__array(values, struct counter);
} by_key SEC(".maps");

int countdown(void *ctx);
int last(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int(void *));
} programs SEC(".maps") = {
	.values = { (void *)&countdown, (void *)&last },
};

struct request {
	u32 value;
	u32 key;
	s64 result;
};

/* Reserves a record for each bit of `value`, and submits those whose bit is set; gives the bytes that wait for the host. */
SEC("syscall")
int write_records(struct request *ctx)
{
	u32 number;

	for (number = 0; number < 8; number++) {
		u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record) + 4, 0);

		if (!record)
			return -1;
		*record = number;
		if (ctx->value & (1 << number))
			bpf_ringbuf_submit(record, 0);
		else
			bpf_ringbuf_discard(record, 0);
	}
	ctx->result = bpf_ringbuf_query(&events, 0);
	return 0;
}

/* Writes its length into a record of `key` bytes, and submits it if `value` says so. */
SEC("syscall")
int write_dynptr(struct request *ctx)
{
	u64 number = ctx->key;
	struct bpf_dynptr record;

	ctx->result = bpf_ringbuf_reserve_dynptr(&events, ctx->key, 0, &record);
	bpf_dynptr_write(&record, 0, &number, sizeof(number), 0);
	if (ctx->value)
		bpf_ringbuf_submit_dynptr(&record, 0);
	else
		bpf_ringbuf_discard_dynptr(&record, 0);
	return 0;
}

struct drained {
	u64 sum;
	u32 stop_at;
	u32 seen;
};

static long add(struct bpf_dynptr *record, struct drained *drained)
{
	u32 number = 0;

	if (bpf_dynptr_read(&number, sizeof(number), record, 0, 0))
		return 0;
	drained->sum += number;
	drained->seen++;
	return number == drained->stop_at;
}

/* Adds the numbers that the host has sent, up to one that is `key`. */
SEC("syscall")
int drain(struct request *ctx)
{
	struct drained drained = { .stop_at = ctx->key };

	ctx->result = bpf_user_ringbuf_drain(&requests, add, &drained, ctx->value);
	ctx->key = drained.seen;
	return (int)drained.sum;
}

static __always_inline int add_to(void *map, u32 value)
{
	u32 zero = 0;
	u64 *counter;

	if (!map)
		return -1;
	counter = bpf_map_lookup_elem(map, &zero);
	if (!counter)
		return -2;
	*counter += value;
	return (int)*counter;
}

/* Adds `value` to the counter in the map at index `key`. */
SEC("syscall")
int add_by_index(struct request *ctx)
{
	u32 key = ctx->key;

	return add_to(bpf_map_lookup_elem(&by_index, &key), ctx->value);
}

/* The same with a key. */
SEC("syscall")
int add_by_key(struct request *ctx)
{
	u32 key = ctx->key;

	return add_to(bpf_map_lookup_elem(&by_key, &key), ctx->value);
}

/* Programs that may sleep cannot call others: these two are given and leave what they have to say in variables. */
u32 rounds;
u32 next_program;
u32 runs;

/* Calls `next_program` in the place of itself until no rounds are left, then the other one. */
SEC("raw_tp")
int countdown(void *ctx)
{
	runs++;
	if (rounds == 0)
		bpf_tail_call(ctx, &programs, 1);
	rounds--;
	bpf_tail_call(ctx, &programs, next_program);
	return -1;
}

SEC("raw_tp")
int last(void *ctx)
{
	return (int)runs + 1000;
}

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} groups SEC(".maps");

u64 flags;
u64 sample;
u64 stack[4];

/* Sends `sample` to the slot that `flags` name. */
SEC("raw_tp")
int send_sample(void *ctx)
{
	return bpf_perf_event_output(ctx, &samples, flags, &sample, sizeof(sample));
}

/* The number of the stack it was called from. */
SEC("raw_tp")
int stack_number(void *ctx)
{
	return bpf_get_stackid(ctx, &stacks, flags);
}

/* The stack itself: how many bytes. */
SEC("raw_tp")
int copy_stack(void *ctx)
{
	return bpf_get_stack(ctx, stack, sizeof(stack), flags);
}

/* Whether the running task is in the control group at an index. */
SEC("raw_tp")
int in_group(void *ctx)
{
	return bpf_current_task_under_cgroup(&groups, (u32)flags);
}

LICENSE("GPL");
