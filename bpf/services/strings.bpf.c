// SPDX-License-Identifier: MIT OR Apache-2.0
// Numbers in text, and strings: each function on inputs that the host chooses.
#include "services.h"

struct {
	char a[96];
	char b[32];
	u64 len;     /* of `a`, or a count */
	u64 flags;   /* of the number functions */
	u64 letter;
	u64 address; /* instead of `b` */
	s64 results[16];
	s64 value;
	u64 magnitude;
} io;

SEC("syscall")
int numbers(void *ctx)
{
	u64 len = io.len;

	if (len == 0 || len > sizeof(io.a))
		return 1;
	io.results[0] = bpf_strtol(io.a, len, io.flags, (long *)&io.value);
	io.results[1] = bpf_strtoul(io.a, len, io.flags, (unsigned long *)&io.magnitude);
	return 0;
}

static const char empty[] = "";
static const char word[] = "word";
static const char words[] = "words and more";

SEC("syscall")
int prefix(void *ctx)
{
	u64 len = io.len;

	if (len == 0 || len > sizeof(io.a))
		return 1;
	io.results[0] = bpf_strncmp(io.a, len, empty);
	io.results[1] = bpf_strncmp(io.a, len, word);
	io.results[2] = bpf_strncmp(io.a, len, words);
	return 0;
}

SEC("syscall")
int strings(void *ctx)
{
	io.results[0] = bpf_strcmp(io.a, io.b);
	io.results[1] = bpf_strcasecmp(io.a, io.b);
	io.results[2] = bpf_strchr(io.a, io.letter);
	io.results[3] = bpf_strnchr(io.a, io.len, io.letter);
	io.results[4] = bpf_strchrnul(io.a, io.letter);
	io.results[5] = bpf_strrchr(io.a, io.letter);
	io.results[6] = bpf_strlen(io.a);
	io.results[7] = bpf_strnlen(io.a, io.len);
	io.results[8] = bpf_strspn(io.a, io.b);
	io.results[9] = bpf_strcspn(io.a, io.b);
	io.results[10] = bpf_strstr(io.a, io.b);
	io.results[11] = bpf_strnstr(io.a, io.b, io.len);
	return 0;
}

/* Strings that are not there. */
SEC("syscall")
int nowhere(void *ctx)
{
	const char *there = (const char *)io.address;

	io.results[0] = bpf_strcmp(io.a, there);
	io.results[1] = bpf_strcasecmp(there, io.a);
	io.results[2] = bpf_strchr(there, io.letter);
	io.results[3] = bpf_strnchr(there, 0, io.letter);
	io.results[4] = bpf_strchrnul(there, io.letter);
	io.results[5] = bpf_strrchr(there, io.letter);
	io.results[6] = bpf_strlen(there);
	io.results[7] = bpf_strnlen(there, io.len);
	io.results[8] = bpf_strspn(io.a, there);
	io.results[9] = bpf_strcspn(there, io.a);
	io.results[10] = bpf_strstr(io.a, there);
	io.results[11] = bpf_strnstr(there, io.a, io.len);
	return 0;
}

static char endless[70000];

/* Strings longer than the kernel looks at. */
SEC("syscall")
int too_long(void *ctx)
{
	const char *text = endless;
	u32 i;

	bpf_for(i, 0, sizeof(endless))
		if (i < sizeof(endless))
			endless[i] = 'x';
	io.results[0] = bpf_strlen(text);
	io.results[1] = bpf_strnlen(text, 65535);
	io.results[2] = bpf_strnlen(text, 65536);
	io.results[3] = bpf_strnlen(text, 65537);
	io.results[4] = bpf_strchr(text, 'y');
	io.results[5] = bpf_strnchr(text, 65535, 'y');
	io.results[6] = bpf_strnchr(text, 65536, 'y');
	io.results[7] = bpf_strrchr(text, 'x');
	io.results[8] = bpf_strcmp(text, text);
	io.results[9] = bpf_strspn(text, io.a);
	io.results[10] = bpf_strcspn(text, io.a);
	io.results[11] = bpf_strstr(text, io.a);
	io.results[12] = bpf_strnstr(text, io.a, 100);
	io.results[13] = bpf_strchrnul(text, 'y');
	return 0;
}

LICENSE("Dual MIT/GPL");
