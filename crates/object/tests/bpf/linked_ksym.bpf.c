/* Takes `linked_library`'s function for one of the kernel's. */
#include "bpf.h"

extern u64 library_add(u64 value) __ksym;

SEC("syscall")
int calls_the_kernel(void *ctx)
{
	return library_add(1);
}

char _license[] SEC("license") = "GPL";
