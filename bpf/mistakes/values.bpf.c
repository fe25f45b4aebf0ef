// SPDX-License-Identifier: MIT OR Apache-2.0
// Mistakes with values: what they are, whether they are there, how large they may be.
#include "common.h"

/* The value is computed only if the request is small, and returned in any case. */
SEC("syscall")
int uninitialised(struct request *req)
{
	u64 result;

	asm volatile("if %[size] > 16 goto +1\n"
		     "%[result] = 1\n"
		     : [result] "=r"(result)
		     : [size] "r"(req->size));
	return result;
}

/* The lookup may have found nothing. */
SEC("syscall")
int missing_null_check(struct request *req)
{
	u32 key = req->index;
	struct cell *cell = bpf_map_lookup_elem(&cells, &key);

	return cell->values[0];
}

/* The map's values are smaller than the structure that is read from them. */
struct large_cell {
	u64 values[8];
};

SEC("syscall")
int wrong_value_size(struct request *req)
{
	u32 key = req->index;
	struct large_cell *cell = bpf_map_lookup_elem(&cells, &key);

	if (!cell)
		return 0;
	return cell->values[5];
}

/* The index comes from outside and is used as it is. */
SEC("syscall")
int unbounded_index(struct request *req)
{
	u32 key = 0;
	u64 index = req->index;
	struct cell *cell = bpf_map_lookup_elem(&cells, &key);

	if (!cell)
		return 0;
	return cell->values[index];
}

/* One more than there are. */
SEC("syscall")
int index_off_by_one(struct request *req)
{
	u32 key = 0;
	u64 index = req->index;
	struct cell *cell = bpf_map_lookup_elem(&cells, &key);

	if (!cell || index > 4)
		return 0;
	return cell->values[index];
}

/* An address is halved to find the middle of something. */
SEC("syscall")
int divided_pointer(struct request *req)
{
	u64 middle = (u64)req;

	barrier_var(middle);
	middle /= 2;
	return *(u8 *)middle;
}

/* A counter is written into the middle of a pointer that lies on the stack. */
SEC("syscall")
int corrupted_pointer(struct request *req)
{
	struct request *saved;
	u64 index = 0;

	asm volatile("*(u64 *)(r10 - 8) = %[req]\n"
		     "*(u8 *)(r10 - 5) = 1\n"
		     "%[saved] = *(u64 *)(r10 - 8)\n"
		     : [saved] "=r"(saved)
		     : [req] "r"(req)
		     : "memory");
	index = saved->index;
	return index;
}

/* The buffer has 8 bytes, 16 are read into it. */
SEC("kprobe/do_nanosleep")
int stack_overflow(void *ctx)
{
	u64 buffer;

	bpf_probe_read_kernel(&buffer, 2 * sizeof(buffer), (void *)0);
	return buffer != 0;
}

/* The size comes from outside. */
SEC("kprobe/do_nanosleep")
int unbounded_size(u64 *registers)
{
	char buffer[64];
	u64 size = registers[1];

	bpf_probe_read_kernel(buffer, size, (void *)0);
	return buffer[0];
}

LICENSE("Dual MIT/GPL");
