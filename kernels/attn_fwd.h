/*
 * attn_fwd.h: fused attention forward on gfx942, as one template; attn_<dtype>.hip make its instances. The algorithm is
 * FlashAttention-2's: a workgroup keeps 32 query rows a wave, walks over the keys in tiles that all its waves share through
 * LDS, and keeps a running maximum and sum for each row. README.md explains the schedule.
 *
 * Step n of a wave, for the n-th block of STEP keys, is one straight piece of code in which three stages overlap:
 *   matrix  scores(n + 1) = K Q^T
 *   vector  probabilities(n) = exp2(scores(n) - maximum), their sum, their packing; maximum of scores(n + 1)
 *   matrix  output += V^T probabilities(n - 1)
 * The maximum that exponents are taken against only moves when a score exceeds it by more than 2^8 (probabilities may be up
 * to 256 then), so the output is seldom rescaled, and lanes need not agree on a maximum before that.
 */
#ifndef AITERD_KERNELS_ATTN_FWD_H
#define AITERD_KERNELS_ATTN_FWD_H

#include "attn.h"
#include "attn_mfma.h"
#include "attn_repair.h"
#include "attn_rows.h"
#include "device.h"

#define ATTN_NO_MAXIMUM -3.0e38f    /* finite, so that a masked score, -Inf, less this is still -Inf */
#define ATTN_SLACK_BITS 0x41000000u /* 8.0f */

/* Numbers of an instance. A tile is STEPS * STEP keys. */
template <class T_, int DQ_, int DV_, int WAVES_, int BLOCKS_, int STEPS_, int BUFFERS_> struct attn_config {
	typedef T_ T;
	enum {
		DQ = DQ_,
		DV = DV_,
		THREADS = WAVES_ * WAVE,
		ROWS = WAVES_ * ATTN_WAVE_ROWS,
		BLOCKS = BLOCKS_,
		STEPS = STEPS_,
		BUFFERS = BUFFERS_,
		STEP = 32 * BLOCKS,
		TILE = STEPS * STEP,
		SIZE = (int)sizeof(T),
		CHUNK = 16 / SIZE,	    /* elements */
		Q_PAIRS = DQ / (2 * CHUNK), /* pairs of chunks along the head dimension */
		P_PAIRS = 32 / (2 * CHUNK), /* and along a block of keys */
		K_BYTES = TILE * DQ * SIZE,
		V_BYTES = TILE * DV * SIZE,
		K_UNITS = TILE * DQ / CHUNK, /* a unit is what a thread moves at a time: K a chunk, V 4 keys x 4 */
		V_UNITS = TILE / 4 * DV / 4,
		K_EACH = (K_UNITS + THREADS - 1) / THREADS,
		V_EACH = (V_UNITS + THREADS - 1) / THREADS,
		LDS = BUFFERS * (K_BYTES + V_BYTES),
	};
	typedef typename window_word<4 * SIZE>::type v_word; /* 4 elements */
};

/*
 * Tiles of K and V on their way from global memory through registers to LDS.
 * K lies there as [chunk of dims][key], V transposed as [chunk of keys][dim]: a wave reads 32 neighbours of 16 bytes at
 * once. Places are exchanged within groups of 8 so that the writes spread over all banks too.
 */
template <class C> struct attn_loader {
	typedef typename C::T T;
	const char *k, *v;
	uint32_t k_stride, v_stride; /* bytes */
	int left, k_keys, v_keys;    /* keys from the last tile of K on; in it; in the last of V */
	uint32_t k_from[C::K_EACH], v_from[C::V_EACH];
	int k_to[C::K_EACH], v_to[C::V_EACH];
	u4 k_reg[C::K_EACH];
	typename C::v_word v_reg[C::V_EACH][4];

	DEV_MEMBER void
	init(attn_args_in &a, const attn_work &w)
	{
		k_stride = (uint32_t)a.k_stride.seq * C::SIZE;
		v_stride = (uint32_t)a.v_stride.seq * C::SIZE;
		k = w.k + (int64_t)w.key * k_stride;
		v = w.v + (int64_t)w.key * v_stride;
		left = w.key_end - w.key;
		k_keys = left < C::TILE ? left : C::TILE;
#pragma unroll
		for (int i = 0; i < C::K_EACH; i++) {
			int u = thread_id() + i * C::THREADS;
			int key = (u >> 2) % C::TILE, chunk = (u & 3) | (u / (4 * C::TILE)) << 2;
			bool there = (C::K_UNITS % C::THREADS == 0 || u < C::K_UNITS) && chunk * C::CHUNK < a.dim;

			k_from[i] = there ? (uint32_t)key * k_stride + (uint32_t)chunk * 16 : WINDOW_OUTSIDE;
			k_to[i] = (chunk * C::TILE + (key ^ (chunk & 3) << 1)) * 16;
		}
#pragma unroll
		for (int i = 0; i < C::V_EACH; i++) {
			int u = thread_id() + i * C::THREADS;
			int dim = u % (C::DV / 4) * 4, keys = u / (C::DV / 4);
			int chunk = C::SIZE == 2 ? (keys >> 2) << 1 | (keys & 1) : keys;
			bool there = (C::V_UNITS % C::THREADS == 0 || u < C::V_UNITS) && dim < a.dim_v;

			v_from[i] = there ? (uint32_t)keys * 4 * v_stride + (uint32_t)(dim * C::SIZE) : WINDOW_OUTSIDE;
			v_to[i] = (chunk * C::DV + (dim ^ (dim >> 3 & 3))) * 16;
			if (C::SIZE == 2)
				v_to[i] += (keys >> 1 & 1) * 8;
		}
	}

	DEV_MEMBER void
	load_k()
	{
		window w = window_make(k, (uint32_t)k_keys * k_stride);

#pragma unroll
		for (int i = 0; i < C::K_EACH; i++)
			k_reg[i] = window_word<16>::load(w, k_from[i]);
		k += (uint64_t)C::TILE * k_stride;
	}

	DEV_MEMBER void
	load_v()
	{
		window w = window_make(v, (uint32_t)v_keys * v_stride);

#pragma unroll
		for (int i = 0; i < C::V_EACH; i++) {
			uint32_t at = v_from[i];

			/* Three additions each time rather than three registers all the time. */
			__asm__ volatile("" : "+v"(at));
#pragma unroll
			for (int r = 0; r < 4; r++)
				v_reg[i][r] = window_word<4 * C::SIZE>::load(w, at + (uint32_t)r * v_stride);
		}
		v += (uint64_t)C::TILE * v_stride;
	}

	/* The next tile of V, and the one after it of K. Where registers are short V only comes when it is needed. */
	DEV_MEMBER void
	load()
	{
		v_keys = k_keys;
		left -= C::TILE;
		k_keys = left > 0 ? (left < C::TILE ? left : C::TILE) : 0;
		load_k();
		if (C::BUFFERS == 2)
			load_v();
	}

	DEV_MEMBER void
	store_k(LOCAL char *to)
	{
#pragma unroll
		for (int i = 0; i < C::K_EACH; i++)
			if (C::K_UNITS % C::THREADS == 0 || thread_id() + i * C::THREADS < C::K_UNITS)
				*(LOCAL u4 *)(to + k_to[i]) = k_reg[i];
	}

	DEV_MEMBER void
	store_v(LOCAL char *to)
	{
#pragma unroll
		for (int i = 0; i < C::V_EACH; i++)
			if (C::V_UNITS % C::THREADS == 0 || thread_id() + i * C::THREADS < C::V_UNITS)
				transpose(to, v_reg[i], v_to[i]);
	}

	DEV_MEMBER static void
	transpose(LOCAL char *to, const u2 (&r)[4], int at)
	{
		__asm__ volatile("" : "+v"(at));
#pragma unroll
		for (int j = 0; j < 4; j++) {
			uint32_t halves = j & 1 ? 0x07060302 : 0x05040100;

			*(LOCAL u2 *)(to +
				      (at ^ j << 4)) = u2{__builtin_amdgcn_perm(r[1][j >> 1], r[0][j >> 1], halves),
							  __builtin_amdgcn_perm(r[3][j >> 1], r[2][j >> 1], halves)};
		}
	}

	DEV_MEMBER static void
	transpose(LOCAL char *to, const u4 (&r)[4], int at)
	{
		__asm__ volatile("" : "+v"(at));
#pragma unroll
		for (int j = 0; j < 4; j++)
			*(LOCAL u4 *)(to + (at ^ j << 4)) = u4{r[0][j], r[1][j], r[2][j], r[3][j]};
	}
};

/* One step's scores (of a lane: its query, half of the keys), and what the softmax makes of them. */
template <class C> struct attn_scores {
	f16 s[C::BLOCKS];
};
template <class C> struct attn_probabilities {
	u4 p[C::BLOCKS][C::P_PAIRS];
};

template <class C> struct attn_wave {
	typedef typename C::T T;
	typedef mfma<T> M;
	u4 q[C::Q_PAIRS];
	f16 o[C::DV / 32];
	f2 sum;
	float scale;
	float offset;	  /* M::bias - maximum, of scores times scale */
	int begin, count; /* keys that the lane's row sees */
	int all_begin; /* a step that begins at one of these keys, all_begin and all_count - 1 more, needs no mask: */
	uint32_t all_count; /* all rows of the wave see all its keys */
	int k_at[2], v_at;  /* where a lane reads in a tile */

	DEV_MEMBER void
	init(attn_args_in &a)
	{
		int half = thread_id() >> 5 & 1, l = thread_id() & 31;

		scale = a.scale;
		offset = -ATTN_NO_MAXIMUM;
		sum = f2{0, 0};
#pragma unroll
		for (int b = 0; b < C::DV / 32; b++)
			o[b] = f16(0.0f);
		k_at[0] = (half * C::TILE + (l ^ half << 1)) * 16;
		k_at[1] = (half * C::TILE + (l ^ (2 + half) << 1)) * 16;
		v_at = (half * C::DV + (l ^ (l >> 3 & 3))) * 16;
	}

	/* The lane's row of q; zeros behind its end. */
	DEV_MEMBER void
	load_q(attn_args_in &a, const char *row)
	{
		uint32_t sign = a.flags & ATTN_NEGATE ? (C::SIZE == 2 ? 0x80008000u : 0x80000000u) : 0;
		int half = thread_id() >> 5 & 1;

#pragma unroll
		for (int c = 0; c < C::Q_PAIRS; c++) {
			int column = (2 * c + half) * C::CHUNK, last = a.dim - C::CHUNK;

			q[c] = *(const u4 *)(row + (column < last ? column : last) * C::SIZE);
		}
#pragma unroll
		for (int c = 0; c < C::Q_PAIRS; c++) {
			int column = (2 * c + half) * C::CHUNK;

			/* One comparison after the other: all of their results at once are many scalar registers. */
			__asm__ volatile("" : "+v"(column), "+v"(q[c]));
			q[c] = column < a.dim ? q[c] ^ sign : u4(0u);
		}
	}

	/* A lane's operands: of 32 keys and a pair of chunks; of a pair of chunks of keys and 32 dims. */
	DEV_MEMBER u4
	read_k(const LOCAL char *k, int step, int c, int b)
	{
		return *(const LOCAL u4 *)(k + k_at[c & 1] + c * 2 * C::TILE * 16 + (step * C::BLOCKS + b) * 512);
	}

	DEV_MEMBER u4
	read_v(const LOCAL char *v, int step, int b, int i, int d)
	{
		return *(const LOCAL u4 *)(v + v_at + ((step * C::BLOCKS + b) * C::P_PAIRS + i) * 2 * C::DV * 16 +
					   d * 512);
	}

	/* S = K Q^T for the step'th step of the K tile. */
	DEV_MEMBER void
	scores(const LOCAL char *k, int step, attn_scores<C> &to)
	{
#pragma unroll
		for (int b = 0; b < C::BLOCKS; b++)
			to.s[b] = f16(0.0f);
#pragma unroll
		for (int c = 0; c < C::Q_PAIRS; c++)
#pragma unroll
			for (int b = 0; b < C::BLOCKS; b++)
				to.s[b] = mfma_add<T>(read_k(k, step, c, b), q[c], to.s[b]);
	}

	/* O^T += V^T P^T. */
	DEV_MEMBER void
	weigh(const LOCAL char *v, int step, const attn_probabilities<C> &p)
	{
#pragma unroll
		for (int b = 0; b < C::BLOCKS; b++)
#pragma unroll
			for (int i = 0; i < C::P_PAIRS; i++)
#pragma unroll
				for (int d = 0; d < C::DV / 32; d++)
					o[d] = mfma_add<T>(read_v(v, step, b, i, d), p.p[b][i], o[d]);
	}

	/* Exponents of scores 2i and 2i + 1 of a lane, counted through its blocks. */
	DEV_MEMBER f2
	exponent(const attn_scores<C> &from, int i)
	{
		return __builtin_elementwise_fma(f2{from.s[i >> 3][2 * i & 15], from.s[i >> 3][(2 * i & 15) + 1]},
						 f2{scale, scale}, f2{offset, offset});
	}

	/* Their exponentials to the sum and, packed, to the probabilities. */
	DEV_MEMBER void
	finish(f2 e, int i, attn_probabilities<C> &to)
	{
		int b = i >> 3;

		i &= 7;
		sum += e;
		if constexpr (C::SIZE == 2) {
			to.p[b][i >> 2][i & 3] = M::pack(e.x, e.y);
		} else {
			to.p[b][i >> 1][2 * i & 3] = BITS(e.x);
			to.p[b][i >> 1][(2 * i & 3) + 1] = BITS(e.y);
		}
	}

	DEV_MEMBER void
	softmax(const attn_scores<C> &from, attn_probabilities<C> &to)
	{
#pragma unroll
		for (int i = 0; i < C::BLOCKS * 8; i++) {
			f2 x = exponent(from, i);

			finish(f2{exp2_fast(x.x), exp2_fast(x.y)}, i, to);
		}
	}

	/* Keeps the compiler from moving the softmax behind the branches that end a step, away from the matrix work. */
	DEV_MEMBER void
	keep(attn_probabilities<C> &p, float &top)
	{
		__asm__ volatile("" : "+v"(top));
#pragma unroll
		for (int b = 0; b < C::BLOCKS; b++)
#pragma unroll
			for (int i = 0; i < C::P_PAIRS; i++)
				__asm__ volatile("" : "+v"(p.p[b][i]));
		__asm__ volatile("" : "+v"(sum));
	}

	DEV_MEMBER static float
	largest(const attn_scores<C> &s)
	{
		float m = -INF;

#pragma unroll
		for (int b = 0; b < C::BLOCKS; b++)
#pragma unroll
			for (int i = 0; i < 16; i += 2)
				m = __builtin_fmaxf(__builtin_fmaxf(s.s[b][i], s.s[b][i + 1]), m);
		return m;
	}

	/* Scores of keys from `key` on that the row does not see become -Inf. */
	DEV_MEMBER void
	mask(attn_scores<C> &s, int key)
	{
		int from = key + (thread_id_here() >> 5 & 1) * 4 - begin;

#pragma unroll
		for (int b = 0; b < C::BLOCKS; b++)
#pragma unroll
			for (int i = 0; i < 16; i++) {
				uint32_t at = (uint32_t)(from + b * 32 + (i >> 2) * 8 + (i & 3));

				s.s[b][i] = at < (uint32_t)count ? s.s[b][i] : -INF;
			}
	}

	/* Move the maximum to contain `top`; what was summed so far, and p, not summed yet, follow. */
	DEV_MEMBER void
	rescale(float top, attn_probabilities<C> &p)
	{
		float alpha, to;

		top = __builtin_fmaxf(top, lane_xor(top, 32)) * scale;
		to = M::bias - top < offset ? M::bias - top : offset;
		alpha = exp2_fast(to - offset);
		offset = to;
		sum *= alpha;
#pragma unroll
		for (int d = 0; d < C::DV / 32; d++)
			o[d] *= alpha;
		if constexpr (C::STEPS == 1)
			return;
#pragma unroll
		for (int b = 0; b < C::BLOCKS; b++)
#pragma unroll
			for (int i = 0; i < C::P_PAIRS; i++)
#pragma unroll
				for (int j = 0; j < 4; j++) {
					if constexpr (C::SIZE == 2) {
						f2 x = M::unpack(p.p[b][i][j]) * (alpha * M::factor);

						p.p[b][i][j] = M::pack(x.x, x.y);
					} else {
						p.p[b][i][j] = BITS(FROM_BITS(p.p[b][i][j]) * alpha);
					}
				}
	}

	/* What exponents are taken against. */
	DEV_MEMBER float
	maximum() const
	{
		return M::bias - offset;
	}

	/* Lanes where `top` would give a probability of more than 2^limit, or limit is NaN. */
	DEV_MEMBER uint64_t
	exceeds(float top, uint32_t limit) const
	{
		return __builtin_amdgcn_fcmpf(__builtin_fmaf(top, scale, offset), FROM_BITS(limit), 10 /* not <= */);
	}

	/*
	 * After scores of the step that begins `at` keys after all_begin: top is the largest; p the probabilities that are not in
	 * o yet. One branch, seldom taken, because each one makes the compiler copy o.
	 */
	DEV_MEMBER void
	bound(attn_scores<C> &s, float top, int at, attn_probabilities<C> &p)
	{
		uint32_t limit = (uint32_t)at < all_count ? ATTN_SLACK_BITS : BITS_NAN;

		/* So that it is not compared twice. */
		__asm__ volatile("" : "+s"(limit));
		if (__builtin_expect(exceeds(top, limit) == 0, true))
			return;
		if (limit == BITS_NAN) {
			mask(s, at + all_begin);
			top = largest(s);
		}
		if (exceeds(top, ATTN_SLACK_BITS))
			rescale(top, p);
	}
};

#endif
