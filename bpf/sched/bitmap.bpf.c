// SPDX-License-Identifier: MIT OR Apache-2.0
// A bitmap whose bits are claimed and released by atomic instructions alone.
#include "sched.h"

/* Sets or clears bits, if that changes all of them. No `fetch_or`: the kernel's arenas lack it on x86. */
static int change(u64 __arena *word, u64 mask, u64 to)
{
	u64 seen = load_relaxed(word);

	while ((seen & mask) != (to & mask) && can_loop) {
		u64 now = cmpxchg(word, seen, (seen & ~mask) | (to & mask));

		if (now == seen)
			return 1;
		seen = now;
	}
	return 0;
}

/* Index of the lowest bit that is set; there is one. */
static u32 lowest(u64 bits)
{
	u32 index = 0, width;

	for (width = 32; width && can_loop; width /= 2) {
		if (!(bits & ((1ull << width) - 1))) {
			bits >>= width;
			index += width;
		}
	}
	return index;
}

int bitmap_claim(struct bitmap __arena *bitmap __arg_arena, u32 hint)
{
	u32 i;

	uses_arena(&arena);
	for (i = 0; i < BITMAP_WORDS && can_loop; i++) {
		u32 index = (hint / 64 + i) % BITMAP_WORDS;
		u64 __arena *word = &bitmap->words[index];
		u64 clear;

		while ((clear = ~load_relaxed(word)) && can_loop) {
			u32 bit = lowest(clear);

			if (change(word, 1ull << bit, ~0ull))
				return index * 64 + bit;
		}
	}
	return -ENOENT;
}

int bitmap_release(struct bitmap __arena *bitmap __arg_arena, u32 bit)
{
	u64 mask = 1ull << bit % 64;

	uses_arena(&arena);
	if (bit >= BITMAP_WORDS * 64)
		return -EINVAL;
	return change(&bitmap->words[bit / 64], mask, 0) ? 0 : -ENOENT;
}

int bitmap_count(struct bitmap __arena *bitmap __arg_arena)
{
	u32 i;
	int count = 0;

	uses_arena(&arena);
	for (i = 0; i < BITMAP_WORDS && can_loop; i++) {
		u64 word = load_relaxed(&bitmap->words[i]);

		while (word && can_loop) {
			word &= word - 1;
			count++;
		}
	}
	return count;
}

LICENSE("Dual MIT/GPL");
