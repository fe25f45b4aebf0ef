#include "bench.h"
/* B+-tree of order 16: inserts with splits on the way down, point lookups, range scans over linked leaves */
#define MAX 16
struct node {
	u32 leaf;
	u32 count;
	u64 keys[MAX];
	PTR(struct node, next);
	u64 vals[MAX]; /* values of a leaf */
	struct { PTR(struct node, node); } kids[MAX + 1];
};
struct tree { PTR(struct node, root); PTR(struct node, pool); u64 used; u64 height; };
typedef struct node __arena *node_t;
typedef struct tree __arena *tree_t;

static always_inline node_t fresh(tree_t t, u32 leaf)
{
	node_t n = t->pool + t->used++;

	n->leaf = leaf;
	n->count = 0;
	n->next = 0;
	return n;
}

/* keys that are not above */
static always_inline u32 rank(node_t n, u64 key)
{
	u32 low = 0, high = n->count;

	while (low < high && can_loop) {
		u32 mid = (low + high) / 2;

		if (n->keys[mid & (MAX - 1)] <= key)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* splits the full child number `at` of `parent`, which has room */
static noinline int split(tree_t t, node_t parent, u32 at)
{
	node_t left = parent->kids[at].node, right = fresh(t, left->leaf);
	u32 half = MAX / 2, i;
	u64 up = left->keys[half];

	if (left->leaf) {
		for (i = half; i < MAX && can_loop; i++) {
			right->keys[i - half] = left->keys[i];
			right->vals[i - half] = left->vals[i];
		}
		right->count = MAX - half;
		right->next = left->next;
		left->next = right;
	} else {
		for (i = half + 1; i < MAX && can_loop; i++)
			right->keys[i - half - 1] = left->keys[i];
		for (i = half + 1; i <= MAX && can_loop; i++)
			right->kids[i - half - 1].node = left->kids[i].node;
		right->count = MAX - half - 1;
	}
	left->count = half;
	for (i = parent->count; i > at && can_loop; i--) {
		parent->keys[i] = parent->keys[i - 1];
		parent->kids[i + 1].node = parent->kids[i].node;
	}
	parent->keys[at] = up;
	parent->kids[at + 1].node = right;
	parent->count++;
	return 0;
}

static noinline int insert(tree_t t, u64 key, u64 value)
{
	node_t n = t->root;
	u32 at, i;

	if (n->count == MAX) {
		node_t root = fresh(t, 0);

		root->kids[0].node = n;
		t->root = root;
		t->height++;
		split(t, root, 0);
		n = root;
	}
	while (!n->leaf && can_loop) {
		at = rank(n, key);
		if (n->kids[at].node->count == MAX) {
			split(t, n, at);
			if (n->keys[at] <= key)
				at++;
		}
		n = n->kids[at].node;
	}
	at = rank(n, key);
	if (at > 0 && n->keys[at - 1] == key) {
		n->vals[at - 1] += value;
		return 0;
	}
	for (i = n->count; i > at && can_loop; i--) {
		n->keys[i] = n->keys[i - 1];
		n->vals[i] = n->vals[i - 1];
	}
	n->keys[at] = key;
	n->vals[at] = value;
	n->count++;
	return 1;
}

static always_inline node_t leaf_of(tree_t t, u64 key)
{
	node_t n = t->root;

	while (!n->leaf && can_loop)
		n = n->kids[rank(n, key)].node;
	return n;
}

ENTRY
{
	mem_t mem = MEM(c);
	tree_t t = (tree_t)mem;
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	t->pool = (node_t)(mem + 64);
	t->used = 0;
	t->height = 0;
	t->root = fresh(t, 1);
	for (i = Z; i < n && can_loop; i++) {
		x = xs64(x);
		sum += insert(t, x >> 44, i);
	}
	for (it = Z; it < c->iters && can_loop; it++) {
		for (i = Z; i < n && can_loop; i++) {
			node_t leaf;
			u32 at;
			u64 key;

			x = xs64(x);
			key = x >> 44;
			leaf = leaf_of(t, key);
			at = rank(leaf, key);
			if (at > 0 && leaf->keys[at - 1] == key)
				sum += leaf->vals[at - 1];
			if ((i & 31) == 0) {
				/* the next hundred values or so */
				u32 seen = Z, j;

				for (; leaf && seen < 100 && can_loop; leaf = leaf->next) {
					for (j = Z; j < leaf->count && can_loop; j++)
						sum = sum * 5 + leaf->vals[j];
					seen += leaf->count;
				}
			}
		}
	}
	c->ret = sum + t->used * 3 + t->height;
	return 0;
}
