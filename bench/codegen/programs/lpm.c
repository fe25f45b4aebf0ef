#include "bench.h"
/* longest matching prefix of IPv4 addresses: a trie of one bit a level whose prefixes are inserted, then looked up */
struct node { struct { PTR(struct node, node); } child[2]; u32 value; u32 present; };
struct trie { PTR(struct node, root); PTR(struct node, pool); u64 used; };
typedef struct node __arena *node_t;
typedef struct trie __arena *trie_t;

static always_inline node_t fresh(trie_t t)
{
	node_t n = t->pool + t->used++;

	n->child[0].node = 0;
	n->child[1].node = 0;
	n->value = 0;
	n->present = 0;
	return n;
}

static noinline int insert(trie_t t, u32 prefix, u32 bits, u32 value)
{
	node_t n = t->root;
	u32 level;

	for (level = 0; level < bits && can_loop; level++) {
		u32 bit = (prefix >> ((31 - level) & 31)) & 1;
		node_t next = n->child[bit].node;

		if (!next) {
			next = fresh(t);
			n->child[bit].node = next;
		}
		n = next;
	}
	n->value = value;
	n->present = 1;
	return 0;
}

static always_inline u32 lookup(trie_t t, u32 address)
{
	node_t n = t->root;
	u32 best = 0;

	while (n && can_loop) {
		if (n->present)
			best = n->value;
		n = n->child[address >> 31].node;
		address <<= 1;
	}
	return best;
}

ENTRY
{
	mem_t mem = MEM(c);
	trie_t t = (trie_t)mem;
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	t->pool = (node_t)(mem + 64);
	t->used = 0;
	t->root = fresh(t);
	for (i = Z; i < n && can_loop; i++) {
		x = xs64(x);
		/* prefixes of 8 to 23 bits */
		insert(t, x >> 32, 8 + (x & 15), i + 1);
	}
	for (it = Z; it < c->iters && can_loop; it++)
		for (i = Z; i < n && can_loop; i++) {
			x = xs64(x);
			sum = sum * 3 + lookup(t, x >> 32);
		}
	c->ret = sum + t->used;
	return 0;
}
