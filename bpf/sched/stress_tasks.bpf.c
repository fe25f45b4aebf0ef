// SPDX-License-Identifier: MIT OR Apache-2.0
// The program that uses the records of tasks.
#include "stress.h"

SEC("syscall")
int use_tasks(struct stress *ctx)
{
	struct thread_state __arena *state = state_of(ctx);
	u32 i;

	for (i = 0; i < ctx->rounds && can_loop; i++) {
		struct task_record __arena *record = arena_from_user(struct task_record, task_record());

		if (!record)
			continue;
		record->uses++;
		state->task_uses++;
		ctx->done++;
	}
	return 0;
}

LICENSE("Dual MIT/GPL");
