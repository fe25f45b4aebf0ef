// flags: -fjump-tables -mllvm -bpf-min-jump-table-entries=4
/* A switch that becomes a jump table and a `gotox`. */
#include "bpf.h"

SEC("socket")
int choose(void *ctx)
{
	switch (*(u32 *)ctx) {
	case 0: asm volatile("r1 = 10"); return 3;
	case 1: asm volatile("r1 = 11"); return 1;
	case 2: asm volatile("r1 = 12"); return 4;
	case 3: asm volatile("r1 = 13"); return 1;
	case 4: asm volatile("r1 = 14"); return 5;
	case 5: asm volatile("r1 = 15"); return 9;
	case 6: asm volatile("r1 = 16"); return 2;
	case 7: asm volatile("r1 = 17"); return 6;
	case 8: asm volatile("r1 = 18"); return 5;
	case 9: asm volatile("r1 = 19"); return 3;
	}
	return 0;
}

SEC("socket")
int plain(void *ctx)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
