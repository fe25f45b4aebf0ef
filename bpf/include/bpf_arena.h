/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a BPF program needs to use an arena: sections, map declarations, address spaces, helpers and kernel functions.
 *
 * One header, no kernel headers, no libbpf. Programs that include it are compiled by clang 20 or newer with
 *
 *     clang -g -O2 --target=bpf -mcpu=v4 -fno-jump-tables -I bpf/include -c NAME.bpf.c -o NAME.bpf.o
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef u64 size_t;

#define NULL ((void *)0)
#define PAGE_SIZE 4096

/* ---- Sections and attributes ------------------------------------------------------------------------------------ */

#define SEC(name) __attribute__((section(name), used))
#define __hidden __attribute__((visibility("hidden")))
#define __weak __attribute__((weak))
#define __ksym __attribute__((section(".ksyms")))
#define __noinline __attribute__((noinline))
#define __always_inline inline __attribute__((always_inline))

/* The kernel gives some helpers only to programs with a GPL-compatible licence; "Dual MIT/GPL" is one. */
#define LICENSE(text) char license_text[] SEC("license") = text

/* Hides a value from the optimiser: the compiler must assume that it changed. */
#define barrier_var(x) asm volatile("" : "+r"(x))

/*
 * Keeps the compiler from merging what stands on both sides. One instruction may not access arena memory on one path
 * and other memory on another, which is what two stores in the branches of an `if` become when they are merged.
 */
#define barrier() asm volatile("" : : : "memory")

/* ---- Maps ------------------------------------------------------------------------------------------------------- */

/* A map is an anonymous structure in SEC(".maps"); its attributes are the types of its members. */
#define __uint(name, value) int(*name)[value]
#define __type(name, type_) typeof(type_) *name
#define __array(name, value) typeof(value) *name[]
#define BPF_PASTE_(a, b) a##b
#define BPF_PASTE(a, b) BPF_PASTE_(a, b)
#define __ulong(name, value) enum { BPF_PASTE(bpf_ulong_, __COUNTER__) = value } name

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_ARENA = 33,
};

enum {
	BPF_F_MMAPABLE = 1U << 10,
	BPF_F_SEGV_ON_FAULT = 1U << 17,
	BPF_F_NO_USER_CONV = 1U << 18,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
};

/* ---- Arena pointers --------------------------------------------------------------------------------------------- */

/*
 * A pointer into the arena, followed by the program through `__arena` and by the host as it is: the compiler inserts
 * the casts between the two forms wherever a pointer is stored to or read from memory.
 */
#define __arena __attribute__((address_space(1)))

/* Integers that hold such pointers, in the form that the host follows. */
#define arena_to_user(ptr) ((u64)(ptr))
#define arena_from_user(type, value) ((type __arena *)(value))

/* Ties a program that follows arena pointers but names nothing of the arena to its map. */
#define uses_arena(map) asm volatile("" : : "r"(map))

#define NUMA_NO_NODE (-1)

/* ---- Loops ------------------------------------------------------------------------------------------------------ */

/*
 * True for as long as this run may go on looping. `while (cond && can_loop)` makes any loop acceptable to the verifier:
 * the run's budget bounds it.
 */
#define can_loop                                                                                                       \
	({                                                                                                             \
		__label__ out_of_budget, done;                                                                         \
		_Bool may_go_on = 1;                                                                                   \
		asm volatile goto("may_goto %l[out_of_budget]" ::::out_of_budget);                                     \
		goto done;                                                                                             \
	out_of_budget:                                                                                                 \
		may_go_on = 0;                                                                                         \
	done:;                                                                                                         \
		may_go_on;                                                                                             \
	})

/* ---- Helpers: called by number ---------------------------------------------------------------------------------- */

struct bpf_spin_lock {
	u32 val;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_trace_printk)(const char *format, u32 format_size, ...) = (void *)6;
static u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static void (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static void (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static long (*const bpf_loop)(u32 rounds, void *callback, void *callback_ctx, u64 flags) = (void *)181;

/* Up to three arguments. */
#define bpf_printk(format, args...)                                                                                    \
	({                                                                                                             \
		static const char text[] = format;                                                                     \
		bpf_trace_printk(text, sizeof(text), ##args);                                                          \
	})

/* ---- Kernel functions: called by name --------------------------------------------------------------------------- */

struct bpf_iter_num {
	u64 opaque[1];
} __attribute__((aligned(8)));

void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, u32 page_cnt, int node_id, u64 flags) __ksym __weak;
void bpf_arena_free_pages(void *map, void __arena *ptr, u32 page_cnt) __ksym __weak;
int bpf_arena_reserve_pages(void *map, void __arena *ptr, u32 page_cnt) __ksym __weak;

int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym __weak;
int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym __weak;
void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym __weak;

void bpf_preempt_disable(void) __ksym __weak;
void bpf_preempt_enable(void) __ksym __weak;

int bpf_stream_vprintk_impl(int stream_id, const char *fmt__str, const void *args, u32 len__sz, void *aux__prog) __ksym
	__weak;

#define BPF_STDOUT 1
#define BPF_STDERR 2

/* Prints to a stream of the program; the arguments are 64-bit integers, at least one. */
#define bpf_stream_printk(stream, format, args...)                                                                     \
	({                                                                                                             \
		static const char text[] = format;                                                                     \
		u64 values[] = { args };                                                                               \
		bpf_stream_vprintk_impl(stream, text, values, sizeof(values), NULL);                                   \
	})

/* `for` over start..end with the kernel's number iterator, which is destroyed on every way out of the loop. */
#define bpf_for(i, start, end)                                                                                         \
	for (struct bpf_iter_num it_ __attribute__((cleanup(bpf_iter_num_destroy))),                                   \
	     *made_ __attribute__((unused)) = (bpf_iter_num_new(&it_, (start), (end)), &it_);                          \
	     ({                                                                                                        \
		     int *next_ = bpf_iter_num_next(&it_);                                                             \
		     if (next_)                                                                                        \
			     (i) = *next_;                                                                             \
		     next_ != NULL;                                                                                    \
	     });)
