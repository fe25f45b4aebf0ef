/* Has another licence than the other objects. */
#include "bpf.h"

char _license[] SEC("license") = "Dual MIT/GPL";
