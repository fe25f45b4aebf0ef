#include "bench.h"
/* red-black tree with parent pointers: inserts, lookups, erases of random keys, an ordered walk */
enum { RED, BLACK };
struct node {
	PTR(struct node, parent);
	PTR(struct node, left);
	PTR(struct node, right);
	u64 color;
	u64 key;
	u64 value;
};
struct tree { PTR(struct node, root); PTR(struct node, free); u64 count; };

typedef struct node __arena *node_t;
typedef struct tree __arena *tree_t;

static always_inline void replace_child(tree_t t, node_t parent, node_t old, node_t new)
{
	if (!parent)
		t->root = new;
	else if (parent->left == old)
		parent->left = new;
	else
		parent->right = new;
}

static always_inline void rotate_left(tree_t t, node_t x)
{
	node_t y = x->right;

	x->right = y->left;
	if (y->left)
		y->left->parent = x;
	y->parent = x->parent;
	replace_child(t, x->parent, x, y);
	y->left = x;
	x->parent = y;
}

static always_inline void rotate_right(tree_t t, node_t x)
{
	node_t y = x->left;

	x->left = y->right;
	if (y->right)
		y->right->parent = x;
	y->parent = x->parent;
	replace_child(t, x->parent, x, y);
	y->right = x;
	x->parent = y;
}

static node_t find(tree_t t, u64 key)
{
	node_t n = t->root;

	while (n && can_loop) {
		if (key == n->key)
			return n;
		n = key < n->key ? n->left : n->right;
	}
	return 0;
}

static noinline u64 insert(tree_t t, node_t fresh, u64 key)
{
	node_t parent = 0, n = t->root;

	while (n && can_loop) {
		parent = n;
		if (key == n->key) {
			n->value++;
			return 0;
		}
		n = key < n->key ? n->left : n->right;
	}
	fresh->key = key;
	fresh->value = 1;
	fresh->color = RED;
	fresh->parent = parent;
	fresh->left = 0;
	fresh->right = 0;
	if (!parent)
		t->root = fresh;
	else if (key < parent->key)
		parent->left = fresh;
	else
		parent->right = fresh;
	t->count++;

	n = fresh;
	while (can_loop) {
		node_t grand, uncle;

		parent = n->parent;
		if (!parent || parent->color == BLACK)
			break;
		grand = parent->parent;
		if (parent == grand->left) {
			uncle = grand->right;
			if (uncle && uncle->color == RED) {
				parent->color = BLACK;
				uncle->color = BLACK;
				grand->color = RED;
				n = grand;
				continue;
			}
			if (n == parent->right) {
				rotate_left(t, parent);
				n = parent;
				parent = n->parent;
			}
			parent->color = BLACK;
			grand->color = RED;
			rotate_right(t, grand);
		} else {
			uncle = grand->left;
			if (uncle && uncle->color == RED) {
				parent->color = BLACK;
				uncle->color = BLACK;
				grand->color = RED;
				n = grand;
				continue;
			}
			if (n == parent->left) {
				rotate_right(t, parent);
				n = parent;
				parent = n->parent;
			}
			parent->color = BLACK;
			grand->color = RED;
			rotate_left(t, grand);
		}
		break;
	}
	t->root->color = BLACK;
	return 1;
}

static always_inline u64 is_black(node_t n)
{
	return !n || n->color == BLACK;
}

static noinline u64 rebalance(tree_t t, node_t n, node_t parent)
{
	u64 steps = 0;

	while (n != t->root && is_black(n) && can_loop) {
		node_t s;

		steps++;
		if (n == parent->left) {
			s = parent->right;
			if (s->color == RED) {
				s->color = BLACK;
				parent->color = RED;
				rotate_left(t, parent);
				s = parent->right;
			}
			if (is_black(s->left) && is_black(s->right)) {
				s->color = RED;
				n = parent;
				parent = n->parent;
				continue;
			}
			if (is_black(s->right)) {
				s->left->color = BLACK;
				s->color = RED;
				rotate_right(t, s);
				s = parent->right;
			}
			s->color = parent->color;
			parent->color = BLACK;
			s->right->color = BLACK;
			rotate_left(t, parent);
		} else {
			s = parent->left;
			if (s->color == RED) {
				s->color = BLACK;
				parent->color = RED;
				rotate_right(t, parent);
				s = parent->left;
			}
			if (is_black(s->left) && is_black(s->right)) {
				s->color = RED;
				n = parent;
				parent = n->parent;
				continue;
			}
			if (is_black(s->left)) {
				s->right->color = BLACK;
				s->color = RED;
				rotate_left(t, s);
				s = parent->left;
			}
			s->color = parent->color;
			parent->color = BLACK;
			s->left->color = BLACK;
			rotate_right(t, parent);
		}
		n = t->root;
		break;
	}
	if (n)
		n->color = BLACK;
	return steps;
}

static noinline u64 erase(tree_t t, node_t n)
{
	node_t child, parent;
	u64 color = n->color, steps = 0;

	if (n->left && n->right) {
		/* the successor takes its place */
		node_t next = n->right;

		while (next->left && can_loop)
			next = next->left;
		color = next->color;
		child = next->right;
		parent = next->parent;
		if (parent == n) {
			parent = next;
		} else {
			parent->left = child;
			if (child)
				child->parent = parent;
			next->right = n->right;
			n->right->parent = next;
		}
		next->left = n->left;
		n->left->parent = next;
		next->parent = n->parent;
		next->color = n->color;
		replace_child(t, n->parent, n, next);
	} else {
		child = n->left ? n->left : n->right;
		parent = n->parent;
		if (child)
			child->parent = parent;
		replace_child(t, parent, n, child);
	}
	t->count--;
	if (color == BLACK)
		steps = rebalance(t, child, parent);
	n->left = t->free;
	t->free = n;
	return steps;
}

static always_inline u64 walk(tree_t t)
{
	node_t n = t->root;
	u64 sum = 0;

	while (n && n->left && can_loop)
		n = n->left;
	while (n && can_loop) {
		sum = sum * 31 + n->key + n->value;
		if (n->right) {
			n = n->right;
			while (n->left && can_loop)
				n = n->left;
		} else {
			node_t child = n;

			n = n->parent;
			while (n && n->right == child && can_loop) {
				child = n;
				n = n->parent;
			}
		}
	}
	return sum;
}

ENTRY
{
	mem_t mem = MEM(c);
	tree_t t = (tree_t)mem;
	node_t pool = (node_t)(mem + 64);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	t->root = 0;
	t->free = 0;
	t->count = 0;
	for (i = Z; i < n && can_loop; i++) {
		pool[i].left = t->free;
		t->free = &pool[i];
	}
	for (it = Z; it < c->iters && can_loop; it++) {
		for (i = Z; i < n && can_loop; i++) {
			u64 key;
			node_t found;

			x = xs64(x);
			key = x & 0xffff;
			switch ((x >> 32) & 3) {
			case 0:
			case 1:
				if (t->free) {
					node_t fresh = t->free;
					node_t rest = fresh->left;

					if (insert(t, fresh, key))
						t->free = rest;
				}
				break;
			case 2:
				found = find(t, key);
				if (found)
					sum += found->value;
				break;
			default:
				found = find(t, key);
				if (found)
					sum += erase(t, found);
			}
		}
		sum += walk(t);
	}
	c->ret = sum * 3 + t->count;
	return 0;
}
