#include "bench.h"
/* callbacks: entries of a table are counted, filtered and aged by functions that a loop calls */
struct entry { u64 key; u32 hits; u32 age; };
struct work { PTR(struct entry, entries); u64 wanted; u64 found; u64 sum; };

static long age(u32 at, void *data)
{
	struct work *w = data;
	struct entry __arena *e = &w->entries[at];

	e->age++;
	if (e->age > 100) {
		e->age = 0;
		e->hits >>= 1;
	}
	w->sum += e->hits;
	return 0;
}

static long find(u32 at, void *data)
{
	struct work *w = data;
	struct entry __arena *e = &w->entries[at];

	if (e->key != w->wanted)
		return 0;
	e->hits++;
	w->found = at + 1;
	return 1;
}

static long total(u32 at, void *data)
{
	struct work *w = data;
	struct entry __arena *e = &w->entries[at];

	if (e->age & 1)
		w->sum += e->key & 0xffff;
	else
		w->sum ^= (u64)e->hits << 7;
	return 0;
}

ENTRY
{
	mem_t mem = MEM(c);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	struct work w = { .entries = (struct entry __arena *)mem };
	USE_ARENA(); const u64 Z = c->zero;

	for (i = Z; i < n && can_loop; i++) {
		x = xs64(x);
		w.entries[i].key = x;
		w.entries[i].hits = x >> 50;
		w.entries[i].age = x & 63;
	}
	for (it = Z; it < c->iters && can_loop; it++) {
		w.sum = it;
		w.found = 0;
		x = xs64(x);
		w.wanted = w.entries[((x >> 32) * n) >> 32].key;
		bpf_loop(n, age, &w, 0);
		bpf_loop(n, find, &w, 0);
		bpf_loop(n, total, &w, 0);
		sum = sum * 31 + w.sum + w.found;
	}
	c->ret = sum;
	return 0;
}
