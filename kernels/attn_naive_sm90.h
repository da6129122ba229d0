/*
 * attn_naive_sm90.h: the tiles of products for unfused attention on Hopper: 16-bit by mma.sync, fp32 by fused multiply-adds.
 * Used by attn_naive.hip.
 */
#ifndef AITERD_KERNELS_ATTN_NAIVE_SM90_H
#define AITERD_KERNELS_ATTN_NAIVE_SM90_H

#include "attn_naive.h"
#include "attn_rows.h"
#include "device.h"

#define THREADS ATTN_NAIVE_THREADS
#define TILE ATTN_NAIVE_TILE

/*
 * acc += B A^T: a 128 x 128 tile. B's rows lie along the summed dimension; A's too, or, `across`, A is given by its columns (keys
 * of V). In SHARED memory all lie as in global, 16 bytes added to each row so that neighbouring rows do not meet in a bank.
 */
template <class T, bool across> struct product {
	enum {
		SIZE = (int)sizeof(T),
		BYTES = 64, /* of a row along the summed dimension at a time */
		DEPTH = BYTES / SIZE,
		ALONG = BYTES + 16,
		ACROSS = TILE * SIZE + 16,
		A_BYTES = across ? DEPTH * ACROSS : TILE * ALONG,
		B_BYTES = TILE * ALONG,
		/* What a thread has of the tile: of ROWS rows of B, RUNS runs of RUN neighbours in A. */
		ROWS = SIZE == 2 ? 4 : 8,
		RUN = SIZE == 2 ? 2
		      : across	? 4
				: 1,
		RUNS = TILE * TILE / THREADS / ROWS / RUN,
	};
	float acc[ROWS][RUNS * RUN];

	/* `rows` of them from `from`, `stride` bytes apart; `left` bytes of each are there. */
	DEV_MEMBER static void
	load(char *to, const char *from, int rows, uint32_t stride, int left)
	{
#pragma unroll
		for (int u = thread_id(); u < TILE * BYTES / 16; u += THREADS) {
			int row = u / (BYTES / 16), at = u % (BYTES / 16) * 16;
			bool there = row < rows && at < left;

			copy_16(to + row * ALONG + at, there ? from + (uint64_t)row * stride + at : from, there);
		}
	}

	/* `keys` of them from `from`, each `left` bytes. */
	DEV_MEMBER static void
	load_across(char *to, const char *from, int keys, uint32_t stride, int left)
	{
#pragma unroll
		for (int u = thread_id(); u < DEPTH * TILE * SIZE / 16; u += THREADS) {
			int key = u / (TILE * SIZE / 16), at = u % (TILE * SIZE / 16) * 16;
			bool there = key < keys && at < left;

			copy_16(to + key * ACROSS + at, there ? from + (uint64_t)key * stride + at : from, there);
		}
	}

	/* 16-bit: a warp has 32 rows of B and 64 of A. */
	DEV_MEMBER void
	multiply_16(const char *a, const char *b)
	{
		int lane = thread_id() % WAVE, wave = thread_id() / WAVE;

#pragma unroll
		for (int k = 0; k < DEPTH; k += 16) {
			u4 x[2];

#pragma unroll
			for (int i = 0; i < 2; i++)
				x[i] = matrices(b + (wave % 4 * 32 + i * 16 + lane % 16) * ALONG + k * 2 +
						lane / 16 * 16);
#pragma unroll
			for (int j = 0; j < 4; j++) {
				int at = wave / 4 * 64 + j * 16;
				u4 y;

				if constexpr (across)
					y = matrices_across(a + (k + lane % 16) * ACROSS + (at + lane / 16 * 8) * 2);
				else
					y = matrices(a + (at + lane % 8 + lane / 16 * 8) * ALONG + k * 2 +
						     lane / 8 % 2 * 16);
#pragma unroll
				for (int i = 0; i < 2; i++) {
					mma_16<T>(acc[2 * i], acc[2 * i + 1], 4 * j, x[i], y[0], y[1]);
					mma_16<T>(acc[2 * i], acc[2 * i + 1], 4 * j + 2, x[i], y[2], y[3]);
				}
			}
		}
	}

	/* fp32: a thread has 8 rows of B and 8 of A. */
	DEV_MEMBER void
	multiply_32(const char *a, const char *b)
	{
		int x = thread_id() % 16, y = thread_id() / 16;

#pragma unroll
		for (int k = 0; k < DEPTH; k += 4) {
			f4 p[8];

#pragma unroll
			for (int i = 0; i < 8; i++)
				p[i] = *(const f4 *)(b + (y + i * 16) * ALONG + k * 4);
			if constexpr (across) {
#pragma unroll
				for (int m = 0; m < 4; m++)
#pragma unroll
					for (int r = 0; r < 2; r++) {
						f4 v = *(const f4 *)(a + (k + m) * ACROSS + (x + r * 16) * 16);

#pragma unroll
						for (int i = 0; i < 32; i++)
							acc[i / 4][r * 4 + i % 4] += p[i / 4][m] * v[i % 4];
					}
			} else {
#pragma unroll
				for (int r = 0; r < 8; r++) {
					f4 v = *(const f4 *)(a + (x + r * 16) * ALONG + k * 4);

#pragma unroll
					for (int i = 0; i < 32; i++)
						acc[i / 4][r] += p[i / 4][i % 4] * v[i % 4];
				}
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
		SHARED static u4 tiles[2 * (A_BYTES + B_BYTES) / 16];
		char *to = (char *)tiles;

#pragma unroll
		for (int i = 0; i < ROWS; i++)
#pragma unroll
			for (int j = 0; j < RUNS * RUN; j++)
				acc[i][j] = 0;
		for (int at = 0; at - DEPTH < depth; at += DEPTH) {
			char *next = to + at / DEPTH % 2 * (A_BYTES + B_BYTES);

			if (at < depth) {
				if constexpr (across)
					load_across(next, a_from + (int64_t)at * a_stride, rows_a - at, a_stride,
						    a_left);
				else
					load(next, a_from + at * SIZE, rows_a, a_stride, a_left - at * SIZE);
				load(next + A_BYTES, b_from + at * SIZE, rows_b, b_stride, (depth - at) * SIZE);
			}
			copy_commit();
			if (at == 0)
				continue;
			copy_wait<1>();
			barrier();
			next = to + (at / DEPTH - 1) % 2 * (A_BYTES + B_BYTES);
			if constexpr (SIZE == 2)
				multiply_16(next, next + A_BYTES);
			else
				multiply_32(next, next + A_BYTES);
			barrier();
		}
	}

	/* Row j of B in the tile, and the first of run r of A. */
	DEV_MEMBER static int
	row(int j)
	{
		return SIZE == 2 ? thread_id() / WAVE % 4 * 32 + j / 2 * 16 + j % 2 * 8 + thread_id() % WAVE / 4
				 : thread_id() / 16 + j * 16;
	}

	DEV_MEMBER static int
	run_at(int r)
	{
		return SIZE == 2 ? thread_id() / WAVE / 4 * 64 + r * 8 + thread_id() % 4 * 2
		       : across	 ? thread_id() % 16 * 4 + r * 64
				 : thread_id() % 16 + r * 16;
	}

	DEV_MEMBER float
	value(int j, int r, int m) const
	{
		return acc[j][r * RUN + m];
	}
};

#undef TILE
#undef THREADS
#endif
