/* Kernel functions and variables: strong and weak, typed and typeless, with a flavor. */
#include "bpf.h"

struct task {
	int pid;
};

extern struct task *kernel_find_task(int pid) __ksym;
extern void kernel_put_task(struct task *task) __ksym __weak;
extern int kernel_reads___v2(struct task *task, u64 flags) __ksym __weak;
extern const struct task kernel_init_task __ksym;
extern const int kernel_weak_counter __ksym __weak;
extern const void kernel_start __ksym;

u64 out;

SEC("syscall")
int use(void *ctx)
{
	struct task *task = kernel_find_task(1);

	if (!task)
		return kernel_init_task.pid;
	out = (u64)&kernel_start;
	if (kernel_reads___v2)
		kernel_reads___v2(task, 1);
	if (&kernel_weak_counter)
		out += kernel_weak_counter;
	kernel_put_task(task);
	return 0;
}

SEC("syscall")
int one(void *ctx)
{
	return kernel_init_task.pid;
}

char _license[] SEC("license") = "GPL";
