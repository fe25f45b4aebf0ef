/* Every kind of BTF type. */
#include "bpf.h"

#define __type_tag(text) __attribute__((btf_type_tag(text)))

struct forward;
union forward_union;

enum small { MINUS = -1, PLUS = 1 };
enum wide { WIDE = 0xffffffffffull };

struct __tag("on_struct") everything {
	const volatile int *restrict pointer;
	struct forward *declared;
	union forward_union *declared_union;
	float single;
	double number;
	enum small small;
	enum wide wide;
	union {
		u8 byte;
		struct {
			u16 inside;
		};
	};
	u32 low : 3;
	s32 high : 12;
	char text[4][2];
	_Bool flag __tag("on_member");
	int __type_tag("user") *tagged;
	int (*function)(int named, ...);
};

struct everything everything __tag("on_variable");

__noinline int function(int plain, struct everything *tagged __tag("on_argument")) __tag("on_function")
{
	return plain + tagged->low;
}

SEC("socket")
int use(void *ctx)
{
	return function(1, &everything);
}

char _license[] SEC("license") = "GPL";
