// SPDX-License-Identifier: MIT OR Apache-2.0
// A machine as a tree of domains, each of which counts its idle CPUs.
//
// A CPU is claimed from the machine down and released from the CPU up, so that at any moment a domain's children have at
// least as many idle CPUs together as it has: who has claimed one of a domain will find it in one of its children.
#include "sched.h"

/* Two nodes of two caches of four cores of two CPUs. */
static u64 fan_out(u64 level)
{
	return level == 2 ? 4 : level < TOPOLOGY_LEVELS - 1 ? 2 : 0;
}

static int take_one(u64 __arena *count)
{
	u64 seen = load_relaxed(count);

	while (seen && can_loop) {
		u64 now = cmpxchg(count, seen, seen - 1);

		if (now == seen)
			return 1;
		seen = now;
	}
	return 0;
}

static u64 domain_at(u64 base, u64 index)
{
	return base + index * sizeof(struct domain);
}

int topology_init(struct topology __arena *topology __arg_arena)
{
	u64 base = pages_alloc(2), level, start = 0, width = 1, cpus = 32, i, child;

	uses_arena(&arena);
	if (!base)
		return -ENOMEM;
	for (level = 0; level < TOPOLOGY_LEVELS && can_loop; level++) {
		u64 children = fan_out(level), next = start + width;

		for (i = 0; i < width && can_loop; i++) {
			struct domain __arena *domain =
				arena_from_user(struct domain, domain_at(base, start + i));

			domain->level = level;
			domain->cpus = cpus;
			domain->idle = cpus;
			domain->first_cpu = i * cpus;
			domain->child_count = children;
			for (child = 0; child < children && can_loop; child++) {
				u64 address = domain_at(base, next + i * children + child);
				struct domain __arena *below = arena_from_user(struct domain, address);

				domain->children[child] = below;
				below->parent = domain;
			}
			if (!children && i < 64)
				topology->leaves[i] = domain_at(base, start + i);
		}
		start = next;
		topology->domains = next;
		if (children) {
			width *= children;
			cpus /= children;
		}
	}
	topology->cpus = width;
	topology->root = arena_from_user(struct domain, base);
	return 0;
}

/* The child in which one was claimed: the one with this CPU if it has one. */
static struct domain __arena *take_below(struct domain __arena *domain, u32 near)
{
	u64 i, first = (near - domain->first_cpu) * domain->child_count / domain->cpus;

	for (i = 0; i < domain->child_count && can_loop; i++) {
		struct domain __arena *child = domain->children[(first + i) % domain->child_count];

		if (take_one(&child->idle))
			return child;
	}
	return NULL;
}

int topology_claim(struct topology __arena *topology __arg_arena, u32 near)
{
	struct domain __arena *domain = topology->root, *child;

	uses_arena(&arena);
	if (!take_one(&domain->idle))
		return -ENOENT;
	while (domain->child_count && can_loop) {
		child = take_below(domain, near);
		/* Others may have taken what was seen, while more came back where it was not looked: look again. */
		if (child)
			domain = child;
	}
	return domain->first_cpu;
}

int topology_release(struct topology __arena *topology __arg_arena, u32 cpu)
{
	struct domain __arena *domain;

	uses_arena(&arena);
	if (cpu >= 64 || cpu >= topology->cpus)
		return -EINVAL;
	domain = arena_from_user(struct domain, topology->leaves[cpu]);
	while (domain && can_loop) {
		fetch_add(&domain->idle, 1);
		domain = domain->parent;
	}
	return 0;
}

LICENSE("Dual MIT/GPL");
