/*
 * npy_read.c: .npy files by the server's own decoder, so that both understand the same. The decoder announces its
 * tensor to an intake; here that is the function below, which only remembers it: the data stay where they lie.
 * For file.c and reply.c.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "lib.h"

struct intake_tensor *
intake_tensor(struct intake *in, const char *name, size_t name_len, enum dtype dt, int rank, const int64_t *shape,
	      struct err *e)
{
	struct intake_tensor *it = &in->tensors[0];

	(void)name_len;
	if (tensor_describe(&it->t, name, dt, rank, shape, e) < 0)
		return NULL;
	in->n_tensors = 1;
	return it;
}

bool
lib_is_npy(const void *p, size_t n)
{
	return n >= 6 && memcmp(p, "\x93NUMPY", 6) == 0;
}

static int
read_head(struct decoder *d, struct intake *in, const unsigned char *p, uint64_t n, uint64_t *at, struct err *e)
{
	while (!in->n_tensors && *at < n) {
		uint64_t want = d->ops->want(d);

		if (want > n - *at)
			want = n - *at;
		if (d->ops->feed(d, p + *at, (size_t)want, e) < 0)
			return -1;
		*at += want;
	}
	return in->n_tensors ? 0 : d->ops->finish(d, e);
}

int
lib_npy_read(struct lib_tensors *ts, const char *name, const unsigned char *p, uint64_t n, struct err *e)
{
	struct intake *in = calloc(1, sizeof(*in));
	struct decoder *d = in ? decoder_npy_new(in, name) : NULL;
	uint64_t at = 0;
	const struct tensor *t;
	int rc = -1;

	if (!d || !(ts->t = calloc(1, sizeof(*ts->t)))) {
		err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory");
		goto out;
	}
	if (read_head(d, in, p, n, &at, e) < 0)
		goto out;
	t = &in->tensors[0].t;
	if (n - at != t->bytes) {
		err_set(e, ERR_MALFORMED_BODY, "'%s' is %s: its header tells of %llu bytes of data, there are %llu",
			name, n - at < t->bytes ? "cut short" : "too long", (unsigned long long)t->bytes,
			(unsigned long long)(n - at));
		goto out;
	}
	ts->n = 1;
	ts->data_at = at;
	ts->t->name = "";
	ts->t->dtype = (enum aiterd_dtype)t->dtype;
	ts->t->rank = t->rank;
	memcpy(ts->t->shape, t->shape, sizeof(ts->t->shape));
	ts->t->bytes = t->bytes;
	ts->t->data = p + at;
	rc = 0;
out:
	if (d)
		d->ops->free(d);
	free(in);
	return rc;
}
