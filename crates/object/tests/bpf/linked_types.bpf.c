/* Says other things of `linked_library`'s variable than it does. */
#include "bpf.h"

struct totals {
	u64 calls;
	u32 sum;
};

extern struct totals totals;

SEC("syscall")
int wrong_totals(void *ctx)
{
	return totals.sum;
}

char _license[] SEC("license") = "GPL";
