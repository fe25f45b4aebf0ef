// SPDX-License-Identifier: MIT OR Apache-2.0
// Timers and work queues in an array, in a hash table, and in both at once; and locks that fail instead of waiting for ever.
#include "bpf_objects.h"

struct element {
	u64 fired;
	struct bpf_timer timer;
	u64 key_seen;
	s64 cancelled_inside;
	u64 rearm;
	u64 deleted;
	u32 cpu_started;
	u32 cpu_fired;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, struct element);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, struct element);
} array SEC(".maps");

struct job {
	u64 done;
	u64 key_seen;
	struct bpf_wq work;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, struct job);
} jobs SEC(".maps");

struct locked {
	struct bpf_res_spin_lock lock;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct locked);
} locks SEC(".maps");

/* Calls of callbacks, and of those whose element was deleted in it. */
u64 calls;
u64 deletions;

struct request {
	u32 key;
	u32 in_array;
	u64 nanoseconds;
	u64 flags;
	u64 clock;
	u64 rearm;
	u64 answer;
};

#define NOTHING 1000

static __always_inline struct element *element_of(struct request *r)
{
	struct element none = {};
	u32 key = r->key;

	if (r->in_array)
		return bpf_map_lookup_elem(&array, &key);
	bpf_map_update_elem(&table, &key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&table, &key);
}

static int on_time(void *map, u32 *key, struct element *element)
{
	__sync_fetch_and_add(&calls, 1);
	element->key_seen = *key;
	element->cpu_fired = bpf_get_smp_processor_id();
	element->cancelled_inside = bpf_timer_cancel(&element->timer);
	__sync_fetch_and_add(&element->fired, 1);
	if (element->rearm) {
		element->rearm--;
		bpf_timer_start(&element->timer, 1000, 0);
	}
	return 0;
}

/* Deletes its own element, which ends the timer. */
static int on_last_time(void *map, u32 *key, struct element *element)
{
	u32 own = *key;

	bpf_map_delete_elem(map, &own);
	if (bpf_timer_start(&element->timer, 1000, 0) == -22)
		__sync_fetch_and_add(&deletions, 1);
	return 0;
}

SEC("syscall")
int init_in_array(struct request *r)
{
	u32 key = r->key;
	struct element *element = bpf_map_lookup_elem(&array, &key);

	return element ? bpf_timer_init(&element->timer, &array, r->clock) : NOTHING;
}

SEC("syscall")
int init_in_table(struct request *r)
{
	struct element none = {}, *element;
	u32 key = r->key;

	bpf_map_update_elem(&table, &key, &none, BPF_NOEXIST);
	element = bpf_map_lookup_elem(&table, &key);
	return element ? bpf_timer_init(&element->timer, &table, r->clock) : NOTHING;
}

SEC("syscall")
int set_callback(struct request *r)
{
	struct element *element = element_of(r);

	return element ? bpf_timer_set_callback(&element->timer, on_time) : NOTHING;
}

SEC("syscall")
int set_last_callback(struct request *r)
{
	u32 key = r->key;
	struct element *element = bpf_map_lookup_elem(&table, &key);

	return element ? bpf_timer_set_callback(&element->timer, on_last_time) : NOTHING;
}

/* With r->clock, the time is from this clock's now on. */
SEC("syscall")
int start_timer(struct request *r)
{
	struct element *element = element_of(r);
	u64 time = r->nanoseconds;

	if (!element)
		return NOTHING;
	if (r->flags & BPF_F_TIMER_ABS)
		time += r->clock == CLOCK_BOOTTIME ? bpf_ktime_get_boot_ns() : bpf_ktime_get_ns();
	element->rearm = r->rearm;
	element->cpu_started = bpf_get_smp_processor_id();
	return bpf_timer_start(&element->timer, time, r->flags);
}

SEC("syscall")
int cancel(struct request *r)
{
	struct element *element = element_of(r);

	return element ? bpf_timer_cancel(&element->timer) : NOTHING;
}

static int work_on(void *map, int *key, void *value)
{
	struct job *job = value;

	job->key_seen = *key;
	__sync_fetch_and_add(&job->done, 1);
	return 0;
}

/* 0 and 1: initialise; 2: without callback; 3: set it; 4: start; 5 to 7: wrong flags. */
SEC("syscall")
int work(struct request *r)
{
	u32 key = r->key;
	struct job *job = bpf_map_lookup_elem(&jobs, &key);

	if (!job)
		return NOTHING;
	switch (r->flags) {
	case 0:
		return bpf_wq_init(&job->work, &jobs, 0);
	case 1:
		return bpf_wq_set_callback_impl(&job->work, work_on, 0, NULL);
	case 2:
		return bpf_wq_start(&job->work, 0);
	case 3:
		return bpf_wq_init(&job->work, &jobs, 1);
	case 4:
		return bpf_wq_set_callback_impl(&job->work, work_on, 1, NULL);
	default:
		return bpf_wq_start(&job->work, 1);
	}
}

/* A lock that this program holds already. */
SEC("syscall")
int lock_again(struct request *r)
{
	u32 key = r->key;
	struct locked *one = bpf_map_lookup_elem(&locks, &key);
	struct locked *two = bpf_map_lookup_elem(&locks, &key);
	int result;

	if (!one || !two)
		return NOTHING;
	if (bpf_res_spin_lock(&one->lock))
		return NOTHING + 1;
	result = bpf_res_spin_lock(&two->lock);
	if (!result) {
		bpf_res_spin_unlock(&two->lock);
		result = NOTHING + 2;
	}
	bpf_res_spin_unlock(&one->lock);
	return result;
}

/* Two locks, in the order that the request says; counts what it got. */
SEC("syscall")
int lock_both(struct request *r)
{
	u32 first = r->key, second = !r->key;
	struct locked *one = bpf_map_lookup_elem(&locks, &first);
	struct locked *two = bpf_map_lookup_elem(&locks, &second);
	int i, result, deadlocks = 0;

	if (!one || !two)
		return NOTHING;
	bpf_for(i, 0, 10000) {
		if (bpf_res_spin_lock(&one->lock))
			return NOTHING + 1;
		result = bpf_res_spin_lock(&two->lock);
		if (!result)
			bpf_res_spin_unlock(&two->lock);
		else if (result == -35)
			deadlocks++;
		bpf_res_spin_unlock(&one->lock);
	}
	r->answer = deadlocks;
	return 0;
}

LICENSE("Dual MIT/GPL");
