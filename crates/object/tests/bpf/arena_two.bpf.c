/* Two arenas: a program can use one. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
} one SEC(".maps"), two SEC(".maps");

SEC("syscall")
int use(void *ctx)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
