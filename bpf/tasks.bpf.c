// SPDX-License-Identifier: MIT OR Apache-2.0
// Tasks: the running one, by number, one after the other, with storage of their own, and as text.
#include "bpf_arena.h"

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	struct task_struct *group_leader;
} __attribute__((preserve_access_index));

struct bpf_iter_task {
	u64 opaque[3];
} __attribute__((aligned(8)));

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task, u32 flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

static u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static void *(*bpf_task_storage_get)(void *map, struct task_struct *task, void *value, u64 flags) = (void *)156;
static long (*bpf_seq_printf)(void *m, const char *fmt, u32 fmt_size, const void *data, u32 data_len) = (void *)126;
static long (*bpf_seq_write)(void *m, const void *data, u32 len) = (void *)127;

struct {
	__uint(type, 29); /* BPF_MAP_TYPE_TASK_STORAGE */
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC */
	__type(key, int);
	__type(value, u64);
} visits SEC(".maps");

/* How often the running task has been here, if it is what the other helpers say. */
SEC("syscall")
int visit(void *ctx)
{
	struct task_struct *p = bpf_get_current_task_btf();
	u64 id = bpf_get_current_pid_tgid(), *count;

	if (p->pid != (int)id || p->tgid != (int)(id >> 32) || p->group_leader->pid != p->pid)
		return -1;
	count = bpf_task_storage_get(&visits, p, NULL, 1);
	if (!count)
		return -2;
	return ++*count;
}

/* Whether the task that is found by its number is the running one. */
SEC("syscall")
int find(void *ctx)
{
	struct task_struct *p, *again, *me = bpf_get_current_task_btf();
	int same;

	p = bpf_task_from_pid(me->pid);
	if (!p)
		return -1;
	again = bpf_task_acquire(p);
	bpf_task_release(p);
	if (!again)
		return -2;
	same = again->pid == me->pid && again->comm[0] == me->comm[0];
	bpf_task_release(again);
	return same;
}

struct count {
	u32 flags, tasks, sum;
};

SEC("syscall")
int count(struct count *ctx)
{
	struct bpf_iter_task it;
	struct task_struct *p;
	u32 tasks = 0, sum = 0, flags = ctx->flags;
	int error;

	bpf_rcu_read_lock();
	error = bpf_iter_task_new(&it, NULL, flags);
	while ((p = bpf_iter_task_next(&it))) {
		tasks++;
		sum += p->pid;
	}
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();
	ctx->tasks = tasks;
	ctx->sum = sum;
	return error;
}

struct bpf_iter_meta {
	void *seq;
	u64 session_id;
	u64 seq_num;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

/* A line for each task. */
SEC("iter/task")
int dump(struct bpf_iter__task *ctx)
{
	static const char line[] = "%llu: %d\n", last[] = "%llu tasks\n";
	struct task_struct *p = ctx->task;
	u64 args[2] = { ctx->meta->seq_num };

	if (!p) {
		bpf_seq_printf(ctx->meta->seq, last, sizeof(last), args, 8);
		return 0;
	}
	args[1] = p->pid;
	bpf_seq_printf(ctx->meta->seq, line, sizeof(line), args, sizeof(args));
	if (p->pid == 3)
		bpf_seq_write(ctx->meta->seq, "three\n", 6);
	return 0;
}

LICENSE("GPL");
