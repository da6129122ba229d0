/*
 * rfc1951.c: inflate as a stream: the sequence of blocks, their headers, stored data, and the symbols at the edges of
 * a piece of input or room, taken bit by bit so that a stream may be cut anywhere. Source: RFC 1951.
 *
 * In the midst of a block's data rfc1951_serial.c or rfc1951_lanes.c take over; they work on a position in the piece of
 * input, so they begin when no bits of an earlier piece are left.
 */
#include <assert.h>
#include <stdlib.h>

#include "codec/rfc1951_internal.h"

/* With lanes, so many bits go the serial way before lanes are tried again. */
#define SERIAL_BITS 8192u

enum step { GO_ON, WAIT, BLOCK_ENDED }; /* or a negative status */

struct input {
	const unsigned char *p, *end;
};

/* n bits at least in z->hold. Takes no byte more than that needs, so that the stream's end is found exactly. */
static bool
need(struct rfc1951 *z, struct input *in, unsigned n)
{
	while (z->bits < n) {
		if (in->p == in->end)
			return false;
		z->hold |= (uint64_t)*in->p++ << z->bits;
		z->bits += 8;
	}
	return true;
}

static uint32_t
take(struct rfc1951 *z, unsigned n)
{
	uint32_t v = low_bits(z->hold, n);

	z->hold >>= n;
	z->bits -= n;
	return v;
}

/* The last of what went out, for matches of later calls. */
static void
remember(struct rfc1951 *z, const unsigned char *p, size_t n)
{
	if (n >= RFC1951_WINDOW) {
		memcpy(z->past, p + n - RFC1951_WINDOW, RFC1951_WINDOW);
		z->past_n = RFC1951_WINDOW;
		return;
	}
	if (z->past_n + n > 2 * RFC1951_WINDOW) {
		memmove(z->past, z->past + z->past_n - RFC1951_WINDOW, RFC1951_WINDOW);
		z->past_n = RFC1951_WINDOW;
	}
	if (n > 0)
		memcpy(z->past + z->past_n, p, n);
	z->past_n += n;
}

/* One symbol, where the input may end within it. */
static int
careful_token(struct rfc1951 *z, struct input *in, struct rfc1951_io *io)
{
	struct rfc1951_token t;

	/* Behind the bits there are, zeros are looked up: whatever that finds takes more bits than there are, unless
	 * these alone were enough to tell. */
	for (t = token_of(z, z->hold); t.bits > z->bits; t = token_of(z, z->hold))
		if (!need(z, in, z->bits + 1))
			return WAIT;
	if (t.e & RFC1951_INVALID)
		return RFC1951_BAD_SYMBOL;
	z->hold >>= t.bits;
	z->bits -= t.bits;
	if (t.e < RFC1951_OTHER) {
		*io->out++ = (unsigned char)t.value;
		return GO_ON;
	}
	if (t.e & RFC1951_EOB)
		return BLOCK_ENDED;
	if (t.dist > (size_t)(io->out - io->base) + z->past_n)
		return RFC1951_BAD_DISTANCE;
	z->copy = t.value;
	z->dist = t.dist;
	return GO_ON;
}

static void
careful_copy(struct rfc1951 *z, struct rfc1951_io *io)
{
	for (; z->copy > 0 && io->out < io->out_end; z->copy--, io->out++) {
		size_t made = (size_t)(io->out - io->base);

		*io->out = z->dist > made ? z->past[z->past_n - (z->dist - made)] : io->out[-(ptrdiff_t)z->dist];
	}
}

/* Through a block where neither input nor room end soon; goes as far as it can. */
static int
fast(struct rfc1951 *z, struct input *in, struct rfc1951_io *io)
{
	uint64_t from = io->pos = (uint64_t)(in->p - io->start) * 8 - z->bits, was;
	int rc = 0;

	do {
		was = io->pos;
		if (z->mode != RFC1951_NO_LANES && z->rest == 0)
			rc = rfc1951_abreast(z, io);
		if (rc == 0 && io->pos == was)
			rc = rfc1951_serial(z, io, z->mode != RFC1951_NO_LANES ? was + SERIAL_BITS : UINT64_MAX);
		was = io->pos - was;
		z->block_bits += was;
		z->rest -= was < z->rest ? was : z->rest;
	} while (rc == 0 && was > 0);
	in->p = io->start + (io->pos + 7) / 8;
	z->bits = (unsigned)(0 - io->pos) & 7;
	z->hold = z->bits > 0 ? (uint64_t)in->p[-1] >> (8 - z->bits) : 0;
	return rc == RFC1951_END ? BLOCK_ENDED : rc < 0 ? rc : io->pos > from ? GO_ON : WAIT;
}

static int
block_data(struct rfc1951 *z, struct input *in, struct rfc1951_io *io)
{
	int rc;

	for (;;) {
		careful_copy(z, io);
		if (io->out == io->out_end)
			return WAIT;
		if (in->end - in->p > RFC1951_IN_MARGIN && io->out_end - io->out > RFC1951_OUT_MARGIN &&
		    z->bits <= 8 * (size_t)(in->p - io->start)) {
			rc = fast(z, in, io);
			if (rc < 0 || rc == BLOCK_ENDED)
				return rc;
			if (rc == GO_ON)
				continue;
		}
		rc = careful_token(z, in, io);
		if (rc != GO_ON)
			return rc;
	}
}

static int
fixed_block(struct rfc1951 *z)
{
	memset(z->lens, 8, 144);
	memset(z->lens + 144, 9, 112);
	memset(z->lens + 256, 7, 24);
	memset(z->lens + 280, 8, 8);
	memset(z->lens + 288, 5, 32);
	z->n_lit = 288;
	z->n_dist = 32;
	return rfc1951_tables(z);
}

static int
block_begin(struct rfc1951 *z, struct input *in)
{
	if (!need(z, in, 3))
		return WAIT;
	z->last = take(z, 1);
	switch (take(z, 2)) {
	case 0:
		take(z, z->bits & 7);
		z->stage = RFC1951_AT_STORED_LENGTH;
		return GO_ON;
	case 1:
		z->stage = RFC1951_AT_SYMBOLS;
		return fixed_block(z);
	case 2:
		z->stage = RFC1951_AT_TABLE_SIZES;
		return GO_ON;
	default:
		return RFC1951_BAD_BLOCK;
	}
}

static int
stored_length(struct rfc1951 *z, struct input *in)
{
	uint32_t n, inverse;

	if (!need(z, in, 32))
		return WAIT;
	n = take(z, 16);
	inverse = take(z, 16);
	if ((n ^ inverse) != 0xffff)
		return RFC1951_BAD_BLOCK;
	z->stored = n;
	z->stage = RFC1951_AT_STORED_DATA;
	return GO_ON;
}

static int
stored_data(struct rfc1951 *z, struct input *in, struct rfc1951_io *io)
{
	size_t n = z->stored;

	assert(z->bits == 0);
	n = n < (size_t)(in->end - in->p) ? n : (size_t)(in->end - in->p);
	n = n < (size_t)(io->out_end - io->out) ? n : (size_t)(io->out_end - io->out);
	if (n > 0)
		memcpy(io->out, in->p, n);
	io->out += n;
	in->p += n;
	z->stored -= (uint32_t)n;
	return z->stored > 0 ? WAIT : BLOCK_ENDED;
}

static int
table_sizes(struct rfc1951 *z, struct input *in)
{
	if (!need(z, in, 14))
		return WAIT;
	z->n_lit = take(z, 5) + 257;
	z->n_dist = take(z, 5) + 1;
	z->n_code = take(z, 4) + 4;
	if (z->n_lit > 286 || z->n_dist > 30)
		return RFC1951_BAD_BLOCK;
	memset(z->lens, 0, 19);
	z->at = 0;
	z->stage = RFC1951_AT_CODE_LENGTHS;
	return GO_ON;
}

static int
code_lengths(struct rfc1951 *z, struct input *in)
{
	static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

	for (; z->at < z->n_code; z->at++) {
		if (!need(z, in, 3))
			return WAIT;
		z->lens[order[z->at]] = (uint8_t)take(z, 3);
	}
	z->at = 0;
	z->stage = RFC1951_AT_LENGTHS;
	return rfc1951_code_table(z);
}

/* What need() does, but several bytes at once: what is too much has to be given back. */
static void
take_ahead(struct rfc1951 *z, struct input *in)
{
	if (z->bits < 32 && in->end - in->p >= 8) {
		z->hold |= load64(in->p) << z->bits;
		in->p += (63 - z->bits) / 8;
		z->bits += (63 - z->bits) / 8 * 8;
		z->hold &= (UINT64_C(1) << z->bits) - 1;
	}
}

static void
give_back(struct rfc1951 *z, struct input *in)
{
	in->p -= z->bits / 8;
	z->bits %= 8;
	z->hold = low_bits(z->hold, z->bits);
}

/* The lengths of the literals' and the distances' codes, as one list. */
static int
lengths(struct rfc1951 *z, struct input *in)
{
	while (z->at < z->n_lit + z->n_dist) {
		uint32_t e, symbol, n;
		unsigned extra;

		take_ahead(z, in);
		e = z->dists[z->hold & 127];
		symbol = e >> 8 & 31;
		extra = symbol < 16 ? 0 : symbol == 16 ? 2 : symbol == 17 ? 3 : 7;

		if ((e & 63) + extra > z->bits) {
			if (!need(z, in, z->bits + 1))
				return WAIT;
			continue;
		}
		take(z, e & 63);
		n = symbol < 16 ? 1 : take(z, extra) + (symbol == 18 ? 11 : 3);
		if (n > z->n_lit + z->n_dist - z->at || (symbol == 16 && z->at == 0))
			return RFC1951_BAD_BLOCK;
		memset(z->lens + z->at, symbol < 16 ? (int)symbol : symbol == 16 ? z->lens[z->at - 1] : 0, n);
		z->at += n;
	}
	give_back(z, in);
	if (z->lens[256] == 0)
		return RFC1951_BAD_BLOCK; /* the block could not end */
	z->stage = RFC1951_AT_SYMBOLS;
	return rfc1951_tables(z);
}

static void
block_end(struct rfc1951 *z)
{
	if (z->stage == RFC1951_AT_SYMBOLS)
		z->guess = z->block_bits;
	z->block_bits = 0;
	z->stage = z->last ? RFC1951_AT_END : RFC1951_AT_BLOCK;
}

static int
advance(struct rfc1951 *z, struct input *in, struct rfc1951_io *io)
{
	switch (z->stage) {
	case RFC1951_AT_BLOCK:
		return block_begin(z, in);
	case RFC1951_AT_STORED_LENGTH:
		return stored_length(z, in);
	case RFC1951_AT_STORED_DATA:
		return stored_data(z, in, io);
	case RFC1951_AT_TABLE_SIZES:
		return table_sizes(z, in);
	case RFC1951_AT_CODE_LENGTHS:
		return code_lengths(z, in);
	case RFC1951_AT_LENGTHS:
		return lengths(z, in);
	default:
		return block_data(z, in, io);
	}
}

enum rfc1951_status
rfc1951_run(struct rfc1951 *z, const unsigned char **p, size_t *n, unsigned char *out, size_t room, size_t *made)
{
	struct input in = {*p, *p + *n};
	struct rfc1951_io io = {.start = *p, .end = *p + *n, .base = out, .out = out, .out_end = out + room};
	int rc = GO_ON;

	while (rc == GO_ON && z->stage != RFC1951_AT_END) {
		rc = advance(z, &in, &io);
		if (rc == BLOCK_ENDED) {
			block_end(z);
			rc = GO_ON;
		}
	}
	*made = (size_t)(io.out - out);
	*n -= (size_t)(in.p - *p);
	*p = in.p;
	if (rc < 0)
		return rc;
	remember(z, out, *made);
	return z->stage == RFC1951_AT_END ? RFC1951_END : RFC1951_MORE;
}

struct rfc1951 *
rfc1951_new(void)
{
	struct rfc1951 *z = malloc(sizeof(*z));

	if (z == NULL)
		return NULL;
	z->lanes = NULL;
	rfc1951_reset(z);
	return z;
}

void
rfc1951_reset(struct rfc1951 *z)
{
	z->stage = RFC1951_AT_BLOCK;
	z->last = false;
	z->bits = 0;
	z->hold = 0;
	z->copy = 0;
	z->mode = RFC1951_NO_LANES;
	z->steps_made = false;
	z->block_bits = z->guess = z->rest = 0;
	z->failures = 0;
	z->past_n = 0;
}

void
rfc1951_free(struct rfc1951 **z)
{
	if (*z == NULL)
		return;
	free((*z)->lanes);
	free(*z);
	*z = NULL;
}
