// SPDX-License-Identifier: MIT OR Apache-2.0
// Masks of CPUs: a script of operations that the host writes, on three masks.
#include "services.h"

/* The kernel's, as far as its members matter here. */
struct cpumask {
	unsigned long bits[1];
} __attribute__((preserve_access_index));

struct bpf_cpumask {
	struct cpumask cpumask;
} __attribute__((preserve_access_index));

struct bpf_cpumask *bpf_cpumask_create(void) __ksym __weak;
struct bpf_cpumask *bpf_cpumask_acquire(struct bpf_cpumask *mask) __ksym __weak;
void bpf_cpumask_release(struct bpf_cpumask *mask) __ksym __weak;
u32 bpf_cpumask_first(const struct cpumask *mask) __ksym __weak;
u32 bpf_cpumask_first_zero(const struct cpumask *mask) __ksym __weak;
u32 bpf_cpumask_first_and(const struct cpumask *a, const struct cpumask *b) __ksym __weak;
void bpf_cpumask_set_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym __weak;
void bpf_cpumask_clear_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym __weak;
_Bool bpf_cpumask_test_cpu(u32 cpu, const struct cpumask *mask) __ksym __weak;
_Bool bpf_cpumask_test_and_set_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym __weak;
_Bool bpf_cpumask_test_and_clear_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym __weak;
void bpf_cpumask_setall(struct bpf_cpumask *mask) __ksym __weak;
void bpf_cpumask_clear(struct bpf_cpumask *mask) __ksym __weak;
_Bool bpf_cpumask_and(struct bpf_cpumask *dst, const struct cpumask *a, const struct cpumask *b) __ksym __weak;
void bpf_cpumask_or(struct bpf_cpumask *dst, const struct cpumask *a, const struct cpumask *b) __ksym __weak;
void bpf_cpumask_xor(struct bpf_cpumask *dst, const struct cpumask *a, const struct cpumask *b) __ksym __weak;
_Bool bpf_cpumask_equal(const struct cpumask *a, const struct cpumask *b) __ksym __weak;
_Bool bpf_cpumask_intersects(const struct cpumask *a, const struct cpumask *b) __ksym __weak;
_Bool bpf_cpumask_subset(const struct cpumask *a, const struct cpumask *b) __ksym __weak;
_Bool bpf_cpumask_empty(const struct cpumask *mask) __ksym __weak;
_Bool bpf_cpumask_full(const struct cpumask *mask) __ksym __weak;
void bpf_cpumask_copy(struct bpf_cpumask *dst, const struct cpumask *src) __ksym __weak;
u32 bpf_cpumask_weight(const struct cpumask *mask) __ksym __weak;
u32 bpf_cpumask_any_distribute(const struct cpumask *mask) __ksym __weak;
u32 bpf_cpumask_any_and_distribute(const struct cpumask *a, const struct cpumask *b) __ksym __weak;
int bpf_cpumask_populate(struct cpumask *mask, void *src, size_t size) __ksym __weak;

enum operation {
	FIRST,
	FIRST_ZERO,
	FIRST_AND,
	SET_CPU,
	CLEAR_CPU,
	TEST_CPU,
	TEST_AND_SET,
	TEST_AND_CLEAR,
	SET_ALL,
	CLEAR,
	AND,
	OR,
	XOR,
	EQUAL,
	INTERSECTS,
	SUBSET,
	EMPTY,
	FULL,
	COPY,
	WEIGHT,
	ANY,
	ANY_AND,
	POPULATE,
	POPULATE_SHORT,
	BITS,
};

struct step {
	u32 operation;
	u32 cpu;
	u64 bits[4];
};

struct {
	u32 steps;
	u32 pad;
	struct step script[24];
	s64 results[24];
} io;

static s64 execute(struct step *step, struct bpf_cpumask *x, struct bpf_cpumask *y, struct bpf_cpumask *z)
{
	const struct cpumask *a = (const struct cpumask *)x, *b = (const struct cpumask *)y;
	u32 cpu;

	switch (step->operation) {
	case FIRST:
		return bpf_cpumask_first(a);
	case FIRST_ZERO:
		return bpf_cpumask_first_zero(a);
	case FIRST_AND:
		return bpf_cpumask_first_and(a, b);
	case SET_CPU:
		bpf_cpumask_set_cpu(step->cpu, x);
		return 0;
	case CLEAR_CPU:
		bpf_cpumask_clear_cpu(step->cpu, x);
		return 0;
	case TEST_CPU:
		return bpf_cpumask_test_cpu(step->cpu, a);
	case TEST_AND_SET:
		return bpf_cpumask_test_and_set_cpu(step->cpu, x);
	case TEST_AND_CLEAR:
		return bpf_cpumask_test_and_clear_cpu(step->cpu, x);
	case SET_ALL:
		bpf_cpumask_setall(x);
		return 0;
	case CLEAR:
		bpf_cpumask_clear(x);
		return 0;
	case AND:
		return bpf_cpumask_and(z, a, b);
	case OR:
		bpf_cpumask_or(z, a, b);
		return 0;
	case XOR:
		bpf_cpumask_xor(z, a, b);
		return 0;
	case EQUAL:
		return bpf_cpumask_equal(a, b);
	case INTERSECTS:
		return bpf_cpumask_intersects(a, b);
	case SUBSET:
		return bpf_cpumask_subset(a, b);
	case EMPTY:
		return bpf_cpumask_empty(a);
	case FULL:
		return bpf_cpumask_full(a);
	case COPY:
		bpf_cpumask_copy(x, b);
		return 0;
	case WEIGHT:
		return bpf_cpumask_weight(a);
	case ANY:
		/* Which one is not said. */
		cpu = bpf_cpumask_any_distribute(a);
		return bpf_cpumask_empty(a) ? cpu : bpf_cpumask_test_cpu(cpu, a);
	case ANY_AND:
		cpu = bpf_cpumask_any_and_distribute(a, b);
		return bpf_cpumask_intersects(a, b) ? bpf_cpumask_test_cpu(cpu, b) : cpu;
	case POPULATE:
		return bpf_cpumask_populate((struct cpumask *)x, step->bits, sizeof(step->bits));
	case POPULATE_SHORT:
		return bpf_cpumask_populate((struct cpumask *)x, step->bits, step->cpu & 7);
	default:
		return a->bits[0];
	}
}

SEC("syscall")
int masks(void *ctx)
{
	struct bpf_cpumask *a = bpf_cpumask_create(), *b, *c, *again;
	int result = 1;
	u32 i;

	if (!a)
		return 1;
	b = bpf_cpumask_create();
	if (!b)
		goto free_a;
	c = bpf_cpumask_create();
	if (!c)
		goto free_b;
	bpf_for(i, 0, io.steps) {
		struct step *step;

		if (i >= 24)
			break;
		step = &io.script[i];
		switch (i % 3) {
		case 0:
			io.results[i] = execute(step, a, b, c);
			break;
		case 1:
			io.results[i] = execute(step, b, c, a);
			break;
		default:
			io.results[i] = execute(step, c, a, b);
		}
	}
	again = bpf_cpumask_acquire(a);
	bpf_cpumask_release(again);
	result = 0;
	bpf_cpumask_release(c);
free_b:
	bpf_cpumask_release(b);
free_a:
	bpf_cpumask_release(a);
	return result;
}

LICENSE("Dual MIT/GPL");
