// SPDX-License-Identifier: MIT OR Apache-2.0
// Executes a list of operations on a map, whatever the map's type: the same list on two engines gives the same answers.
//
// The host replaces the declaration of `subject` before it loads the object, fills `script`, and loads the program that
// suits the map's type. What the program may know of the map's sizes it finds in constants.
#include "bpf_maps.h"

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

LICENSE("Dual MIT/GPL");
