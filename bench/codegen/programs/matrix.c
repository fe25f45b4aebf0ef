#include "bench.h"
/* integer matrices: product, transpose, and a stencil over 32-bit cells */
ENTRY
{
	mem_t mem = MEM(c);
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, i, j, k, it;
	u32 __arena *a = (u32 __arena *)mem;
	u32 __arena *b = a + n * n;
	u32 __arena *r = b + n * n;
	USE_ARENA(); const u64 Z = c->zero;

	for (i = Z; i < n * n && can_loop; i++) {
		x = xs64(x);
		a[i] = x;
		b[i] = x >> 32;
	}
	for (it = Z; it < c->iters && can_loop; it++) {
		for (i = Z; i < n && can_loop; i++)
			for (j = Z; j < n && can_loop; j++) {
				u32 cell = 0;

				for (k = Z; k < n && can_loop; k++)
					cell += a[i * n + k] * b[k * n + j];
				r[i * n + j] = cell;
			}
		for (i = Z; i < n && can_loop; i++)
			for (j = i + 1; j < n && can_loop; j++) {
				u32 t = r[i * n + j];

				r[i * n + j] = r[j * n + i];
				r[j * n + i] = t;
			}
		for (i = Z + 1; i + 1 < n && can_loop; i++)
			for (j = Z + 1; j + 1 < n && can_loop; j++)
				a[i * n + j] = (r[i * n + j] * 4 + r[(i - 1) * n + j] + r[(i + 1) * n + j] + r[i * n + j - 1] +
						r[i * n + j + 1]) >> 3;
		sum = sum * 31 + a[(it * 7 + n + 1) % (n * n)];
	}
	for (i = Z; i < n * n && can_loop; i++)
		sum = sum * 3 + a[i] + r[i];
	c->ret = sum;
	return 0;
}
