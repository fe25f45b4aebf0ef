/* An arena for compilers without address spaces: globals in their section by name or in .bss, casts as raw bytes. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 10);
} arena SEC(".maps");

u64 *head;
u64 in_arena SEC(".addr_space.1") = 21;

/* rX = addr_space_cast(rX, 0, 1): opcode 0xbf, offset 1, immediate 1. */
#define to_kernel(pointer)                                                          \
	asm volatile(".byte 0xBF; .ifc %[reg], r1; .byte 0x11; .endif;"             \
		     ".ifc %[reg], r2; .byte 0x22; .endif;"                         \
		     ".ifc %[reg], r3; .byte 0x33; .endif; .short 1; .long 1"       \
		     : [reg] "+r"(pointer))

SEC("syscall")
int store(void *ctx)
{
	register u64 *at asm("r1") = head;
	register u64 *own asm("r2") = &in_arena;

	asm volatile("r0 = %[map] ll" ::[map] "i"(&arena) : "r0");
	to_kernel(at);
	*at = 5;
	to_kernel(own);
	*own += 1;
	return 0;
}

char _license[] SEC("license") = "GPL";
