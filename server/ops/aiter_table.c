/*
 * aiter_table.c: reads AITER's CSV of attention kernels. Called once by a GPU worker (worker/aiter_files.c) and by tests.
 */
#include "ops/aiter_table.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 32

enum column { C_DTYPE, C_DIM, C_DIM_V, C_MASK, C_MODE, C_CVT, C_TILE_Q, C_TILE_K, C_SYMBOL, C_FILE, COLUMNS };

static const char *const names[COLUMNS] = {"dtype",    "hdim_q", "hdim_v", "mask",     "mode",
					   "bf16_cvt", "ts_qo",	 "ts_kv",  "knl_name", "co_name"};

/* The geometry that gpu_aiter.c knows; tiles that differ mean another kernel than the one it was written for. */
static const struct geometry {
	int dim, dim_v, tile_q, tile_k;
} geometries[] = {{128, 128, 256, 32}, {192, 128, 128, 32}};

struct field {
	const char *p;
	size_t len;
};

/* A line of the file, cut at its commas. */
struct line {
	int number, n;
	struct field f[COLUMNS_MAX];
};

/* The next line that is not empty; false at the end, -1 in l->n when it has too many fields. */
static bool
line_next(const char **at, const char *end, struct line *l)
{
	while (*at < end) {
		const char *nl = memchr(*at, '\n', (size_t)(end - *at)), *stop = nl ? nl : end, *p = *at;

		*at = nl ? nl + 1 : end;
		l->number++;
		if (stop > p && stop[-1] == '\r')
			stop--;
		if (stop == p)
			continue;
		for (l->n = 0; l->n < COLUMNS_MAX; p = p + l->f[l->n++].len + 1) {
			const char *comma = memchr(p, ',', (size_t)(stop - p));

			l->f[l->n] = (struct field){p, (size_t)((comma ? comma : stop) - p)};
			if (!comma) {
				l->n++;
				return true;
			}
		}
		l->n = -1;
		return true;
	}
	return false;
}

static bool
is(struct field f, const char *text)
{
	return f.len == strlen(text) && memcmp(f.p, text, f.len) == 0;
}

static int
bad(struct err *e, int line, const char *column, struct field found, const char *wanted)
{
	return err_set(e, ERR_UNAVAILABLE_IMPL, "line %d: %s is '%.*s', wanted %s", line, column,
		       (int)(found.len < 60 ? found.len : 60), found.p, wanted);
}

static int
number(const struct line *l, enum column c, const int *where, int max, int *out, struct err *e)
{
	struct field f = l->f[where[c]];
	int v = 0;

	for (size_t i = 0; i < f.len && v <= max; i++) {
		if (f.p[i] < '0' || f.p[i] > '9')
			return bad(e, l->number, names[c], f, "a number");
		v = v * 10 + (f.p[i] - '0');
	}
	if (f.len == 0 || v > max)
		return bad(e, l->number, names[c], f, "a number AITER uses there");
	*out = v;
	return 0;
}

/* A file's or a kernel's name: no folders, nothing that a path or a symbol would not hold. */
static int
name(const struct line *l, enum column c, const int *where, const char *suffix, char *out, size_t size, struct err *e)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
	struct field f = l->f[where[c]];
	size_t tail = strlen(suffix);

	for (size_t i = 0; i < f.len; i++)
		if (!memchr(allowed, f.p[i], sizeof(allowed) - 1))
			return bad(e, l->number, names[c], f, "a plain name");
	if (f.len <= tail || f.len >= size || f.p[0] == '.' || memcmp(f.p + f.len - tail, suffix, tail) != 0)
		return bad(e, l->number, names[c], f, *suffix ? "the name of a .co file" : "the name of a kernel");
	memcpy(out, f.p, f.len);
	out[f.len] = '\0';
	return 0;
}

static const struct geometry *
geometry(int dim, int dim_v)
{
	for (size_t i = 0; i < sizeof(geometries) / sizeof(*geometries); i++)
		if (geometries[i].dim == dim && geometries[i].dim_v == dim_v)
			return &geometries[i];
	return NULL;
}

/* 1: a row; 0: one of another kind; -1: no row of AITER's. */
static int
row(const struct line *l, const int *where, struct aiter_row *r, struct err *e)
{
	const struct geometry *g;
	int mode;

	memset(r, 0, sizeof(*r));
	if (!is(l->f[where[C_DTYPE]], "bf16"))
		return 0;
	if (number(l, C_DIM, where, 1024, &r->dim, e) == -1 || number(l, C_DIM_V, where, 1024, &r->dim_v, e) == -1)
		return -1;
	g = geometry(r->dim, r->dim_v);
	if (!g)
		return 0;
	if (number(l, C_MASK, where, 2, &r->mask, e) == -1 || number(l, C_MODE, where, 1, &mode, e) == -1 ||
	    number(l, C_CVT, where, 2, &r->cvt, e) == -1 || number(l, C_TILE_Q, where, 4096, &r->tile_q, e) == -1 ||
	    number(l, C_TILE_K, where, 4096, &r->tile_k, e) == -1 ||
	    name(l, C_SYMBOL, where, "", r->symbol, sizeof(r->symbol), e) == -1 ||
	    name(l, C_FILE, where, ".co", r->file, sizeof(r->file), e) == -1)
		return -1;
	r->group = mode == 1;
	if (r->mask == 1)
		return bad(e, l->number, names[C_MASK], l->f[where[C_MASK]], "0 or 2");
	if (r->tile_q != g->tile_q || r->tile_k != g->tile_k)
		return err_set(e, ERR_UNAVAILABLE_IMPL,
			       "line %d: tiles of %d x %d for head dimensions %d and %d, wanted %d x %d", l->number,
			       r->tile_q, r->tile_k, r->dim, r->dim_v, g->tile_q, g->tile_k);
	return 1;
}

static int
header(const struct line *l, int *where, struct err *e)
{
	for (int c = 0; c < COLUMNS; c++) {
		where[c] = -1;
		for (int i = 0; i < l->n; i++)
			if (is(l->f[i], names[c]))
				where[c] = i;
		if (where[c] == -1)
			return err_set(e, ERR_UNAVAILABLE_IMPL, "line %d: there is no column %s", l->number, names[c]);
	}
	return 0;
}

static int
rows(struct aiter_table *t, const char *text, size_t len, struct err *e)
{
	const char *at = text, *end = text + len;
	struct line l = {.number = 0};
	int where[COLUMNS], columns, rc;

	if (!line_next(&at, end, &l))
		return err_set(e, ERR_UNAVAILABLE_IMPL, "it is empty");
	if (header(&l, where, e) == -1)
		return -1;
	columns = l.n;
	while (line_next(&at, end, &l)) {
		struct aiter_row r;

		if (l.n != columns)
			return err_set(e, ERR_UNAVAILABLE_IMPL, "line %d has not as many fields as the first, %d",
				       l.number, columns);
		rc = row(&l, where, &r, e);
		if (rc == -1)
			return -1;
		if (rc == 0)
			continue;
		if (aiter_table_find(t, r.dim, r.dim_v, r.mask, r.group, r.cvt))
			return err_set(e, ERR_UNAVAILABLE_IMPL, "line %d: a second row for the same problem", l.number);
		if (t->n == AITER_ROWS_MAX)
			return err_set(e, ERR_UNAVAILABLE_IMPL, "line %d: more than %d rows", l.number, AITER_ROWS_MAX);
		t->rows[t->n++] = r;
	}
	if (t->n == 0)
		return err_set(e, ERR_UNAVAILABLE_IMPL, "it has no row for bf16 and head dimension 128 or 192x128");
	return 0;
}

int
aiter_table_parse(struct aiter_table *t, const char *text, size_t len, struct err *e)
{
	t->n = 0;
	if (rows(t, text, len, e) == 0)
		return 0;
	t->n = 0;
	return -1;
}

const struct aiter_row *
aiter_table_find(const struct aiter_table *t, int dim, int dim_v, int mask, bool group, int cvt)
{
	for (int i = 0; i < t->n; i++) {
		const struct aiter_row *r = &t->rows[i];

		if (r->dim == dim && r->dim_v == dim_v && r->mask == mask && r->group == group && r->cvt == cvt)
			return r;
	}
	return NULL;
}

const char *
aiter_folder(unsigned chip_id, int compute_units)
{
	switch (chip_id) {
	case 0x74a2:
	case 0x74a8:
	case 0x74b6:
	case 0x74bc:
		return "MI308";
	case 0:
		return compute_units == 80 ? "MI308" : "MI300";
	default:
		return "MI300";
	}
}
