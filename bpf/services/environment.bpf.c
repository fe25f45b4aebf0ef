// SPDX-License-Identifier: MIT OR Apache-2.0
// Time, processor and thread: what must hold of them anywhere.
#include "services.h"

struct ids {
	u32 pid;
	u32 tgid;
};

static u64 (*const bpf_get_attach_cookie)(void *ctx) = (void *)174;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;

struct {
	u64 device;    /* of the namespace of process ids */
	u64 namespace_;
	s64 results[8];
} io;

/* Each bit is a promise that is kept. */
SEC("syscall")
int environment(void *ctx)
{
	u64 jiffies = bpf_jiffies64(), tai = bpf_ktime_get_tai_ns();
	u64 now = bpf_ktime_get_ns(), boot = bpf_ktime_get_boot_ns();
	struct ids ids = { 7, 7 };
	unsigned long flags;
	u64 held = 0;

	held |= now <= boot;
	held |= (tai <= bpf_ktime_get_tai_ns()) << 1;
	held |= (tai > boot) << 2;
	/* The count begins five minutes before its low half overflows. */
	held |= (jiffies > 0xffffffffull - 300 * 1000) << 3;
	held |= (jiffies <= bpf_jiffies64()) << 4;
	held |= ((u64)bpf_get_numa_node_id() < 1024) << 5;
	io.results[0] = held;

	io.results[1] = bpf_get_ns_current_pid_tgid(io.device, io.namespace_, &ids, sizeof(ids));
	io.results[2] = ((u64)ids.tgid << 32 | ids.pid) == bpf_get_current_pid_tgid();
	io.results[3] = bpf_get_ns_current_pid_tgid(io.device + 1, io.namespace_, &ids, sizeof(ids));
	io.results[4] = ids.pid | ids.tgid;
	io.results[5] = bpf_get_ns_current_pid_tgid(io.device, io.namespace_, &ids, 4);

	bpf_local_irq_save(&flags);
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	bpf_local_irq_restore(&flags);
	return 0;
}

/* What the host says that it was attached with. */
SEC("kprobe/nothing")
int cookie(void *ctx)
{
	io.results[6] = bpf_get_attach_cookie(ctx);
	return 0;
}

LICENSE("Dual MIT/GPL");
