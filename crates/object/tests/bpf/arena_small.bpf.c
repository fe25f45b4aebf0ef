/* Arena globals larger than their arena. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
} arena SEC(".maps");

u8 __arena big[4097] = { 1 };

SEC("syscall")
int use(void *ctx)
{
	return big[4096];
}

char _license[] SEC("license") = "GPL";
