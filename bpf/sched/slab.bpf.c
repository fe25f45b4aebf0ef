// SPDX-License-Identifier: MIT OR Apache-2.0
// A slab allocator: pages of objects of one size, those with free objects in one list, full ones in another.
#include "sched.h"

static void push(struct slab_page __arena *__arena *list, struct slab_page __arena *page)
{
	struct slab_page __arena *first = *list;

	page->previous = NULL;
	page->next = first;
	if (first)
		first->previous = page;
	*list = page;
}

static void unlink(struct slab_page __arena *__arena *list, struct slab_page __arena *page)
{
	struct slab_page __arena *next = page->next, *previous = page->previous;

	if (previous)
		previous->next = next;
	else
		*list = next;
	if (next)
		next->previous = previous;
}

static struct slab_page __arena *add_page(struct slab __arena *slab)
{
	u64 address = pages_alloc(1), size = slab->object_size, at;
	struct slab_page __arena *page = arena_from_user(struct slab_page, address);

	if (!address)
		return NULL;
	page->free = NULL;
	page->live = 0;
	page->total = 0;
	for (at = sizeof(*page); at + size <= PAGE_SIZE && can_loop; at += size) {
		struct slab_object __arena *object = arena_from_user(struct slab_object, address + at);

		object->next = page->free;
		page->free = object;
		page->total++;
	}
	slab->pages++;
	push(&slab->partial, page);
	return page;
}

static struct slab_object __arena *take(struct slab __arena *slab)
{
	struct slab_page __arena *page = slab->partial;
	struct slab_object __arena *object;

	if (!page)
		page = add_page(slab);
	if (!page)
		return NULL;
	object = page->free;
	page->free = object->next;
	page->live++;
	slab->live++;
	if (!page->free) {
		unlink(&slab->partial, page);
		push(&slab->full, page);
	}
	return object;
}

u64 slab_alloc(struct slab __arena *slab __arg_arena)
{
	struct slab_object __arena *object;

	uses_arena(&arena);
	if (lock_take(&slab->lock))
		return 0;
	object = take(slab);
	lock_release(&slab->lock);
	return arena_to_user(object);
}

int slab_free(struct slab __arena *slab __arg_arena, u64 address)
{
	struct slab_object __arena *object = arena_from_user(struct slab_object, address);
	u64 start = address & ~(PAGE_SIZE - 1ull);
	struct slab_page __arena *page = arena_from_user(struct slab_page, start);

	uses_arena(&arena);
	if (lock_take(&slab->lock))
		return -EBUSY;
	if (!page->free) {
		unlink(&slab->full, page);
		push(&slab->partial, page);
	}
	object->next = page->free;
	page->free = object;
	page->live--;
	slab->live--;
	/* An empty page goes back if there is another one to allocate from. */
	if (!page->live && (page->next || page->previous)) {
		unlink(&slab->partial, page);
		slab->pages--;
		pages_free(start, 1);
	}
	lock_release(&slab->lock);
	return 0;
}

LICENSE("Dual MIT/GPL");
