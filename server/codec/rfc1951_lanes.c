/*
 * rfc1951_lanes.c: inflate's faster way through a long block: several places of it are decoded at once, in lanes.
 *
 * Decoding is slow because a symbol's place is known only when the one before has been looked up; the processor could do
 * several times as much meanwhile. So what is left of a block is cut into equal spans of bits, and all lanes decode
 * their span in turns. Where a span begins is most often not where a symbol begins; but such a reader soon falls into
 * step with the true sequence of symbols (some 50 symbols with dense floats), as most Huffman codes synchronise
 * themselves. A lane notes where its first steps, of some symbols each, began; the true sequence, which begins with lane 0,
 * is decoded on past the end of one lane until it meets a noted place of the next: from there on that lane was right, and
 * what it found is taken. Nothing is guessed: what has not been met is thrown away and decoded again by rfc1951_serial().
 *
 * Where the output of a lane belongs is not known before that, so it keeps its literals one after the other, and a list
 * of its matches with the number of literals before each; write_out() puts them together.
 */
#include <stdlib.h>

#include "codec/rfc1951_internal.h"

#define LANES 5
#define LITERALS_MAX 8192u
#define MATCHES_MAX 2048u
/* A step of a lane: so many literals at most, fewer where lengths are many, and one symbol more of any kind; so many
 * symbols and bits at most. */
#define STEP_LITERALS 5
#define STEP_LITERALS_FEW 4
#define STEP (STEP_LITERALS + 1)
#define STEP_BITS (STEP_LITERALS * RFC1951_LIT_BITS + 48)
/* The steps of a lane whose places are noted. */
#define NOTES 24
#define NOTED_BITS (NOTES * STEP_BITS)
/* So many literals are copied without asking how many there are: all that are between two matches, most often. */
#define PUT_MANY 128
#define PUT_FEW 16
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
	/* By the bit it begins at: 1 + the index of one of the first steps; and what had been found before that. */
	unsigned char noted[NOTED_BITS];
	uint64_t before[NOTES];
	/* Of each match the number of literals before it, and in the upper half the lower one of its position: what it
	 * says is read once it is known to be one. */
	uint32_t matches[MATCHES_MAX + 1];
	unsigned char literals[LITERALS_MAX + PUT_MANY];
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

/* Seldom called, and in the way where it is inlined. */
static __attribute__((noinline)) int
rare_token(const struct rfc1951 *z, const unsigned char *in, struct lane *l)
{
	return lane_token(z, in, l);
}

/*
 * The symbol behind a step's literals, be it one more or a match, without asking which: both are written, and the one
 * that it was is kept. Asking would be a branch mispredicted all the time, as matches come at random. *pos and *found
 * hold unless *flags says that a table's first look did not suffice.
 */
ALWAYS_INLINE void
any_symbol(const struct rfc1951 *z, const unsigned char *in, struct lane *l, uint64_t *pos, uint64_t *found,
	   uint32_t *flags)
{
	uint64_t w = peek(in, *pos);
	uint32_t e = z->lits[w & LIT_MASK], is_match = e >> 24, d;

	d = z->dists[w >> (e & 63) & DIST_MASK] & (0 - is_match);
	*flags |= e | d;
	l->literals[(uint32_t)*found] = (unsigned char)(e >> 8);
	l->matches[*found >> 32] = (uint32_t)*found | (uint32_t)*pos << 16;
	*found += 1 + is_match * (ONE_MATCH - 1);
	*pos += (e + d) & 0xff;
}

/*
 * Up to so many literals for each of the first n lanes. It goes through the lanes with each part of the work, because the
 * processor looks ahead only so far: what can be done at the same time has to stand side by side. What is not a literal
 * has an entry of 0, so that it takes no bits, does not count, and is found again.
 */
ALWAYS_INLINE void
literal_steps(const struct rfc1951 *z, const unsigned char *in, struct lane *lane, uint64_t *pos, uint64_t *found,
	      const int n, const int literals, uint32_t *sum)
{
	unsigned char *to[LANES];
	uint64_t w[LANES];
	int i, k;

#pragma GCC unroll 5
	for (i = 0; i < n; i++) {
		w[i] = peek(in, pos[i]);
		to[i] = lane[i].literals + (uint32_t)found[i];
		sum[i] = 0;
	}
#pragma GCC unroll 5
	for (k = 0; k < literals; k++) {
#pragma GCC unroll 5
		for (i = 0; i < n; i++) {
			uint32_t e = z->steps[w[i] & LIT_MASK];

			w[i] >>= e & 63;
			sum[i] += e;
			to[i][k] = (unsigned char)(e >> 8);
		}
	}
#pragma GCC unroll 5
	for (i = 0; i < n; i++) {
		pos[i] += sum[i] & 0xff;
		found[i] += sum[i] / RFC1951_ONE_LITERAL;
	}
}

static void
make_steps(struct rfc1951 *z)
{
	uint32_t i;

	for (i = 0; i <= LIT_MASK; i++)
		z->steps[i] = z->lits[i] < RFC1951_OTHER ? z->lits[i] + RFC1951_ONE_LITERAL : 0;
	z->steps_made = true;
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

/* What a step has behind its literals, for each of the first n lanes. False, and nothing done, if a table's first look did
 * not suffice for one of them. */
ALWAYS_INLINE bool
any_symbols(const struct rfc1951 *z, const unsigned char *in, struct lane *lane, uint64_t *pos, uint64_t *found,
	    const int n)
{
	uint64_t p[LANES], f[LANES];
	uint32_t flags = 0;
	int i;

#pragma GCC unroll 5
	for (i = 0; i < n; i++) {
		p[i] = pos[i];
		f[i] = found[i];
		any_symbol(z, in, &lane[i], &p[i], &f[i], &flags);
	}
	if (UNLIKELY(flags & RFC1951_RARE))
		return false;
#pragma GCC unroll 5
	for (i = 0; i < n; i++) {
		pos[i] = p[i];
		found[i] = f[i];
	}
	return true;
}

/* The same for one lane whose literals were fewer than a step's. */
ALWAYS_INLINE bool
after_literals(const struct rfc1951 *z, const unsigned char *in, struct lane *l, uint64_t *pos, uint64_t *found)
{
	uint64_t p = *pos, f = *found;
	uint32_t flags = 0;

	any_symbol(z, in, l, &p, &f, &flags);
	if (UNLIKELY(flags & RFC1951_RARE))
		return false;
	*pos = p;
	*found = f;
	return true;
}

/* The first n lanes side by side, until one has come to the end of its span (n), or lane i cannot go on (i). When they
 * begin, they note where. */
ALWAYS_INLINE int
side_by_side(const struct rfc1951 *z, const unsigned char *in, const int n, const bool literals, const bool noting)
{
	struct lane *lane = z->lanes->lane;
	uint64_t pos[LANES], found[LANES], k;
	uint32_t sum[LANES];
	int i, note = 0, stopped = n;

	while (stopped == n && (k = steps(lane, n)) > 0 && note < NOTES) {
		if (noting && k > (uint64_t)(NOTES - note))
			k = (uint64_t)(NOTES - note);
		for (i = 0; i < n; i++) {
			pos[i] = lane[i].pos;
			found[i] = lane[i].found;
		}
		for (; k > 0 && stopped == n; k--) {
			for (i = 1; noting && i < n; i++) {
				lane[i].noted[pos[i] - lane[i].start] = (unsigned char)(note + 1);
				lane[i].before[note] = found[i];
			}
			note += noting;
			literal_steps(z, in, lane, pos, found, n, literals ? STEP_LITERALS : STEP_LITERALS_FEW, sum);
			if (!literals && LIKELY(any_symbols(z, in, lane, pos, found, n)))
				continue;
#pragma GCC unroll 5
			for (i = 0; i < n; i++) {
				if (literals && (LIKELY(sum[i] >= STEP_LITERALS * RFC1951_ONE_LITERAL) ||
						 LIKELY(after_literals(z, in, &lane[i], &pos[i], &found[i]))))
					continue;
				lane[i].pos = pos[i];
				lane[i].found = found[i];
				if (stopped == n && rare_token(z, in, &lane[i]) != 0)
					stopped = i;
				pos[i] = lane[i].pos;
				found[i] = lane[i].found;
			}
		}
		for (i = 0; i < n; i++) {
			lane[i].pos = pos[i];
			lane[i].found = found[i];
		}
	}
	return stopped;
}

ALWAYS_INLINE int
first_lanes(const struct rfc1951 *z, const unsigned char *in, int n, const bool literals)
{
	switch (n) {
	case 5:
		return side_by_side(z, in, 5, literals, false);
	case 4:
		return side_by_side(z, in, 4, literals, false);
	case 3:
		return side_by_side(z, in, 3, literals, false);
	case 2:
		return side_by_side(z, in, 2, literals, false);
	default:
		return side_by_side(z, in, 1, literals, false);
	}
}

/* Decode all spans; how many lanes have found something. */
ALWAYS_INLINE int
decode(const struct rfc1951 *z, const unsigned char *in, const bool literals)
{
	int n = side_by_side(z, in, LANES, literals, true), found = n < LANES ? n + 1 : LANES, i;

	/* A lane that stops has most likely met the block's end: the later ones are not needed. */
	for (; n > 0; n = i, found = i + 1) {
		i = first_lanes(z, in, n, literals);
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
put(unsigned char *out, const unsigned char *literal, size_t n, const size_t at_once)
{
	memcpy(out, literal, at_once);
	if (UNLIKELY(n > at_once))
		memcpy(out + at_once, literal + at_once, n - at_once);
}

/* Put what the lane found, but for what it found `before`, behind the output. 1: not done, as there is no room. */
ALWAYS_INLINE int
write_out_body(const struct rfc1951 *z, struct rfc1951_io *io, const struct lane *l, uint64_t before, const bool near,
	       const size_t at_once)
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
		put(out, literal, n, at_once);
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
	put(out, literal, n, at_once);
	io->out = out + n;
	io->pos = l->pos;
	return 0;
}

/* Most often no match can begin before this call's room, and need not be asked. */
ALWAYS_INLINE int
write_out(const struct rfc1951 *z, struct rfc1951_io *io, const struct lane *l, uint64_t before)
{
	bool near = io->out - io->base >= (ptrdiff_t)RFC1951_WINDOW;

	if (z->mode == RFC1951_LITERALS)
		return near ? write_out_body(z, io, l, before, true, PUT_MANY)
			    : write_out_body(z, io, l, before, false, PUT_MANY);
	return near ? write_out_body(z, io, l, before, true, PUT_FEW)
		    : write_out_body(z, io, l, before, false, PUT_FEW);
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
	if (!z->steps_made)
		make_steps(z);
	n = z->mode == RFC1951_LITERALS ? decode(z, io->start, true) : decode(z, io->start, false);
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
