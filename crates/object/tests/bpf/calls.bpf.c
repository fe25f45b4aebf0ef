/* Calls between sections, callbacks by address, several programs in a section, an optional one. */
#include "bpf.h"

u64 total;

static __noinline int leaf(int x)
{
	total += x;
	return x * 3;
}

__noinline int global(int x)
{
	return leaf(x + 1) + 1;
}

__weak __noinline int weak(int x)
{
	total -= x;
	return global(x) + leaf(x);
}

__hidden __noinline int hidden(int x)
{
	total ^= x;
	return leaf(x ^ 5);
}

static int static_callback(u32 index, void *ctx)
{
	total += leaf(index);
	return 0;
}

int global_callback(u32 index, void *ctx)
{
	total += index;
	return 0;
}

SEC("socket")
int first(void *ctx)
{
	return weak(1) + hidden(2);
}

SEC("socket")
int second(void *ctx)
{
	bpf_loop(2, static_callback, NULL, 0);
	bpf_loop(3, global_callback, NULL, 0);
	return hidden(4);
}

SEC("?tc")
int optional(void *ctx)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
