// SPDX-License-Identifier: MIT OR Apache-2.0
// The program that uses timers.
#include "stress.h"

SEC("syscall")
int use_timers(struct stress *ctx)
{
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		u64 r = random(ctx);

		if (timer_arm(r % TIMERS, r / TIMERS % 100000))
			return -EUCLEAN;
		ctx->done++;
	}
	return 0;
}

LICENSE("Dual MIT/GPL");
