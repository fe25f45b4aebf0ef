/* Kernel configuration values of every type. */
#include "bpf.h"

enum libbpf_tristate {
	TRI_NO = 0,
	TRI_YES = 1,
	TRI_MODULE = 2,
};

extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_A_BOOL __kconfig;
extern char CONFIG_A_CHAR __kconfig;
extern u16 CONFIG_A_SHORT __kconfig;
extern u64 CONFIG_A_LONG __kconfig;
extern enum libbpf_tristate CONFIG_A_TRISTATE __kconfig;
extern const char CONFIG_A_TEXT[8] __kconfig;
extern int CONFIG_MISSING __kconfig __weak;

u64 out;

SEC("syscall")
int sum(void *ctx)
{
	out = LINUX_KERNEL_VERSION + CONFIG_A_BOOL + CONFIG_A_CHAR + CONFIG_A_SHORT + CONFIG_A_LONG +
	      CONFIG_A_TRISTATE + CONFIG_A_TEXT[1] + CONFIG_MISSING;
	return 0;
}

char _license[] SEC("license") = "GPL";
