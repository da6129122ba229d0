/*
 * attn_tf32.h: fused attention forward for fp32 on Hopper's tensor cores. They take tf32, 11 bits of mantissa: so a number is
 * cut in two, x = high + low, and a product made of three, low x high + high x low + high x high; what is left out is below
 * 2^-22 of the product. The tensor cores cut sums instead of rounding them, so few of their sums follow each other: 16 dims
 * of a score, and a tile's part of the output, are added up apart and then rounded into the whole. Used by attn_fp32.hip; the
 * algorithm is as in README.md.
 *
 * A lane l is number g = l / 4 of 8 and t = l % 4 of 4. The 16 x 8 products (mma.sync) have rows g and g + 8 in it, and columns 2t and
 * 2t + 1. Which element meets which along the summed dimension is free as long as both operands agree: scores take dims 4t to
 * 4t + 3 of each 16 from a lane, so that 16 bytes are one load; outputs take keys 2t and 2t + 1 of each 8, which is where the
 * softmax leaves them. Of each 32 columns of the output a lane has 8 neighbours.
 */
#ifndef AITERD_KERNELS_ATTN_TF32_H
#define AITERD_KERNELS_ATTN_TF32_H

#include "attn_fp32.h"
#include "attn_repair.h"

#define ATTN_NO_MAXIMUM -3.0e38f /* finite, so that a masked score, -Inf, less this is still -Inf */
#define ATTN_SLACK 8.0f

/* Numbers of an instance (attn.h). A wave, a warp here, has PARTS times 16 rows. */
template <int DQ_, int DV_, int WAVES_, int PARTS_, int KEYS_, int Q_KEPT_, int TOGETHER_> struct attn_config {
	enum {
		DQ = DQ_,
		DV = DV_,
		PARTS = PARTS_,
		KEYS = KEYS_,
		THREADS = WAVES_ * WAVE,
		WAVE_ROWS = PARTS * 16,
		ROWS = WAVES_ * WAVE_ROWS,
		K_STRIDE = ATTN_TF32_K_STRIDE(DQ),
		V_STRIDE = ATTN_TF32_V_STRIDE(DV),
		K_BYTES = KEYS * K_STRIDE,
		V_BYTES = KEYS * V_STRIDE,
		Q_KEPT = Q_KEPT_, /* in registers */
		Q_BYTES = Q_KEPT ? 0 : ROWS * K_STRIDE,
		DIMS = DQ / 16,
		BLOCKS = KEYS / 8,
		COLUMNS = DV / 32,
		TOGETHER = TOGETHER_, /* of COLUMNS, in one go over a tile */
	};
};

/* Four numbers in two parts. The lower bits of `low` are cut by the tensor core. */
struct attn_halves {
	uint32_t high[4];
	uint32_t low[4];

	DEV_MEMBER
	attn_halves(const float (&x)[4])
	{
#pragma unroll
		for (int i = 0; i < 4; i++) {
			high[i] = (BITS(x[i]) + 0x1000) & 0xffffe000u;
			low[i] = BITS(x[i] - FROM_BITS(high[i]));
		}
	}
};

/* c += a b, for 16 x 8 by 8 x 8. */
DEV void
attn_mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
	__asm__("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
		: "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		: "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* 16 bytes of SHARED memory. */
DEV void
attn_read(float (&x)[4], const char *at)
{
	float4 y = *(const float4 *)at;

	x[0] = y.x;
	x[1] = y.y;
	x[2] = y.z;
	x[3] = y.w;
}

template <class C> struct attn_wave {
	float q[C::Q_KEPT ? C::DIMS : 1][C::PARTS][2][4];
	float o[C::COLUMNS][C::PARTS][4][4];
	float s[C::PARTS][C::BLOCKS][4];
	/* Of rows g and g + 8 of each part: the maximum of scores times scale; the sum over the lane's keys; keys that it sees. */
	float maximum[C::PARTS][2], sum[C::PARTS][2];
	int begin[C::PARTS][2], count[C::PARTS][2];
	int all_begin, all_end; /* keys that all rows of the wave see */

	/* Row i of a part, in the workgroup. */
	DEV_MEMBER static int
	row(int part, int i)
	{
		return thread_id() / WAVE * C::WAVE_ROWS + part * 16 + i * 8 + thread_id() % WAVE / 4;
	}

	DEV_MEMBER void
	init()
	{
#pragma unroll
		for (int p = 0; p < C::PARTS; p++) {
#pragma unroll
			for (int i = 0; i < 2; i++) {
				maximum[p][i] = ATTN_NO_MAXIMUM;
				sum[p][i] = 0;
			}
#pragma unroll
			for (int i = 0; i < C::COLUMNS * 16; i++)
				o[i / 16][p][i / 4 % 4][i % 4] = 0;
		}
	}

	/* Dims 16c + 4t on of rows g and g + 8, as the four words of a step's operand, for two steps. */
	DEV_MEMBER void
	query(const char *q_tile, int c, int p, float (&x)[2][4]) const
	{
#pragma unroll
		for (int i = 0; i < 2; i++) {
			if constexpr (C::Q_KEPT) {
#pragma unroll
				for (int e = 0; e < 4; e++) {
					x[i][e] = q[c][p][i][e];
					KEEP_FLOAT(x[i][e]); /* or the halves would be kept instead, twice as many */
				}
			} else {
				attn_read(x[i], q_tile + row(p, i) * C::K_STRIDE + c * 64 + thread_id() % 4 * 16);
			}
		}
	}

	/* S = Q K^T. */
	DEV_MEMBER void
	scores(const char *q_tile, const char *k)
	{
		const char *from = k + thread_id() % WAVE / 4 * C::K_STRIDE + thread_id() % 4 * 16;

#pragma unroll
		for (int i = 0; i < C::PARTS * C::BLOCKS * 4; i++)
			s[i / (C::BLOCKS * 4)][i / 4 % C::BLOCKS][i % 4] = 0;
#pragma unroll(C::Q_KEPT ? (int)C::DIMS : 1) /* not more than it must: it costs registers */
		for (int c = 0; c < C::DIMS; c++) {
			uint32_t high[C::PARTS][2][4], low[C::PARTS][2][4];

#pragma unroll
			for (int p = 0; p < C::PARTS; p++) {
				float x[2][4];

				query(q_tile, c, p, x);
#pragma unroll
				for (int i = 0; i < 2; i++) {
					attn_halves h(x[i]);

#pragma unroll
					for (int e = 0; e < 4; e++) {
						high[p][i][e] = h.high[e];
						low[p][i][e] = h.low[e];
					}
				}
			}
#pragma unroll
			for (int b = 0; b < C::BLOCKS; b++) {
				float x[4];

				attn_read(x, from + b * 8 * C::K_STRIDE + c * 64);
				attn_halves y(x);
				float f[C::PARTS][4];

#pragma unroll
				for (int i = 0; i < C::PARTS * 4; i++)
					f[i / 4][i % 4] = 0;
#pragma unroll
				for (int i = 0; i < 4; i += 2)
#pragma unroll
					for (int p = 0; p < C::PARTS; p++) {
						attn_mma(f[p], low[p][0][i], low[p][1][i], low[p][0][i + 1],
							 low[p][1][i + 1], y.high[i], y.high[i + 1]);
						attn_mma(f[p], high[p][0][i], high[p][1][i], high[p][0][i + 1],
							 high[p][1][i + 1], y.low[i], y.low[i + 1]);
						attn_mma(f[p], high[p][0][i], high[p][1][i], high[p][0][i + 1],
							 high[p][1][i + 1], y.high[i], y.high[i + 1]);
					}
#pragma unroll
				for (int i = 0; i < C::PARTS * 4; i++)
					s[i / 4][b][i % 4] += f[i / 4][i % 4];
			}
		}
	}

	/* O += P V, for TOGETHER of the columns from `first` on. */
	DEV_MEMBER void
	values(const char *v, int first)
	{
		const char *from = v + thread_id() % 4 * 2 * C::V_STRIDE + first * 128 + thread_id() % WAVE / 4 * 16;
		float f[C::TOGETHER][C::PARTS][4][4];

		/* As in query(). */
#pragma unroll
		for (int i = 0; i < C::PARTS * C::BLOCKS * 4; i++)
			KEEP_FLOAT(s[i / (C::BLOCKS * 4)][i / 4 % C::BLOCKS][i % 4]);
#pragma unroll
		for (int i = 0; i < C::TOGETHER * C::PARTS * 16; i++)
			f[i / (C::PARTS * 16)][i / 16 % C::PARTS][i / 4 % 4][i % 4] = 0;
#pragma unroll
		for (int b = 0; b < C::BLOCKS; b++)
#pragma unroll
			for (int d = 0; d < C::TOGETHER; d++) {
				float x[2][4];

				attn_read(x[0], from + b * 8 * C::V_STRIDE + d * 128);
				attn_read(x[1], from + b * 8 * C::V_STRIDE + C::V_STRIDE + d * 128);
				attn_halves y0(x[0]), y1(x[1]);

#pragma unroll
				for (int p = 0; p < C::PARTS; p++) {
					attn_halves z(s[p][b]);

#pragma unroll
					for (int j = 0; j < 4; j++)
						attn_mma(f[d][p][j], z.low[0], z.low[2], z.low[1], z.low[3], y0.high[j],
							 y1.high[j]);
#pragma unroll
					for (int j = 0; j < 4; j++)
						attn_mma(f[d][p][j], z.high[0], z.high[2], z.high[1], z.high[3],
							 y0.low[j], y1.low[j]);
#pragma unroll
					for (int j = 0; j < 4; j++)
						attn_mma(f[d][p][j], z.high[0], z.high[2], z.high[1], z.high[3],
							 y0.high[j], y1.high[j]);
				}
			}
#pragma unroll
		for (int d = 0; d < C::TOGETHER; d++)
#pragma unroll
			for (int p = 0; p < C::PARTS; p++)
#pragma unroll
				for (int i = 0; i < 16; i++)
					o[first + d][p][i / 4][i % 4] += f[d][p][i / 4][i % 4];
	}

	/* Scores of keys from `key` on that a row does not see become -Inf. */
	DEV_MEMBER void
	mask(int key)
	{
		int column = key + thread_id() % 4 * 2;

#pragma unroll
		for (int p = 0; p < C::PARTS; p++)
#pragma unroll
			for (int b = 0; b < C::BLOCKS; b++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					if ((uint32_t)(column + b * 8 + i % 2 - begin[p][i / 2]) >=
					    (uint32_t)count[p][i / 2])
						s[p][b][i] = -INF;
	}

	/*
	 * Scores of the keys from `key` on to probabilities, in place. The maximum only moves when a score exceeds it by more than
	 * 2^8 (so probabilities may be up to 256), and the lanes of a row agree on one only then.
	 */
	DEV_MEMBER void
	softmax(float scale, int key)
	{
		if (key < all_begin || key + C::KEYS > all_end)
			mask(key);
#pragma unroll
		for (int p = 0; p < C::PARTS; p++) {
			float top[2] = {-INF, -INF};

#pragma unroll
			for (int i = 0; i < C::BLOCKS * 4; i++)
				top[i / 2 % 2] = fmaxf(top[i / 2 % 2], s[p][i / 4][i % 4]);
			if (__any_sync(WAVE_ALL, fmaf(top[0], scale, -maximum[p][0]) > ATTN_SLACK ||
							 fmaf(top[1], scale, -maximum[p][1]) > ATTN_SLACK))
				rescale(p, top, scale);
#pragma unroll
			for (int i = 0; i < C::BLOCKS * 4; i++) {
				float x = exp2_fast(fmaf(s[p][i / 4][i % 4], scale, -maximum[p][i / 2 % 2]));

				s[p][i / 4][i % 4] = x;
				sum[p][i / 2 % 2] += x;
			}
		}
	}

	/* Move a part's maxima to contain `top`; what was summed so far follows. */
	DEV_MEMBER void
	rescale(int p, const float (&top)[2], float scale)
	{
		float alpha[2];

#pragma unroll
		for (int i = 0; i < 2; i++) {
			float x = fmaxf(top[i], lane_xor(top[i], 1));

			x = fmaxf(x, lane_xor(x, 2));
			x = fmaxf(x * scale, maximum[p][i]);
			alpha[i] = exp2_fast(maximum[p][i] - x);
			maximum[p][i] = x;
			sum[p][i] *= alpha[i];
		}
#pragma unroll
		for (int i = 0; i < C::COLUMNS * 16; i++)
			o[i / 16][p][i / 4 % 4][i % 4] *= alpha[i / 2 % 2];
	}

	/* A tile of keys from `key` on. */
	DEV_MEMBER void
	step(float scale, const char *q_tile, const char *k, const char *v, int key)
	{
		scores(q_tile, k);
		softmax(scale, key);
#pragma unroll
		for (int d = 0; d < C::COLUMNS; d += C::TOGETHER)
			values(v, d);
	}

	/* Row i of a part to its place, times factor. */
	DEV_MEMBER void
	store(float *to, int dim_v, int p, int i, float factor) const
	{
#pragma unroll
		for (int d = 0; d < C::COLUMNS; d++)
#pragma unroll
			for (int e = 0; e < 2; e++) {
				int column = d * 32 + thread_id() % 4 * 8 + e * 4;

				if (column < dim_v)
					*(float4 *)(to + column) = make_float4(
						o[d][p][0][i * 2 + e] * factor, o[d][p][1][i * 2 + e] * factor,
						o[d][p][2][i * 2 + e] * factor, o[d][p][3][i * 2 + e] * factor);
			}
	}

	/* Is a number of the row's output in this lane an Inf or a NaN? */
	DEV_MEMBER bool
	odd(int p, int i) const
	{
		uint32_t largest = 0;

#pragma unroll
		for (int d = 0; d < C::COLUMNS * 8; d++) {
			uint32_t x = BITS(o[d / 8][p][d / 2 % 4][i * 2 + d % 2]) & 0x7fffffffu;

			largest = x > largest ? x : largest;
		}
		return !bits_finite(largest);
	}
};

#endif
