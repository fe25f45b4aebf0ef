/* A pointer in a data section: no loader can give it a value. */
#include "bpf.h"

u32 target = 1;
u32 *pointer = &target;

SEC("socket")
int use(void *ctx)
{
	return *pointer;
}

char _license[] SEC("license") = "GPL";
