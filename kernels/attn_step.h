/*
 * attn_step.h: one step of fused attention on gfx942 with its order of issue written out. A wave issues in order, and a matrix
 * instruction keeps the matrix unit for 32 cycles: after each one stands about as much vector work of the softmax as hides behind
 * it, and LDS reads are issued up to ATTN_AHEAD operands before their use. Fences keep the compiler's scheduler to that
 * order; left alone it issues all matrix instructions, then all vector instructions. Used by attn_kernel.h.
 */
#ifndef AITERD_KERNELS_ATTN_STEP_H
#define AITERD_KERNELS_ATTN_STEP_H

#include "attn_fwd.h"

#define ATTN_AHEAD 4 /* read, and waited for, in pairs */
#define ATTN_FENCE() __builtin_amdgcn_sched_barrier(0)

/* The first operands of a step, read before it begins. */
struct attn_ahead {
	u4 x[ATTN_AHEAD];
};

/* Scores to `to`, softmax of `from` to p_to, output += p. `which`: of the tile's two steps. */
template <class C, int which> struct attn_step {
	typedef typename C::T T;
	typedef mfma<T> M;
	enum {
		SCORES = C::BLOCKS * C::Q_PAIRS,		/* operands of K */
		VALUES = C::BLOCKS * C::P_PAIRS * (C::DV / 32), /* and of V */
		OPERANDS = SCORES + VALUES,
		MATRIX = OPERANDS * M::INSTRUCTIONS,
		PAIRS = C::BLOCKS * 8, /* of scores in a lane */
		/* Two operands of K, then one of V, so that the scores are there early enough for their maximum. */
		MIXED = SCORES / 2 < VALUES ? SCORES / 2 * 3 : VALUES * 3,
	};
	attn_wave<C> &w;
	const LOCAL char *k, *v; /* tiles */
	attn_scores<C> &to;
	const attn_scores<C> &from;
	attn_probabilities<C> &p_to;
	const attn_probabilities<C> &p;
	attn_ahead &ahead; /* holds this step's first operands, then the next one's */
	u4 x[OPERANDS];
	f2 e[PAIRS];
	float top;

	/* The u'th operand: of the scores if >= 0, else -1 - one of the values. */
	DEV_MEMBER static constexpr int
	operand(int u)
	{
		return u < MIXED	     ? (u % 3 == 2 ? -1 - u / 3 : u - u / 3)
		       : SCORES > VALUES * 2 ? u - VALUES
					     : -1 - (u - SCORES);
	}

	template <int u, int step>
	DEV_MEMBER static u4
	read(attn_wave<C> &w, const LOCAL char *k, const LOCAL char *v)
	{
		constexpr int n = operand(u), j = -1 - n, dims = C::DV / 32;

		if constexpr (n >= 0)
			return w.read_k(k, step, n / C::BLOCKS, n % C::BLOCKS);
		else
			return w.read_v(v, step, j / (C::P_PAIRS * dims), j / dims % C::P_PAIRS, j % dims);
	}

	DEV_MEMBER static void
	read_ahead(attn_wave<C> &w, const LOCAL char *k, const LOCAL char *v, attn_ahead &ahead)
	{
		ahead.x[0] = read<0, which>(w, k, v);
		ahead.x[1] = read<1, which>(w, k, v);
		ahead.x[2] = read<2, which>(w, k, v);
		ahead.x[3] = read<3, which>(w, k, v);
	}

	template <int m>
	DEV_MEMBER void
	multiply()
	{
		constexpr int u = m / M::INSTRUCTIONS, i = m % M::INSTRUCTIONS, n = operand(u), j = -1 - n,
			      dims = C::DV / 32;

		if constexpr (n >= 0)
			to.s[n % C::BLOCKS] = M::part(i, x[u], w.q[n / C::BLOCKS], to.s[n % C::BLOCKS]);
		else
			w.o[j % dims] = M::part(i, x[u], p.p[j / (C::P_PAIRS * dims)][j / dims % C::P_PAIRS],
						w.o[j % dims]);
	}

	/*
	 * Half a pair's softmax at a time: 16 or 28 cycles, behind a matrix instruction's 32. Exponents are made, and sums and packing
	 * done, a half away from the exponential, which neither can follow at once.
	 */
	template <int h, int end>
	DEV_MEMBER void
	halves()
	{
		if constexpr (h < end) {
			constexpr int j = h / 2;

			if constexpr (h % 2 == 0) {
				e[j].x = exp2_fast(e[j].x);
			} else {
				e[j].y = exp2_fast(e[j].y);
				if constexpr (j > 0)
					w.finish(e[j - 1], j - 1, p_to);
				if constexpr (j + 1 < PAIRS)
					e[j + 1] = w.exponent(from, j + 1);
			}
			halves<h + 1, end>();
		}
	}

	/* The maximum of pairs i to end - 1 of the new scores. */
	template <int i, int end>
	DEV_MEMBER void
	maximum()
	{
		if constexpr (i < end) {
			top = __builtin_fmaxf(__builtin_fmaxf(to.s[i >> 3][2 * i & 15], to.s[i >> 3][(2 * i & 15) + 1]),
					      top);
			maximum<i + 1, end>();
		}
	}

	/* How many pairs' maximum is taken before matrix instruction m: over the last quarter of them. */
	DEV_MEMBER static constexpr int
	maxima(int m)
	{
		constexpr int first = MATRIX - MATRIX / 8;

		return m < first ? 0 : PAIRS * (m - first) / (MATRIX - first);
	}

	/* Operand u of this step, or of the next one. */
	template <int u>
	DEV_MEMBER void
	fetch()
	{
		if constexpr (u < OPERANDS)
			x[u] = read<u, which>(w, k, v);
		else if constexpr (which == 0)
			ahead.x[u - OPERANDS] = read<u - OPERANDS, 1>(w, k, v);
	}

	template <int m>
	DEV_MEMBER void
	slot()
	{
		if constexpr (m < MATRIX) {
			constexpr int u = m / M::INSTRUCTIONS;

			if constexpr (m % (2 * M::INSTRUCTIONS) == 0) {
				/* Waits for both. */
				__asm__ volatile("" : "+v"(x[u]), "+v"(x[u + 1]));
				fetch<u + ATTN_AHEAD>();
				fetch<u + ATTN_AHEAD + 1>();
			}
			multiply<m>();
			halves<2 * PAIRS * m / MATRIX, 2 * PAIRS *(m + 1) / MATRIX>();
			maximum<maxima(m), maxima(m + 1)>();
			ATTN_FENCE();
			slot<m + 1>();
		}
	}

	/* Returns the largest of the new scores. */
	DEV_MEMBER float
	run()
	{
		top = -INF;
		x[0] = ahead.x[0];
		x[1] = ahead.x[1];
		x[2] = ahead.x[2];
		x[3] = ahead.x[3];
#pragma unroll
		for (int b = 0; b < C::BLOCKS; b++)
			to.s[b] = f16(0.0f);
		e[0] = w.exponent(from, 0);
		ATTN_FENCE();
		slot<0>();
		w.finish(e[PAIRS - 1], PAIRS - 1, p_to);
		w.keep(p_to, top);
		return top;
	}
};

#endif
