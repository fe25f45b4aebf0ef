/* The types that core.bpf.c meets: the same names, laid out differently. */
#include "bpf.h"

struct nested {
	u32 added;
	u32 second;
	u32 first;
};

struct shape {
	u64 added[2];
	u64 widened;
	s64 signed_widened;
	u16 list[6];
	u32 moved;
	union {
		struct nested in;
		u64 alternative;
	};
	u32 pad : 3;
	u32 bits : 7;
	s64 signed_bits : 11;
	u64 tail[];
};

struct twice {
	u32 x;
};

struct twice___b {
	u32 before;
	u32 x;
};

struct matching {
	struct nested *link;
	u64 more;
	u32 a;
};

struct mismatching {
	u64 a;
};

enum color {
	RED = 1,
	GREEN = 77,
};

enum big {
	HUGE = 0x123456789abcdefull,
};

struct shape shape;
struct twice twice;
struct twice___b twice_b;
struct matching matching;
struct mismatching mismatching;
enum color color;
enum big big;

char _license[] SEC("license") = "GPL";
