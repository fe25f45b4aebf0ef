// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that go on for as long as they are let, one for each way of taking long. Each says in `started` that it has begun.
#include "bpf_maps.h"
#include "bpf_objects.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 64);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u64);
} cells SEC(".maps");

struct locked {
	struct bpf_spin_lock lock;
	u64 holders;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct locked);
} guarded SEC(".maps");

struct resilient {
	struct bpf_res_spin_lock lock;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct resilient);
} guarded_with_patience SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} programs SEC(".maps");

struct later {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct later);
} timers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} orders SEC(".maps");

struct bpf_dynptr {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_tail_call)(void *ctx, void *programs, u32 index) = (void *)12;
static long (*const bpf_user_ringbuf_drain)(void *map, void *callback, void *ctx, u64 flags) = (void *)209;

struct object {
	u64 number;
	struct bpf_refcount count;
};

u64 started;
/* Programs that came to their ends. */
u64 ended;
u64 calls;

/* In the arena's first page; nobody allocates what lies some pages behind it. */
u64 __arena here;
#define missing (&here + 0x1000)

static __always_inline void begin(void)
{
	__atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
}

static __always_inline void end(void)
{
	__atomic_fetch_add(&ended, 1, __ATOMIC_SEQ_CST);
}

/* A loop that only its budget ends. */
SEC("syscall")
int spin(void *ctx)
{
	volatile u64 n = 0;

	begin();
	while (can_loop)
		n++;
	end();
	return 0;
}

static __noinline u64 spin_a_little(u64 n)
{
	int i;

	for (i = 0; i < 1000 && can_loop; i++)
		n = n * 3 + 1;
	return n;
}

/* A loop around loops, each of which has a budget of its own. */
SEC("syscall")
int spin_in_calls(void *ctx)
{
	volatile u64 n = 0;

	begin();
	while (can_loop)
		n = spin_a_little(n);
	end();
	return 0;
}

/* A loop whose every iteration meets a missing page, and takes a thousand times as long as another. */
SEC("syscall")
int spin_on_faults(void *ctx)
{
	u64 __arena *word = missing;
	u64 n = 0;

	begin();
	while (can_loop)
		n += *(volatile u64 __arena *)word;
	end();
	return n != 0;
}

/* A loop that is fast for a while. */
SEC("syscall")
int spin_on_faults_late(void *ctx)
{
	u64 __arena *word = missing;
	u64 n = 0;

	begin();
	calls = 0;
	while (can_loop) {
		if (calls < 1000000)
			calls++;
		else
			n += *(volatile u64 __arena *)word;
	}
	end();
	return n != 0;
}

/* A loop of calls of the runtime. */
SEC("syscall")
int spin_in_helpers(void *ctx)
{
	u32 key = 0;
	u64 value = 0;

	begin();
	while (can_loop) {
		bpf_map_update_elem(&cells, &key, &value, BPF_ANY);
		value++;
	}
	end();
	return 0;
}

static long count(u32 index, void *data)
{
	calls++;
	return 0;
}

static long count_many(u32 index, void *data)
{
	bpf_loop(1 << 23, count, NULL, 0);
	return 0;
}

/* Callbacks that enter callbacks. */
SEC("syscall")
int loop(void *ctx)
{
	begin();
	bpf_loop(1 << 23, count_many, NULL, 0);
	end();
	return 0;
}

/* Iterators inside of iterators. */
SEC("syscall")
int iterate(void *ctx)
{
	int i, j;

	begin();
	bpf_for(i, 0, 1 << 23)
		bpf_for(j, 0, 1 << 23)
			calls++;
	end();
	return 0;
}

static long visit(void *map, u32 *key, u64 *value, void *data)
{
	(*value)++;
	return 0;
}

static long visit_all(void *map, u32 *key, u64 *value, void *data)
{
	bpf_for_each_map_elem(&cells, visit, NULL, 0);
	return 0;
}

static long visit_all_again(void *map, u32 *key, u64 *value, void *data)
{
	bpf_for_each_map_elem(&cells, visit_all, NULL, 0);
	return 0;
}

/* Every element for every element for every element. */
SEC("syscall")
int each(void *ctx)
{
	begin();
	bpf_for_each_map_elem(&cells, visit_all_again, NULL, 0);
	end();
	return 0;
}

/* Functions that are verified on their own: each call is short for the verifier, all together take half an hour. */
__noinline int inner(u64 n)
{
	volatile u64 sum = n;
	u64 i;

	for (i = 0; i < 1000; i++)
		sum += i;
	return sum;
}

__noinline int middle(u64 n)
{
	volatile u64 sum = n;
	u64 i;

	for (i = 0; i < 1000; i++)
		sum += inner(i);
	return sum;
}

__noinline int outer(u64 n)
{
	volatile u64 sum = n;
	u64 i;

	for (i = 0; i < 1000; i++)
		sum += middle(i);
	return sum;
}

SEC("syscall")
int call(void *ctx)
{
	u64 i;

	begin();
	for (i = 0; i < 1000; i++)
		outer(i);
	end();
	return 0;
}

/* About as long as a program without any of these can be. Loaded only when asked for: verifying it takes a while. */
SEC("?syscall")
int bounded(void *ctx)
{
	volatile u64 sum = 0;
	u64 i;

	begin();
	for (i = 0; i < 140000; i++)
		sum += i;
	end();
	return 0;
}

/* Programs that go on as others. */
SEC("raw_tp/sys_enter")
int chain(void *ctx)
{
	volatile u64 n = 0;

	begin();
	while (can_loop)
		n++;
	bpf_tail_call(ctx, &programs, 0);
	end();
	return 0;
}

/* Keeps a lock for as long as it may. */
SEC("syscall")
int hold(void *ctx)
{
	u32 key = 0;
	struct locked *l = bpf_map_lookup_elem(&guarded, &key);
	volatile u64 n = 0;

	if (!l)
		return 1;
	bpf_spin_lock(&l->lock);
	l->holders++;
	__atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
	while (can_loop)
		n++;
	l->holders--;
	bpf_spin_unlock(&l->lock);
	end();
	return 0;
}

static __noinline u64 take(struct locked *l)
{
	u64 holders;

	bpf_spin_lock(&l->lock);
	holders = ++l->holders;
	l->holders--;
	bpf_spin_unlock(&l->lock);
	return holders;
}

/* Waits for that lock, and owns an object meanwhile. Returns 2 if it came in without the lock. */
SEC("syscall")
int wait(void *ctx)
{
	u32 key = 0;
	struct locked *l = bpf_map_lookup_elem(&guarded, &key);
	struct object *o;
	u64 holders;

	if (!l)
		return 1;
	o = bpf_obj_new(struct object);
	if (!o)
		return 1;
	begin();
	holders = take(l);
	bpf_obj_drop(o);
	end();
	return holders == 1 ? 0 : 2;
}

SEC("syscall")
int hold_resilient(void *ctx)
{
	u32 key = 0;
	struct resilient *l = bpf_map_lookup_elem(&guarded_with_patience, &key);
	volatile u64 n = 0;

	if (!l || bpf_res_spin_lock(&l->lock))
		return 1;
	begin();
	while (can_loop)
		n++;
	bpf_res_spin_unlock(&l->lock);
	end();
	return 0;
}

SEC("syscall")
int wait_resilient(void *ctx)
{
	u32 key = 0;
	struct resilient *l = bpf_map_lookup_elem(&guarded_with_patience, &key);

	if (!l)
		return 1;
	begin();
	while (can_loop) {
		if (!bpf_res_spin_lock(&l->lock))
			bpf_res_spin_unlock(&l->lock);
	}
	end();
	return 0;
}

static int on_time(void *map, u32 *key, struct later *element)
{
	volatile u64 n = 0;

	begin();
	while (can_loop)
		n++;
	end();
	return 0;
}

/* Starts a timer whose callback goes on. */
SEC("syscall")
int start_timer(void *ctx)
{
	u32 key = 0;
	struct later *l = bpf_map_lookup_elem(&timers, &key);

	if (!l)
		return 1;
	bpf_timer_init(&l->timer, &timers, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&l->timer, on_time);
	return bpf_timer_start(&l->timer, 0, 0);
}

/* Waits until that callback has returned. */
SEC("syscall")
int stop_timer(void *ctx)
{
	u32 key = 0;
	struct later *l = bpf_map_lookup_elem(&timers, &key);

	if (!l)
		return 1;
	begin();
	bpf_timer_cancel(&l->timer);
	end();
	return 0;
}

static long obey(struct bpf_dynptr *order, void *data)
{
	bpf_loop(1 << 23, count, NULL, 0);
	return 0;
}

/* What it is told by its host takes long. */
SEC("syscall")
int drain(void *ctx)
{
	begin();
	bpf_user_ringbuf_drain(&orders, obey, NULL, 0);
	end();
	return 0;
}

LICENSE("Dual MIT/GPL");
