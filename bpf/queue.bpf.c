// SPDX-License-Identifier: MIT OR Apache-2.0
// A ring of messages for one producer and one consumer, which may live in different processes.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

#define SLOTS 64

struct message {
	u64 number;
	u64 square;
};

struct queue {
	u64 pushed; /* messages ever put in: written by the producer */
	u64 popped; /* messages ever taken out: written by the consumer */
	struct message slots[SLOTS];
};

struct queue __arena queue;

struct queue_request {
	u64 first; /* push: first number */
	u64 count; /* push: how many numbers; pop: at most how many */
	u64 sum;   /* pop: out, sum of the squares */
};

/* Puts numbers in until the ring is full. Returns how many went in. */
SEC("syscall")
int push(struct queue_request *req)
{
	u64 number = req->first, left = req->count;
	int done = 0;

	for (; left && can_loop; left--, number++, done++) {
		u64 at = __atomic_load_n(&queue.pushed, __ATOMIC_RELAXED);

		if (at - __atomic_load_n(&queue.popped, __ATOMIC_ACQUIRE) == SLOTS)
			break;
		queue.slots[at % SLOTS].number = number;
		queue.slots[at % SLOTS].square = number * number;
		__atomic_store_n(&queue.pushed, at + 1, __ATOMIC_RELEASE);
	}
	return done;
}

/* Takes messages out. Returns how many there were. */
SEC("syscall")
int pop(struct queue_request *req)
{
	u64 left = req->count, sum = 0;
	int done = 0;

	for (; left && can_loop; left--, done++) {
		u64 at = __atomic_load_n(&queue.popped, __ATOMIC_RELAXED);

		if (at == __atomic_load_n(&queue.pushed, __ATOMIC_ACQUIRE))
			break;
		sum += queue.slots[at % SLOTS].square;
		__atomic_store_n(&queue.popped, at + 1, __ATOMIC_RELEASE);
	}
	req->sum = sum;
	return done;
}

LICENSE("Dual MIT/GPL");
