// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Answers `get` and `gets` over UDP out of the arena in which user space keeps its store. What it does not answer goes up
 * untouched: misses, other commands, malformed packets, answers that one packet does not hold.
 *
 * Functions are global and take what they work with by pointer: the verifier looks at each of them once.
 *
 * The packet is copied into memory of this CPU, the answer is put together there beside it, and only a complete one is written
 * over the packet. So both programs, on XDP and in traffic control, are the same code around different helpers, and no
 * pointer into a packet is ever followed.
 *
 * Either can be attached alone. Together, XDP marks the packets that it has the answer to, but no room for, and traffic control
 * looks at these alone.
 *
 * User space writes while this reads. What the program relies on stands in src/store/table.rs and item.rs.
 */
#include "bpf_arena.h"
#include "bpf_maps.h"
#include "kvcache.h"

#define HELPER(number, result, name, ...) static result (*const name)(__VA_ARGS__) = (void *)number

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

/* As far as it is used. */
struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 unused[8];
	u32 data;
	u32 data_end;
	u32 unused_too[14];
	u32 data_meta;
};

HELPER(9, long, bpf_skb_store_bytes, struct __sk_buff *, u32 offset, const void *from, u32 len, u64 flags);
HELPER(23, long, bpf_redirect, u32 ifindex, u64 flags);
HELPER(26, long, bpf_skb_load_bytes, const void *, u32 offset, void *to, u32 len);
HELPER(38, long, bpf_skb_change_tail, struct __sk_buff *, u32 len, u64 flags);
HELPER(44, long, bpf_xdp_adjust_head, struct xdp_md *, int delta);
HELPER(54, long, bpf_xdp_adjust_meta, struct xdp_md *, int delta);
HELPER(65, long, bpf_xdp_adjust_tail, struct xdp_md *, int delta);
HELPER(189, long, bpf_xdp_load_bytes, struct xdp_md *, u32 offset, void *to, u32 len);
HELPER(190, long, bpf_xdp_store_bytes, struct xdp_md *, u32 offset, void *from, u32 len);

enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX };
/* The first leaves the packet to whoever is attached next. */
enum { TC_ACT_UNSPEC = -1, TC_ACT_SHOT = 2 };

#define ETH_IPV4 0x0800
#define ETH_IPV6 0x86dd
#define ETH_VLAN 0x8100
#define ETH_QINQ 0x88a8
#define IPPROTO_UDP 17
#define TTL 64

#define FRAME_BYTES 8	/* of memcached, in front of each datagram's text */
#define SHORTEST 57	/* Ethernet, IPv4, UDP, frame, "get k\r\n" */
#define LONGEST 1536	/* of packets that are looked at */
#define KEY_MAX 250
#define CHAIN 8		/* buckets of a chain that are looked at */
#define DIGITS 24	/* where numbers end in the digits */
#define AROUND 58	/* most bytes of an answer to one key, besides key and value */
#define MARK 0x7661636bu /* in front of a packet: XDP leaves it to traffic control */

#define HASH_MULTIPLIER 0x9e3779b97f4a7c15ull
#define HASH_FINISHER 0xd6e8feb86659fd93ull

/* Places in the buffers are held inside by a mask; what is accessed there at once is at most SLACK long. */
#define BUFFER 2048
#define SLACK 64
#define AT(buffer, place) ((buffer) + ((place) & (BUFFER - 1)))

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << 20);
} arena SEC(".maps");

/* What one run works with. */
struct scratch {
	u64 fence;
	u32 path;     /* who runs: one of the paths below */
	u32 v6;
	u32 ip;	      /* where its header is */
	u32 udp;
	u32 text;     /* where the request's text is, and the answer's */
	u32 text_end;
	u32 out_end;  /* where the answer ends, so far */
	u32 out_max;  /* where it must */
	u32 key;      /* of the key at hand: where it is */
	u32 key_size;
	u32 with_cas;
	u32 hits;
	u32 zero; /* 0, which the verifier does not know: it need not tell one round of a loop from the next */
	u64 hash;
	u8 digits[64];
	u8 in[BUFFER + SLACK];
	u8 out[BUFFER + SLACK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* The arena's start. */
struct kv_header __arena kv;

const volatile struct kv_constants constants = {
	.version = KV_VERSION,
	.segment_buckets = KV_SEGMENT_BUCKETS,
	.touch_used = KV_TOUCH_USED,
	.touch_fetched = KV_TOUCH_FETCHED,
	.touch_shift = KV_TOUCH_SHIFT,
	.item_bytes = sizeof(struct kv_item),
	.cpus = KV_CPUS,
	.hash_multiplier = HASH_MULTIPLIER,
	.hash_finisher = HASH_FINISHER,
};

/* Only what something is of is in the type information. */
const volatile struct {
	struct kv_item item;
	struct kv_bucket bucket;
} types = {};

/* What comes of a packet, in the order of the counters. */
enum verdict {
	ANSWER,
	MISS,
	FOREIGN,
	OTHER,
	TOO_LONG,
	CONTENDED,
	HANDED_ON,
	HITS, /* none, but a counter */
	CONTINUE,
};

enum path { PATH_XDP, PATH_TC };

#define acquire(from) __atomic_load_n(from, __ATOMIC_ACQUIRE)
#define add(to, number) __atomic_fetch_add(to, number, __ATOMIC_RELAXED)
#define bswap16(x) __builtin_bswap16(x)

static __always_inline u32 be16(const u8 *at)
{
	return bswap16(*(const u16 *)at);
}

static __always_inline void put_be16(u8 *at, u32 value)
{
	*(u16 *)at = bswap16((u16)value);
}

static __always_inline void __arena *place(u32 offset)
{
	return (u8 __arena *)&kv + offset;
}

/* ---- Numbers and text -------------------------------------------------------------------------------------------- */

/* The digits of a number; gives where they end. */
__noinline u32 put_number(struct scratch *s, u32 at, u64 number)
{
	u32 first;
	u8 *digits;

	if (!s)
		return at;
	first = DIGITS + s->zero;
	do {
		s->digits[--first & 31] = '0' + number % 10;
		number /= 10;
	} while (number && can_loop);
	digits = &s->digits[first & 31];
	*(u64 *)AT(s->out, at) = *(u64 *)digits;
	*(u64 *)AT(s->out, at + 8) = *(u64 *)(digits + 8);
	*(u64 *)AT(s->out, at + 16) = *(u64 *)(digits + 16);
	return at + DIGITS - first;
}

/* The key at hand. */
__noinline u32 put_key(struct scratch *s, u32 at)
{
	u32 from, size, i;

	if (!s)
		return at;
	from = s->key;
	size = s->key_size;
	for (i = s->zero; i < size && can_loop; i += 16) {
		u64 first = *(u64 *)AT(s->in, from + i), second = *(u64 *)AT(s->in, from + i + 8);

		*(u64 *)AT(s->out, at + i) = first;
		*(u64 *)AT(s->out, at + i + 8) = second;
	}
	return at + size;
}

/* Bytes of the arena, from a place that is a multiple of 8. What is copied beyond them is written over or cut off. */
__noinline u32 put_value(struct scratch *s, u32 at, u32 from, u32 size)
{
	u32 i;

	if (!s)
		return at;
	for (i = s->zero; i < size && can_loop; i += 32) {
		u64 __arena *words = place(from + i);
		u64 a = words[0], b = words[1], c = words[2], d = words[3];
		u64 *to = (u64 *)AT(s->out, at + i);

		to[0] = a;
		to[1] = b;
		to[2] = c;
		to[3] = d;
	}
	return at + size;
}

/* Up to 8 bytes of text that the compiler knows. */
static __always_inline u32 put_text(struct scratch *s, u32 at, u64 text, u32 size)
{
	*(u64 *)AT(s->out, at) = text;
	return at + size;
}

#define TEXT_VALUE 0x2045554c4156ull /* "VALUE " */
#define TEXT_SPACE 0x20ull
#define TEXT_LINE 0x0a0dull	     /* "\r\n" */
#define TEXT_END 0x0a0d444e45ull     /* "END\r\n" */

/* ---- The table ---------------------------------------------------------------------------------------------------- */

/* Whether the item has the key at hand. Its last word is filled up with zeroes. */
__noinline int has_key(struct scratch *s, u32 item)
{
	u32 from = item + sizeof(struct kv_item), size, at, i;

	if (!s)
		return 0;
	size = s->key_size;
	at = s->key;
	for (i = s->zero; i + 8 <= size && can_loop; i += 8) {
		if (*(u64 __arena *)place(from + i) != *(u64 *)AT(s->in, at + i))
			return 0;
	}
	if (i < size) {
		u64 mask = ~0ull >> (64 - 8 * (size - i));

		return *(u64 __arena *)place(from + i) == (*(u64 *)AT(s->in, at + i) & mask);
	}
	return 1;
}

/* The second, by the clock that items end by. */
static __always_inline u64 now(void)
{
	return (bpf_ktime_get_ns() + kv.clock) / 1000000000;
}

/* One line and the value of the item, if the item is whole and has not changed meanwhile. */
__noinline int put_item(struct scratch *s, u32 entry_place, u64 word, u64 layout)
{
	u32 at, where = (u32)word, size, expires, used;
	struct kv_item __arena *item = place(where);
	u64 __arena *entry = place(entry_place);
	u64 version = acquire(&item->version), fence;
	u32 __arena *touch;

	if (!s)
		return OTHER;
	at = s->out_end;
	if (!version)
		return CONTENDED;
	if (item->key_size != s->key_size || item->hash != (u32)s->hash || !has_key(s, where))
		return CONTINUE;
	size = item->size;
	expires = item->expires;
	if (item->state)
		return OTHER;
	if (version <= kv.flushed || (expires && expires <= now()))
		return MISS;
	if (size > BUFFER || at + s->key_size + size + AROUND > s->out_max)
		return TOO_LONG;
	at = put_text(s, at, TEXT_VALUE, 6);
	at = put_key(s, at);
	at = put_text(s, at, TEXT_SPACE, 1);
	at = put_number(s, at, item->flags);
	at = put_text(s, at, TEXT_SPACE, 1);
	at = put_number(s, at, size);
	if (s->with_cas) {
		at = put_text(s, at, TEXT_SPACE, 1);
		at = put_number(s, at, item->cas);
	}
	at = put_text(s, at, TEXT_LINE, 2);
	at = put_value(s, at, where + ((sizeof(struct kv_item) + s->key_size + 7) & ~7u), size);
	at = put_text(s, at, TEXT_LINE, 2);
	/* All that was read is read before what follows: an atomic operation with a result orders both ways. */
	fence = __sync_fetch_and_add(&s->fence, 1);
	barrier_var(fence);
	if (acquire(&item->version) != version || acquire(entry) != word || acquire(&kv.layout) != layout)
		return CONTENDED;
	s->out_end = at;
	s->hits++;
	touch = place(where >> KV_TOUCH_SHIFT);
	used = KV_TOUCH_USED | KV_TOUCH_FETCHED | ((kv.now - kv.epoch) & (KV_TOUCH_FETCHED - 1));
	if (*touch != used)
		*touch = used;
	return ANSWER;
}

/* Looks the key at hand up and puts its line and value behind the answer. */
__noinline int put_found(struct scratch *s)
{
	u64 layout = acquire(&kv.layout), table = acquire(&kv.table), hash;
	u32 number, bucket, links, i;

	if (!s)
		return OTHER;
	hash = s->hash;
	number = (u32)hash & (u32)table;
	if (number >= table >> 32)
		number &= (u32)table >> 1;
	bucket = kv.segments[number / KV_SEGMENT_BUCKETS & (KV_SEGMENTS - 1)];
	bucket += number % KV_SEGMENT_BUCKETS * sizeof(struct kv_bucket);
	for (links = s->zero; links < CHAIN && can_loop; links++) {
		struct kv_bucket __arena *at = place(bucket);

		for (i = s->zero; i < KV_ENTRIES && can_loop; i++) {
			u64 word = acquire(&at->entries[i]);
			int found;

			if (word >> 32 != hash >> 32 || !(u32)word)
				continue;
			found = put_item(s, bucket + i * 8, word, layout);
			if (found != CONTINUE)
				return found;
		}
		bucket = at->next;
		if (!bucket)
			return MISS;
	}
	return MISS;
}

/* ---- Requests ----------------------------------------------------------------------------------------------------- */

/* The lowest bit that is set is the highest of the first byte that is 0. */
static __always_inline u64 zeroes(u64 word)
{
	return (word - 0x0101010101010101ull) & ~word & 0x8080808080808080ull;
}

/*
 * Takes a key: bytes up to a space, an end of a line or 0. 0 if it is too long or none. Words of 8 bytes are looked at, and
 * mixed into the hash, at once; what is behind the packet in the buffer does not matter, because the text ends with "\r\n".
 */
__noinline int take_key(struct scratch *s, u32 at)
{
	u64 hash = kv.seed;
	u32 size;

	if (!s)
		return 0;
	s->key = at;
	for (size = s->zero; size <= KEY_MAX && can_loop; size += 8) {
		u64 word = *(u64 *)AT(s->in, at + size);
		/* Below '!'. Keys may have such bytes, but hardly do. */
		u64 ends = (word - 0x2121212121212121ull) & ~word & 0x8080808080808080ull;

		if (ends)
			ends = zeroes(word ^ 0x2020202020202020ull) | zeroes(word ^ 0x0d0d0d0d0d0d0d0dull) |
			       zeroes(word ^ 0x0a0a0a0a0a0a0a0aull) | zeroes(word);
		if (ends) {
			u64 first = (ends & -ends) >> 7;
			u32 rest = 0;

			word &= first - 1;
			if (first >> 32) {
				rest = 4;
				first >>= 32;
			}
			if (first >> 16) {
				rest += 2;
				first >>= 16;
			}
			rest += first >> 8 ? 1 : 0;
			size += rest;
			if (rest) {
				hash = (hash ^ word) * HASH_MULTIPLIER;
				hash ^= hash >> 32;
			}
			if (size > KEY_MAX)
				return 0;
			hash = (hash ^ size) * HASH_FINISHER;
			s->hash = hash ^ (hash >> 32);
			s->key_size = size;
			return size;
		}
		hash = (hash ^ word) * HASH_MULTIPLIER;
		hash ^= hash >> 32;
	}
	return 0;
}

/* Whether packets to this address are for the store; an IPv4 address is in the last four bytes. */
__noinline int is_ours(struct scratch *s, u32 at)
{
	u32 count = kv.address_count, i;
	u64 first = 0, second;

	if (!s)
		return 0;
	if (s->v6) {
		first = *(u64 *)AT(s->in, at);
		second = *(u64 *)AT(s->in, at + 8);
	} else {
		second = (u64)*(u32 *)AT(s->in, at) << 32 | 0xffff0000;
	}
	for (i = s->zero; i < count && i < KV_ADDRESSES && can_loop; i++) {
		u64 __arena *address = (u64 __arena *)kv.addresses[i].bytes;

		if (address[0] == first && address[1] == second)
			return 1;
	}
	return !count;
}

/* The sum of an IPv4 header without options, folded: 0xffff if the header's checksum is right. */
static __always_inline u32 header_sum(u8 *header)
{
	u32 sum = 0, i;

	for (i = 0; i < 20; i += 2)
		sum += *(u16 *)(header + i);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Finds the headers of a packet, and the text of a request that is for the store. */
__noinline int parse(struct scratch *s, u32 len)
{
	u32 ip = 14, udp, size, type, tags;
	u8 *header;

	if (!s)
		return OTHER;
	type = be16(&s->in[12]);
	for (tags = 0; tags < 2 && (type == ETH_VLAN || type == ETH_QINQ); tags++) {
		type = be16(AT(s->in, ip + 2));
		ip += 4;
	}
	/* From one to one, not to groups. */
	if ((s->in[0] | s->in[6]) & 1)
		return FOREIGN;
	header = AT(s->in, ip);
	s->ip = ip;
	if (type == ETH_IPV4) {
		size = be16(header + 2);
		/* Options, fragments and damaged headers are the network stack's. */
		if (header[0] != 0x45 || be16(header + 6) & 0x3fff || header[9] != IPPROTO_UDP || size < 28 ||
		    ip + size > len || header_sum(header) != 0xffff)
			return FOREIGN;
		s->v6 = 0;
		udp = ip + 20;
		size -= 20;
	} else if (type == ETH_IPV6) {
		size = be16(header + 4);
		if (header[0] >> 4 != 6 || header[6] != IPPROTO_UDP || size < 8 || ip + 40 + size > len)
			return FOREIGN;
		s->v6 = 1;
		udp = ip + 40;
	} else {
		return FOREIGN;
	}
	header = AT(s->in, udp);
	if (be16(header + 2) != kv.port || !kv.port || be16(header + 4) != size || !be16(header) ||
	    (s->v6 && !be16(header + 6)) || !is_ours(s, s->v6 ? udp - 16 : udp - 4))
		return FOREIGN;
	/* One datagram, the first and only of its request. Its last two bytes should be 0, but nobody looks. */
	if (size < 16 || *(u16 *)(header + 10) || be16(header + 12) != 1)
		return OTHER;
	s->udp = udp;
	s->text = udp + 16;
	s->text_end = udp + size;
	return ANSWER;
}

/* Puts the answer to a request together. */
__noinline int answer(struct scratch *s)
{
	u32 at, end;
	u64 word;

	if (!s)
		return OTHER;
	at = s->text;
	end = s->text_end;
	word = *(u64 *)AT(s->in, at);
	if ((u32)word == 0x20746567) { /* "get " */
		s->with_cas = 0;
		at += 4;
	} else if ((word & 0xffffffffff) == 0x2073746567) { /* "gets " */
		s->with_cas = 1;
		at += 5;
	} else {
		return OTHER;
	}
	if (end < at + 3 || *(u16 *)AT(s->in, end - 2) != TEXT_LINE)
		return OTHER;
	s->out_end = s->text;
	s->out_max = s->text - FRAME_BYTES + kv.reply_max;
	if (s->out_max > BUFFER)
		s->out_max = BUFFER;
	while (can_loop) {
		u32 size = take_key(s, at);
		int found;

		at += size;
		if (!size || at > end - 2)
			return OTHER;
		found = put_found(s);
		if (found != ANSWER)
			return found;
		if (at == end - 2) {
			s->out_end = put_text(s, s->out_end, TEXT_END, 5);
			return ANSWER;
		}
		if (*AT(s->in, at) != ' ')
			return OTHER;
		at++;
	}
	return OTHER;
}

/* ---- Answers ------------------------------------------------------------------------------------------------------ */

static __always_inline void swap(u8 *out, const u8 *in, u32 bytes)
{
	u32 i;

	for (i = 0; i < bytes; i += 2) {
		*(u16 *)(out + i) = *(u16 *)(in + bytes + i);
		*(u16 *)(out + bytes + i) = *(u16 *)(in + i);
	}
}

/* The checksum of a datagram over IPv6, which has to have one. */
__noinline u32 udp_sum(struct scratch *s, u32 size)
{
	u64 sum = bswap16((u16)size) + bswap16(IPPROTO_UDP);
	u32 at, end;

	if (!s)
		return 0;
	/* The addresses lie in front of the datagram. */
	at = s->udp - 32;
	end = s->udp + size;
	*(u64 *)AT(s->out, end) = 0;
	for (; at < end && can_loop; at += 16) {
		u64 first = *(u64 *)AT(s->out, at), second = at + 8 < end ? *(u64 *)AT(s->out, at + 8) : 0;

		sum += first;
		sum += sum < first;
		sum += second;
		sum += sum < second;
	}
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	return sum ? sum : 0xffff;
}

/* Puts headers in front of the answer; gives the length of the packet. */
__noinline u32 put_headers(struct scratch *s)
{
	u32 ip, udp, size, i;
	u8 *to, *from;

	if (!s)
		return 0;
	ip = s->ip;
	udp = s->udp;
	size = s->out_end - udp;
	for (i = 0; i < 24; i += 8)
		*(u64 *)&s->out[i] = *(u64 *)&s->in[i];
	swap(s->out, s->in, 6);
	to = AT(s->out, ip);
	from = AT(s->in, ip);
	if (s->v6) {
		*(u32 *)to = 0x60;
		put_be16(to + 4, size);
		to[6] = IPPROTO_UDP;
		to[7] = TTL;
		swap(to + 8, from + 8, 16);
	} else {
		*(u16 *)to = 0x45;
		put_be16(to + 2, size + 20);
		*(u16 *)(to + 4) = 0;
		put_be16(to + 6, 0x4000); /* Not to be cut into fragments, which would need a number. */
		to[8] = TTL;
		to[9] = IPPROTO_UDP;
		*(u16 *)(to + 10) = 0;
		swap(to + 12, from + 12, 4);
		*(u16 *)(to + 10) = ~header_sum(to);
	}
	to = AT(s->out, udp);
	from = AT(s->in, udp);
	swap(to, from, 2);
	put_be16(to + 4, size);
	*(u16 *)(to + 6) = 0; /* Over IPv4 that says that there is none. */
	*(u16 *)(to + 8) = *(u16 *)(from + 8);
	*(u16 *)(to + 10) = 0;
	put_be16(to + 12, 1);
	*(u16 *)(to + 14) = 0;
	if (s->v6)
		*(u16 *)(to + 6) = udp_sum(s, size);
	return s->out_end;
}

/* Counts in the arena, so that it outlives the program: atomically, for CPUs may share counters if there are many. */
static __always_inline u64 __arena *counters_of(u32 path)
{
	u32 cpu = bpf_get_smp_processor_id() & (KV_CPUS - 1);

	return &kv.counters[path * KV_CPUS + cpu].answered;
}

static __always_inline void count(u32 path, int verdict)
{
	add(counters_of(path) + (verdict & 7), 1);
}

/* The length of the packet that answers the one in the buffer, or 0. */
__noinline u32 respond(struct scratch *s, u32 len)
{
	int verdict;

	if (!s)
		return 0;
	verdict = parse(s, len);
	s->hits = 0;
	if (verdict == ANSWER)
		verdict = answer(s);
	if (verdict != ANSWER) {
		count(s->path, verdict);
		return 0;
	}
	return put_headers(s);
}

/* Counts an answer that goes out. */
static __always_inline void count_answer(struct scratch *s)
{
	u64 __arena *counters = counters_of(s->path);

	add(counters + ANSWER, 1);
	add(counters + HITS, s->hits);
}

static __always_inline struct scratch *scratch_of_cpu(u32 path)
{
	u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &zero);

	if (s)
		s->path = path;
	return s;
}

/* Whether the first bytes say that this is no datagram to the store's port; most packets cost no more than this. */
static __always_inline int is_other_traffic(const u8 *data)
{
	if (data[12] == 0x08 && data[13] == 0x00)
		return data[23] != IPPROTO_UDP || be16(data + 36) != kv.port;
	return data[12] == 0x86 && data[13] == 0xdd && data[20] != IPPROTO_UDP;
}

/* There is an answer, and no room: traffic control has it, where it looks for marks. */
static __always_inline void hand_on(struct xdp_md *ctx)
{
	int verdict = TOO_LONG;

	if (kv.tc_behind && !bpf_xdp_adjust_meta(ctx, -(int)sizeof(u32))) {
		u8 *mark = (void *)(u64)ctx->data_meta, *data = (void *)(u64)ctx->data;

		if (mark + sizeof(u32) <= data) {
			*(u32 *)mark = MARK;
			verdict = HANDED_ON;
		}
	}
	count(PATH_XDP, verdict);
}

SEC("xdp")
int kvcache_xdp(struct xdp_md *ctx)
{
	u8 *data = (void *)(u64)ctx->data, *end = (void *)(u64)ctx->data_end;
	u32 len = end - data, size;
	struct scratch *s;

	if (data + SHORTEST > end)
		return XDP_PASS;
	barrier_var(len);
	if (len < SHORTEST || len > LONGEST || is_other_traffic(data))
		return XDP_PASS;
	s = scratch_of_cpu(PATH_XDP);
	if (!s || bpf_xdp_load_bytes(ctx, 0, s->in, len))
		return XDP_PASS;
	size = respond(s, len);
	if (!size || size > BUFFER)
		return XDP_PASS;
	/*
	 * All of it is written anew, so that it does not matter at which end it grows. Some drivers have room behind a packet, and
	 * some only in front of it.
	 */
	if (bpf_xdp_adjust_tail(ctx, (int)size - (int)len) && bpf_xdp_adjust_head(ctx, (int)len - (int)size)) {
		hand_on(ctx);
		return XDP_PASS;
	}
	/* The packet is as long as this: it cannot fail. */
	if (bpf_xdp_store_bytes(ctx, 0, s->out, size))
		return XDP_ABORTED;
	count_answer(s);
	return XDP_TX;
}

SEC("tc")
int kvcache_tc(struct __sk_buff *ctx)
{
	u8 *data = (void *)(u64)ctx->data, *end = (void *)(u64)ctx->data_end, *mark = (void *)(u64)ctx->data_meta;
	u32 len = ctx->len, size;
	struct scratch *s;

	if (len < SHORTEST || len > LONGEST)
		return TC_ACT_UNSPEC;
	if (kv.tc_behind) {
		if (mark + sizeof(u32) > data || *(u32 *)mark != MARK)
			return TC_ACT_UNSPEC;
	} else if (data + SHORTEST <= end && is_other_traffic(data)) {
		return TC_ACT_UNSPEC;
	}
	s = scratch_of_cpu(PATH_TC);
	if (!s || bpf_skb_load_bytes(ctx, 0, s->in, len))
		return TC_ACT_UNSPEC;
	size = respond(s, len);
	if (!size || size > BUFFER)
		return TC_ACT_UNSPEC;
	if (bpf_skb_change_tail(ctx, size, 0)) {
		count(PATH_TC, TOO_LONG);
		return TC_ACT_UNSPEC;
	}
	if (bpf_skb_store_bytes(ctx, 0, s->out, size, 0))
		return TC_ACT_SHOT;
	count_answer(s);
	return bpf_redirect(ctx->ifindex, 0);
}

LICENSE("Dual MIT/GPL");
