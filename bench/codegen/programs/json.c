#include "bench.h"
/* JSON in a buffer: written from a description, then tokenized (numbers parsed, strings hashed, nesting checked) */
enum { OBJECT = 1, ARRAY, STRING, NUMBER, WORD };
struct token { u32 kind; u32 start; u32 end; u32 depth; };
struct parser { PTR(u8, text); PTR(struct token, tokens); PTR(u8, nesting); u64 len; u64 sum; };

static always_inline int is_space(u8 ch) { return ch == ' ' || ch == '\n' || ch == '\t' || ch == '\r'; }
static always_inline int is_digit(u8 ch) { return ch >= '0' && ch <= '9'; }

/* six digits */
static always_inline u64 put_number(u8 __arena *out, u64 at, u32 value)
{
	u32 i;

	for (i = 6; i > 0; i--) {
		out[at + i - 1] = '0' + value % 10;
		value /= 10;
	}
	return at + 6;
}

/* adds records to the text */
static noinline u64 write(struct parser __arena *p, u64 records, struct ctx *c)
{
	u8 __arena *out = p->text;
	u64 x = 88172645463325252ULL ^ ZZ, i, end;
	u64 at = p->len;

	out[at++] = '[';
	for (i = ZZ; i < records && can_loop; i++) {
		x = xs64(x);
		out[at++] = '{'; out[at++] = '"'; out[at++] = 'i'; out[at++] = 'd'; out[at++] = '"'; out[at++] = ':';
		at = put_number(out, at, x >> 40);
		out[at++] = ','; out[at++] = ' '; out[at++] = '"'; out[at++] = 'n'; out[at++] = '"'; out[at++] = ':';
		out[at++] = '"';
		for (end = at + (x & 15); at < end && can_loop; at++)
			out[at] = 'a' + ((x >> (end - at)) & 15);
		if (x & 16) {
			out[at++] = '\\'; out[at++] = '"';
		}
		out[at++] = '"'; out[at++] = ','; out[at++] = '\n';
		out[at++] = '"'; out[at++] = 'v'; out[at++] = '"'; out[at++] = ':'; out[at++] = '[';
		at = put_number(out, at, (u32)x >> 16);
		out[at++] = ','; out[at++] = '-';
		at = put_number(out, at, (u32)x & 255);
		out[at++] = ','; out[at++] = 't'; out[at++] = 'r'; out[at++] = 'u'; out[at++] = 'e';
		out[at++] = ']'; out[at++] = '}';
		out[at++] = i + 1 < records ? ',' : ' ';
	}
	out[at++] = ']';
	return at;
}

/* tokens, or 0 if it is no JSON */
static noinline u64 tokenize(struct parser __arena *p, struct ctx *c)
{
	u8 __arena *text = p->text, *nesting = p->nesting;
	struct token __arena *tokens = p->tokens;
	u64 len = p->len, at = ZZ, used = ZZ, sum = ZZ;
	u32 depth = ZZ;

	while (at < len && can_loop) {
		u8 ch = text[at];
		struct token __arena *t;

		if (is_space(ch) || ch == ',' || ch == ':') {
			at++;
			continue;
		}
		t = &tokens[used];
		t->start = at;
		t->depth = depth;
		if (ch == '{' || ch == '[') {
			t->kind = ch == '{' ? OBJECT : ARRAY;
			nesting[depth & 63] = ch == '{' ? '}' : ']';
			depth++;
			at++;
		} else if (ch == '}' || ch == ']') {
			if (!depth)
				return 0;
			depth--;
			if (nesting[depth & 63] != ch)
				return 0;
			at++;
			continue;
		} else if (ch == '"') {
			u32 hash = 5381;

			for (at++; at < len && can_loop; at++) {
				ch = text[at];
				if (ch == '"')
					break;
				if (ch == '\\')
					ch = text[++at];
				hash = hash * 33 ^ ch;
			}
			at++;
			t->kind = STRING;
			sum = sum * 31 + hash;
		} else if (ch == '-' || is_digit(ch)) {
			u64 value = 0;
			int negative = ch == '-';

			if (negative)
				at++;
			while (at < len && is_digit(text[at]) && can_loop)
				value = value * 10 + (text[at++] - '0');
			t->kind = NUMBER;
			sum += negative ? -value : value;
		} else {
			while (at < len && (u8)(text[at] - 'a') < 26 && can_loop)
				at++;
			if (at == t->start)
				return 0;
			t->kind = WORD;
		}
		t->end = at;
		used++;
	}
	p->sum = sum;
	return depth ? 0 : used;
}

ENTRY
{
	mem_t mem = MEM(c);
	struct parser __arena *p = (struct parser __arena *)mem;
	u64 n = c->n, sum = 0, it;
	USE_ARENA();

	p->nesting = mem + 256;
	p->text = mem + 4096;
	p->tokens = (struct token __arena *)(mem + (1 << 20));
	p->len = 0;
	p->len = write(p, n, c);
	for (it = ZZ; it < c->iters && can_loop; it++) {
		u64 used = tokenize(p, c);

		sum = sum * 31 + p->sum + used;
		sum += p->tokens[it % (used + 1)].end;
	}
	c->ret = sum;
	return 0;
}
