/* An arena with globals: one page range, a list head, static and global variables, in `.addr_space.1`. */
#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 100);
	__ulong(map_extra, 0x1ull << 44);
} arena SEC(".maps");

struct node {
	struct node __arena *next;
	u64 value;
};

void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, u32 count, int node, u64 flags) __ksym __weak;
void bpf_arena_free_pages(void *map, void __arena *ptr, u32 count) __ksym __weak;

struct node __arena *__arena head;
u64 __arena counter = 41;
static u32 __arena skipped[3] = { 1, 2, 3 };
static u64 __arena last;
u64 sum;

static __noinline u64 push(struct node __arena *node, u64 value)
{
	node->value = value;
	node->next = head;
	head = node;
	return ++counter;
}

SEC("syscall")
int add(void *ctx)
{
	struct node __arena *node = bpf_arena_alloc_pages(&arena, NULL, 1, -1, 0);

	if (!node)
		return 1;
	push(node, 7);
	push(node + 1, 8);
	skipped[1]++;
	last = counter;
	sum = last + skipped[2];
	return 0;
}

SEC("syscall")
int drop(void *ctx)
{
	if (head)
		bpf_arena_free_pages(&arena, head, 1);
	head = NULL;
	return 0;
}

char _license[] SEC("license") = "GPL";
