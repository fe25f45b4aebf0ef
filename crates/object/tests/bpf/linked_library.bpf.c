/* The other half: what `linked_main` calls, and a program of its own. */
#include "linked.h"

struct totals totals = { 1, 2 };
u64 __arena shared_counter = 7;
u64 scale = 3;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, u32);
	__type(value, u64);
} table SEC(".maps");

extern int CONFIG_HZ __kconfig;
extern u64 answer;

static u64 __arena hidden_counter = 50;
static u64 hidden_state = 60;
static __noinline u64 helper(u64 value)
{
	hidden_state -= value;
	return hidden_state;
}

__noinline u64 transform(u64 value)
{
	return value * 2;
}

__weak __noinline u64 first_wins(void)
{
	return 2;
}

__noinline u64 library_add(u64 value)
{
	totals.calls++;
	totals.sum += value;
	hidden_counter += CONFIG_HZ;
	return helper(value);
}

SEC("syscall")
int library_main(void *ctx)
{
	struct record __arena *record = (void __arena *)&shared_counter;

	answer = record->value + first_wins();
	return transform(answer);
}

char _license[] SEC("license") = "GPL";
