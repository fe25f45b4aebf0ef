// SPDX-License-Identifier: MIT OR Apache-2.0
// Dynptrs over the program's memory: a script of operations that the host writes.
#include "services.h"

enum operation { READ, WRITE, DATA, SLICE, ADJUST, CLONE, COPY, MEMSET, QUERY };

struct step {
	u32 operation;
	u32 which; /* the dynptr to use: 0 or 1 */
	u32 offset;
	u32 len;
	u32 other; /* offset in the other one, or the end of a range */
	u32 flags;
};

struct {
	u8 data[256];
	u8 buffer[64];
	u32 start[2]; /* in `data` */
	u32 size[2];
	u32 flags[2];
	u32 steps;
	struct step script[16];
	s64 made[2];
	s64 results[16];
} io;

static s64 execute(struct step *step, struct bpf_dynptr *ptr, struct bpf_dynptr *other)
{
	u32 len = step->len;
	struct bpf_dynptr clone;
	s64 result;
	u8 *at;

	switch (step->operation) {
	case READ:
		return bpf_dynptr_read(io.buffer, len & 63, ptr, step->offset, step->flags);
	case WRITE:
		return bpf_dynptr_write(ptr, step->offset, io.buffer, len & 63, step->flags);
	case DATA:
		at = bpf_dynptr_data(ptr, step->offset, 8);
		if (at)
			at[7]++;
		return at ? at[0] : -1;
	case SLICE:
		at = bpf_dynptr_slice(ptr, step->offset, io.buffer, 16);
		return at ? at[15] : -1;
	case ADJUST:
		return bpf_dynptr_adjust(ptr, step->offset, step->other);
	case CLONE:
		result = bpf_dynptr_clone(ptr, &clone);
		return result << 32 | bpf_dynptr_size(&clone);
	case COPY:
		return bpf_dynptr_copy(ptr, step->offset, other, step->other, len);
	case MEMSET:
		return bpf_dynptr_memset(ptr, step->offset, len, step->flags);
	default:
		return (u64)bpf_dynptr_size(ptr) << 2 | bpf_dynptr_is_null(ptr) << 1 | bpf_dynptr_is_rdonly(ptr);
	}
}

SEC("syscall")
int script(void *ctx)
{
	struct bpf_dynptr first, second;
	u32 a = io.start[0] & 127, b = io.start[1] & 127;
	u32 i;

	io.made[0] = bpf_dynptr_from_mem(io.data + a, io.size[0] & 127, io.flags[0], &first);
	io.made[1] = bpf_dynptr_from_mem(io.data + b, io.size[1] & 127, io.flags[1], &second);
	bpf_for(i, 0, io.steps) {
		struct step *step;

		if (i >= 16)
			break;
		step = &io.script[i];
		if (step->which)
			io.results[i] = execute(step, &second, &first);
		else
			io.results[i] = execute(step, &first, &second);
	}
	return 0;
}

LICENSE("Dual MIT/GPL");
