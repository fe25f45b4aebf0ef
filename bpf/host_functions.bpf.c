// SPDX-License-Identifier: MIT OR Apache-2.0
// Calls of functions that the host provides. Each program returns 0 when the function did what it should.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

/* The host has them at other offsets. */
#define __relocated __attribute__((preserve_access_index))

struct point {
	s32 x, y;
};

struct node {
	struct node __arena *next;
	u64 value;
};

struct session {
	u64 bytes;
	u32 id;
} __relocated;

struct request {
	u32 left, right;
};

/* Numbers of every width. */
extern s32 host_widths(u8 a, s16 b, u32 c, s64 d, _Bool e) __ksym;
extern u8 host_u8(void) __ksym;
extern s16 host_s16(void) __ksym;
extern u64 host_u64(void) __ksym;

/* Memory. */
extern void host_move(struct point *p, s32 dx) __ksym;
extern u32 host_fill(void *data, u32 size, u8 with) __ksym;
extern u32 host_maybe(struct point *p) __ksym;
extern u32 host_length(const char *text) __ksym;
extern u32 host_right(struct request *ctx) __ksym;

/* The arena. */
extern struct node __arena *host_push(struct node __arena *list, u64 value) __ksym;

/* Objects. */
extern struct session *session_open(u32 id) __ksym;
extern u64 session_id(struct session *s) __ksym;
extern void session_close(struct session *s) __ksym;

/* The host ends the run. */
extern void host_fail(void) __ksym;
extern void host_panic(void) __ksym;

extern u32 host_absent(void) __ksym __weak;

/* Its use also tells the verifier which arena the program is for. */
u64 __arena sum;

const char greeting[] = "hello";

SEC("syscall")
int numbers(void *ctx)
{
	if (host_widths(200, -300, 4000000000u, -5, 1) != -6)
		return 1;
	if (host_u8() != 200)
		return 2;
	if (host_s16() != -300)
		return 3;
	return host_u64() == 0xfedcba9876543210 ? 0 : 4;
}

SEC("syscall")
int memory(void *ctx)
{
	struct point p = { 1, 2 };
	u8 bytes[12] = {};

	host_move(&p, 40);
	if (p.x != 41 || p.y != 2)
		return 1;
	if (host_fill(bytes, sizeof(bytes), 7) != 12 || bytes[0] != 7 || bytes[11] != 7)
		return 2;
	if (host_maybe(NULL) != 0 || host_maybe(&p) != 41)
		return 3;
	return host_length(greeting) == 5 ? 0 : 4;
}

SEC("syscall")
int context(struct request *ctx)
{
	return host_right(ctx) == ctx->right ? 0 : 1;
}

SEC("syscall")
int lists(void *ctx)
{
	struct node __arena *list = NULL;
	int i;

	sum = 0;
	bpf_for(i, 1, 4)
		list = host_push(list, i);
	while (list && can_loop) {
		sum = sum * 10 + list->value;
		list = list->next;
	}
	return sum == 321 ? 0 : 1;
}

SEC("syscall")
int sessions(void *ctx)
{
	struct session *s = session_open(7);
	int wrong;

	if (!s)
		return 1;
	wrong = s->id != 7 || s->bytes != 1000 || session_id(s) != 7;
	session_close(s);
	if (wrong)
		return 2;
	s = session_open(0);
	if (s) {
		session_close(s);
		return 3;
	}
	return 0;
}

SEC("syscall")
int absent(void *ctx)
{
	return host_absent ? host_absent() : 0;
}

SEC("?syscall")
int fails(void *ctx)
{
	host_fail();
	return 0;
}

SEC("?syscall")
int panics(void *ctx)
{
	host_panic();
	return 0;
}

/* Not given back. */
SEC("?syscall")
int leaks(void *ctx)
{
	return session_open(7) != NULL;
}

/* The number of bytes is not known to be small. */
SEC("?syscall")
int overruns(struct request *ctx)
{
	u8 bytes[12] = {};

	return host_fill(bytes, ctx->left, 7);
}

LICENSE("Dual MIT/GPL");
