/* A second strong definition of `linked_library`'s function. */
#include "bpf.h"

__noinline u64 library_add(u64 value)
{
	return value;
}
