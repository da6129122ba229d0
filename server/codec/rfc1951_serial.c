/*
 * rfc1951_serial.c: inflate's fast way through a block, one symbol after the other, where neither the end of the input
 * nor that of the room is near. Each symbol waits for the one before: some 7 cycles for a literal. The processor's bit
 * instructions (BMI2) are used where it has them.
 */
#include "codec/rfc1951_internal.h"

int
rfc1951_copy_past(const struct rfc1951 *z, const unsigned char *base, unsigned char *out, size_t len, size_t dist)
{
	size_t far = dist - (size_t)(out - base), n = far < len ? far : len;

	if (far > z->past_n)
		return RFC1951_BAD_DISTANCE;
	memcpy(out, z->past + z->past_n - far, n);
	out += n;
	for (len -= n; len > 0; len--, out++)
		*out = out[-(ptrdiff_t)dist];
	return 0;
}

/* The bits not yet used: n of them, at least 56 after a refill; what `hold` has above them is what comes next, too. */
struct bits {
	const unsigned char *in;
	uint64_t hold;
	unsigned n;
};

ALWAYS_INLINE void
refill(struct bits *b)
{
	b->hold |= load64(b->in) << b->n;
	b->in += (63 - b->n) >> 3;
	b->n |= 56;
}

ALWAYS_INLINE void
drop(struct bits *b, uint32_t n)
{
	b->hold >>= n & 63;
	b->n -= n & 63;
}

ALWAYS_INLINE void
literal(const struct rfc1951 *z, struct bits *b, uint32_t *next, unsigned char **out)
{
	drop(b, *next);
	*(*out)++ = (unsigned char)(*next >> 8);
	*next = z->lits[b->hold & LIT_MASK];
}

/* A length and its distance, the end of the block, or a literal whose code is long. */
ALWAYS_INLINE int
serial_other(const struct rfc1951 *z, const struct rfc1951_io *io, struct bits *b, uint32_t *next, unsigned char **out)
{
	uint32_t e = *next, d;
	size_t len, dist;
	int rc;

	if (UNLIKELY(e & RFC1951_RARE)) {
		if (e & RFC1951_SUBTABLE) {
			drop(b, RFC1951_LIT_BITS);
			e = z->lits[(e >> 8 & 0xfff) + low_bits(b->hold, e >> 20 & 15)];
			if (e < RFC1951_OTHER) {
				*next = e;
				literal(z, b, next, out);
				return 0;
			}
		}
		if (e & RFC1951_INVALID)
			return RFC1951_BAD_SYMBOL;
		if (e & RFC1951_EOB) {
			drop(b, e);
			return RFC1951_END;
		}
	}
	len = length_of(e, b->hold);
	drop(b, e);
	d = z->dists[b->hold & DIST_MASK];
	if (UNLIKELY(d & RFC1951_RARE)) {
		if (d & RFC1951_SUBTABLE) {
			drop(b, RFC1951_DIST_BITS);
			d = z->dists[(d >> 8 & 0xfff) + low_bits(b->hold, d >> 20 & 15)];
		}
		if (d & RFC1951_INVALID)
			return RFC1951_BAD_SYMBOL;
	}
	dist = distance_of(d, b->hold);
	drop(b, d);
	refill(b);
	*next = z->lits[b->hold & LIT_MASK];
	rc = copy_match(z, io->base, *out, len, dist);
	*out += len;
	return rc;
}

ALWAYS_INLINE int
serial_body(const struct rfc1951 *z, struct rfc1951_io *io, uint64_t until)
{
	uint64_t bytes = (uint64_t)(io->end - io->start) - RFC1951_IN_MARGIN;
	const unsigned char *in_stop = io->start + (until / 8 < bytes ? until / 8 : bytes);
	unsigned char *out = io->out, *out_stop = io->out_end - RFC1951_OUT_MARGIN;
	struct bits b = {.in = io->start + (io->pos >> 3)};
	uint32_t e;
	int rc = 0;

	if (b.in >= in_stop || out >= out_stop)
		return 0;
	refill(&b);
	drop(&b, io->pos & 7);
	e = z->lits[b.hold & LIT_MASK];
	do {
		refill(&b);
		/* Four literals take 44 bits at most; a match needs 48. */
		if (LIKELY(e < RFC1951_OTHER)) {
			literal(z, &b, &e, &out);
			if (LIKELY(e < RFC1951_OTHER))
				literal(z, &b, &e, &out);
			if (LIKELY(e < RFC1951_OTHER))
				literal(z, &b, &e, &out);
			if (LIKELY(e < RFC1951_OTHER)) {
				literal(z, &b, &e, &out);
				continue;
			}
			refill(&b);
		}
		rc = serial_other(z, io, &b, &e, &out);
	} while (rc == 0 && b.in < in_stop && out < out_stop);
	io->pos = (uint64_t)(b.in - io->start) * 8 - b.n;
	io->out = out;
	return rc;
}

#if defined(__x86_64__)
__attribute__((target("bmi,bmi2"))) static int
serial_bmi2(const struct rfc1951 *z, struct rfc1951_io *io, uint64_t until)
{
	return serial_body(z, io, until);
}
#endif

static int
serial_plain(const struct rfc1951 *z, struct rfc1951_io *io, uint64_t until)
{
	return serial_body(z, io, until);
}

int
rfc1951_serial(struct rfc1951 *z, struct rfc1951_io *io, uint64_t until)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("bmi2"))
		return serial_bmi2(z, io, until);
#endif
	return serial_plain(z, io, until);
}
