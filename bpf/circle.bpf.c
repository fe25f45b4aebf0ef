// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A load generator for servers that speak memcached's protocol over UDP: requests that go round.
 *
 * At the client's end of a cable, each answer is compared with what it should be and rewritten into the next request, in the frame
 * that it came in. So there are as many requests on their way as were sent in the beginning, they are asked as fast as they are
 * answered, and a request costs the client little. What is asked stands in the arena, and what came of it.
 */
#include "bpf_arena.h"
#include "bpf_maps.h"

#define HELPER(number, result, name, ...) static result (*const name)(__VA_ARGS__) = (void *)number

struct xdp_md {
	u32 data;
	u32 data_end;
};

HELPER(23, long, bpf_redirect, u32 ifindex, u64 flags);
HELPER(65, long, bpf_xdp_adjust_tail, struct xdp_md *, int delta);
HELPER(189, long, bpf_xdp_load_bytes, struct xdp_md *, u32 offset, void *to, u32 len);
HELPER(190, long, bpf_xdp_store_bytes, struct xdp_md *, u32 offset, void *from, u32 len);

enum { XDP_DROP = 1, XDP_PASS = 2 };

#define HEADERS 50	/* Ethernet, IPv4, UDP, memcached's frame */
#define FRAME 42	/* where that begins */
#define SHORTEST 55	/* with "END\r\n" */
#define BUFFER 2048
#define SLACK 64
#define AT(buffer, place) ((buffer) + ((place) & (BUFFER - 1)))
#define PORT 11211
#define TICKETS 256	/* requests that can be on their way */
#define REQUEST 56
#define LINE 64
#define HEAD 16		/* in front of every value: key, version, their sum, the key's complement */

#define TEXT_END 0x0a0d444e45ull		/* "END\r\n" */
#define TEXT_LINE_END 0x0a0d444e450a0dull	/* "\r\nEND\r\n" */
#define MASK(bytes) (~0ull >> (64 - 8 * (bytes)))

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 16);
} arena SEC(".maps");

/* What is asked for a key, and how its answer begins. */
struct entry {
	u16 length; /* of the value */
	u8 request_size;
	u8 line_size;
	u32 unused;
	u8 request[REQUEST];
	u8 line[LINE];
};

/* A request on its way. */
struct ticket {
	u32 key;
	u32 generation; /* of its number; an answer to an earlier one is none; 0 if none is on its way */
	u64 turns;
};

struct circle {
	u8 headers[64]; /* of a request without text; lengths, sum and number are filled in */
	u32 sum;	/* over the IPv4 header without its length */
	u32 device;
	u32 is_open;	/* answers are for this program, not for a socket */
	u32 goes_on;	/* answers become requests */
	u32 is_echo;	/* answers are requests as they were sent */
	u32 newest;	/* no value may be of a later version */
	u32 entries;	/* offsets in the arena */
	u32 order;
	u32 pool;
	u32 order_mask;
	u32 pool_mask;
	u32 next;	/* the next ticket to begin with */
	u32 last;	/* and the first that is not to be */
	u32 unused;
	u64 position;
	u64 until;	/* as many requests; what comes back then waits to be begun again */
	u64 hits;
	u64 misses;
	u64 wrong;
	u64 late;
	u64 stuck;	/* frames that could not become requests */
	struct ticket tickets[TICKETS];
};

struct circle __arena circle;

struct scratch {
	u32 zero; /* 0, which the verifier does not know: it need not tell one round of a loop from the next */
	u32 unused;
	u8 in[BUFFER + SLACK];
	u8 out[128 + SLACK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

enum verdict { HIT, MISS, WRONG };

static __always_inline void __arena *place(u32 offset)
{
	return (u8 __arena *)&circle + offset;
}

static __always_inline struct entry __arena *entry_of(u32 key)
{
	return place(circle.entries + key * sizeof(struct entry));
}

/* Where a value's bytes are cut from the pool, and the sum in its head. */
static __always_inline u32 mixed(u32 key, u32 version)
{
	u64 both = ((u64)key << 32 | version) + 0x9e3779b9;

	return both * 0xd6e8feb86659fd93ull >> 32;
}

/* Whether bytes of the packet are these of the arena. */
__noinline int is_equal(struct scratch *s, u32 at, u32 from, u32 size)
{
	u32 i;

	if (!s)
		return 0;
	for (i = s->zero; i + 8 <= size && can_loop; i += 8)
		if (*(u64 *)AT(s->in, at + i) != *(u64 __arena *)place(from + i))
			return 0;
	if (i >= size)
		return 1;
	return !((*(u64 *)AT(s->in, at + i) ^ *(u64 __arena *)place(from + i)) & MASK(size - i));
}

/* What the packet, of this length, is as the answer to a request for the key. */
__noinline int check(struct scratch *s, u32 key, u32 len)
{
	struct entry __arena *entry = entry_of(key);
	u32 length, line, at, version, mix, *head;

	if (!s)
		return WRONG;
	/* One datagram, the first and only. */
	if (*(u32 *)&s->in[FRAME + 2] != 0x01000000 || *(u16 *)&s->in[FRAME + 6])
		return WRONG;
	if (circle.is_echo) {
		if (len != HEADERS + entry->request_size)
			return WRONG;
		return is_equal(s, HEADERS, (u32)(u64)entry->request - (u32)(u64)&circle, len - HEADERS) ? HIT : WRONG;
	}
	if (len == SHORTEST && (*(u64 *)&s->in[HEADERS] & MASK(5)) == TEXT_END)
		return MISS;
	length = entry->length;
	line = entry->line_size;
	if (len != HEADERS + line + length + 7 || length < HEAD)
		return WRONG;
	if (!is_equal(s, HEADERS, (u32)(u64)entry->line - (u32)(u64)&circle, line))
		return WRONG;
	at = HEADERS + line;
	head = (u32 *)AT(s->in, at);
	version = head[1];
	mix = mixed(key, version);
	if (head[0] != key || version > circle.newest || head[2] != (mix ^ length) || head[3] != ~key)
		return WRONG;
	if (!is_equal(s, at + HEAD, circle.pool + (mix & circle.pool_mask), length - HEAD))
		return WRONG;
	if ((*(u64 *)AT(s->in, at + length) & MASK(7)) != TEXT_LINE_END)
		return WRONG;
	return HIT;
}

/* Puts the next request together, under this ticket; gives its length. */
__noinline u32 put_request(struct scratch *s, u32 number)
{
	struct ticket __arena *ticket = &circle.tickets[number & (TICKETS - 1)];
	struct entry __arena *entry;
	u32 i, size, sum, key;
	u64 __arena *from;

	if (!s)
		return 0;
	key = *(u32 __arena *)place(circle.order + 4 * ((u32)circle.position & circle.order_mask));
	circle.position++;
	ticket->key = key;
	ticket->turns++;
	entry = entry_of(key);
	from = (u64 __arena *)circle.headers;
	for (i = 0; i < 56; i += 8)
		*(u64 *)&s->out[i] = from[i / 8];
	size = entry->request_size;
	from = (u64 __arena *)entry->request;
	for (i = 0; i < REQUEST; i += 8)
		*(u64 *)&s->out[HEADERS + i] = from[i / 8];
	size += HEADERS;
	*(u16 *)&s->out[16] = __builtin_bswap16(size - 14);
	sum = circle.sum + *(u16 *)&s->out[16];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*(u16 *)&s->out[24] = ~sum;
	*(u16 *)&s->out[38] = __builtin_bswap16(size - 34);
	s->out[FRAME] = ticket->generation;
	s->out[FRAME + 1] = number;
	return size;
}

/* Makes the frame the next request, and sends it. */
static __always_inline int ask(struct xdp_md *ctx, struct scratch *s, u32 number, u32 len)
{
	u32 size = put_request(s, number);

	if (size < HEADERS || size > 128 || bpf_xdp_adjust_tail(ctx, (int)size - (int)len) ||
	    bpf_xdp_store_bytes(ctx, 0, s->out, size)) {
		circle.stuck++;
		return XDP_DROP;
	}
	return bpf_redirect(circle.device, 0);
}

/* Begins with a ticket: run on frames that come from nowhere. */
SEC("xdp")
int begin(struct xdp_md *ctx)
{
	u8 *data = (void *)(u64)ctx->data, *end = (void *)(u64)ctx->data_end;
	u32 len = end - data, zero = 0, number = circle.next;
	struct scratch *s;

	barrier_var(len);
	s = bpf_map_lookup_elem(&scratches, &zero);
	if (!s || number >= circle.last)
		return XDP_DROP;
	circle.next = number + 1;
	return ask(ctx, s, number, len);
}

/* Takes an answer, and asks on. Everything else is the network stack's. */
SEC("xdp")
int turn(struct xdp_md *ctx)
{
	u8 *data = (void *)(u64)ctx->data, *end = (void *)(u64)ctx->data_end;
	u32 len = end - data, zero = 0, number;
	struct ticket __arena *ticket;
	struct scratch *s;
	int verdict;

	if (!circle.is_open || data + SHORTEST > end)
		return XDP_PASS;
	if (data[12] != 8 || data[13] || data[14] != 0x45 || data[23] != 17 ||
	    *(u16 *)(data + 34) != (u16)(PORT << 8 | PORT >> 8))
		return XDP_PASS;
	barrier_var(len);
	if (len < SHORTEST || len > BUFFER)
		return XDP_PASS;
	s = bpf_map_lookup_elem(&scratches, &zero);
	if (!s || bpf_xdp_load_bytes(ctx, 0, s->in, len))
		return XDP_PASS;
	number = s->in[FRAME + 1];
	ticket = &circle.tickets[number & (TICKETS - 1)];
	if (!ticket->generation || (u8)ticket->generation != s->in[FRAME]) {
		circle.late++;
		return XDP_DROP;
	}
	verdict = check(s, ticket->key, len);
	if (verdict == HIT)
		circle.hits++;
	else if (verdict == MISS)
		circle.misses++;
	else
		circle.wrong++;
	if (!circle.goes_on || circle.position >= circle.until) {
		ticket->generation = 0;
		return XDP_DROP;
	}
	return ask(ctx, s, number, len);
}

LICENSE("Dual MIT/GPL");
