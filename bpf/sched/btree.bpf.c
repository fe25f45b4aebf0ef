// SPDX-License-Identifier: MIT OR Apache-2.0
// A B-tree. On the way down, nodes that would overflow are split and nodes that would underflow are filled, so that no way
// back up is needed.
//
// What has loops is a global function, which the verifier walks once instead of in every state of its callers.
#include "sched.h"

typedef struct btree_node __arena *node_ptr;

static node_ptr new_node(struct btree __arena *tree, u64 leaf)
{
	node_ptr node = arena_from_user(struct btree_node, stack_alloc(&tree->nodes));

	if (node) {
		node->count = 0;
		node->leaf = leaf;
	}
	return node;
}

/* Copies a key with its value. */
static void copy(node_ptr to, u64 i, node_ptr from, u64 j)
{
	to->keys[i] = from->keys[j];
	to->values[i] = from->values[j];
}

/* Index of the first key that is not smaller. */
__noinline u64 btree_position(node_ptr node __arg_arena, u64 key)
{
	u64 i = 0, count = node->count;

	uses_arena(&arena);
	while (i < count && node->keys[i] < key && can_loop)
		i++;
	return i;
}

/* Opens a gap at `at` for a key, and for a child at `at + 1`. */
__noinline int btree_open_gap(node_ptr node __arg_arena, u64 at)
{
	u64 i;

	uses_arena(&arena);
	for (i = node->count; i > at && can_loop; i--) {
		copy(node, i, node, i - 1);
		if (!node->leaf)
			node->children[i + 1] = node->children[i];
	}
	node->count++;
	return 0;
}

/* Closes the gap that key `at` leaves, and child `at + 1`. */
__noinline int btree_close_gap(node_ptr node __arg_arena, u64 at)
{
	u64 i, count = node->count;

	uses_arena(&arena);
	for (i = at; i + 1 < count && can_loop; i++) {
		copy(node, i, node, i + 1);
		if (!node->leaf)
			node->children[i + 1] = node->children[i + 2];
	}
	node->count = count - 1;
	return 0;
}

/* Splits the full child `at` in two, with its middle key between them. */
__noinline int btree_split(struct btree __arena *tree __arg_arena, node_ptr parent __arg_arena, u64 at)
{
	node_ptr left = parent->children[at], right = new_node(tree, left->leaf);
	u64 i;

	if (!right)
		return -ENOMEM;
	for (i = 0; i < BTREE_LEAST - 1 && can_loop; i++)
		copy(right, i, left, i + BTREE_LEAST);
	if (!left->leaf) {
		for (i = 0; i < BTREE_LEAST && can_loop; i++)
			right->children[i] = left->children[i + BTREE_LEAST];
	}
	right->count = BTREE_LEAST - 1;
	left->count = BTREE_LEAST - 1;
	btree_open_gap(parent, at);
	parent->children[at + 1] = right;
	copy(parent, at, left, BTREE_LEAST - 1);
	return 0;
}

/* Joins the children `at` and `at + 1`, which have as few keys as allowed, with the key between them. */
__noinline int btree_join(struct btree __arena *tree __arg_arena, node_ptr parent __arg_arena, u64 at)
{
	node_ptr left = parent->children[at], right = parent->children[at + 1];
	u64 i;

	copy(left, BTREE_LEAST - 1, parent, at);
	for (i = 0; i < BTREE_LEAST - 1 && can_loop; i++)
		copy(left, i + BTREE_LEAST, right, i);
	if (!left->leaf) {
		for (i = 0; i < BTREE_LEAST && can_loop; i++)
			left->children[i + BTREE_LEAST] = right->children[i];
	}
	left->count = BTREE_KEYS;
	btree_close_gap(parent, at);
	return stack_free(&tree->nodes, arena_to_user(right));
}

static u64 count_of(node_ptr parent, u64 at)
{
	node_ptr child = parent->children[at];

	return child->count;
}

/* Sees to it that child `at` can lose a key, and gives the index of the child that it has become. */
__noinline u64 btree_fill(struct btree __arena *tree __arg_arena, node_ptr parent __arg_arena, u64 at)
{
	node_ptr child = parent->children[at], other;
	u64 last;

	if (child->count >= BTREE_LEAST)
		return at;
	if (at > 0 && count_of(parent, at - 1) >= BTREE_LEAST) {
		other = parent->children[at - 1];
		last = other->count - 1;
		/* The new first child is put before the others once they have moved. */
		btree_open_gap(child, 0);
		if (!child->leaf) {
			child->children[1] = child->children[0];
			child->children[0] = other->children[last + 1];
		}
		copy(child, 0, parent, at - 1);
		copy(parent, at - 1, other, last);
		other->count = last;
		return at;
	}
	if (at < parent->count && count_of(parent, at + 1) >= BTREE_LEAST) {
		other = parent->children[at + 1];
		last = child->count;
		copy(child, last, parent, at);
		copy(parent, at, other, 0);
		if (!child->leaf) {
			child->children[last + 1] = other->children[0];
			other->children[0] = other->children[1];
		}
		child->count = last + 1;
		btree_close_gap(other, 0);
		return at;
	}
	if (at == parent->count)
		at--;
	btree_join(tree, parent, at);
	return at;
}

__noinline int btree_find(struct btree __arena *tree __arg_arena, u64 key)
{
	node_ptr node = tree->root;

	while (can_loop) {
		u64 at = btree_position(node, key);

		if (at < node->count && node->keys[at] == key)
			return 1;
		if (node->leaf)
			return 0;
		node = node->children[at];
	}
	return 0;
}

static int insert(struct btree __arena *tree, u64 key, u64 value)
{
	node_ptr node = tree->root;
	u64 at;
	int err;

	if (btree_find(tree, key))
		return -EEXIST;
	if (node->count == BTREE_KEYS) {
		node_ptr root = new_node(tree, 0);

		if (!root)
			return -ENOMEM;
		root->children[0] = node;
		err = btree_split(tree, root, 0);
		if (err) {
			stack_free(&tree->nodes, arena_to_user(root));
			return err;
		}
		tree->root = root;
		node = root;
	}
	while (!node->leaf && can_loop) {
		at = btree_position(node, key);
		if (count_of(node, at) == BTREE_KEYS) {
			err = btree_split(tree, node, at);
			if (err)
				return err;
			if (node->keys[at] < key)
				at++;
		}
		node = node->children[at];
	}
	at = btree_position(node, key);
	btree_open_gap(node, at);
	node->keys[at] = key;
	node->values[at] = value;
	tree->count++;
	return 0;
}

/* The last node on the way to the largest (`last`) or smallest key below `node`. */
__noinline u64 btree_outermost(node_ptr node __arg_arena, int last)
{
	uses_arena(&arena);
	while (!node->leaf && can_loop)
		node = node->children[last ? node->count : 0];
	return arena_to_user(node);
}

static int remove(struct btree __arena *tree, u64 key)
{
	node_ptr node = tree->root, root = node, from;
	u64 at;

	if (!btree_find(tree, key))
		return -ENOENT;
	while (!node->leaf && can_loop) {
		at = btree_position(node, key);
		if (at >= node->count || node->keys[at] != key) {
			at = btree_fill(tree, node, at);
		} else if (count_of(node, at) >= BTREE_LEAST) {
			/* The key before it takes its place, and is the one to be removed further down. */
			from = arena_from_user(struct btree_node, btree_outermost(node->children[at], 1));
			copy(node, at, from, from->count - 1);
			key = node->keys[at];
		} else if (count_of(node, at + 1) >= BTREE_LEAST) {
			from = arena_from_user(struct btree_node, btree_outermost(node->children[at + 1], 0));
			copy(node, at, from, 0);
			at++;
			key = from->keys[0];
		} else {
			btree_join(tree, node, at);
		}
		node = node->children[at];
	}
	at = btree_position(node, key);
	if (at >= node->count || node->keys[at] != key)
		return -EUCLEAN;
	btree_close_gap(node, at);
	if (!root->count && !root->leaf) {
		tree->root = root->children[0];
		stack_free(&tree->nodes, arena_to_user(root));
	}
	tree->count--;
	return 0;
}

int btree_init(struct btree __arena *tree __arg_arena)
{
	node_ptr root;

	uses_arena(&arena);
	tree->nodes.object_size = 256;
	root = new_node(tree, 1);
	if (!root)
		return -ENOMEM;
	tree->root = root;
	return 0;
}

int btree_insert(struct btree __arena *tree __arg_arena, u64 key, u64 value)
{
	int err;

	uses_arena(&arena);
	if (lock_take(&tree->lock))
		return -EBUSY;
	err = insert(tree, key, value);
	lock_release(&tree->lock);
	return err;
}

int btree_remove(struct btree __arena *tree __arg_arena, u64 key)
{
	int err;

	uses_arena(&arena);
	if (lock_take(&tree->lock))
		return -EBUSY;
	err = remove(tree, key);
	lock_release(&tree->lock);
	return err;
}

int btree_contains(struct btree __arena *tree __arg_arena, u64 key)
{
	int found;

	uses_arena(&arena);
	if (lock_take(&tree->lock))
		return -EBUSY;
	found = btree_find(tree, key);
	lock_release(&tree->lock);
	return found;
}

LICENSE("Dual MIT/GPL");
