// SPDX-License-Identifier: MIT OR Apache-2.0
// Timers in the values of an array map; what they do is counted in the arena.
#include "sched.h"

#define CLOCK_MONOTONIC 1

struct bpf_timer {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_timer_init)(struct bpf_timer *timer, void *map, u64 flags) = (void *)169;
static long (*const bpf_timer_set_callback)(struct bpf_timer *timer, void *callback) = (void *)170;
static long (*const bpf_timer_start)(struct bpf_timer *timer, u64 nanoseconds, u64 flags) = (void *)171;
static long (*const bpf_timer_cancel)(struct bpf_timer *timer) = (void *)172;

struct timer_slot {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TIMERS);
	__type(key, u32);
	__type(value, struct timer_slot);
} timer_slots SEC(".maps");

struct timer_state __arena timer_states[TIMERS];

static int fired(void *map, u32 *key, struct timer_slot *slot)
{
	struct timer_state __arena *state = &timer_states[*key % TIMERS];

	state->fired = load_acquire(&state->armed);
	fetch_add(&state->count, 1);
	return 0;
}

int timer_arm(u32 timer, u64 delay_ns)
{
	struct timer_slot *slot = bpf_map_lookup_elem(&timer_slots, &timer);

	if (!slot)
		return -EINVAL;
	/* The first arming makes the timer; that others did so is no error. */
	bpf_timer_init(&slot->timer, &timer_slots, CLOCK_MONOTONIC);
	if (bpf_timer_set_callback(&slot->timer, fired))
		return -EPERM;
	fetch_add(&timer_states[timer % TIMERS].armed, 1);
	return bpf_timer_start(&slot->timer, delay_ns, 0);
}

int timer_stop(u32 timer)
{
	struct timer_slot *slot = bpf_map_lookup_elem(&timer_slots, &timer);

	return slot ? bpf_timer_cancel(&slot->timer) : -EINVAL;
}

LICENSE("Dual MIT/GPL");
