/* Arena globals without an arena. */
#include "bpf.h"

u64 __arena counter = 1;

SEC("syscall")
int use(void *ctx)
{
	return counter;
}

char _license[] SEC("license") = "GPL";
