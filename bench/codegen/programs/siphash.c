#include "bench.h"
/* hashes of keys of 8 to 71 bytes: SipHash-2-4, and a 32-bit hash by multiplications and rotations */
#define ROTL64(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define ROTL32(x, b) (((x) << (b)) | ((x) >> (32 - (b))))
#define ROUND do { \
	v0 += v1; v1 = ROTL64(v1, 13); v1 ^= v0; v0 = ROTL64(v0, 32); \
	v2 += v3; v3 = ROTL64(v3, 16); v3 ^= v2; \
	v0 += v3; v3 = ROTL64(v3, 21); v3 ^= v0; \
	v2 += v1; v1 = ROTL64(v1, 17); v1 ^= v2; v2 = ROTL64(v2, 32); } while (0)

static noinline u64 siphash(const u8 __arena *data, u64 len, u64 k0, u64 k1, u64 Z)
{
	u64 v0 = k0 ^ 0x736f6d6570736575ULL, v1 = k1 ^ 0x646f72616e646f6dULL;
	u64 v2 = k0 ^ 0x6c7967656e657261ULL, v3 = k1 ^ 0x7465646279746573ULL;
	u64 last = len << 56, i, m;

	for (i = Z; i + 8 <= len && can_loop; i += 8) {
		m = *(const u64 __arena *)(data + i);
		v3 ^= m;
		ROUND; ROUND;
		v0 ^= m;
	}
	for (m = Z; i < len && can_loop; i++, m += 8)
		last |= (u64)data[i] << m;
	v3 ^= last;
	ROUND; ROUND;
	v0 ^= last;
	v2 ^= 0xff;
	ROUND; ROUND; ROUND; ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

static noinline u32 murmur(const u8 __arena *data, u64 len, u32 h, u64 Z)
{
	u64 i;

	for (i = Z; i + 4 <= len && can_loop; i += 4) {
		u32 k = *(const u32 __arena *)(data + i);

		k *= 0xcc9e2d51;
		k = ROTL32(k, 15);
		k *= 0x1b873593;
		h ^= k;
		h = ROTL32(h, 13);
		h = h * 5 + 0xe6546b64;
	}
	for (; i < len && can_loop; i++)
		h = (h ^ data[i]) * 0x01000193;
	h ^= len;
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	h ^= h >> 16;
	return h;
}

ENTRY
{
	mem_t mem = MEM(c);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	for (i = Z; i < n / 8 + 16 && can_loop; i++) {
		x = xs64(x);
		((u64 __arena *)mem)[i] = x;
	}
	for (it = Z; it < c->iters && can_loop; it++)
		for (i = Z; i < n && can_loop; i += 8) {
			u64 len;

			x = xs64(x);
			len = 8 + (x >> 58);
			sum = sum * 3 + siphash(mem + i, len, sum, x, Z);
			sum ^= murmur(mem + i, len, x, Z);
		}
	c->ret = sum;
	return 0;
}
