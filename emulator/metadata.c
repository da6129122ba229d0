/*
 * metadata.c: the kernels of a code object from its note, which is MessagePack: a map whose "amdhsa.kernels" is an
 * array of maps. What is not understood is skipped; what is cut short ends the reading.
 */
#include "emulator/codeobj.h"

#include <stdlib.h>

struct reader {
	const u8 *p, *end;
};

enum kind { INTEGER, STRING, ARRAY, MAP, OTHER };

#define KERNELS_MAX 4096
#define ARGS_MAX 256
#define DEPTH_MAX 32

/* n bytes, most significant first. */
static int
read_bytes(struct reader *m, int n, u64 *x)
{
	if (m->end - m->p < n)
		return -1;
	*x = 0;
	while (n-- > 0)
		*x = *x << 8 | *m->p++;
	return 0;
}

/* The head of the next object: n is an integer's value, a string's length, an array's or map's count. */
static int
read_head(struct reader *m, enum kind *kind, u64 *n)
{
	static const struct {
		u8 kind, bytes;
	} heads[32] = {
		[0x00] = {OTHER, 0},						    /* nil */
		[0x02] = {INTEGER, 0},						    /* false */
		[0x03] = {INTEGER, 0},						    /* true */
		[0x04] = {STRING, 1},  [0x05] = {STRING, 2},  [0x06] = {STRING, 4}, /* binary */
		[0x0a] = {OTHER, 4},   [0x0b] = {OTHER, 8},			    /* floats */
		[0x0c] = {INTEGER, 1}, [0x0d] = {INTEGER, 2}, [0x0e] = {INTEGER, 4}, [0x0f] = {INTEGER, 8},
		[0x10] = {INTEGER, 1}, [0x11] = {INTEGER, 2}, [0x12] = {INTEGER, 4}, [0x13] = {INTEGER, 8},
		[0x19] = {STRING, 1},  [0x1a] = {STRING, 2},  [0x1b] = {STRING, 4},  [0x1c] = {ARRAY, 2},
		[0x1d] = {ARRAY, 4},   [0x1e] = {MAP, 2},     [0x1f] = {MAP, 4},
	};
	u8 b;

	if (m->p >= m->end)
		return -1;
	b = *m->p++;
	*n = b;
	if (b < 0x80) {
		*kind = INTEGER;
	} else if (b < 0x90) {
		*kind = MAP;
		*n = b & 15;
	} else if (b < 0xa0) {
		*kind = ARRAY;
		*n = b & 15;
	} else if (b < 0xc0) {
		*kind = STRING;
		*n = b & 31;
	} else if (b >= 0xe0) {
		*kind = INTEGER;
		*n = (u64)(i64)(i8)b;
	} else {
		if (b == 0xc1 || (b >= 0xc7 && b <= 0xc9) || (b >= 0xd4 && b <= 0xd8)) /* extensions */
			return -1;
		*kind = (enum kind)heads[b - 0xc0].kind;
		*n = b == 0xc3;
		if (heads[b - 0xc0].bytes != 0)
			return read_bytes(m, heads[b - 0xc0].bytes, n);
	}
	return 0;
}

static int
skip(struct reader *m, int depth)
{
	enum kind kind;
	u64 n;

	if (depth > DEPTH_MAX || read_head(m, &kind, &n) != 0)
		return -1;
	if (kind == STRING) {
		if (n > (u64)(m->end - m->p))
			return -1;
		m->p += n;
		return 0;
	}
	if (kind != ARRAY && kind != MAP)
		return 0;
	if (kind == MAP)
		n *= 2;
	while (n-- > 0)
		if (skip(m, depth + 1) != 0)
			return -1;
	return 0;
}

static int
read_string(struct reader *m, char *out, size_t cap)
{
	enum kind kind;
	size_t len;
	u64 n;

	if (read_head(m, &kind, &n) != 0 || kind != STRING || n > (u64)(m->end - m->p))
		return -1;
	len = n < cap ? (size_t)n : cap - 1;
	memcpy(out, m->p, len);
	out[len] = '\0';
	m->p += n;
	return 0;
}

static int
read_int(struct reader *m, int *out)
{
	enum kind kind;
	u64 n;

	if (read_head(m, &kind, &n) != 0 || kind != INTEGER)
		return -1;
	*out = (int)n;
	return 0;
}

static int
read_count(struct reader *m, enum kind wanted, u64 *n)
{
	enum kind kind;

	return read_head(m, &kind, n) != 0 || kind != wanted ? -1 : 0;
}

static int
read_arg(struct reader *m, struct kernel_arg *a)
{
	char key[64];
	u64 n;

	if (read_count(m, MAP, &n) != 0)
		return -1;
	while (n-- > 0) {
		int r;

		if (read_string(m, key, sizeof key) != 0)
			return -1;
		if (strcmp(key, ".offset") == 0)
			r = read_int(m, &a->offset);
		else if (strcmp(key, ".size") == 0)
			r = read_int(m, &a->size);
		else if (strcmp(key, ".value_kind") == 0)
			r = read_string(m, a->kind, sizeof a->kind);
		else
			r = skip(m, 0);
		if (r != 0)
			return -1;
	}
	return a->offset < 0 || a->offset > 65536 || a->size < 0 || a->size > 65536 ? -1 : 0;
}

static int
read_args(struct reader *m, struct kernel *k)
{
	u64 n;

	if (read_count(m, ARRAY, &n) != 0 || n > ARGS_MAX || k->args != NULL)
		return -1;
	k->args = calloc(n + 1, sizeof *k->args);
	if (k->args == NULL)
		abort();
	for (u64 i = 0; i < n; i++) {
		if (read_arg(m, &k->args[i]) != 0)
			return -1;
		k->nargs++;
	}
	return 0;
}

static int
read_kernel(struct reader *m, struct kernel *k)
{
	char key[64];
	u64 n;

	if (read_count(m, MAP, &n) != 0)
		return -1;
	while (n-- > 0) {
		const struct {
			const char *key;
			int *to;
		} numbers[] = {
			{".kernarg_segment_size", &k->kernarg_size},
			{".group_segment_fixed_size", &k->group_size},
			{".private_segment_fixed_size", &k->private_size},
			{".max_flat_workgroup_size", &k->max_threads},
			{".vgpr_count", &k->vgprs},
			{".agpr_count", &k->agprs},
			{".sgpr_count", &k->sgprs},
		};
		int r = 1;

		if (read_string(m, key, sizeof key) != 0)
			return -1;
		for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
			if (strcmp(key, numbers[i].key) == 0)
				r = read_int(m, numbers[i].to);
		if (strcmp(key, ".name") == 0)
			r = read_string(m, k->name, sizeof k->name);
		else if (strcmp(key, ".args") == 0)
			r = read_args(m, k);
		else if (r == 1)
			r = skip(m, 0);
		if (r != 0)
			return -1;
	}
	return k->kernarg_size < 0 || k->kernarg_size > 65536 ? -1 : 0;
}

void
emu_metadata_read(struct codeobj *co, const u8 *p, size_t n)
{
	struct reader m = {p, p + n};
	char key[64];
	u64 keys, kernels;

	if (read_count(&m, MAP, &keys) != 0)
		return;
	while (keys-- > 0) {
		if (read_string(&m, key, sizeof key) != 0)
			return;
		if (strcmp(key, "amdhsa.kernels") != 0) {
			if (skip(&m, 0) != 0)
				return;
			continue;
		}
		if (co->kernels != NULL || read_count(&m, ARRAY, &kernels) != 0 || kernels > KERNELS_MAX)
			return;
		co->kernels = calloc(kernels + 1, sizeof *co->kernels);
		if (co->kernels == NULL)
			abort();
		for (u64 i = 0; i < kernels; i++) {
			struct kernel *k = &co->kernels[i];

			k->co = co;
			if (read_kernel(&m, k) != 0) {
				free(k->args);
				memset(k, 0, sizeof *k);
				return;
			}
			co->nkernels++;
		}
	}
}
