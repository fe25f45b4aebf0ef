// SPDX-License-Identifier: MIT OR Apache-2.0
// Sends datagrams to memcached's port back as they came: what a load generator reaches when answers cost next to nothing. And
// passes everything: what the other end of a cable needs before its driver takes packets from an XDP program.
#include "bpf_arena.h"

struct xdp_md {
	u32 data;
	u32 data_end;
};

enum { XDP_PASS = 2, XDP_TX = 3 };

/* Ethernet, IPv4 without options, UDP. */
#define HEADERS 42
#define PORT 11211

#define SWAP(type, a, b)                        \
	do {                                    \
		type *one = (type *)(a), *other = (type *)(b); \
		type was = *one;                \
                                                \
		*one = *other;                  \
		*other = was;                   \
	} while (0)

SEC("xdp")
int reflect(struct xdp_md *ctx)
{
	u8 *data = (void *)(u64)ctx->data, *end = (void *)(u64)ctx->data_end;

	if (data + HEADERS > end)
		return XDP_PASS;
	if (data[12] != 8 || data[13] || data[14] != 0x45 || data[23] != 17)
		return XDP_PASS;
	if (*(u16 *)(data + 36) != (u16)(PORT << 8 | PORT >> 8))
		return XDP_PASS;
	SWAP(u32, data, data + 6);
	SWAP(u16, data + 4, data + 10);
	SWAP(u32, data + 26, data + 30);
	SWAP(u16, data + 34, data + 36);
	*(u16 *)(data + 40) = 0; /* It was over the other order, or not yet made. */
	return XDP_TX;
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

LICENSE("Dual MIT/GPL");
