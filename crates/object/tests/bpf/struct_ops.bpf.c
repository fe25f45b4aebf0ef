/* A struct_ops table with two programs and a number. */
#include "bpf.h"

struct operations {
	u32 flags;
	int (*start)(int x);
	int (*stop)(int x);
	int (*unset)(int x);
};

SEC("struct_ops/start")
int start(int x)
{
	return x;
}

SEC("struct_ops.s/stop")
int stop(int x)
{
	return 2;
}

SEC(".struct_ops.link")
struct operations table = {
	.flags = 3,
	.start = (void *)start,
	.stop = (void *)stop,
};

char _license[] SEC("license") = "GPL";
