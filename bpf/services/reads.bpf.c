// SPDX-License-Identifier: MIT OR Apache-2.0
// Reads of memory that may not be there, iterators over bits.
#include "services.h"

struct {
	u8 data[64];
	u8 out[16][32];
	u64 address; /* where to read */
	u32 size;
	u32 flags;
	s64 results[16];
	u64 words[64];
	u32 count;
	u32 found;
	s32 bits[256];
} io;

static int read_all(void)
{
	const void *from = (const void *)io.address;
	u32 size = io.size & 31;
	struct bpf_dynptr ptr;

	io.results[0] = bpf_probe_read_kernel(io.out[0], size, from);
	io.results[1] = bpf_probe_read_kernel_str(io.out[1], size, from);
	io.results[2] = bpf_probe_read_user(io.out[2], size, from);
	io.results[3] = bpf_probe_read_user_str(io.out[3], size, from);
	io.results[4] = bpf_probe_read(io.out[4], size, from);
	io.results[5] = bpf_probe_read_str(io.out[5], size, from);
	io.results[6] = bpf_copy_from_user(io.out[6], size, from);
	io.results[7] = bpf_copy_from_user_str(io.out[7], size, from, io.flags);
	bpf_dynptr_from_mem(io.out[8], 7 * 32, 0, &ptr);
	io.results[8] = bpf_probe_read_kernel_dynptr(&ptr, 0, size, from);
	io.results[9] = bpf_probe_read_kernel_str_dynptr(&ptr, 32, size, from);
	io.results[10] = bpf_probe_read_user_dynptr(&ptr, 64, size, from);
	io.results[11] = bpf_probe_read_user_str_dynptr(&ptr, 96, size, from);
	io.results[12] = bpf_copy_from_user_dynptr(&ptr, 128, size, from);
	io.results[13] = bpf_copy_from_user_str_dynptr(&ptr, 160, size, from);
	io.results[14] = bpf_probe_read_kernel_dynptr(&ptr, 210, size, from);
	io.results[15] = bpf_probe_read_user_str_dynptr(&ptr, 210, size, from);
	return 0;
}

SEC("syscall")
int reads(void *ctx)
{
	return read_all();
}

/* The same from the program's own memory. */
SEC("syscall")
int own_reads(void *ctx)
{
	io.address = (u64)io.data;
	return read_all();
}

SEC("syscall")
int bits(void *ctx)
{
	struct bpf_iter_bits it;
	int *bit;

	io.results[0] = bpf_iter_bits_new(&it, io.words, io.count);
	while ((bit = bpf_iter_bits_next(&it))) {
		u32 n = io.found;

		if (n < 256)
			io.bits[n] = *bit;
		io.found = n + 1;
	}
	bpf_iter_bits_destroy(&it);
	io.results[1] = bpf_iter_bits_new(&it, (const u64 *)io.address, io.count);
	bpf_iter_bits_destroy(&it);
	return 0;
}

LICENSE("Dual MIT/GPL");
