/* Every kind of data section, global, static, weak and hidden variables. */
#include "bpf.h"

u32 in_data = 7;
u64 in_bss;
const volatile u32 in_rodata = 9;
u16 weak_counter __weak = 3;
u8 hidden_flag __hidden = 1;
static volatile u32 in_static = 11;
static volatile u64 in_static_bss;
u32 custom_data SEC(".data.custom") = 5;
const u32 custom_rodata SEC(".rodata.custom") = 6;
u64 custom_bss[4] SEC(".bss.custom");

SEC("socket")
int touch(void *ctx)
{
	in_data++;
	in_bss += in_rodata;
	weak_counter++;
	hidden_flag++;
	in_static++;
	in_static_bss++;
	custom_data += custom_rodata;
	custom_bss[2]++;
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
u32 _version SEC("version") = 0x00061200;
