/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What lies in the arena: src/layout.rs in C. Loading compares the two, so a difference is an error that names the field.
 */
#pragma once
#include "bpf_arena.h"

#define KV_VERSION 2
#define KV_SEGMENTS (1 << 14)	  /* most segments of the table */
#define KV_SEGMENT_BUCKETS 1024	  /* buckets of one */
#define KV_ENTRIES 7		  /* entries of a bucket */
#define KV_UNITS (1 << 16)	  /* units of memory */
#define KV_ADDRESSES 16		  /* most addresses that are answered for */
#define KV_TOUCH_USED (1u << 31)  /* touch words: since the clock's hand was here */
#define KV_TOUCH_FETCHED (1u << 30) /* since it was stored */
#define KV_TOUCH_SHIFT 4	  /* from an item's place to its touch word's */
#define KV_CPUS 256		  /* CPUs that count apart from each other */
#define KV_PATHS 2		  /* XDP, traffic control */

struct kv_address {
	u8 bytes[16];
};

/* How often each outcome occurred, on one CPU. */
struct kv_counters {
	u64 answered;
	u64 misses;
	u64 foreign;
	u64 other;
	u64 too_long;
	u64 contended;
	u64 handed_on;
	u64 hits;
};

struct kv_header {
	u64 magic;
	u32 version;
	u32 item_max;
	u64 seed;
	u64 table;
	u64 layout;
	u64 flushed;
	u64 clock;
	u32 now;
	u32 epoch;
	u32 port;
	u32 address_count;
	struct kv_address addresses[KV_ADDRESSES];
	u32 reply_max;
	u32 tc_behind;
	u64 reserved[6];
	u64 versions;
	u32 flush_at;
	u32 limit;
	u64 spare[6];
	u32 segments[KV_SEGMENTS];
	u8 units[KV_UNITS];
	struct kv_counters counters[KV_PATHS * KV_CPUS];
};

struct kv_item {
	u64 version;
	u64 cas;
	u32 flags;
	u32 expires;
	u32 size;
	u32 hash;
	u32 stored;
	u8 key_size;
	u8 state;
	u16 spare;
};

struct kv_bucket {
	u64 entries[KV_ENTRIES];
	u32 next;
	u32 spare;
};

/* What is no field, for the host to compare with its own. */
struct kv_constants {
	u32 version;
	u32 segment_buckets;
	u32 touch_used;
	u32 touch_fetched;
	u32 touch_shift;
	u32 item_bytes;
	u32 cpus;
	u32 spare;
	u64 hash_multiplier;
	u64 hash_finisher;
};
