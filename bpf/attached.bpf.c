// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that are attached to places in the kernel.
#include "bpf_arena.h"

#define __relocated __attribute__((preserve_access_index))

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
} __relocated;

u32 woken;

/* A tracepoint: its argument is the task. */
SEC("tp_btf/sched_wakeup")
int wakeup(u64 *ctx)
{
	struct task_struct *p = (struct task_struct *)ctx[0];

	woken = p->pid;
	return 0;
}

/* A security hook: the task and, behind the hook's arguments, what was decided before. */
SEC("lsm/task_setnice")
int refuse(u64 *ctx)
{
	struct task_struct *p = (struct task_struct *)ctx[0];
	int nice = (int)ctx[1], before = (int)ctx[2];

	if (before)
		return before;
	return nice < 0 && p->pid != 1 ? -1 : 0;
}

/* `struct pt_regs`, as on x86-64. */
struct registers {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
};

SEC("kprobe/some_function")
int third_argument(struct registers *ctx)
{
	return ctx->dx;
}

/* A record of a tracepoint: 8 bytes of the kernel's own, then its fields. */
struct open_record {
	u64 private;
	long number;
	long fd;
};

SEC("tp/syscalls/sys_exit_open")
int opened(struct open_record *ctx)
{
	return ctx->fd;
}

SEC("raw_tp/sched_switch")
int second_argument(u64 *ctx)
{
	return ctx[1];
}

LICENSE("GPL");
