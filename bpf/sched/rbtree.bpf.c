// SPDX-License-Identifier: MIT OR Apache-2.0
// A red-black tree. Children that are not there are one black node, `nil`, so that every node has a colour and a parent.
#include "sched.h"

/* Side of its parent on which the node is. */
static int side(struct rb_node __arena *parent, struct rb_node __arena *node)
{
	return same(parent->child[1], node);
}

/* Puts `new` where `old` is below its parent. */
static void replace(struct rb_tree __arena *tree, struct rb_node __arena *old, struct rb_node __arena *new)
{
	struct rb_node __arena *parent = old->parent;

	if (same(parent, tree->nil))
		tree->root = new;
	else
		parent->child[side(parent, old)] = new;
	new->parent = parent;
}

/* Moves the node down to the side `to`; its child of the other side comes up. */
static void rotate(struct rb_tree __arena *tree, struct rb_node __arena *node, int to)
{
	struct rb_node __arena *up = node->child[!to], *between = up->child[to];

	replace(tree, node, up);
	node->child[!to] = between;
	if (!same(between, tree->nil))
		between->parent = node;
	up->child[to] = node;
	node->parent = up;
}

/* No red node has a red parent: repairs what a new red node broke. */
static void after_insert(struct rb_tree __arena *tree, struct rb_node __arena *node)
{
	while (node->parent->red && can_loop) {
		struct rb_node __arena *parent = node->parent, *grand = parent->parent, *uncle;
		int at = side(grand, parent);

		uncle = grand->child[!at];
		if (uncle->red) {
			parent->red = 0;
			uncle->red = 0;
			grand->red = 1;
			node = grand;
			continue;
		}
		if (same(parent->child[!at], node)) {
			rotate(tree, parent, at);
			node = parent;
			parent = node->parent;
		}
		parent->red = 0;
		grand->red = 1;
		rotate(tree, grand, !at);
	}
	tree->root->red = 0;
}

/* Every way down has as many black nodes: repairs what is missing below and at `node`. */
static void after_remove(struct rb_tree __arena *tree, struct rb_node __arena *node)
{
	while (!same(node, tree->root) && !node->red && can_loop) {
		struct rb_node __arena *parent = node->parent, *sibling;
		int at = side(parent, node);

		sibling = parent->child[!at];
		if (sibling->red) {
			sibling->red = 0;
			parent->red = 1;
			rotate(tree, parent, at);
			sibling = parent->child[!at];
		}
		if (!sibling->child[0]->red && !sibling->child[1]->red) {
			sibling->red = 1;
			node = parent;
			continue;
		}
		if (!sibling->child[!at]->red) {
			sibling->child[at]->red = 0;
			sibling->red = 1;
			rotate(tree, sibling, !at);
			sibling = parent->child[!at];
		}
		sibling->red = parent->red;
		parent->red = 0;
		sibling->child[!at]->red = 0;
		rotate(tree, parent, at);
		break;
	}
	node->red = 0;
}

static struct rb_node __arena *find(struct rb_tree __arena *tree, u64 key)
{
	struct rb_node __arena *node = tree->root, *nil = tree->nil;

	while (!same(node, nil) && can_loop) {
		u64 here = node->key;

		if (here == key)
			return node;
		node = node->child[here < key];
	}
	return NULL;
}

static int insert(struct rb_tree __arena *tree, u64 key, u64 value)
{
	struct rb_node __arena *nil = tree->nil, *parent = nil, *at = tree->root, *node;
	int to = 0;

	while (!same(at, nil) && can_loop) {
		u64 here = at->key;

		if (here == key)
			return -EEXIST;
		to = here < key;
		parent = at;
		at = at->child[to];
	}
	node = arena_from_user(struct rb_node, slab_alloc(&tree->nodes));
	if (!node)
		return -ENOMEM;
	node->key = key;
	node->value = value;
	node->red = 1;
	node->child[0] = nil;
	node->child[1] = nil;
	node->parent = parent;
	if (same(parent, nil))
		tree->root = node;
	else
		parent->child[to] = node;
	tree->count++;
	after_insert(tree, node);
	return 0;
}

static int remove(struct rb_tree __arena *tree, u64 key)
{
	struct rb_node __arena *node = find(tree, key), *nil = tree->nil, *moved;
	u64 red;

	if (!node)
		return -ENOENT;
	red = node->red;
	if (same(node->child[0], nil) || same(node->child[1], nil)) {
		moved = node->child[same(node->child[0], nil)];
		replace(tree, node, moved);
	} else {
		struct rb_node __arena *next = node->child[1];

		while (!same(next->child[0], nil) && can_loop)
			next = next->child[0];
		red = next->red;
		moved = next->child[1];
		if (same(next->parent, node)) {
			moved->parent = next;
		} else {
			replace(tree, next, moved);
			next->child[1] = node->child[1];
			next->child[1]->parent = next;
		}
		replace(tree, node, next);
		next->child[0] = node->child[0];
		next->child[0]->parent = next;
		next->red = node->red;
	}
	if (!red)
		after_remove(tree, moved);
	tree->count--;
	return slab_free(&tree->nodes, arena_to_user(node));
}

int rb_init(struct rb_tree __arena *tree __arg_arena)
{
	struct rb_node __arena *nil;

	uses_arena(&arena);
	tree->nodes.object_size = sizeof(struct rb_node);
	nil = arena_from_user(struct rb_node, slab_alloc(&tree->nodes));
	if (!nil)
		return -ENOMEM;
	nil->red = 0;
	nil->child[0] = nil;
	nil->child[1] = nil;
	nil->parent = nil;
	tree->nil = nil;
	tree->root = nil;
	return 0;
}

int rb_insert(struct rb_tree __arena *tree __arg_arena, u64 key, u64 value)
{
	int err;

	uses_arena(&arena);
	if (lock_take(&tree->lock))
		return -EBUSY;
	err = insert(tree, key, value);
	lock_release(&tree->lock);
	return err;
}

int rb_remove(struct rb_tree __arena *tree __arg_arena, u64 key)
{
	int err;

	uses_arena(&arena);
	if (lock_take(&tree->lock))
		return -EBUSY;
	err = remove(tree, key);
	lock_release(&tree->lock);
	return err;
}

u64 rb_lower_bound(struct rb_tree __arena *tree __arg_arena, u64 key)
{
	struct rb_node __arena *node, *nil;
	u64 found = ~0ull;

	uses_arena(&arena);
	if (lock_take(&tree->lock))
		return found;
	node = tree->root;
	nil = tree->nil;
	while (!same(node, nil) && can_loop) {
		u64 here = node->key;

		if (here >= key)
			found = here;
		node = node->child[here < key];
	}
	lock_release(&tree->lock);
	return found;
}

LICENSE("Dual MIT/GPL");
