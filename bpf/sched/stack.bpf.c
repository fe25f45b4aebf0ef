// SPDX-License-Identifier: MIT OR Apache-2.0
// A stack allocator: free objects are kept on a stack of pointers, in segments of a page each, so that what was freed
// last, and is still in the cache, is given first.
#include "sched.h"

static int push(struct stack __arena *stack, u64 object)
{
	struct stack_segment __arena *top = stack->top;

	if (!top || top->count >= STACK_POINTERS) {
		struct stack_segment __arena *new = stack->spare;

		if (!new)
			new = arena_from_user(struct stack_segment, pages_alloc(1));
		if (!new)
			return -ENOMEM;
		stack->spare = NULL;
		new->below = top;
		new->count = 0;
		stack->top = top = new;
	}
	top->objects[top->count] = object;
	top->count++;
	return 0;
}

static u64 pop(struct stack __arena *stack)
{
	struct stack_segment __arena *top = stack->top, *below, *spare;
	u64 object;

	if (!top || !top->count)
		return 0;
	top->count--;
	object = top->objects[top->count];
	below = top->below;
	if (!top->count && below) {
		spare = stack->spare;
		stack->top = below;
		stack->spare = top;
		if (spare)
			pages_free(arena_to_user(spare), 1);
	}
	return object;
}

static int refill(struct stack __arena *stack)
{
	u64 page = pages_alloc(1), size = stack->object_size, at;

	if (!page)
		return -ENOMEM;
	for (at = 0; at + size <= PAGE_SIZE && can_loop; at += size) {
		if (push(stack, page + at))
			return -ENOMEM;
		stack->created++;
	}
	return 0;
}

u64 stack_alloc(struct stack __arena *stack __arg_arena)
{
	u64 object;

	uses_arena(&arena);
	if (lock_take(&stack->lock))
		return 0;
	object = pop(stack);
	if (!object && !refill(stack))
		object = pop(stack);
	if (object)
		stack->live++;
	lock_release(&stack->lock);
	return object;
}

int stack_free(struct stack __arena *stack __arg_arena, u64 object)
{
	int err;

	uses_arena(&arena);
	if (lock_take(&stack->lock))
		return -EBUSY;
	err = push(stack, object);
	if (!err)
		stack->live--;
	lock_release(&stack->lock);
	return err;
}

LICENSE("Dual MIT/GPL");
