/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the mistakes need beside the arena: contexts, maps, helpers. */
#pragma once

#include "bpf_arena.h"

enum {
	BPF_MAP_TYPE_RINGBUF = 27,
};

/* struct xdp_md, as far as it is used here. */
struct packet {
	u32 data;
	u32 data_end;
};

/* Of the mistakes that run as SEC("syscall"). */
struct request {
	u64 index;
	u64 size;
};

struct cell {
	u64 values[4];
};

struct dynptr {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const bpf_copy_from_user)(void *to, u32 size, const void *from) = (void *)148;
static long (*const bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*const bpf_skb_load_bytes)(const void *skb, u32 offset, void *to, u32 size) = (void *)26;
static void *(*const bpf_ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static long (*const bpf_ringbuf_reserve_dynptr)(void *ringbuf, u32 size, u64 flags, struct dynptr *ptr) = (void *)198;
static void (*const bpf_ringbuf_submit_dynptr)(struct dynptr *ptr, u64 flags) = (void *)199;
static long (*const bpf_dynptr_read)(void *to, u32 size, const struct dynptr *from, u32 offset, u64 flags) =
	(void *)201;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, struct cell);
} cells SEC(".maps");
