/* CO-RE relocations of every kind; core_target.bpf.c has the types they meet. One program a question. */
#include "bpf.h"

#define __relocatable __attribute__((preserve_access_index))
#define FIELD_SIZE 1
#define FIELD_EXISTS 2
#define FIELD_SIGNED 3
#define FIELD_LSHIFT 4
#define FIELD_RSHIFT 5

struct nested {
	u32 first;
	u32 second;
} __relocatable;

struct shape {
	u32 moved;
	u32 widened;
	s32 signed_widened;
	struct nested in;
	u16 list[4];
	u32 bits : 7;
	s32 signed_bits : 9;
	u32 gone;
	u64 tail[];
} __relocatable;

struct shape___other {
	u32 moved;
	u32 only_elsewhere;
} __relocatable;

struct absent {
	u32 x;
} __relocatable;

struct twice {
	u32 x;
} __relocatable;

struct matching {
	u32 a;
	struct nested *link;
} __relocatable;

struct mismatching {
	u32 a;
} __relocatable;

enum color {
	RED = 1,
	GREEN = 2,
	LOST = 3,
};

enum big {
	HUGE = 0x100000000ull,
};

u64 out;

#define QUESTION(name, expression)            \
	SEC("raw_tp") int name(void *ctx)     \
	{                                     \
		struct shape *shape = ctx;    \
		(void)shape;                  \
		out = (expression);           \
		return 0;                     \
	}

QUESTION(offset, shape->moved)
QUESTION(widened, shape->widened)
QUESTION(signed_widened, shape->signed_widened)
QUESTION(nested, shape->in.second)
QUESTION(element, shape->list[2])
QUESTION(flexible, shape->tail[3])
QUESTION(gone, shape->gone)
QUESTION(size, __builtin_preserve_field_info(shape->list, FIELD_SIZE))
QUESTION(exists, __builtin_preserve_field_info(shape->moved, FIELD_EXISTS))
QUESTION(exists_not, __builtin_preserve_field_info(shape->gone, FIELD_EXISTS))
QUESTION(is_signed, __builtin_preserve_field_info(shape->signed_bits, FIELD_SIGNED))
QUESTION(bit_offset, __builtin_preserve_field_info(shape->bits, 0))
QUESTION(lshift, __builtin_preserve_field_info(shape->signed_bits, FIELD_LSHIFT))
QUESTION(rshift, __builtin_preserve_field_info(shape->signed_bits, FIELD_RSHIFT))
QUESTION(flavor, ((struct shape___other *)ctx)->moved)
QUESTION(flavor_gone, ((struct shape___other *)ctx)->only_elsewhere)
QUESTION(absent_field, ((struct absent *)ctx)->x)
QUESTION(ambiguous, ((struct twice *)ctx)->x)
QUESTION(type_local, __builtin_btf_type_id(*(struct nested *)0, 0))
QUESTION(type_target, __builtin_btf_type_id(*(struct nested *)0, 1))
QUESTION(type_exists, __builtin_preserve_type_info(*(struct nested *)0, 0))
QUESTION(type_exists_not, __builtin_preserve_type_info(*(struct absent *)0, 0))
QUESTION(type_size, __builtin_preserve_type_info(*(struct nested *)0, 1))
QUESTION(type_matches, __builtin_preserve_type_info(*(struct matching *)0, 2))
QUESTION(type_matches_not, __builtin_preserve_type_info(*(struct mismatching *)0, 2))
QUESTION(enum_exists, __builtin_preserve_enum_value(*(enum color *)GREEN, 0))
QUESTION(enum_exists_not, __builtin_preserve_enum_value(*(enum color *)LOST, 0))
QUESTION(enum_value, __builtin_preserve_enum_value(*(enum color *)GREEN, 1))
QUESTION(enum_value_gone, __builtin_preserve_enum_value(*(enum color *)LOST, 1))
QUESTION(enum_huge, __builtin_preserve_enum_value(*(enum big *)HUGE, 1))

char _license[] SEC("license") = "GPL";
