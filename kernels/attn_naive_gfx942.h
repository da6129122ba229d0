/*
 * attn_naive_gfx942.h: the tiles of products for unfused attention on gfx942's matrix cores. Used by attn_naive.hip.
 */
#ifndef AITERD_KERNELS_ATTN_NAIVE_GFX942_H
#define AITERD_KERNELS_ATTN_NAIVE_GFX942_H

#include "attn_mfma.h"
#include "attn_naive.h"
#include "attn_rows.h"
#include "device.h"

#define THREADS ATTN_NAIVE_THREADS
#define CHUNKS 4 /* of 16 bytes along the summed dimension at a time */

/*
 * acc += A B^T: a wave's 64 x 64 of a 128 x 128 tile. B's rows lie along the summed dimension; A's too, or, `across`, A is given
 * by its columns (keys of V).
 */
template <class T, bool across> struct product {
	enum { SIZE = (int)sizeof(T), COUNT = 16 / SIZE, DEPTH = CHUNKS * COUNT, EACH = 2 };
	typedef typename window_word<4 * SIZE>::type word;
	f16 acc[2][2];
	u4 a[EACH], b[EACH];
	word v[4];

	/* `rows` of them from `from`, `stride` bytes apart; `left` bytes of each are there. */
	DEV_MEMBER static void
	load(u4 (&to)[EACH], const char *from, int rows, uint32_t stride, int left)
	{
		window w = window_make(from, (uint32_t)clamp(rows, 0, ATTN_NAIVE_TILE) * stride);

#pragma unroll
		for (int i = 0; i < EACH; i++) {
			int u = thread_id() + i * THREADS, chunk = u % CHUNKS;

			to[i] = window_word<16>::load(w, chunk * 16 < left ? (uint32_t)(u / CHUNKS) * stride +
										     (uint32_t)chunk * 16
									   : WINDOW_OUTSIDE);
		}
	}

	/* `keys` of them from `from`, each `left` bytes. */
	DEV_MEMBER void
	load_across(const char *from, int keys, uint32_t stride, int left)
	{
		window w = window_make(from, (uint32_t)clamp(keys, 0, (int)DEPTH) * stride);
		int column = thread_id() % 32 * 4 * SIZE, key = thread_id() / 32 * 4;

#pragma unroll
		for (int i = 0; i < 4; i++)
			v[i] = window_word<4 * SIZE>::load(w, column < left && key < DEPTH
								      ? (uint32_t)(key + i) * stride + (uint32_t)column
								      : WINDOW_OUTSIDE);
	}

	DEV_MEMBER static void
	put(LOCAL char *to, const u4 (&from)[EACH])
	{
#pragma unroll
		for (int i = 0; i < EACH; i++) {
			int u = thread_id() + i * THREADS;

			*(LOCAL u4 *)(to + (u % CHUNKS * ATTN_NAIVE_TILE + u / CHUNKS) * 16) = from[i];
		}
	}

	DEV_MEMBER void
	put_across(LOCAL char *to) const
	{
		int column = thread_id() % 32 * 4, keys = thread_id() / 32;

		if (keys * 4 >= DEPTH)
			return;
#pragma unroll
		for (int j = 0; j < 4; j++) {
			if constexpr (SIZE == 2) {
				uint32_t halves = j & 1 ? 0x07060302 : 0x05040100;

				*(LOCAL u2 *)(to + (keys / 2 * ATTN_NAIVE_TILE + column + j) * 16 + keys % 2 * 8) = u2{
					__builtin_amdgcn_perm(v[1][j >> 1], v[0][j >> 1], halves),
					__builtin_amdgcn_perm(v[3][j >> 1], v[2][j >> 1], halves)};
			} else {
				*(LOCAL u4 *)(to + (keys * ATTN_NAIVE_TILE + column + j) * 16) = u4{v[0][j], v[1][j],
												    v[2][j], v[3][j]};
			}
		}
	}

	/*
	 * Over `depth` elements. a_from: rows_a rows of which a_left bytes are there (across: keys of a_left bytes); b_from:
	 * rows_b rows of depth elements.
	 */
	DEV_MEMBER void
	run(const char *a_from, int rows_a, uint32_t a_stride, int a_left, const char *b_from, int rows_b,
	    uint32_t b_stride, int depth)
	{
		SHARED static u4 lds[2 * CHUNKS * ATTN_NAIVE_TILE];
		LOCAL char *a_lds = (LOCAL char *)lds, *b_lds = a_lds + CHUNKS * ATTN_NAIVE_TILE * 16;
		int half = thread_id() >> 5 & 1, l = thread_id() & 31, wave = thread_id() / WAVE;

#pragma unroll
		for (int i = 0; i < 2; i++)
			acc[i][0] = acc[i][1] = f16(0.0f);
		for (int at = 0; at < depth; at += DEPTH) {
			if constexpr (across)
				load_across(a_from + (int64_t)at * a_stride, rows_a - at, a_stride, a_left);
			else
				load(a, a_from + at * SIZE, rows_a, a_stride, a_left - at * SIZE);
			load(b, b_from + at * SIZE, rows_b, b_stride, (depth - at) * SIZE);
			barrier();
			if constexpr (across)
				put_across(a_lds);
			else
				put(a_lds, a);
			put(b_lds, b);
			barrier();
#pragma unroll
			for (int c = 0; c < CHUNKS / 2; c++)
#pragma unroll
				for (int i = 0; i < 2; i++)
#pragma unroll
					for (int j = 0; j < 2; j++) {
						int row = (2 * c + half) * ATTN_NAIVE_TILE + l;
						u4 x = *(LOCAL u4 *)(a_lds + (row + wave / 2 * 64 + i * 32) * 16);
						u4 y = *(LOCAL u4 *)(b_lds + (row + wave % 2 * 64 + j * 32) * 16);

						acc[i][j] = mfma_add<T>(x, y, acc[i][j]);
					}
		}
	}

	/* What a thread has of the tile: of ROWS rows of B, RUNS runs of RUN neighbours in A. */
	enum { ROWS = 2, RUNS = 8, RUN = 4 };

	/* Row j of B in the tile, and the first of run r of A. */
	DEV_MEMBER static int
	row(int j)
	{
		return thread_id() / WAVE % 2 * 64 + j * 32 + (thread_id() & 31);
	}

	DEV_MEMBER static int
	run_at(int r)
	{
		return thread_id() / WAVE / 2 * 64 + r / 4 * 32 + r % 4 * 8 + (thread_id() >> 5 & 1) * 4;
	}

	DEV_MEMBER float
	value(int j, int r, int m) const
	{
		return acc[r / 4][j][r % 4 * 4 + m];
	}
};

#undef CHUNKS
#undef THREADS
#endif
