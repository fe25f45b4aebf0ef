// SPDX-License-Identifier: MIT OR Apache-2.0
// A record for each task, in arena memory and found by task storage.
#include "sched.h"

#define BPF_MAP_TYPE_TASK_STORAGE 29
#define BPF_F_NO_PREALLOC 1
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1

struct task_struct;

static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static void *(*const bpf_task_storage_get)(void *map, struct task_struct *task, void *value, u64 flags) = (void *)156;
static struct task_struct *(*const bpf_get_current_task_btf)(void) = (void *)158;

struct task_slot {
	u64 record;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_slot);
} task_slots SEC(".maps");

struct task_records __arena task_records;

static u64 new_record(void)
{
	struct task_record __arena *record;
	u64 address;

	task_records.records.object_size = sizeof(*record);
	address = slab_alloc(&task_records.records);
	record = arena_from_user(struct task_record, address);
	if (!record)
		return 0;
	record->pid = (u32)bpf_get_current_pid_tgid();
	record->uses = 0;
	if (lock_take(&task_records.lock)) {
		slab_free(&task_records.records, address);
		return 0;
	}
	record->next = task_records.first;
	task_records.first = record;
	task_records.count++;
	lock_release(&task_records.lock);
	return address;
}

u64 task_record(void)
{
	struct task_slot *slot = bpf_task_storage_get(&task_slots, bpf_get_current_task_btf(), NULL,
						      BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!slot)
		return 0;
	/* Only the task itself makes its record. */
	if (!slot->record)
		slot->record = new_record();
	return slot->record;
}

LICENSE("Dual MIT/GPL");
