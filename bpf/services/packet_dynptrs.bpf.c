// SPDX-License-Identifier: MIT OR Apache-2.0
// Dynptrs over packets: a script of operations that the host writes.
#include "services.h"

struct __sk_buff;
struct xdp_md;

int bpf_dynptr_from_skb(struct __sk_buff *skb, u64 flags, struct bpf_dynptr *ptr) __ksym __weak;
int bpf_dynptr_from_xdp(struct xdp_md *xdp, u64 flags, struct bpf_dynptr *ptr) __ksym __weak;

enum operation { READ, WRITE, SLICE, SLICE_BUFFER, ADJUST, COPY, MEMSET, QUERY };

struct step {
	u32 operation;
	u32 offset;
	u32 len;
	u32 other; /* offset in the memory, or the end of a range; 1 in its lowest bit copies out of the packet */
	u64 flags;
};

struct {
	u8 data[128];
	u8 buffer[64];
	u64 flags;
	u32 steps;
	u32 pad;
	struct step script[16];
	s64 made;
	s64 results[16];
} io;

static __always_inline s64 execute(struct step *step, struct bpf_dynptr *ptr, struct bpf_dynptr *memory, int writes)
{
	u32 len = step->len;
	u8 *at;

	switch (step->operation) {
	case READ:
		return bpf_dynptr_read(io.buffer, len & 63, ptr, step->offset, step->flags);
	case WRITE:
		return bpf_dynptr_write(ptr, step->offset, io.buffer, len & 63, step->flags);
	case SLICE:
		at = bpf_dynptr_slice(ptr, step->offset, NULL, 16);
		return at ? at[15] : -1;
	case SLICE_BUFFER:
		if (!writes) {
			at = bpf_dynptr_slice(ptr, step->offset, io.buffer, 16);
			return at ? at[15] + (at == io.buffer) * 1000 : -1;
		}
		at = bpf_dynptr_slice_rdwr(ptr, step->offset, io.buffer, 16);
		if (!at)
			return -1;
		at[0] ^= 0x55;
		return at[15] + (at == io.buffer) * 1000;
	case ADJUST:
		return bpf_dynptr_adjust(ptr, step->offset, step->other);
	case COPY:
		if (step->other & 1)
			return bpf_dynptr_copy(memory, step->other, ptr, step->offset, len);
		return bpf_dynptr_copy(ptr, step->offset, memory, step->other, len);
	case MEMSET:
		return bpf_dynptr_memset(ptr, step->offset, len, step->flags);
	default:
		return (u64)bpf_dynptr_size(ptr) << 2 | bpf_dynptr_is_null(ptr) << 1 | bpf_dynptr_is_rdonly(ptr);
	}
}

static __always_inline void script(struct bpf_dynptr *ptr, int writes)
{
	struct bpf_dynptr memory;
	u32 i;

	bpf_dynptr_from_mem(io.data, sizeof(io.data), 0, &memory);
	bpf_for(i, 0, io.steps) {
		if (i >= 16)
			break;
		io.results[i] = execute(&io.script[i], ptr, &memory, writes);
	}
}

SEC("tc")
int skb(struct __sk_buff *ctx)
{
	struct bpf_dynptr ptr;

	io.made = bpf_dynptr_from_skb(ctx, io.flags, &ptr);
	script(&ptr, 1);
	return 0;
}

SEC("socket")
int read_only(struct __sk_buff *ctx)
{
	struct bpf_dynptr ptr;

	io.made = bpf_dynptr_from_skb(ctx, io.flags, &ptr);
	script(&ptr, 0);
	return 0;
}

SEC("xdp.frags")
int xdp(struct xdp_md *ctx)
{
	struct bpf_dynptr ptr;

	io.made = bpf_dynptr_from_xdp(ctx, io.flags, &ptr);
	script(&ptr, 1);
	return 2;
}

LICENSE("Dual MIT/GPL");
