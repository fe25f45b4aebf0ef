/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A scheduler's library in arena memory, in several objects: what each of them offers the others.
 *
 * Every object is compiled on its own and knows the others by these declarations; `bpf-arena link` makes one object of
 * them. Functions are global, so that the verifier looks at each of them once. A global function takes arena pointers as
 * `__arg_arena` and returns numbers only: one that returns a pointer returns its address, 0 for NULL.
 *
 * Functions that can fail return 0 or a negative error number, as the kernel's do.
 */
#pragma once

#include "bpf_arena.h"

#define __arg_arena __attribute__((btf_decl_tag("arg:arena")))

#define EPERM 1
#define ENOENT 2
#define ENOMEM 12
#define EBUSY 16
#define EEXIST 17
#define EINVAL 22
#define EUCLEAN 117 /* a structure that contradicts itself */

/* All objects declare the arena; being weak, it is one map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
} arena __weak SEC(".maps");

/* ---- Pointers and atomics --------------------------------------------------------------------------------------- */

/* Two pointers to the same place: what counts is the offset in the arena. */
#define same(a, b) ((u32)(u64)(a) == (u32)(u64)(b))

#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define load_relaxed(p) (*(volatile typeof(*(p)) *)(p))
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define cmpxchg(p, old, new) __sync_val_compare_and_swap(p, old, new)
#define xchg(p, v) __sync_lock_test_and_set(p, v)
#define fetch_add(p, v) __sync_fetch_and_add(p, v)

/* ---- Locks: spinning, bounded by the run's budget for loops ----------------------------------------------------- */

struct lock {
	u32 held;
	u32 pad;
};

static __always_inline int lock_take(struct lock __arena *lock)
{
	while (can_loop) {
		if (load_relaxed(&lock->held) == 0 && cmpxchg(&lock->held, 0, 1) == 0)
			return 0;
	}
	return -EBUSY;
}

static __always_inline void lock_release(struct lock __arena *lock)
{
	xchg(&lock->held, 0);
}

/* ---- pages: the address of new zeroed pages --------------------------------------------------------------------- */

u64 pages_alloc(u32 count);
int pages_free(u64 address, u32 count);

/* ---- slab: objects of one size, from pages of them -------------------------------------------------------------- */

struct slab_object {
	struct slab_object __arena *next;
};

/* At the start of each page. */
struct slab_page {
	struct slab_page __arena *next;
	struct slab_page __arena *previous;
	struct slab_object __arena *free;
	u64 live;
	u64 total;
};

struct slab {
	struct lock lock;
	struct slab_page __arena *partial; /* has free objects */
	struct slab_page __arena *full;
	u64 object_size; /* a multiple of 8 */
	u64 pages;
	u64 live;
};

u64 slab_alloc(struct slab __arena *slab __arg_arena);
int slab_free(struct slab __arena *slab __arg_arena, u64 object);

/* ---- stack: objects of one size, the last one freed is the next one given --------------------------------------- */

#define STACK_POINTERS 500

struct stack_segment {
	struct stack_segment __arena *below;
	u64 count;
	u64 objects[STACK_POINTERS];
};

struct stack {
	struct lock lock;
	struct stack_segment __arena *top;
	struct stack_segment __arena *spare; /* an empty one, or NULL */
	u64 object_size;		     /* divides the page */
	u64 created;
	u64 live;
};

u64 stack_alloc(struct stack __arena *stack __arg_arena);
int stack_free(struct stack __arena *stack __arg_arena, u64 object);

/* ---- buddy: blocks of powers of two out of one chunk ------------------------------------------------------------ */

#define BUDDY_ORDERS 11 /* blocks of 64 bytes to 64 KiB */
#define BUDDY_BLOCKS 1024
#define BUDDY_BLOCK_BYTES 64
#define BUDDY_NONE 0xffff

enum buddy_state {
	BUDDY_INSIDE = 0, /* part of a larger block */
	BUDDY_FREE = 1,
	BUDDY_USED = 2,
};

struct buddy_block {
	u16 next;
	u16 previous;
	u8 order;
	u8 state;
	u16 pad;
};

struct buddy {
	struct lock lock;
	u64 base; /* address of the chunk */
	u64 live;
	u64 live_blocks; /* in blocks of 64 bytes */
	u16 free[BUDDY_ORDERS];
	u16 pad[5];
	struct buddy_block blocks[BUDDY_BLOCKS];
};

int buddy_init(struct buddy __arena *buddy __arg_arena);
u64 buddy_alloc(struct buddy __arena *buddy __arg_arena, u64 size);
int buddy_free(struct buddy __arena *buddy __arg_arena, u64 address);

/* ---- rbtree: a red-black tree of numbers ------------------------------------------------------------------------ */

struct rb_node {
	struct rb_node __arena *child[2];
	struct rb_node __arena *parent;
	u64 key;
	u64 value;
	u64 red;
};

struct rb_tree {
	struct lock lock;
	struct rb_node __arena *root;
	struct rb_node __arena *nil; /* stands for every missing child; black */
	u64 count;
	struct slab nodes;
};

int rb_init(struct rb_tree __arena *tree __arg_arena);
int rb_insert(struct rb_tree __arena *tree __arg_arena, u64 key, u64 value);
int rb_remove(struct rb_tree __arena *tree __arg_arena, u64 key);
/* The key of the first node that is not smaller, or `~0`. */
u64 rb_lower_bound(struct rb_tree __arena *tree __arg_arena, u64 key);

/* ---- btree: a B-tree of numbers --------------------------------------------------------------------------------- */

#define BTREE_LEAST 4 /* every node but the root has so many children at least, and twice as many at most */
#define BTREE_KEYS (2 * BTREE_LEAST - 1)

struct btree_node {
	u64 count; /* of keys */
	u64 leaf;
	u64 keys[BTREE_KEYS];
	u64 values[BTREE_KEYS];
	struct btree_node __arena *children[BTREE_KEYS + 1];
};

struct btree {
	struct lock lock;
	struct btree_node __arena *root;
	u64 count;
	struct stack nodes;
};

int btree_init(struct btree __arena *tree __arg_arena);
int btree_insert(struct btree __arena *tree __arg_arena, u64 key, u64 value);
int btree_remove(struct btree __arena *tree __arg_arena, u64 key);
int btree_contains(struct btree __arena *tree __arg_arena, u64 key);

/* ---- heap: the smallest key first ------------------------------------------------------------------------------- */

#define HEAP_CAPACITY 1024

struct heap_item {
	u64 key;
	u64 value;
};

struct min_heap {
	struct lock lock;
	u64 count;
	struct heap_item items[HEAP_CAPACITY];
};

int heap_push(struct min_heap __arena *heap __arg_arena, u64 key, u64 value);
/* Takes the smallest; its key and value are stored in `item`. */
int heap_pop(struct min_heap __arena *heap __arg_arena, struct heap_item __arena *item __arg_arena);

/* ---- queue: first in, first out, any number of both sides, no lock ---------------------------------------------- */

#define QUEUE_CELLS 256

struct queue_cell {
	u64 sequence;
	u64 value;
};

struct queue {
	u64 head;
	u64 pad1[7];
	u64 tail;
	u64 pad2[7];
	struct queue_cell cells[QUEUE_CELLS];
};

int queue_init(struct queue __arena *queue __arg_arena);
int queue_push(struct queue __arena *queue __arg_arena, u64 value);
int queue_pop(struct queue __arena *queue __arg_arena, u64 __arena *value __arg_arena);

/* ---- bitmap: bits that are claimed and given back without a lock ------------------------------------------------- */

#define BITMAP_WORDS 16

struct bitmap {
	u64 words[BITMAP_WORDS];
};

/* The number of a bit that was clear and is now set, searched from `hint`. */
int bitmap_claim(struct bitmap __arena *bitmap __arg_arena, u32 hint);
int bitmap_release(struct bitmap __arena *bitmap __arg_arena, u32 bit);
int bitmap_count(struct bitmap __arena *bitmap __arg_arena);

/* ---- topology: machine, node, cache, core, CPU ------------------------------------------------------------------ */

#define TOPOLOGY_LEVELS 5
#define TOPOLOGY_CHILDREN 4

struct domain {
	struct domain __arena *parent;
	struct domain __arena *children[TOPOLOGY_CHILDREN];
	u64 child_count;
	u64 level; /* 0 is the machine */
	u64 first_cpu;
	u64 cpus;
	u64 idle; /* CPUs of the domain that nobody has claimed */
};

struct topology {
	struct domain __arena *root;
	u64 cpus;
	u64 domains;
	u64 leaves[64]; /* addresses, by CPU */
};

int topology_init(struct topology __arena *topology __arg_arena);
/* The number of an idle CPU, which is claimed by it: as near to this one as there is. */
int topology_claim(struct topology __arena *topology __arg_arena, u32 near);
int topology_release(struct topology __arena *topology __arg_arena, u32 cpu);

/* ---- tasks: a record for each task, found by task storage -------------------------------------------------------- */

struct task_record {
	struct task_record __arena *next;
	u64 pid;
	u64 uses;
};

struct task_records {
	struct lock lock;
	struct task_record __arena *first;
	u64 count;
	struct slab records;
};

/* The address of the record of the task that runs this. */
u64 task_record(void);

/* ---- timers ------------------------------------------------------------------------------------------------------ */

#define TIMERS 8

struct timer_state {
	u64 armed; /* number of the last arming */
	u64 fired; /* the arming that fired last */
	u64 count; /* how often it fired */
};

int timer_arm(u32 timer, u64 delay_ns);
int timer_stop(u32 timer);
