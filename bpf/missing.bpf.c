// SPDX-License-Identifier: MIT OR Apache-2.0
// Much that no runtime has, in several programs: loading tells all of it at once.
#include "bpf_arena.h"

static long (*const bpf_no_such_helper)(u64 a) = (void *)9999;
static long (*const bpf_sys_close)(u32 fd) = (void *)168;
int bpf_no_such_kfunc(void) __ksym;
int bpf_modify_return_test_tp(int nonce) __ksym;

SEC("syscall")
int first(void *ctx)
{
	if (bpf_no_such_helper(1))
		return bpf_no_such_helper(2);
	return bpf_sys_close(0);
}

SEC("syscall")
int second(void *ctx)
{
	return bpf_no_such_kfunc() + bpf_modify_return_test_tp(1);
}

SEC("freplace/first")
int replacement(void *ctx)
{
	return 0;
}

SEC("syscall")
int fine(void *ctx)
{
	return 0;
}

LICENSE("Dual MIT/GPL");
