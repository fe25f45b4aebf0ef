// SPDX-License-Identifier: MIT OR Apache-2.0
// Mistakes with loops and functions.
#include "common.h"

/* Whether this ends depends on the request. */
SEC("syscall")
int unbounded_loop(struct request *req)
{
	u64 i = req->index;

	while (i != 1) {
		barrier_var(i);
		i = i & 1 ? 3 * i + 1 : i / 2;
	}
	return 0;
}

/* A loop of a million turns ends, but walking it takes too long. */
SEC("syscall")
int too_complex(struct request *req)
{
	u64 sum = 0;

	for (u32 i = 0; i < 1000000; i++) {
		barrier_var(i);
		sum += i ^ req->index;
	}
	return sum;
}

/* Verified on its own: who calls it and with what is not known. */
__noinline __weak int first_value(struct cell *cell)
{
	return cell->values[0];
}

SEC("syscall")
int global_function(struct request *req)
{
	u32 key = req->index;
	struct cell *cell = bpf_map_lookup_elem(&cells, &key);

	return first_value(cell);
}

LICENSE("Dual MIT/GPL");
