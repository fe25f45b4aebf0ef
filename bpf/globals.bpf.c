// SPDX-License-Identifier: MIT OR Apache-2.0
// Variables of many types in every kind of section, read and written by the host through their names.
#include "bpf_arena.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__ulong(map_extra, 0x2ull << 44);
} arena SEC(".maps");

enum color { RED, GREEN = 5, BLUE };

struct point {
	s32 x;
	s32 y;
};

union number {
	u64 whole;
	u32 half[2];
};

struct shape {
	char name[16];
	enum color color;
	struct point corners[3];
	union number area;
	struct {
		u16 width;
		u16 height;
	} box;
	struct shape __arena *next;
	u32 solid : 1;
	u32 layer : 7;
	s32 shift : 4;
	_Bool visible;
};

/* .addr_space.1: contents of the arena */
u64 __arena calls;
s32 __arena numbers[8] = { 1, -2, 3, -4, 5, -6, 7, -8 };
struct point __arena origin = { .x = -1, .y = 1 };
struct shape __arena triangle = {
	.name = "triangle",
	.color = GREEN,
	.corners = { { 0, 0 }, { 4, 0 }, { 0, 3 } },
	.area = { .whole = 6 },
	.box = { .width = 4, .height = 3 },
	.solid = 1,
	.layer = 42,
	.shift = -3,
	.visible = 1,
};
static u32 __arena hidden = 7;

/* .data */
u8 byte = 0xff;
s16 small = -300;
s64 big = -5000000000;
struct point moved = { 10, 20 };
enum color paint = BLUE;
char greeting[8] = "hello";
_Bool enabled = 1;

/* .bss */
u64 result;
struct shape __arena *first;
struct point grid[2][3];

/* .rodata: settings that the host fills in before loading */
const volatile u32 factor = 2;
const volatile struct point limit = { 100, 200 };

/* A section of its own. */
u64 counters[4] SEC(".data.counters") = { 1, 2, 3, 4 };

/* Adds numbers up, scaled by `factor`; moves points; links the one shape. */
SEC("syscall")
int step(void *ctx)
{
	s64 total = 0;
	int i;

	for (i = 0; i < 8 && can_loop; i++)
		total += numbers[i];
	result = (u64)(total + big) * factor;
	moved.x += origin.x;
	moved.y += origin.y;
	grid[1][2] = moved;
	first = &triangle;
	triangle.corners[1].x++;
	triangle.area.half[1] = byte;
	calls++;
	hidden++;
	counters[3] += small;
	return moved.x < limit.x && enabled ? 0 : 1;
}

LICENSE("Dual MIT/GPL");
