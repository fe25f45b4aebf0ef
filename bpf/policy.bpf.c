// SPDX-License-Identifier: MIT OR Apache-2.0
// A scheduling policy, as its unit test sees it: it asks the kernel about a task, and its user about the task's class.
#include "bpf_arena.h"

/* As much of the kernel's structures as the policy needs; where they lie is found out when it is loaded. */
struct task_struct {
	int pid;
	int tgid;
	int prio;
	char comm[16];
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));

/* The kernel's. */
extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

/* The user's own. */
struct class_request {
	s32 pid;
	u32 threads;
};

extern u32 class_weight(struct class_request *request) __ksym;

struct question {
	s32 pid;
	u32 weight;
};

#define NOBODY 0xffffffff

/* The weight of a task: 0 for what the kernel itself runs, half for children of init. */
SEC("syscall")
int weigh(struct question *q)
{
	struct task_struct *parent, *p = bpf_task_from_pid(q->pid);
	struct class_request request = { q->pid, 1 };

	if (!p) {
		q->weight = NOBODY;
		return 1;
	}
	request.threads += p->pid == p->tgid;
	q->weight = p->prio < 100 ? 0 : class_weight(&request);
	parent = p->real_parent;
	if (parent->pid == 1)
		q->weight /= 2;
	bpf_task_release(p);
	return 0;
}

LICENSE("Dual MIT/GPL");
