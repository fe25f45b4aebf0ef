/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Objects that programs allocate, what keeps them (owned pointers, lists, red-black trees), and what happens later (timers
 * and work queues). The kernel finds the structures by name in the values of maps and in the program's own structures.
 */
#pragma once

#include "bpf_arena.h"

/* ---- Fields ------------------------------------------------------------------------------------------------------- */

struct bpf_res_spin_lock {
	u32 val;
};

struct bpf_refcount {
	u32 opaque[1];
} __attribute__((aligned(4)));

struct bpf_list_head {
	u64 opaque[2];
} __attribute__((aligned(8)));

struct bpf_list_node {
	u64 opaque[3];
} __attribute__((aligned(8)));

struct bpf_rb_root {
	u64 opaque[2];
} __attribute__((aligned(8)));

struct bpf_rb_node {
	u64 opaque[4];
} __attribute__((aligned(8)));

struct bpf_timer {
	u64 opaque[2];
} __attribute__((aligned(8)));

struct bpf_wq {
	u64 opaque[2];
} __attribute__((aligned(8)));

/* What a list or tree contains: structures of this type, linked by this member. */
#define __contains(name, member) __attribute__((btf_decl_tag("contains:" #name ":" #member)))

/* A pointer that owns an object, or one object of each CPU. */
#define __kptr __attribute__((btf_type_tag("kptr")))
#define __percpu_kptr __attribute__((btf_type_tag("percpu_kptr")))

/* A data section of its own: a lock protects what lies in the same one. */
#define in_section(name) SEC(".data." #name) __hidden __attribute__((aligned(8)))

#define container_of(ptr, type, member) ((type *)((void *)(ptr) - __builtin_offsetof(type, member)))

/* ---- Helpers ------------------------------------------------------------------------------------------------------ */

enum {
	CLOCK_REALTIME = 0,
	CLOCK_MONOTONIC = 1,
	CLOCK_BOOTTIME = 7,
};

enum {
	BPF_F_TIMER_ABS = 1,
	BPF_F_TIMER_CPU_PIN = 2,
};

static u64 (*const bpf_ktime_get_boot_ns)(void) = (void *)125;
static void *(*const bpf_per_cpu_ptr)(const void *ptr, u32 cpu) = (void *)153;
static void *(*const bpf_this_cpu_ptr)(const void *ptr) = (void *)154;
static long (*const bpf_timer_init)(struct bpf_timer *timer, void *map, u64 flags) = (void *)169;
static long (*const bpf_timer_set_callback)(struct bpf_timer *timer, void *callback) = (void *)170;
static long (*const bpf_timer_start)(struct bpf_timer *timer, u64 nsecs, u64 flags) = (void *)171;
static long (*const bpf_timer_cancel)(struct bpf_timer *timer) = (void *)172;
static void *(*const bpf_kptr_xchg)(void *dst, void *ptr) = (void *)194;

/* ---- Kernel functions --------------------------------------------------------------------------------------------- */

void *bpf_obj_new_impl(u64 local_type_id__k, void *meta__ign) __ksym;
void bpf_obj_drop_impl(void *p__alloc, void *meta__ign) __ksym;
void *bpf_percpu_obj_new_impl(u64 local_type_id__k, void *meta__ign) __ksym;
void bpf_percpu_obj_drop_impl(void *p__alloc, void *meta__ign) __ksym;
void *bpf_refcount_acquire_impl(void *p__refcounted_kptr, void *meta__ign) __ksym;

int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta__ign, u64 off) __ksym;
int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta__ign, u64 off) __ksym;
struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head) __ksym;
struct bpf_list_node *bpf_list_pop_back(struct bpf_list_head *head) __ksym;
struct bpf_list_node *bpf_list_front(struct bpf_list_head *head) __ksym;
struct bpf_list_node *bpf_list_back(struct bpf_list_head *head) __ksym;

int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
			_Bool (*less)(struct bpf_rb_node *a, const struct bpf_rb_node *b), void *meta__ign,
			u64 off) __ksym;
struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root) __ksym;
struct bpf_rb_node *bpf_rbtree_root(struct bpf_rb_root *root) __ksym;
struct bpf_rb_node *bpf_rbtree_left(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
struct bpf_rb_node *bpf_rbtree_right(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;

int bpf_wq_init(struct bpf_wq *wq, void *p__map, unsigned int flags) __ksym;
int bpf_wq_start(struct bpf_wq *wq, unsigned int flags) __ksym;
int bpf_wq_set_callback_impl(struct bpf_wq *wq, int (*callback)(void *map, int *key, void *value), unsigned int flags,
			     void *aux__ign) __ksym;

int bpf_res_spin_lock(struct bpf_res_spin_lock *lock) __ksym;
void bpf_res_spin_unlock(struct bpf_res_spin_lock *lock) __ksym;

void bpf_rcu_read_lock(void) __ksym;
void bpf_rcu_read_unlock(void) __ksym;

/* The number of a type in the program's own types. */
#define type_id(type) __builtin_btf_type_id(*(type *)0, 0)

#define bpf_obj_new(type) ((type *)bpf_obj_new_impl(type_id(type), NULL))
#define bpf_obj_drop(ptr) bpf_obj_drop_impl(ptr, NULL)
#define bpf_percpu_obj_new(type) ((type *)bpf_percpu_obj_new_impl(type_id(type), NULL))
#define bpf_percpu_obj_drop(ptr) bpf_percpu_obj_drop_impl(ptr, NULL)
#define bpf_refcount_acquire(ptr) ((typeof(*(ptr)) *)bpf_refcount_acquire_impl(ptr, NULL))
#define bpf_list_push_front(head, node) bpf_list_push_front_impl(head, node, NULL, 0)
#define bpf_list_push_back(head, node) bpf_list_push_back_impl(head, node, NULL, 0)
#define bpf_rbtree_add(root, node, less) bpf_rbtree_add_impl(root, node, less, NULL, 0)
