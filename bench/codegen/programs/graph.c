#include "bench.h"
/* a graph in rows of neighbours: breadth-first search with a queue and a bitmap, and connected components with union-find */
#define DEGREE 8
struct graph { PTR(u32, row); PTR(u32, edges); PTR(u32, queue); PTR(u32, dist); PTR(u64, seen); PTR(u32, up); };
typedef struct graph __arena *graph_t;

static noinline u64 bfs(graph_t g, u32 n, u32 from, u64 Z)
{
	u32 __arena *row = g->row, *edges = g->edges, *queue = g->queue, *dist = g->dist;
	u64 __arena *seen = g->seen;
	u32 head = Z, tail = Z, i;
	u64 sum = Z;

	for (i = Z; i < (n + 63) / 64 && can_loop; i++)
		seen[i] = 0;
	seen[from >> 6] |= 1ULL << (from & 63);
	dist[from] = 0;
	queue[tail++] = from;
	while (head < tail && can_loop) {
		u32 at = queue[head++], d = dist[at];

		sum = sum * 3 + d;
		for (i = row[at]; i < row[at + 1] && can_loop; i++) {
			u32 to = edges[i];
			u64 bit = 1ULL << (to & 63);

			if (seen[to >> 6] & bit)
				continue;
			seen[to >> 6] |= bit;
			dist[to] = d + 1;
			queue[tail++] = to;
		}
	}
	return sum + tail;
}

static always_inline u32 top(u32 __arena *up, u32 at)
{
	while (up[at] != at && can_loop) {
		up[at] = up[up[at]];
		at = up[at];
	}
	return at;
}

static noinline u64 components(graph_t g, u32 n, u64 Z)
{
	u32 __arena *row = g->row, *edges = g->edges, *up = g->up;
	u32 count = n, at, i;

	for (at = Z; at < n && can_loop; at++)
		up[at] = at;
	for (at = Z; at < n && can_loop; at++)
		for (i = row[at]; i < row[at + 1] && can_loop; i++) {
			u32 a = top(up, at), b = top(up, edges[i]);

			if (a == b)
				continue;
			up[a > b ? a : b] = a > b ? b : a;
			count--;
		}
	return count;
}

ENTRY
{
	mem_t mem = MEM(c);
	graph_t g = (graph_t)mem;
	u64 n = c->n, x = 88172645463325252ULL ^ c->zero, sum = 0, used, i, it;
	USE_ARENA(); const u64 Z = c->zero;

	used = Z;
	g->row = (u32 __arena *)(mem + 4096);
	g->queue = g->row + n + 16;
	g->dist = g->queue + n + 16;
	g->up = g->dist + n + 16;
	g->seen = (u64 __arena *)(mem + 4096 + 16 * (n + 64));
	g->edges = (u32 __arena *)(g->seen + n / 64 + 16);
	for (i = Z; i < n && can_loop; i++) {
		u64 end;

		x = xs64(x);
		g->row[i] = used;
		end = used + x % DEGREE;
		for (; used < end && can_loop; used++) {
			x = xs64(x);
			g->edges[used] = ((x >> 32) * n) >> 32;
		}
	}
	g->row[n] = used;
	for (it = Z; it < c->iters && can_loop; it++) {
		sum = sum * 31 + bfs(g, n, it % n, Z);
		sum += components(g, n, Z);
	}
	c->ret = sum;
	return 0;
}
