// SPDX-License-Identifier: MIT OR Apache-2.0
// The difference of checksums that a change of bytes makes.
#include "services.h"

struct {
	u32 from[32];
	u32 to[32];
	u32 from_size;
	u32 to_size;
	u32 seed;
	u32 pad;
	s64 results[3];
} io;

SEC("tc")
int checksum(void *ctx)
{
	u32 from_size = io.from_size & 127, to_size = io.to_size & 127;

	io.results[0] = bpf_csum_diff(io.from, from_size, io.to, to_size, io.seed);
	io.results[1] = bpf_csum_diff(NULL, 0, io.to, to_size, io.seed);
	io.results[2] = bpf_csum_diff(io.from, from_size, NULL, 0, io.seed);
	return 0;
}

LICENSE("Dual MIT/GPL");
