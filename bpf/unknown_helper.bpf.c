// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that call what no runtime has.
#include "bpf_arena.h"

static long (*const bpf_no_such_helper)(void) = (void *)9999;
void bpf_no_such_kfunc(void) __ksym;

SEC("syscall")
int calls_helper(void *ctx)
{
	return bpf_no_such_helper();
}

SEC("?syscall")
int calls_kfunc(void *ctx)
{
	bpf_no_such_kfunc();
	return 0;
}

LICENSE("Dual MIT/GPL");
