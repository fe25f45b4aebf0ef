// SPDX-License-Identifier: MIT OR Apache-2.0
// What `cargo xtask bench maps` measures from the program's side. Each program times its own loop, so that the same object
// gives comparable figures in user space and in the kernel.
#include "bpf_maps.h"

#define ENTRIES 4096
/* Operations between two looks at the loop's counter. */
#define UNROLL 8
#define MOST_ROUNDS (1 << 17)

struct ctx {
	u64 rounds;
	u64 ns; /* out */
	u64 failed; /* out: not 0 if an update failed; lookups are not looked at, which would be many more paths to verify */
};

struct event {
	u64 words[8];
};

#define ELEMENTS(name_, type_, flags_)                                                                                 \
	struct {                                                                                                       \
		__uint(type, type_);                                                                                   \
		__uint(map_flags, flags_);                                                                             \
		__uint(max_entries, ENTRIES);                                                                          \
		__type(key, u32);                                                                                      \
		__type(value, u64);                                                                                    \
	} name_ SEC(".maps")

ELEMENTS(array, BPF_MAP_TYPE_ARRAY, 0);
ELEMENTS(percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, 0);
ELEMENTS(hash, BPF_MAP_TYPE_HASH, 0);
ELEMENTS(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, 0);
ELEMENTS(lru_hash, BPF_MAP_TYPE_LRU_HASH, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 << 20);
} events SEC(".maps");

/* A loop over `operation`, whose `key` walks through the elements in an order that no prefetcher likes. */
#define MEASURE(name_, operation)                                                                                      \
	SEC("syscall")                                                                                                 \
	int name_(struct ctx *ctx)                                                                                     \
	{                                                                                                              \
		u32 rounds = ctx->rounds, key = 0, round, i;                                                           \
		u64 failed = 0, start = bpf_ktime_get_ns();                                                            \
                                                                                                                       \
		bpf_for(round, 0, rounds < MOST_ROUNDS ? rounds : MOST_ROUNDS) {                                       \
			_Pragma("unroll") for (i = 0; i < UNROLL; i++) {                                               \
				key = (key + 1669) & (ENTRIES - 1);                                                    \
				operation;                                                                             \
			}                                                                                              \
		}                                                                                                      \
		ctx->ns = bpf_ktime_get_ns() - start;                                                                  \
		ctx->failed = failed;                                                                                  \
		return 0;                                                                                              \
	}

#define INCREMENT(map)                                                                                                 \
	({                                                                                                             \
		u64 *value = bpf_map_lookup_elem(&map, &key);                                                          \
		if (value)                                                                                             \
			*value += 1;                                                                                   \
	})

#define UPDATE(map)                                                                                                    \
	({                                                                                                             \
		u64 value = key;                                                                                       \
		failed |= bpf_map_update_elem(&map, &key, &value, BPF_ANY);                                            \
	})

MEASURE(array_lookup, INCREMENT(array))
MEASURE(percpu_array_lookup, INCREMENT(percpu_array))
MEASURE(hash_lookup, INCREMENT(hash))
MEASURE(percpu_hash_lookup, INCREMENT(percpu_hash))
MEASURE(lru_hash_lookup, INCREMENT(lru_hash))

MEASURE(hash_miss, ({
		u32 absent = key + ENTRIES;
		u64 *value = bpf_map_lookup_elem(&hash, &absent);
		if (value)
			*value += 1;
	}))

MEASURE(array_update, UPDATE(array))
MEASURE(hash_update, UPDATE(hash))
MEASURE(percpu_hash_update, UPDATE(percpu_hash))

MEASURE(hash_delete_insert, ({
		u64 value = key;
		bpf_map_delete_elem(&hash, &key);
		failed |= bpf_map_update_elem(&hash, &key, &value, BPF_ANY);
	}))

MEASURE(ringbuf_output, ({
		struct event event = { .words = { key } };
		failed |= bpf_ringbuf_output(&events, &event, sizeof(event), BPF_RB_NO_WAKEUP);
	}))

MEASURE(ringbuf_reserve_submit, ({
		struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
		if (event) {
			event->words[0] = key;
			bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
		}
	}))

/* Fills the maps that begin empty. */
SEC("syscall")
int fill(void *ctx)
{
	u64 value = 0;
	u32 key;

	bpf_for(key, 0, ENTRIES) {
		u32 copy = key;

		bpf_map_update_elem(&hash, &copy, &value, BPF_ANY);
		bpf_map_update_elem(&percpu_hash, &copy, &value, BPF_ANY);
		bpf_map_update_elem(&lru_hash, &copy, &value, BPF_ANY);
	}
	return 0;
}

LICENSE("Dual MIT/GPL");
