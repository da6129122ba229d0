/*
 * decode_npy.c: one .npy file (versions 1 to 3) as one input. Multipart bodies hold one per input.
 *
 * The header, a Python dict as text, is collected and parsed once; the data go straight into the tensor. What
 * numpy can write and we cannot take as it is (big-endian, column-major, pickled objects) is refused with
 * what to call in Python instead. Owns the header's bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "text.h"

#define HEADER_MAX 65536 /* numpy's own are about 128 bytes; it refuses to read more than 10000 itself */
#define PREFIX_V1 10	 /* magic, version, 16-bit length */
#define PREFIX_V2 12	 /* magic, version, 32-bit length */

static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

struct npy {
	struct decoder d;
	char *name;
	char shown[65]; /* the same for messages */
	unsigned char *head;
	size_t head_len, head_need;
	struct intake_tensor *it; /* NULL until the header was read */
	uint64_t got;		  /* bytes of data */
};

struct header {
	char descr[24];
	bool has_descr, has_order, has_shape;
	bool fortran;
	int rank;
	int64_t shape[TENSOR_RANK_MAX];
};

struct cursor {
	const char *p, *end;
};

static void
skip_space(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
		c->p++;
}

/* Skip blanks, then `ch` if it is next. */
static bool
take(struct cursor *c, char ch)
{
	skip_space(c);
	if (c->p == c->end || *c->p != ch)
		return false;
	c->p++;
	return true;
}

static bool
take_word(struct cursor *c, const char *word)
{
	size_t n = strlen(word);

	skip_space(c);
	if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
		return false;
	c->p += n;
	return true;
}

/* A Python string of printable ASCII without escapes. */
static bool
take_string(struct cursor *c, char *buf, size_t size)
{
	skip_space(c);
	if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
		return false;
	const char *start = c->p + 1;
	const char *stop = memchr(start, *c->p, (size_t)(c->end - start));
	if (!stop || (size_t)(stop - start) >= size)
		return false;
	for (const char *p = start; p < stop; p++)
		if (*p <= ' ' || *p > '~' || *p == '\\')
			return false;
	memcpy(buf, start, (size_t)(stop - start));
	buf[stop - start] = 0;
	c->p = stop + 1;
	return true;
}

/* "(2, 3)", "(3,)", "()"; Python 2 wrote "(2L, 3L)". */
static bool
take_shape(struct cursor *c, struct header *h, bool *too_many)
{
	if (!take(c, '('))
		return false;
	while (!take(c, ')')) {
		int64_t v = 0;
		int digits = 0;
		skip_space(c);
		for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
			if (++digits > 18)
				return false;
			v = v * 10 + (*c->p - '0');
		}
		if (digits == 0)
			return false;
		if (c->p < c->end && *c->p == 'L')
			c->p++;
		if (h->rank == TENSOR_RANK_MAX) {
			*too_many = true;
			return false;
		}
		h->shape[h->rank++] = v;
		if (!take(c, ',')) {
			/* (3) is a number in Python, not a tuple. */
			return h->rank > 1 && take(c, ')');
		}
	}
	return true;
}

static int
bad_header(const struct npy *f, const char *what, struct err *e)
{
	return err_input(e, ERR_MALFORMED_BODY, f->shown, what, "a header as numpy.save writes it",
			 "the .npy header of '%s' cannot be read: %s", f->shown, what);
}

static int
parse_member(const struct npy *f, struct cursor *c, struct header *h, struct err *e)
{
	char key[32];
	bool *seen, ok, too_many = false;

	if (!take_string(c, key, sizeof(key)))
		return bad_header(f, "a quoted key was expected", e);
	if (!take(c, ':'))
		return bad_header(f, "a ':' was expected after a key", e);
	if (strcmp(key, "descr") == 0) {
		skip_space(c);
		if (c->p < c->end && *c->p == '[')
			return err_input(e, ERR_INVALID_DTYPE, f->shown, "a structured dtype", "a plain dtype",
					 "'%s' has a structured dtype (fields); send one plain array per input",
					 f->shown);
		seen = &h->has_descr;
		ok = take_string(c, h->descr, sizeof(h->descr));
	} else if (strcmp(key, "fortran_order") == 0) {
		seen = &h->has_order;
		h->fortran = take_word(c, "True");
		ok = h->fortran || take_word(c, "False");
	} else if (strcmp(key, "shape") == 0) {
		if (h->has_shape)
			return bad_header(f, "a key stands twice", e);
		seen = &h->has_shape;
		ok = take_shape(c, h, &too_many);
	} else {
		return bad_header(f, "a key other than descr, fortran_order and shape", e);
	}
	if (*seen)
		return bad_header(f, "a key stands twice", e);
	*seen = true;
	if (too_many)
		return err_input(e, ERR_INVALID_SHAPE, f->shown, "more than 8 dimensions", "at most 8 dimensions",
				 "'%s' has more than %d dimensions", f->shown, TENSOR_RANK_MAX);
	return ok ? 0 : bad_header(f, "the value of descr, fortran_order or shape is not as numpy writes it", e);
}

static int
parse_header(const struct npy *f, struct cursor c, struct header *h, struct err *e)
{
	if (!take(&c, '{'))
		return bad_header(f, "it does not begin with '{'", e);
	while (!take(&c, '}')) {
		if (parse_member(f, &c, h, e) < 0)
			return -1;
		if (!take(&c, ',')) {
			if (!take(&c, '}'))
				return bad_header(f, "a ',' or '}' was expected", e);
			break;
		}
	}
	skip_space(&c);
	if (c.p != c.end)
		return bad_header(f, "something stands after the '}'", e);
	if (!h->has_descr || !h->has_order || !h->has_shape)
		return bad_header(f, "descr, fortran_order or shape is missing", e);
	return 0;
}

static const struct {
	char kind;
	int size;
	enum dtype dt;
} kinds[] = {
	{'f', 2, DT_FP16},  {'f', 4, DT_FP32},	{'f', 8, DT_FP64}, {'i', 1, DT_INT8}, {'i', 4, DT_INT32},
	{'i', 8, DT_INT64}, {'u', 1, DT_UINT8}, {'b', 1, DT_BOOL}, {'V', 2, DT_BF16}, {'V', 1, DT_UINT8},
};

static const char our_dtypes[] = "fp32, fp16, fp64, int8, uint8, int32, int64 or bool, bf16 as V2, fp8 as V1";

/* What numpy calls it, for people. */
static void
numpy_name(char kind, int size, char *buf, size_t n)
{
	switch (kind) {
	case 'i':
		snprintf(buf, n, "int%d", size * 8);
		break;
	case 'u':
		snprintf(buf, n, "uint%d", size * 8);
		break;
	case 'f':
		snprintf(buf, n, "float%d", size * 8);
		break;
	case 'c':
		snprintf(buf, n, "complex%d", size * 8);
		break;
	case 'V':
		snprintf(buf, n, "void of %d bytes", size);
		break;
	case 'S':
	case 'a':
	case 'U':
		snprintf(buf, n, "text");
		break;
	case 'M':
	case 'm':
		snprintf(buf, n, "date and time");
		break;
	default:
		snprintf(buf, n, "an unknown type");
	}
}

static int
find_dtype(const struct npy *f, const struct header *h, enum dtype *dt, struct err *e)
{
	const char *d = h->descr;
	char order = d[0], name[32];

	if (order && strchr("<>|=", order))
		d++;
	else
		order = '=';
	char kind = *d;
	int size = 0;
	if (kind == 'O')
		return err_input(
			e, ERR_UNSUPPORTED_LAYOUT, f->shown, "object", our_dtypes,
			"the .npy file of '%s' holds pickled Python objects, which are not read; make it a plain array "
			"first, for example %s.astype(np.float32)",
			f->shown, f->shown);
	if (kind)
		d++;
	for (; *d >= '0' && *d <= '9' && size < 100000; d++)
		size = size * 10 + (*d - '0');
	*dt = DT_NONE;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && *d == 0; i++)
		if (kinds[i].kind == kind && kinds[i].size == size)
			*dt = kinds[i].dt;
	if (*dt == DT_NONE) {
		/* Not a letter and a number, 'float32' for example. */
		if ((size == 0 && (kind == 0 || !strchr("SaUMmV", kind))) || (*d >= '0' && *d <= '9'))
			return err_input(
				e, ERR_INVALID_DTYPE, f->shown, h->descr, our_dtypes,
				"'%s' has the descr '%s', which is no dtype as .npy files name them; float32 is "
				"'<f4' there",
				f->shown, h->descr);
		if ((kind == 'u' || kind == 'i') && size == 2)
			return err_input(
				e, ERR_INVALID_DTYPE, f->shown, h->descr, our_dtypes,
				"'%s' has the numpy dtype '%s' (%sint16), which is not taken; if these are the bits of "
				"bf16 numbers, save %s.view('V2') or send them as safetensors BF16; if they are numbers, "
				"convert them to a floating-point dtype, for example %s.astype(np.float32)",
				f->shown, h->descr, kind == 'u' ? "u" : "", f->shown, f->shown);
		numpy_name(kind, size, name, sizeof(name));
		return err_input(e, ERR_INVALID_DTYPE, f->shown, h->descr, our_dtypes,
				 "'%s' has the numpy dtype '%s' (%s), which is not taken; convert it, for example "
				 "%s.astype(np.float32)",
				 f->shown, h->descr, name, f->shown);
	}
	if (order == '>' && size > 1)
		return err_input(e, ERR_UNSUPPORTED_LAYOUT, f->shown, h->descr, "little endian",
				 "'%s' is big-endian ('%s'); save %s.astype('<%s') instead", f->shown, h->descr,
				 f->shown, h->descr + 1);
	if (order == '|' && size > 1 && kind != 'V')
		return bad_header(f, "descr tells no byte order", e);
	return 0;
}

static int
begin_data(struct npy *f, size_t prefix, struct err *e)
{
	struct header h = {.rank = 0};
	struct cursor c = {(const char *)f->head + prefix, (const char *)f->head + f->head_len};
	enum dtype dt = DT_NONE;
	int long_dims = 0;
	bool empty = false;

	if (parse_header(f, c, &h, e) < 0 || find_dtype(f, &h, &dt, e) < 0)
		return -1;
	for (int i = 0; i < h.rank; i++) {
		long_dims += h.shape[i] > 1;
		empty = empty || h.shape[i] == 0;
	}
	/* With one long dimension both orders are the same bytes. */
	if (h.fortran && long_dims > 1 && !empty)
		return err_input(
			e, ERR_UNSUPPORTED_LAYOUT, f->shown, "fortran_order: True", "C order (row major)",
			"'%s' is stored column by column (Fortran order); save np.ascontiguousarray(%s) instead",
			f->shown, f->shown);
	f->it = intake_tensor(f->d.in, f->name, strlen(f->name), dt, h.rank, h.shape, e);
	if (!f->it)
		return -1;
	f->it->raw = strchr(h.descr, 'V') != NULL;
	f->it->arrived = f->it->t.bytes == 0;
	free(f->head);
	f->head = NULL;
	return 0;
}

static int
not_npy(const struct npy *f, const char *what, struct err *e)
{
	return err_input(e, ERR_MALFORMED_BODY, f->shown, what, "a .npy file of version 1, 2 or 3",
			 "'%s' is not a .npy file this service can read: %s", f->shown, what);
}

/* head_len has reached head_need: look at what is there and ask for more, or begin the data. */
static int
step_header(struct npy *f, struct err *e)
{
	size_t prefix = f->head[6] == 1 ? PREFIX_V1 : PREFIX_V2, len;

	if (memcmp(f->head, magic, sizeof(magic)) != 0)
		return not_npy(f, "it does not begin with numpy's magic bytes", e);
	if (f->head[6] < 1 || f->head[6] > 3 || f->head[7] != 0)
		return not_npy(f, "its format version is unknown", e);
	if (f->head_len < prefix) {
		f->head_need = prefix;
		return 0;
	}
	len = f->head[8] | (size_t)f->head[9] << 8;
	if (prefix == PREFIX_V2)
		len |= (size_t)f->head[10] << 16 | (size_t)f->head[11] << 24;
	if (len > HEADER_MAX)
		return not_npy(f, "its header is longer than 65536 bytes", e);
	if (f->head_len < prefix + len) {
		unsigned char *p = realloc(f->head, prefix + len);
		if (!p)
			return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the .npy header of '%s'", f->shown);
		f->head = p;
		f->head_need = prefix + len;
		return 0;
	}
	return begin_data(f, prefix, e);
}

static size_t
npy_window(struct decoder *d, unsigned char **dst)
{
	struct npy *f = (struct npy *)d;

	if (!f->it || f->got == f->it->t.bytes)
		return 0;
	*dst = (unsigned char *)f->it->t.data + f->got;
	return (size_t)(f->it->t.bytes - f->got);
}

static int
npy_advance(struct decoder *d, size_t n, struct err *e)
{
	struct npy *f = (struct npy *)d;

	(void)e;
	f->got += n;
	f->it->arrived = f->got == f->it->t.bytes;
	return 0;
}

static int
npy_feed(struct decoder *d, const unsigned char *p, size_t n, struct err *e)
{
	struct npy *f = (struct npy *)d;

	while (n > 0) {
		unsigned char *dst;
		size_t room = npy_window(d, &dst);
		if (f->it && room == 0)
			return err_input(
				e, ERR_MALFORMED_BODY, f->shown, "more", "the end of the file",
				"the .npy file of '%s' goes on after the %llu bytes of data its header tells of",
				f->shown, (unsigned long long)f->it->t.bytes);
		if (!f->it) {
			dst = f->head + f->head_len;
			room = f->head_need - f->head_len;
		}
		size_t m = n < room ? n : room;
		memcpy(dst, p, m);
		p += m;
		n -= m;
		if (f->it) {
			npy_advance(d, m, e);
			continue;
		}
		f->head_len += m;
		while (!f->it && f->head_len == f->head_need)
			if (step_header(f, e) < 0)
				return -1;
	}
	return 0;
}

static int
npy_finish(struct decoder *d, struct err *e)
{
	struct npy *f = (struct npy *)d;
	char found[40], wanted[40];

	if (!f->it)
		return not_npy(f, "it ends within the header", e);
	if (f->got == f->it->t.bytes)
		return 0;
	snprintf(found, sizeof(found), "%llu bytes of data", (unsigned long long)f->got);
	snprintf(wanted, sizeof(wanted), "%llu bytes of data", (unsigned long long)f->it->t.bytes);
	return err_input(e, ERR_MALFORMED_BODY, f->shown, found, wanted,
			 "the .npy file of '%s' is cut short: %s, its header tells of %s", f->shown, found, wanted);
}

static uint64_t
npy_want(const struct decoder *d)
{
	const struct npy *f = (const struct npy *)d;

	return f->it ? f->it->t.bytes - f->got : f->head_need - f->head_len;
}

static void
npy_free(struct decoder *d)
{
	struct npy *f = (struct npy *)d;

	free(f->name);
	free(f->head);
	free(f);
}

static const struct decoder_ops npy_ops = {
	.name = "npy",
	.feed = npy_feed,
	.window = npy_window,
	.advance = npy_advance,
	.finish = npy_finish,
	.want = npy_want,
	.free = npy_free,
};

struct decoder *
decoder_npy_new(struct intake *in, const char *name)
{
	struct npy *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->d.ops = &npy_ops;
	f->d.in = in;
	f->name = strdup(name);
	text_clip(f->shown, sizeof(f->shown), name, strlen(name));
	f->head = malloc(PREFIX_V2);
	f->head_need = PREFIX_V1;
	if (!f->name || !f->head) {
		npy_free(&f->d);
		return NULL;
	}
	return &f->d;
}
