// SPDX-License-Identifier: MIT OR Apache-2.0
// Mistakes with what must be given back, and with what is used after.
#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct account {
	struct bpf_spin_lock lock;
	u32 balance;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, struct account);
} accounts SEC(".maps");

/* Forgets the record when the request is not interesting. */
SEC("syscall")
int leaked_record(struct request *req)
{
	u64 *record = bpf_ringbuf_reserve(&events, 8, 0);

	if (!record)
		return 0;
	if (req->size == 0)
		return 1;
	*record = req->index;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* Writes to a record after it was handed over. */
SEC("syscall")
int used_after_submit(struct request *req)
{
	u64 *record = bpf_ringbuf_reserve(&events, 8, 0);

	if (!record)
		return 0;
	bpf_ringbuf_submit(record, 0);
	*record = req->index;
	return 0;
}

/* Returns early with the lock held. */
SEC("tc")
int lock_held_at_exit(void *ctx)
{
	u32 key = 0;
	struct account *account = bpf_map_lookup_elem(&accounts, &key);

	if (!account)
		return 0;
	bpf_spin_lock(&account->lock);
	if (account->balance == 0)
		return 1;
	account->balance--;
	bpf_spin_unlock(&account->lock);
	return 0;
}

/* Zeros are no dynptr: it must be made by one of the helpers for that. */
SEC("syscall")
int unmade_dynptr(struct request *req)
{
	struct dynptr ptr = {};
	u64 value = 0;

	bpf_dynptr_read(&value, sizeof(value), &ptr, 0, 0);
	return value;
}

LICENSE("Dual MIT/GPL");
