// SPDX-License-Identifier: MIT OR Apache-2.0
// Executes a list of operations on a map, whatever the map's type: the same list on two engines gives the same answers.
//
// The host replaces the declaration of `subject` before it loads the object, fills `script`, and loads the program that
// suits the map's type. What the program may know of the map's sizes it finds in constants.
#include "bpf_maps.h"

struct bpf_dynptr {
	u64 opaque[2];
} __attribute__((aligned(8)));

struct task_struct;

/* As much of a packet's context and of a socket as is looked at. */
struct bpf_sock {
	u32 bound_dev_if;
};

struct __sk_buff {
	u32 before[42];
	struct bpf_sock *sk;
};

static void *(*const bpf_get_local_storage)(void *map, u64 flags) = (void *)81;
static struct bpf_sock *(*const bpf_sk_fullsock)(struct bpf_sock *sk) = (void *)95;
static void *(*const bpf_sk_storage_get)(void *map, void *sk, void *value, u64 flags) = (void *)107;
static long (*const bpf_sk_storage_delete)(void *map, void *sk) = (void *)108;
static void *(*const bpf_task_storage_get)(void *map, struct task_struct *task, void *value, u64 flags) = (void *)156;
static long (*const bpf_task_storage_delete)(void *map, struct task_struct *task) = (void *)157;
static struct task_struct *(*const bpf_get_current_task_btf)(void) = (void *)158;
static long (*const bpf_dynptr_read)(void *dst, u32 len, const struct bpf_dynptr *src, u32 offset, u64 flags) = (void *)201;
static long (*const bpf_user_ringbuf_drain)(void *map, void *callback, void *ctx, u64 flags) = (void *)209;

#define OPS 32
#define KEY_BYTES 32
#define VALUE_BYTES 64
#define WALK_KEYS 64

enum op_kind {
	OP_LOOKUP,
	OP_UPDATE,
	OP_DELETE,
	/* Looks up and writes the value where it lies. */
	OP_STORE,
	OP_LOOKUP_PERCPU,
	/* bpf_for_each_map_elem over at most `arg` elements, none for 0. */
	OP_WALK,
	/* The same, and elements with odd keys are deleted while they are visited. */
	OP_WALK_DELETE,
	OP_PUSH,
	OP_POP,
	OP_PEEK,
	OP_OUTPUT,
	OP_RESERVE_SUBMIT,
	OP_RESERVE_DISCARD,
	OP_QUERY,
	/* In the inner map at `key`, on its element with the number `arg`. */
	OP_INNER_LOOKUP,
	OP_INNER_UPDATE,
	OP_INNER_DELETE,
	/* Takes at most `arg` records out of a user ring buffer. */
	OP_DRAIN,
	/* The owner's value in a local storage: its contents, which are replaced if `arg` is not 0. */
	OP_OWN_GET,
	/* The same, created with the operation's value. */
	OP_OWN_GET_WITH,
	OP_OWN_DELETE,
};

struct op {
	u32 kind;
	u32 arg;
	u64 flags;
	u8 key[KEY_BYTES];
	u8 value[VALUE_BYTES];
	s64 result;
	u8 out[VALUE_BYTES];
};

struct script {
	u32 count;
	u32 walked;
	struct op ops[OPS];
	u8 walk[WALK_KEYS][KEY_BYTES];
};

struct script script;

/* Sizes of the subject's keys and values; and how many bytes of a value belong to the kernel (a lock at its start). */
const volatile u32 key_size = 4;
const volatile u32 value_size = 8;
const volatile u32 locked_bytes = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(key_size, 4);
	__uint(value_size, 8);
	__uint(max_entries, 4);
} subject SEC(".maps");

/* What maps of maps are given: two that fit, one that does not. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 8);
	__uint(max_entries, 2);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 16);
	__uint(max_entries, 2);
} inner_other SEC(".maps");

struct locked_value {
	struct bpf_spin_lock lock;
	u8 bytes[12];
};

/* Its types are lent to subjects whose values have a lock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct locked_value);
} locked SEC(".maps");

struct bytes13 {
	u8 bytes[13];
};

struct bytes40 {
	u8 bytes[40];
};

/* The types of their keys and values are lent to local storages. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, u64);
} stored_8 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct bytes13);
} stored_13 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct bytes40);
} stored_40 SEC(".maps");

static __always_inline void copy_value(u8 *to, const u8 *from)
{
	u32 at;

	for (at = 0; at < VALUE_BYTES; at++) {
		if (at >= value_size)
			break;
		if (at >= locked_bytes)
			to[at] = from[at];
	}
}

static __always_inline void found(struct op *op, const u8 *value)
{
	op->result = value != NULL;
	if (value)
		copy_value(op->out, value);
}

struct walk_state {
	u32 limit;
	u32 deletes;
};

static long visit(void *map, u8 *key, u8 *value, struct walk_state *state)
{
	u32 number = script.walked, at;

	if (number >= state->limit || number >= WALK_KEYS)
		return 1;
	for (at = 0; at < KEY_BYTES; at++) {
		if (at >= key_size)
			break;
		script.walk[number][at] = key[at];
	}
	script.walked = number + 1;
	if (state->deletes && (key[0] & 1))
		bpf_map_delete_elem(map, key);
	return 0;
}

static __always_inline void element(struct op *op)
{
	u8 *value;

	switch (op->kind) {
	case OP_LOOKUP:
		found(op, bpf_map_lookup_elem(&subject, op->key));
		break;
	case OP_UPDATE:
		op->result = bpf_map_update_elem(&subject, op->key, op->value, op->flags);
		break;
	case OP_DELETE:
		op->result = bpf_map_delete_elem(&subject, op->key);
		break;
	case OP_STORE:
		value = bpf_map_lookup_elem(&subject, op->key);
		op->result = value != NULL;
		if (value)
			copy_value(value, op->value);
		break;
	}
}

static __always_inline void walk(struct op *op)
{
	struct walk_state state = { .limit = op->arg, .deletes = op->kind == OP_WALK_DELETE };

	if (op->kind != OP_WALK && op->kind != OP_WALK_DELETE)
		return;
	op->result = bpf_for_each_map_elem(&subject, visit, &state, op->flags);
}

/* The operations of a script, each given to `each`. */
#define for_each_op(op)                                                                                                \
	u32 at_ = 0;                                                                                                   \
	bpf_for(at_, 0, OPS)                                                                                           \
		if (at_ < script.count && at_ < OPS)                                                                   \
			for (struct op *op = &script.ops[at_]; op; op = NULL)

/* Maps whose elements cannot be walked by a program, and that a program that may sleep cannot use. */
SEC("?raw_tp")
int elements(void *ctx)
{
	for_each_op(op)
		element(op);
	return 0;
}

SEC("?syscall")
int walked(void *ctx)
{
	for_each_op(op) {
		element(op);
		walk(op);
	}
	return 0;
}

SEC("?syscall")
int percpu(void *ctx)
{
	for_each_op(op) {
		element(op);
		walk(op);
		if (op->kind == OP_LOOKUP_PERCPU)
			found(op, bpf_map_lookup_percpu_elem(&subject, op->key, op->arg));
	}
	return 0;
}

SEC("?raw_tp")
int queue(void *ctx)
{
	for_each_op(op) {
		switch (op->kind) {
		case OP_PUSH:
			op->result = bpf_map_push_elem(&subject, op->value, op->flags);
			break;
		case OP_POP:
			op->result = bpf_map_pop_elem(&subject, op->out);
			break;
		case OP_PEEK:
			op->result = bpf_map_peek_elem(&subject, op->out);
			break;
		}
	}
	return 0;
}

SEC("?raw_tp")
int bloom(void *ctx)
{
	for_each_op(op) {
		switch (op->kind) {
		case OP_PUSH:
			op->result = bpf_map_push_elem(&subject, op->value, op->flags);
			break;
		case OP_PEEK:
			op->result = bpf_map_peek_elem(&subject, op->value);
			break;
		}
	}
	return 0;
}

/* Reserves a record of one of three sizes. */
static __always_inline void *reserve(u32 size, u64 flags)
{
	switch (size) {
	case 8:
		return bpf_ringbuf_reserve(&subject, 8, flags);
	case 1000:
		return bpf_ringbuf_reserve(&subject, 1000, flags);
	default:
		return bpf_ringbuf_reserve(&subject, 61, flags);
	}
}

SEC("?syscall")
int ring(void *ctx)
{
	for_each_op(op) {
		u64 *record;
		u64 size;

		switch (op->kind) {
		case OP_OUTPUT:
			size = op->arg;
			barrier_var(size);
			if (size <= VALUE_BYTES)
				op->result = bpf_ringbuf_output(&subject, op->value, size, op->flags);
			break;
		case OP_RESERVE_SUBMIT:
		case OP_RESERVE_DISCARD:
			record = reserve(op->arg, op->flags);
			op->result = record != NULL;
			if (!record)
				break;
			*record = *(u64 *)op->value;
			if (op->kind == OP_RESERVE_SUBMIT)
				bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
			else
				bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
			break;
		case OP_QUERY:
			op->result = bpf_ringbuf_query(&subject, op->flags);
			break;
		}
	}
	return 0;
}

/* Maps of maps, whose inner maps have numbers as keys and values of `value_size`. */
SEC("?syscall")
int nested(void *ctx)
{
	for_each_op(op) {
		void *inner = bpf_map_lookup_elem(&subject, op->key);
		u32 number = op->arg;

		op->result = -1000;
		if (!inner)
			continue;
		switch (op->kind) {
		case OP_INNER_LOOKUP:
			found(op, bpf_map_lookup_elem(inner, &number));
			break;
		case OP_INNER_UPDATE:
			op->result = bpf_map_update_elem(inner, &number, op->value, op->flags);
			break;
		case OP_INNER_DELETE:
			op->result = bpf_map_delete_elem(inner, &number);
			break;
		}
	}
	return 0;
}

/* Keeps the beginning of a record, as much as there is up to a power of two. */
static long keep_record(struct bpf_dynptr *from, u32 *left)
{
	u32 number = script.walked;
	u8 *to;

	if (number >= WALK_KEYS)
		return 1;
	to = script.walk[number];
	if (bpf_dynptr_read(to, 32, from, 0, 0) && bpf_dynptr_read(to, 8, from, 0, 0) && bpf_dynptr_read(to, 1, from, 0, 0))
		to[KEY_BYTES - 1] = 0xff; /* an empty one */
	script.walked = number + 1;
	return --*left == 0;
}

SEC("?syscall")
int user_ring(void *ctx)
{
	for_each_op(op) {
		u32 left = op->arg;

		if (op->kind == OP_DRAIN)
			op->result = bpf_user_ringbuf_drain(&subject, keep_record, &left, op->flags);
		else if (op->kind == OP_QUERY)
			op->result = -1000;
	}
	return 0;
}

/* What a storage gave for an owner. */
static __always_inline void own(struct op *op, u8 *value)
{
	found(op, value);
	if (value && op->arg)
		copy_value(value, op->value);
}

SEC("?syscall")
int task_storage(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();

	for_each_op(op) {
		switch (op->kind) {
		case OP_OWN_GET:
			own(op, bpf_task_storage_get(&subject, task, NULL, op->flags));
			break;
		case OP_OWN_GET_WITH:
			own(op, bpf_task_storage_get(&subject, task, op->value, op->flags));
			break;
		case OP_OWN_DELETE:
			op->result = bpf_task_storage_delete(&subject, task);
			break;
		}
	}
	return 0;
}

/* The packet's socket, which a run on a packet makes for itself. */
SEC("?tc")
int socket_storage(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	for_each_op(op) {
		switch (op->kind) {
		case OP_OWN_GET:
			own(op, bpf_sk_storage_get(&subject, sk, NULL, op->flags));
			break;
		case OP_OWN_GET_WITH:
			own(op, bpf_sk_storage_get(&subject, sk, op->value, op->flags));
			break;
		case OP_OWN_DELETE:
			op->result = bpf_sk_storage_delete(&subject, sk);
			break;
		}
	}
	return 0;
}

/* The value that belongs to the program where it is attached. */
SEC("?cgroup_skb/egress")
int group_storage(struct __sk_buff *skb)
{
	for_each_op(op)
		if (op->kind == OP_OWN_GET)
			own(op, bpf_get_local_storage(&subject, 0));
	return 1;
}

LICENSE("Dual MIT/GPL");
