/*
 * rfc1951_lanes.c: inflate's faster way through a long block: several places of it are decoded at once, in lanes.
 *
 * Decoding is slow because a symbol's place is known only when the one before has been looked up; the processor could do
 * several times as much meanwhile. So what is left of a block is cut into equal spans of bits, and all lanes decode
 * their span in turns. Where a span begins is most often not where a symbol begins; but such a reader soon falls into
 * step with the true sequence of symbols (some 50 symbols with dense floats), as most Huffman codes synchronise
 * themselves. A lane notes where its first symbols began; the true sequence, which begins with lane 0, is decoded on past
 * the end of one lane until it meets a noted place of the next: from there on that lane was right, and what it found is
 * taken. Nothing is guessed: what has not been met is thrown away and decoded again by rfc1951_serial().
 *
 * Where the output of a lane belongs is not known before that, so it keeps its literals one after the other, and a list
 * of its matches with the number of literals before each; write_out() puts them together.
 */
#include <endian.h>
#include <stdlib.h>

#include "codec/rfc1951_internal.h"

#define LANES 4
#define LITERALS_MAX 8192u
#define MATCHES_MAX 2048u
/* The symbols of a lane whose places are noted: so many bits of them, and no more than NOTES. */
#define NOTES 128
#define NOTED_BITS 1024u
/* A step of a lane: so many symbols, of which one may be a match, in so many bits at most. */
#define STEP 5
#define STEP_BITS 64
/* In bytes. Shorter spans are not worth the time in which the lanes fall into step; positions in a lane have 16 bits. */
#define SPAN_MIN 512u
#define SPAN_MAX 5120u
/* Lanes begin when so much input is there at once, or after the first 32 KiB of output. */
#define STREAM_MIN (32u << 10)
/* What to expect of the first block, and of one that is longer than the one before. */
#define SPAN_GUESS 2560u
/* When lanes fail to fall into step again and again (codes of one length never do), so many bits are decoded the other way
 * at first, later up to 64 times as many. */
#define REST_BITS (4u << 13)

#define ONE_MATCH (UINT64_C(1) << 32)

struct lane {
	uint64_t pos, start, end;
	uint64_t found; /* literals in the lower half, matches in the upper */
	/* By the bit it begins at: 1 + the index of one of the first symbols; and what had been found before that. */
	unsigned char noted[NOTED_BITS];
	uint64_t before[NOTES];
	/* Of each match the number of literals before it, and in the upper half the lower one of its position: what it
	 * says is read once it is known to be one. */
	uint32_t matches[MATCHES_MAX + 1];
	unsigned char literals[LITERALS_MAX + 32];
};

struct rfc1951_lanes {
	struct lane lane[LANES];
};

/* One symbol. Not 0: the lane ends before it. */
static inline int
lane_token(const struct rfc1951 *z, const unsigned char *in, struct lane *l)
{
	struct rfc1951_token t = token_of(z, peek(in, l->pos));
	uint32_t literals = (uint32_t)l->found, matches = (uint32_t)(l->found >> 32);

	if (t.e < RFC1951_OTHER) {
		if (literals >= LITERALS_MAX)
			return 1;
		l->literals[literals] = (unsigned char)t.value;
		l->found++;
	} else {
		if ((t.e & RFC1951_RARE) || matches >= MATCHES_MAX)
			return 1;
		l->matches[matches] = literals | (uint32_t)l->pos << 16;
		l->found += ONE_MATCH;
	}
	l->pos += t.bits;
	return 0;
}

/* A step, up to the first match. */
static __attribute__((noinline)) int
lane_step(const struct rfc1951 *z, const unsigned char *in, struct lane *l)
{
	uint64_t had = l->found;
	int i;

	for (i = 0; i < STEP && l->found - had < ONE_MATCH; i++)
		if (lane_token(z, in, l) != 0)
			return 1;
	return 0;
}

/*
 * A step of one lane whose next symbols were not all literals: how many are before the one that is not would be a
 * branch mispredicted once more. Once an entry is no literal nothing is taken, and it is found again. False, and nothing
 * done, if a table's first look did not suffice.
 */
static __attribute__((noinline)) bool
broken_step(const struct rfc1951 *z, const unsigned char *in, struct lane *l)
{
	uint64_t w = peek(in, l->pos), pos = l->pos, at = (uint32_t)l->found, is_match;
	uint32_t e, d, mask;
	int i;

#pragma GCC unroll 4
	for (i = 0; i < STEP - 1; i++) {
		e = z->lits[w & LIT_MASK];
		mask = 0 - (uint32_t)(e < RFC1951_OTHER);
		l->literals[at] = (unsigned char)(e >> 8);
		w >>= e & mask & 63;
		pos += e & mask & 63;
		at += mask & 1;
	}
	w = peek(in, pos);
	e = z->lits[w & LIT_MASK];
	is_match = e >> 24;
	d = z->dists[w >> (e & 63) & DIST_MASK] & (0 - (uint32_t)is_match);
	if (UNLIKELY((e | d) & RFC1951_RARE))
		return false;
	l->literals[at] = (unsigned char)(e >> 8);
	l->matches[l->found >> 32] = (uint32_t)at | (uint32_t)pos << 16;
	l->found = (l->found >> 32 << 32) + at + 1 + is_match * (ONE_MATCH - 1);
	l->pos = pos + ((e + d) & 0xff);
	return true;
}

/*
 * Five literals for each of the first n lanes. This and match_steps() go through the lanes with each part of the work,
 * because the processor looks ahead only so far: what can be done at the same time has to stand side by side. A lane's
 * sum of entries has a flag if they were not all literals: then they do not count.
 */
ALWAYS_INLINE void
literal_steps(const struct rfc1951 *z, const unsigned char *in, struct lane *lane, const uint64_t *pos,
	      const uint64_t *found, const int n, uint32_t *sum)
{
	uint64_t w[LANES];
	int i, k;

#pragma GCC unroll 4
	for (i = 0; i < n; i++) {
		w[i] = peek(in, pos[i]);
		sum[i] = 0;
	}
#pragma GCC unroll 5
	for (k = 0; k < STEP; k++) {
#pragma GCC unroll 4
		for (i = 0; i < n; i++) {
			uint32_t e = z->lits[w[i] & LIT_MASK];

			w[i] >>= e & 63;
			sum[i] += e;
			lane[i].literals[(uint32_t)found[i] + (uint32_t)k] = (unsigned char)(e >> 8);
		}
	}
}

/* Two bytes, of which none, one or two count. */
ALWAYS_INLINE void
put_pair(unsigned char *to, uint32_t pair)
{
	uint16_t two = htole16((uint16_t)(pair >> 8));

	memcpy(to, &two, sizeof(two));
}

/*
 * For each of the first n lanes up to four literals, then one symbol without asking which: both a literal and a match
 * are written, and the one that it was is kept. A branch would be mispredicted all the time where matches are many but
 * random. False, and nothing done, if a table's first look did not suffice for one of the lanes.
 */
ALWAYS_INLINE bool
match_steps(const struct rfc1951 *z, const unsigned char *in, struct lane *lane, uint64_t *pos, uint64_t *found,
	    const int n)
{
	uint64_t w[LANES], at[LANES];
	uint32_t bits[LANES], e[LANES], d[LANES], flags = 0;
	int i, k;

#pragma GCC unroll 4
	for (i = 0; i < n; i++) {
		w[i] = peek(in, pos[i]);
		at[i] = (uint32_t)found[i];
		bits[i] = 0;
	}
	/* 10 + 10 bits, 11 + 5 of a length and 8 + 13 of a distance are the 57 that there are. */
#pragma GCC unroll 2
	for (k = 0; k < 2; k++) {
#pragma GCC unroll 4
		for (i = 0; i < n; i++) {
			uint32_t pair = z->pairs[w[i] & PAIR_MASK];

			w[i] >>= pair & 63;
			bits[i] += pair;
			put_pair(lane[i].literals + at[i], pair);
			at[i] += pair >> 24;
		}
	}
#pragma GCC unroll 4
	for (i = 0; i < n; i++) {
		e[i] = z->lits[w[i] & LIT_MASK];
		w[i] >>= e[i] & 63;
		lane[i].literals[at[i]] = (unsigned char)(e[i] >> 8);
	}
#pragma GCC unroll 4
	for (i = 0; i < n; i++) {
		d[i] = z->dists[w[i] & DIST_MASK] & (0 - (e[i] >> 24));
		flags |= d[i] | e[i];
	}
	if (UNLIKELY(flags & RFC1951_RARE))
		return false;
#pragma GCC unroll 4
	for (i = 0; i < n; i++) {
		uint64_t is_match = e[i] >> 24;

		lane[i].matches[found[i] >> 32] = (uint32_t)at[i] | (uint32_t)(pos[i] + (bits[i] & 0xff)) << 16;
		found[i] = (found[i] >> 32 << 32) + at[i] + 1 + is_match * (ONE_MATCH - 1);
		pos[i] += (bits[i] + e[i] + d[i]) & 0xff;
	}
	return true;
}

static void
make_pairs(struct rfc1951 *z)
{
	uint32_t i;

	for (i = 0; i <= PAIR_MASK; i++) {
		uint32_t e = z->lits[i & LIT_MASK], n = e & 0xff, f, pair = 0;

		if (e < RFC1951_OTHER && n <= RFC1951_PAIR_BITS) {
			f = z->lits[i >> n];
			if (f < RFC1951_OTHER && n + (f & 0xff) <= RFC1951_PAIR_BITS)
				pair = 2u << 24 | (f & 0xff00) << 8 | (e + (f & 0xff));
			else
				pair = 1u << 24 | e;
		}
		z->pairs[i] = pair;
	}
	z->pairs_made = true;
}

/* How many steps the first n lanes can take before one may be at its end. */
ALWAYS_INLINE uint64_t
steps(const struct lane *lane, int n)
{
	uint64_t least = UINT64_MAX, m;
	int i;

	for (i = 0; i < n; i++) {
		const struct lane *l = &lane[i];

		m = l->end > l->pos ? (l->end - l->pos) / STEP_BITS : 0;
		least = m < least ? m : least;
		m = (LITERALS_MAX - (uint32_t)l->found) / STEP;
		least = m < least ? m : least;
		m = MATCHES_MAX - (l->found >> 32);
		least = m < least ? m : least;
	}
	return least;
}

/* The first n lanes side by side, until one has come to the end of its span (n), or lane i cannot go on (i). */
ALWAYS_INLINE int
side_by_side(const struct rfc1951 *z, const unsigned char *in, const int n, const bool literals)
{
	struct lane *lane = z->lanes->lane;
	uint64_t pos[LANES], found[LANES], k;
	uint32_t sum[LANES];
	int i, stopped = n;

	while (stopped == n && (k = steps(lane, n)) > 0) {
		for (i = 0; i < n; i++) {
			pos[i] = lane[i].pos;
			found[i] = lane[i].found;
		}
		for (; k > 0; k--) {
			if (literals)
				literal_steps(z, in, lane, pos, found, n, sum);
			else if (LIKELY(match_steps(z, in, lane, pos, found, n)))
				continue;
#pragma GCC unroll 4
			for (i = 0; i < n; i++) {
				if (literals && LIKELY(sum[i] < RFC1951_OTHER)) {
					pos[i] += sum[i] & 0xff;
					found[i] += STEP;
					continue;
				}
				lane[i].pos = pos[i];
				lane[i].found = found[i];
				if (!(literals && broken_step(z, in, &lane[i])) && lane_step(z, in, &lane[i]) != 0)
					stopped = i;
				/* It may have taken more than a step's bits. */
				if (stopped < n || lane[i].pos - pos[i] > STEP_BITS)
					k = 1;
				pos[i] = lane[i].pos;
				found[i] = lane[i].found;
				if (stopped < n)
					break;
			}
		}
		for (i = 0; i < n; i++) {
			lane[i].pos = pos[i];
			lane[i].found = found[i];
		}
	}
	return stopped;
}

/* The first symbols of all lanes but the first, whose beginning is known. Returns how many lanes go on. */
ALWAYS_INLINE int
take_notes(const struct rfc1951 *z, const unsigned char *in)
{
	int i, k, n = LANES;

	for (k = 0; k < NOTES; k++) {
		for (i = 1; i < n; i++) {
			struct lane *l = &z->lanes->lane[i];

			if (l->pos - l->start >= NOTED_BITS)
				continue;
			l->noted[l->pos - l->start] = (unsigned char)(k + 1);
			l->before[k] = l->found;
			if (lane_token(z, in, l) != 0)
				n = i;
		}
	}
	return n;
}

ALWAYS_INLINE int
first_lanes(const struct rfc1951 *z, const unsigned char *in, int n, const bool literals)
{
	switch (n) {
	case 4:
		return side_by_side(z, in, 4, literals);
	case 3:
		return side_by_side(z, in, 3, literals);
	case 2:
		return side_by_side(z, in, 2, literals);
	default:
		return side_by_side(z, in, 1, literals);
	}
}

/* Decode all spans; how many lanes have found something. */
ALWAYS_INLINE int
decode(const struct rfc1951 *z, const unsigned char *in)
{
	int n = take_notes(z, in), found = n < LANES ? n + 1 : LANES, i;

	/* A lane that stops has most likely met the block's end: the later ones are not needed. */
	for (; n > 0; n = i, found = i + 1) {
		i = z->mode == RFC1951_LITERALS ? first_lanes(z, in, n, true) : first_lanes(z, in, n, false);
		if (i == n)
			break;
	}
	return found;
}

/* The match that a lane has seen at w. Like token_of(), but it is known to be one. */
ALWAYS_INLINE void
match_of(const struct rfc1951 *z, uint64_t w, size_t *len, size_t *dist)
{
	uint32_t e = z->lits[w & LIT_MASK], d;

	if (UNLIKELY(e & RFC1951_SUBTABLE)) {
		w >>= RFC1951_LIT_BITS;
		e = z->lits[(e >> 8 & 0xfff) + low_bits(w, e >> 20 & 15)];
	}
	*len = length_of(e, w);
	w >>= e & 63;
	d = z->dists[w & DIST_MASK];
	if (UNLIKELY(d & RFC1951_SUBTABLE)) {
		w >>= RFC1951_DIST_BITS;
		d = z->dists[(d >> 8 & 0xfff) + low_bits(w, d >> 20 & 15)];
	}
	*dist = distance_of(d, w);
}

/* n literals, for which there is room; what is written too much is overwritten. */
ALWAYS_INLINE void
put(unsigned char *out, const unsigned char *literal, size_t n)
{
	memcpy(out, literal, 16);
	if (UNLIKELY(n > 16))
		memcpy(out + 16, literal + 16, n - 16);
}

/* Put what the lane found, but for what it found `before`, behind the output. 1: not done, as there is no room. */
ALWAYS_INLINE int
write_out_body(const struct rfc1951 *z, struct rfc1951_io *io, const struct lane *l, uint64_t before, const bool near)
{
	/* Here, not in *io, as each match waits for where the one before it ended. */
	unsigned char *out = io->out, *const base = io->base, *const out_stop = io->out_end - RFC1951_OUT_MARGIN;
	const unsigned char *const in = io->start;
	const uint32_t *m = l->matches + (before >> 32), *const m_end = l->matches + (l->found >> 32);
	const unsigned char *literal = l->literals + (uint32_t)before, *const literals = l->literals;
	const uint32_t start = (uint32_t)l->start;
	uint64_t pos;
	size_t n, len, dist;

	for (; m < m_end; m++) {
		n = (size_t)(literals + (*m & 0xffff) - literal);
		if (UNLIKELY((ptrdiff_t)n > out_stop - out))
			return 1;
		pos = l->start + (((*m >> 16) - start) & 0xffff);
		match_of(z, peek(in, pos), &len, &dist);
		put(out, literal, n);
		literal += n;
		out += n;
		if (near)
			copy_near(out, len, dist);
		else if (copy_match(z, base, out, len, dist) < 0)
			return RFC1951_BAD_DISTANCE;
		out += len;
	}
	n = (size_t)(literals + (uint32_t)l->found - literal);
	if ((ptrdiff_t)n > out_stop - out)
		return 1;
	put(out, literal, n);
	io->out = out + n;
	io->pos = l->pos;
	return 0;
}

/* Most often no match can begin before this call's room, and need not be asked. */
ALWAYS_INLINE int
write_out(const struct rfc1951 *z, struct rfc1951_io *io, const struct lane *l, uint64_t before)
{
	return io->out - io->base >= (ptrdiff_t)RFC1951_WINDOW ? write_out_body(z, io, l, before, true)
							       : write_out_body(z, io, l, before, false);
}

/* Decode on from io->pos until a symbol begins where the lane noted one. 0: *note says which; 1: none was met. */
ALWAYS_INLINE int
meet(const struct rfc1951 *z, struct rfc1951_io *io, const struct lane *l, int *note)
{
	while (io->pos < l->start + NOTED_BITS) {
		struct rfc1951_token t;
		int rc;

		if (io->pos >= l->start && l->noted[io->pos - l->start] != 0) {
			*note = l->noted[io->pos - l->start] - 1;
			return 0;
		}
		t = token_of(z, peek(io->start, io->pos));
		if ((t.e & RFC1951_RARE) || io->out_end - io->out < RFC1951_OUT_MARGIN)
			return 1; /* the block or the room end */
		if (t.e < RFC1951_OTHER) {
			*io->out++ = (unsigned char)t.value;
		} else {
			rc = copy_match(z, io->base, io->out, t.value, t.dist);
			if (rc < 0)
				return rc;
			io->out += t.value;
		}
		io->pos += t.bits;
	}
	return 1;
}

ALWAYS_INLINE int
abreast_body(struct rfc1951 *z, struct rfc1951_io *io, uint64_t span)
{
	int i, rc, n, note;

	for (i = 0; i < LANES; i++) {
		struct lane *l = &z->lanes->lane[i];

		l->start = l->pos = io->pos + (uint64_t)i * span;
		l->end = l->start + span;
		l->found = 0;
		memset(l->noted, 0, sizeof(l->noted));
	}
	if (z->mode == RFC1951_MATCHES && !z->pairs_made)
		make_pairs(z);
	n = decode(z, io->start);
	rc = write_out(z, io, &z->lanes->lane[0], 0);
	for (i = 1; i < n && rc == 0; i++) {
		const struct lane *l = &z->lanes->lane[i];

		rc = meet(z, io, l, &note);
		if (rc == 0)
			rc = write_out(z, io, l, l->before[note]);
	}
	if (rc == 0) {
		z->failures = 0;
	} else if (rc > 0) {
		z->rest = z->failures > 0 ? REST_BITS << 2 * (z->failures - 1) : 0;
		z->failures += z->failures < 4;
	}
	return rc < 0 ? rc : 0;
}

#if defined(__x86_64__)
__attribute__((target("bmi,bmi2"))) static int
abreast_bmi2(struct rfc1951 *z, struct rfc1951_io *io, uint64_t span)
{
	return abreast_body(z, io, span);
}
#endif

static int
abreast_plain(struct rfc1951 *z, struct rfc1951_io *io, uint64_t span)
{
	return abreast_body(z, io, span);
}

/* Nothing is done when too little of the block or the input is left. */
int
rfc1951_abreast(struct rfc1951 *z, struct rfc1951_io *io)
{
	uint64_t bits = (uint64_t)(io->end - RFC1951_IN_MARGIN - io->start) * 8;
	uint64_t left = z->guess > z->block_bits ? z->guess - z->block_bits : (uint64_t)LANES * SPAN_GUESS * 8, span;

	if (bits <= io->pos)
		return 0;
	bits -= io->pos;
	span = (bits < left ? bits : left) / LANES;
	span = span < SPAN_MAX * 8 ? span : SPAN_MAX * 8;
	if (span < SPAN_MIN * 8)
		return 0;
	/* Fresh memory costs as much as lanes win in a short stream. */
	if (z->lanes == NULL && (bits >= STREAM_MIN * 8 || z->past_n >= RFC1951_WINDOW))
		z->lanes = malloc(sizeof(*z->lanes));
	if (z->lanes == NULL)
		return 0;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("bmi2"))
		return abreast_bmi2(z, io, span);
#endif
	return abreast_plain(z, io, span);
}
