// Prints the tests of `test_verifier` in the form that `testkit::tables` reads. Compiled where the kernel's source is:
// `verifier/tests.h`, which names every table, is generated beside it, with a test "@file NAME" in front of each.
#define main main_of_test_verifier
#include "test_verifier.c"
#undef main

static void print_hex(const char *key, const void *start, size_t bytes)
{
	const unsigned char *byte = start;

	printf("%s ", key);
	while (bytes--)
		printf("%02x", *byte++);
	putchar('\n');
}

// Parts of a message are separated by tabs, and its lines may be looked for one by one.
static void print_messages(const char *text)
{
	while (text && *text) {
		size_t length = strcspn(text, "\t\n");

		printf("message %.*s\n", (int)length, text);
		text += length + (text[length] != 0);
	}
}

static void print_map(const char *kind, const int *fixups)
{
	if (!fixups[0])
		return;
	printf("map %s", kind);
	for (int i = 0; i < MAX_FIXUPS && fixups[i]; i++)
		printf(" %d", fixups[i]);
	putchar('\n');
}

static void print_maps(const struct bpf_test *test)
{
#define MAP(kind) print_map(#kind, test->fixup_map_##kind)
	MAP(hash_8b);
	MAP(hash_48b);
	MAP(hash_16b);
	MAP(array_48b);
	MAP(sockmap);
	MAP(sockhash);
	MAP(xskmap);
	MAP(stacktrace);
	MAP(in_map);
	MAP(spin_lock);
	MAP(array_ro);
	MAP(array_wo);
	MAP(array_small);
	MAP(event_output);
	MAP(reuseport_array);
	MAP(ringbuf);
	MAP(timer);
	MAP(kptr);
#undef MAP
	print_map("prog1", test->fixup_prog1);
	print_map("prog2", test->fixup_prog2);
	print_map("cgroup_storage", test->fixup_cgroup_storage);
	print_map("percpu_cgroup_storage", test->fixup_percpu_cgroup_storage);
	print_map("sk_storage", test->fixup_sk_storage_map);
}

static void print_test(struct bpf_test *test)
{
	const struct bpf_insn *insns = test->insns;
	int length, types = 0;

	if (test->fill_helper) {
		test->fill_insns = calloc(MAX_TEST_INSNS, sizeof(struct bpf_insn));
		test->fill_helper(test);
		insns = test->fill_insns;
	}
	length = test->fill_helper ? test->prog_len : probe_filter_length(insns);
	printf("test %s\ntype %u\nattach %u\nflags %u\nresult %d\n", test->descr, test->prog_type,
	       test->expected_attach_type, test->flags, test->result);
	print_messages(test->errstr);
	print_hex("insns", insns, length * sizeof(*insns));
	print_maps(test);
	for (int i = 0; i < MAX_FIXUPS && test->fixup_kfunc_btf_id[i].kfunc; i++)
		printf("kfunc %s %d\n", test->fixup_kfunc_btf_id[i].kfunc, test->fixup_kfunc_btf_id[i].insn_idx);
	if (test->kfunc)
		printf("target %s\n", test->kfunc);
	while (types < MAX_BTF_TYPES && test->btf_types[types] != BTF_END_RAW)
		types++;
	if (test->btf_types[0]) {
		print_hex("types", test->btf_types, types * sizeof(test->btf_types[0]));
		print_hex("strings", test->btf_strings, sizeof(test->btf_strings));
	}
	for (int i = 0; i < test->func_info_cnt; i++)
		printf("function %u %u\n", test->func_info[i].insn_off, test->func_info[i].type_id);
	puts("end");
	free(test->fill_insns);
}

int main(void)
{
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (tests[i].descr[0] == '@')
			puts(tests[i].descr + 1);
		else
			print_test(&tests[i]);
	}
	return 0;
}
