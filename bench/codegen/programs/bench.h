#pragma once
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef int s32; typedef long long s64;
/* same layout for bpf, native, wasm */
struct ctx { u64 mem; u64 n; u64 iters; u64 ret; u64 zero; };

#define always_inline inline __attribute__((always_inline))
#define noinline __attribute__((noinline))

#ifdef __bpf__
#define SEC(n) __attribute__((section(n), used))
#define __arena __attribute__((address_space(1)))
#define __uint(name, val) int (*name)[val]
struct { __uint(type, 33); __uint(map_flags, 1024); __uint(max_entries, 2048); } arena SEC(".maps");
#ifdef NO_MAY_GOTO
#define can_loop 1
#else
#define can_loop					\
	({ __label__ l_break, l_continue;		\
	_Bool ret = 1;					\
	asm volatile goto("may_goto %l[l_break]"	\
		      :::: l_break);			\
	goto l_continue;				\
	l_break: ret = 0;				\
	l_continue:;					\
	ret;						\
	})
#endif
#define ENTRY SEC("syscall") int prog(struct ctx *c)
char _license[] SEC("license") = "GPL";
/* make sure the arena map is referenced even when no arena global is used */
#define USE_ARENA() do { asm volatile("" :: "r"(&arena)); } while (0)
#else
#define __arena
#define can_loop 1
#ifdef __wasm__
#define ENTRY __attribute__((export_name("prog"))) int prog(struct ctx *c)
#else
#define ENTRY __attribute__((visibility("default"))) int prog(struct ctx *c)
#endif
#define USE_ARENA() do {} while (0)
#endif

typedef u8 __arena *mem_t;
#define ZZ (((volatile struct ctx *)c)->zero)
#define MEM(c) ((mem_t)(unsigned long)(c)->mem)
/* 8-byte pointer field on every target */
#define PTR(T, name) union { T __arena *name; u64 name##_u64; }

/* BPF has them from version 4 of its instruction set on */
#if defined(__bpf__) && !defined(__BPF_FEATURE_LOAD_ACQ_STORE_REL)
#define barrier() asm volatile("" ::: "memory")
#define load_acquire(p) ({ __auto_type v = *(const volatile __typeof__(*(p)) *)(p); barrier(); v; })
#define store_release(p, v) ({ barrier(); *(volatile __typeof__(*(p)) *)(p) = (v); })
#else
#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#endif

/* calls of a function that is not known to the loop: a helper of the kernel, a plain loop elsewhere */
#ifdef __bpf__
static long (*const bpf_loop)(u32 count, void *callback, void *data, u64 flags) = (void *)181;
#else
static always_inline long bpf_loop(u32 count, long (*callback)(u32, void *), void *data, u64 flags)
{
	u32 i;

	for (i = 0; i < count; i++)
		if (callback(i, data))
			return i + 1;
	return count;
}
#endif

static always_inline u64 xs64(u64 x) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; return x; }
