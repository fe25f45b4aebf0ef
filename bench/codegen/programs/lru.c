#include "bench.h"
/* LRU cache: a hash table and a doubly linked list in one entry; hits move to the front, misses evict the last */
#define BUCKETS 4096
struct entry {
	PTR(struct entry, chain);
	PTR(struct entry, next);
	PTR(struct entry, prev);
	u64 key;
	u64 value;
};
struct cache {
	struct entry list; /* head of the ring */
	u64 used;
	u64 hits;
	struct { PTR(struct entry, first); } buckets[BUCKETS];
};
typedef struct entry __arena *entry_t;
typedef struct cache __arena *cache_t;

static always_inline u32 bucket(u64 key)
{
	key ^= key >> 33;
	key *= 0xff51afd7ed558ccdULL;
	key ^= key >> 33;
	return key & (BUCKETS - 1);
}

static always_inline void list_del(entry_t e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
}

static always_inline void list_add(entry_t head, entry_t e)
{
	e->next = head->next;
	e->prev = head;
	head->next->prev = e;
	head->next = e;
}

static always_inline void chain_del(cache_t s, entry_t e)
{
	u32 b = bucket(e->key);
	entry_t at = s->buckets[b].first;

	if (at == e) {
		s->buckets[b].first = e->chain;
		return;
	}
	for (; at && can_loop; at = at->chain)
		if (at->chain == e) {
			at->chain = e->chain;
			return;
		}
}

static noinline u64 get(cache_t s, entry_t pool, u64 capacity, u64 key)
{
	u32 b = bucket(key);
	entry_t head = &s->list, e;

	for (e = s->buckets[b].first; e && can_loop; e = e->chain)
		if (e->key == key) {
			s->hits++;
			if (head->next != e) {
				list_del(e);
				list_add(head, e);
			}
			return e->value;
		}
	if (s->used < capacity) {
		e = &pool[s->used++];
	} else {
		e = head->prev;
		list_del(e);
		chain_del(s, e);
	}
	e->key = key;
	e->value = key * 3 + 1;
	e->chain = s->buckets[b].first;
	s->buckets[b].first = e;
	list_add(head, e);
	return e->value;
}

ENTRY
{
	mem_t mem = MEM(c);
	cache_t s = (cache_t)mem;
	entry_t pool = (entry_t)(mem + 65536);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	for (i = Z; i < BUCKETS && can_loop; i++)
		s->buckets[i].first = 0;
	s->list.next = &s->list;
	s->list.prev = &s->list;
	s->used = 0;
	s->hits = 0;
	for (it = Z; it < c->iters && can_loop; it++)
		for (i = Z; i < n && can_loop; i++) {
			u64 key;

			x = xs64(x);
			/* a quarter of the requests goes to a sixteenth of the keys */
			key = (x >> 32) % (2 * n);
			if ((x & 3) == 0)
				key >>= 4;
			sum += get(s, pool, n, key);
		}
	c->ret = sum * 31 + s->hits;
	return 0;
}
