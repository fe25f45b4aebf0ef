// SPDX-License-Identifier: MIT OR Apache-2.0
// Objects in a tree, in a list, in both, and in owned pointers; what is left of them when a map or its elements go.
#include "bpf_objects.h"

struct node {
	u64 key;
	struct bpf_rb_node branch;
	struct bpf_list_node link;
	struct bpf_refcount count;
};

in_section(graph) struct bpf_spin_lock lock;
in_section(graph) struct bpf_rb_root tree __contains(node, branch);
in_section(graph) struct bpf_list_head list __contains(node, link);

struct leaf {
	u64 number;
	struct bpf_list_node link;
};

/* An object that owns others. */
struct bunch {
	u64 number;
	struct bpf_spin_lock lock;
	struct bpf_list_head leaves __contains(leaf, link);
};

struct numbers {
	u64 number;
	u64 rest[3];
};

struct owner {
	struct bunch __kptr *bunch;
	struct numbers __percpu_kptr *numbers;
	u64 plain;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, struct owner);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, struct owner);
} array_owners SEC(".maps");

struct request {
	u64 key;
	u64 answer;
};

#define NOTHING 1000

static _Bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return container_of(a, struct node, branch)->key < container_of(b, struct node, branch)->key;
}

/* Puts a new node into the tree, and its other reference at the end of the list. */
SEC("syscall")
int insert(struct request *r)
{
	struct node *n = bpf_obj_new(struct node), *m;
	int in_tree, in_list;

	if (!n)
		return NOTHING;
	n->key = r->key;
	m = bpf_refcount_acquire(n);
	bpf_spin_lock(&lock);
	in_tree = bpf_rbtree_add(&tree, &n->branch, less);
	in_list = bpf_list_push_back(&list, &m->link);
	bpf_spin_unlock(&lock);
	return in_tree || in_list;
}

/* The same node twice: the second time its reference is dropped. */
SEC("syscall")
int insert_twice(struct request *r)
{
	struct node *n = bpf_obj_new(struct node), *m;
	int again;

	if (!n)
		return NOTHING;
	n->key = r->key;
	m = bpf_refcount_acquire(n);
	bpf_spin_lock(&lock);
	bpf_rbtree_add(&tree, &n->branch, less);
	again = bpf_rbtree_add(&tree, &m->branch, less);
	bpf_spin_unlock(&lock);
	return again;
}

/* Takes a node with this key out of the tree; 1 if there was one. */
SEC("syscall")
int remove(struct request *r)
{
	struct bpf_rb_node *at, *found = NULL;

	bpf_spin_lock(&lock);
	at = bpf_rbtree_root(&tree);
	while (at && can_loop) {
		u64 key = container_of(at, struct node, branch)->key;

		if (key == r->key) {
			found = bpf_rbtree_remove(&tree, at);
			break;
		}
		at = r->key < key ? bpf_rbtree_left(&tree, at) : bpf_rbtree_right(&tree, at);
	}
	bpf_spin_unlock(&lock);
	if (!found)
		return 0;
	bpf_obj_drop(container_of(found, struct node, branch));
	return 1;
}

/* The key of the node that a path leads to, bit by bit from the lowest (1: right), the highest one marking its end. */
SEC("syscall")
int at_path(struct request *r)
{
	struct bpf_rb_node *at;
	u64 path = r->key;
	int found = 0;

	bpf_spin_lock(&lock);
	at = bpf_rbtree_root(&tree);
	while (at && path > 1 && can_loop) {
		at = path & 1 ? bpf_rbtree_right(&tree, at) : bpf_rbtree_left(&tree, at);
		path >>= 1;
	}
	if (at) {
		r->answer = container_of(at, struct node, branch)->key;
		found = 1;
	}
	bpf_spin_unlock(&lock);
	return found;
}

SEC("syscall")
int first(struct request *r)
{
	struct bpf_rb_node *at;
	int found = 0;

	bpf_spin_lock(&lock);
	at = bpf_rbtree_first(&tree);
	if (at) {
		r->answer = container_of(at, struct node, branch)->key;
		found = 1;
	}
	bpf_spin_unlock(&lock);
	return found;
}

/* Puts a node into the list alone. */
SEC("syscall")
int push_front(struct request *r)
{
	struct node *n = bpf_obj_new(struct node);
	int result;

	if (!n)
		return NOTHING;
	n->key = r->key;
	bpf_spin_lock(&lock);
	result = bpf_list_push_front(&list, &n->link);
	bpf_spin_unlock(&lock);
	return result;
}

SEC("syscall")
int pop_front(struct request *r)
{
	struct bpf_list_node *link;
	struct node *n;

	bpf_spin_lock(&lock);
	link = bpf_list_pop_front(&list);
	bpf_spin_unlock(&lock);
	if (!link)
		return 0;
	n = container_of(link, struct node, link);
	r->answer = n->key;
	bpf_obj_drop(n);
	return 1;
}

SEC("syscall")
int pop_back(struct request *r)
{
	struct bpf_list_node *link;
	struct node *n;

	bpf_spin_lock(&lock);
	link = bpf_list_pop_back(&list);
	bpf_spin_unlock(&lock);
	if (!link)
		return 0;
	n = container_of(link, struct node, link);
	r->answer = n->key;
	bpf_obj_drop(n);
	return 1;
}

/* The keys at both ends: the first above, the last below. */
SEC("syscall")
int ends(struct request *r)
{
	struct bpf_list_node *front, *back;
	int found = 0;

	bpf_spin_lock(&lock);
	front = bpf_list_front(&list);
	back = bpf_list_back(&list);
	if (front && back) {
		r->answer = container_of(front, struct node, link)->key << 32 |
			    container_of(back, struct node, link)->key;
		found = 1;
	}
	bpf_spin_unlock(&lock);
	return found;
}

static __always_inline struct owner *owner_of(struct request *r)
{
	struct owner none = {};
	u32 key = r->key;

	if (key >= 100) {
		key -= 100;
		return bpf_map_lookup_elem(&array_owners, &key);
	}
	bpf_map_update_elem(&owners, &key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&owners, &key);
}

/* Gives an owner a bunch with three leaves; 1 if it had one. */
SEC("syscall")
int give_bunch(struct request *r)
{
	struct owner *owner = owner_of(r);
	struct bunch *bunch, *old;
	struct leaf *leaf;
	int i;

	if (!owner)
		return NOTHING;
	bunch = bpf_obj_new(struct bunch);
	if (!bunch)
		return NOTHING;
	bunch->number = r->key;
	bpf_for(i, 0, 3) {
		leaf = bpf_obj_new(struct leaf);
		if (!leaf)
			break;
		leaf->number = i;
		bpf_spin_lock(&bunch->lock);
		bpf_list_push_back(&bunch->leaves, &leaf->link);
		bpf_spin_unlock(&bunch->lock);
	}
	old = bpf_kptr_xchg(&owner->bunch, bunch);
	if (!old)
		return 0;
	r->answer = old->number;
	bpf_obj_drop(old);
	return 1;
}

/* Takes the bunch away again; 1 if there is one. */
SEC("syscall")
int take_bunch(struct request *r)
{
	struct owner *owner = owner_of(r);
	struct bunch *bunch;

	if (!owner)
		return NOTHING;
	bunch = bpf_kptr_xchg(&owner->bunch, NULL);
	if (!bunch)
		return 0;
	r->answer = bunch->number;
	bpf_obj_drop(bunch);
	return 1;
}

/* Looks at the number of the bunch without taking it. */
SEC("syscall")
int look_at_bunch(struct request *r)
{
	struct owner *owner = owner_of(r);
	struct bunch *bunch;
	int found = 0;

	if (!owner)
		return NOTHING;
	bpf_rcu_read_lock();
	bunch = owner->bunch;
	if (bunch) {
		r->answer = bunch->number;
		found = 1;
	}
	bpf_rcu_read_unlock();
	return found;
}

/* A new element's owned pointers are NULL, whatever the given value says; 0 if so. */
SEC("syscall")
int new_owner(struct request *r)
{
	struct owner given = { .plain = 5 }, *owner;
	u32 key = r->key;

	bpf_map_delete_elem(&owners, &key);
	((volatile u64 *)&given)[0] = 0x4141414141414141;
	if (bpf_map_update_elem(&owners, &key, &given, BPF_ANY))
		return NOTHING;
	owner = bpf_map_lookup_elem(&owners, &key);
	if (!owner)
		return NOTHING;
	return owner->bunch != NULL || owner->plain != 5;
}

/* Adds to this CPU's number of an owner, and sums up all of them. */
SEC("syscall")
int count_here(struct request *r)
{
	struct owner *owner = owner_of(r);
	struct numbers *fresh, *numbers;
	int cpu;

	if (!owner)
		return NOTHING;
	if (!owner->numbers) {
		fresh = bpf_percpu_obj_new(struct numbers);
		if (!fresh)
			return NOTHING;
		fresh = bpf_kptr_xchg(&owner->numbers, fresh);
		if (fresh)
			bpf_percpu_obj_drop(fresh);
	}
	r->answer = 0;
	bpf_rcu_read_lock();
	numbers = owner->numbers;
	if (numbers) {
		((struct numbers *)bpf_this_cpu_ptr(numbers))->number++;
		bpf_for(cpu, 0, 512) {
			struct numbers *other = bpf_per_cpu_ptr(numbers, cpu);

			if (!other)
				break;
			r->answer += other->number;
		}
	}
	bpf_rcu_read_unlock();
	return 0;
}

LICENSE("Dual MIT/GPL");
