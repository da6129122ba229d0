/*
 * attn_kernel.h: the body of an attn_fwd kernel: prologue, loop over tiles, results. Used by attn_<dtype>.hip.
 */
#ifndef AITERD_KERNELS_ATTN_KERNEL_H
#define AITERD_KERNELS_ATTN_KERNEL_H

#include "attn_step.h"

/*
 * A wave's walk over the tiles. In turn t of the workgroup K tile t and V tile t - 1 are in LDS, and the next of both are on
 * their way. With two steps a tile, turn t does steps 2t - 1 and 2t; with one, probabilities are used in their own step.
 */
template <class C> struct attn_walk {
	attn_wave<C> &w;
	attn_loader<C> &loader;
	LOCAL char *lds;
	int flip;     /* where the turn's K tile begins: 0 or K_BYTES */
	int turn, at; /* at: first key of K tile `turn`, less the wave's all_begin */
	attn_scores<C> s[2];
	attn_probabilities<C> p[2];

	/* The place of the turn's tile, and of the next one's. */
	DEV_MEMBER LOCAL char *
	k_tile(bool next)
	{
		return lds + (C::BUFFERS == 2 ? (next ? flip ^ C::K_BYTES : flip) : 0);
	}

	DEV_MEMBER LOCAL char *
	v_tile(bool next)
	{
		int to = next ? flip ^ C::K_BYTES : flip;

		to = C::V_BYTES == C::K_BYTES ? to : to ? (int)C::V_BYTES : 0;
		return lds + C::BUFFERS * C::K_BYTES + (C::BUFFERS == 2 ? to : 0);
	}

	DEV_MEMBER void
	load()
	{
		loader.load();
	}

	DEV_MEMBER void
	store()
	{
		if (C::BUFFERS == 1) {
			loader.load_v();
			barrier();
		}
		loader.store_k(k_tile(true));
		loader.store_v(v_tile(true));
		barrier();
		turn++;
		flip ^= C::K_BYTES;
		at += C::TILE;
	}

	DEV_MEMBER void
	first()
	{
		const LOCAL char *k = k_tile(false);

		p[0] = p[1] = {};
		w.scores(k, 0, s[0]);
		w.bound(s[0], w.largest(s[0]), at, p[1]);
		if constexpr (C::STEPS == 2) {
			w.softmax(s[0], p[0]);
			w.scores(k, 1, s[1]);
			w.bound(s[1], w.largest(s[1]), at + C::STEP, p[0]);
		}
	}

	DEV_MEMBER void
	middle()
	{
		const LOCAL char *k = k_tile(false), *v = v_tile(false);
		float top;

		if constexpr (C::STEPS == 2) {
			attn_ahead ahead;
			attn_step<C, 0> odd = {w, k, v, s[0], s[1], p[1], p[0], ahead, {}, {}, 0};
			attn_step<C, 1> even = {w, k, v, s[1], s[0], p[0], p[1], ahead, {}, {}, 0};

			odd.read_ahead(w, k, v, ahead);
			load();
			top = odd.run();
			w.bound(s[0], top, at, p[1]);
			top = even.run();
			w.bound(s[1], top, at + C::STEP, p[0]);
		} else {
			load();
			w.scores(k, 0, s[1]);
			w.softmax(s[0], p[0]);
			w.weigh(v, 0, p[0]);
			top = w.largest(s[1]);
			p[1] = {};
			w.bound(s[1], top, at, p[1]);
			s[0] = s[1];
		}
	}

	DEV_MEMBER void
	last()
	{
		const LOCAL char *v = v_tile(false);

		if constexpr (C::STEPS == 2) {
			w.softmax(s[1], p[1]);
			w.weigh(v, 0, p[0]);
			w.weigh(v, 1, p[1]);
		} else {
			w.softmax(s[0], p[0]);
			w.weigh(v, 0, p[0]);
		}
	}
};

/* All tiles of the workgroup; the wave computes for keys [begin, end) and only carries for the others. */
template <class C>
DEV void
attn_tiles(attn_args_in &a, const attn_work &work, attn_wave<C> &w, int begin, int end)
{
	SHARED static u4 lds[C::LDS / 16];
	int tiles = (work.key_end - work.key + C::TILE - 1) / C::TILE, first = tiles, last = tiles;
	attn_loader<C> loader;
	attn_walk<C> walk = {w, loader, (LOCAL char *)lds, 0, 0, work.key - w.all_begin, {}, {}};

	if (begin < end) {
		first = (begin - work.key) / C::TILE;
		last = (end - work.key + C::TILE - 1) / C::TILE;
	}
	loader.init(a, work);
	loader.load_k();
	loader.store_k(walk.k_tile(false));
	barrier();
	while (walk.turn < first) {
		walk.load();
		walk.store();
	}
	if (first == tiles)
		return;
	walk.load();
	walk.first();
	walk.store();
	while (walk.turn < last) {
		walk.middle();
		walk.store();
	}
	/* Nothing is left to carry in the turn after the last tile. */
	if (last < tiles)
		walk.load();
	walk.last();
	if (last < tiles)
		walk.store();
	while (walk.turn < tiles) {
		walk.load();
		walk.store();
	}
}

/* Where a wave's rows and their results are. */
template <class C> struct attn_result {
	typedef typename C::T T;
	attn_args_in &a;
	const attn_work &work;

	/* A lane's part of its row, 4 numbers at a time; `all`: the row is as long as the instance allows. */
	template <class E, bool all>
	DEV_MEMBER void
	store(char *row, const attn_wave<C> &w, float factor) const
	{
		E *to = (E *)row + (thread_id() >> 5 & 1) * 4;

#pragma unroll
		for (int d = 0; d < C::DV / 32; d++)
#pragma unroll
			for (int i = 0; i < 16; i += 4) {
				f4 x = f4{w.o[d][i], w.o[d][i + 1], w.o[d][i + 2], w.o[d][i + 3]} * factor;
				E y[4] = {rounded<E>::from(x.x), rounded<E>::from(x.y), rounded<E>::from(x.z),
					  rounded<E>::from(x.w)};
				int column = d * 32 + i * 2;

				if (all || column + (thread_id() >> 5 & 1) * 4 < a.dim_v)
					__builtin_memcpy(__builtin_assume_aligned(to + column, sizeof y), y, sizeof y);
			}
	}

	DEV_MEMBER char *
	place(int token, int head) const
	{
		if (a.partial)
			return (char *)(a.partial + ((int64_t)work.split * a.rows + index(token, head)) * a.dim_v);
		return work.out + (token * a.out_stride.seq + head * a.out_stride.head) * C::SIZE;
	}

	/* The row's number. */
	DEV_MEMBER int64_t
	index(int token, int head) const
	{
		return work.row + token + head * a.lse_head;
	}
};

/* A lane's row: the wave's rows are 32 neighbours. Lanes past the last row take the last, and store nothing. */
struct attn_row {
	int first, row, token, head;
	bool there;

	DEV_MEMBER void
	init(attn_args_in &a, const attn_work &work)
	{
		first = work.first_row + uniform(thread_id() / WAVE) * ATTN_WAVE_ROWS;
		row = first + (thread_id() & 31);
		there = row < work.rows;
		row = there ? row : work.rows - 1;
		token = a.pack == 1 ? row : row / a.pack;
		head = row - token * a.pack;
	}
};

template <class C>
DEV bool
attn_compute(attn_wave<C> &w)
{
	attn_args_in &a = attn_args_get();
	int begin, count, last, wave_begin, wave_end, all_end;
	attn_work work;
	attn_row row;

	if (!attn_work_get<typename C::T>(a, C::ROWS, C::TILE, work))
		return false;
	w.init(a);
	row.init(a, work);
	visible(a, work, row.token, &w.begin, &w.count);

	/* The wave's first and last row tell which keys any and all of its rows see. */
	last = row.first + ATTN_WAVE_ROWS < work.rows ? row.first + ATTN_WAVE_ROWS - 1 : work.rows - 1;
	visible(a, work, token_of(a, last), &begin, &count);
	w.all_begin = begin;
	wave_end = begin + count < work.key_end ? begin + count : work.key_end;
	visible(a, work, token_of(a, row.first), &begin, &count);
	all_end = begin + count < work.key_end ? begin + count : work.key_end;
	w.all_count = all_end - C::STEP < w.all_begin ? 0 : (uint32_t)(all_end - C::STEP - w.all_begin + 1);
	wave_begin = begin > work.key ? begin : work.key;
	if (row.first >= work.rows)
		wave_end = wave_begin;
	w.load_q(a, work.q + (row.token * a.q_stride.seq + row.head * a.q_stride.head) * C::SIZE);
	attn_tiles<C>(a, work, w, wave_begin, wave_end);
	return true;
}

/* The wave's results to memory. Tells which rows have a result that is not finite though their sum is. */
template <class C>
DEV uint32_t
attn_store(const attn_wave<C> &w, const attn_result<C> &result, const attn_row &row, float sum, float factor)
{
	char *place = result.place(row.token, row.head);
	uint32_t largest = 0;
	uint64_t odd;

#pragma unroll
	for (int d = 0; d < C::DV / 32; d++)
#pragma unroll
		for (int i = 0; i < 16; i++) {
			uint32_t x = BITS(w.o[d][i]) & 0x7fffffffu;

			largest = x > largest ? x : largest;
		}
	if (row.there) {
		if (result.a.partial)
			result.template store<float, false>(place, w, factor);
		else if (result.a.dim_v == C::DV)
			result.template store<typename C::T, true>(place, w, factor);
		else
			result.template store<typename C::T, false>(place, w, factor);
	}
	odd = wave_ballot(largest >= 0x7f800000u && row.there && bits_finite(BITS(sum)));
	return (uint32_t)(odd | odd >> 32);
}

/* Rows whose result is not finite though their sum is: perhaps only because of keys they do not see. */
template <class C>
DEV void
attn_repair_rows(const attn_wave<C> &w, uint32_t rows, uint32_t factor)
{
	for (; rows; rows &= rows - 1) {
		attn_args_in &a = attn_args_get();
		int lane = __builtin_ctz(rows), row, token, head, begin, count;
		attn_repair_row fix;
		attn_work work;

		attn_work_get<typename C::T>(a, C::ROWS, C::TILE, work);
		row = work.first_row + uniform(thread_id() / WAVE) * ATTN_WAVE_ROWS + lane;
		token = token_of(a, row);
		head = row - token * a.pack;
		attn_result<C> result = {a, work};
		visible(a, work, token, &begin, &count);
		fix.q = work.q + (token * a.q_stride.seq + head * a.q_stride.head) * C::SIZE;
		fix.out = result.place(token, head);
		fix.key = begin > work.key ? begin : work.key;
		fix.key_end = begin + count < work.key_end ? begin + count : work.key_end;
		fix.maximum = lane_get(w.maximum(), lane);
		fix.factor = lane_get(FROM_BITS(factor), lane);
		attn_repair<typename C::T>(a, work, fix);
	}
}

/* Results to memory: of the row, or of the row's split. Returns the rows to repair; *factor: what outputs were multiplied by. */
template <class C>
DEV uint32_t
attn_finish(const attn_wave<C> &w, uint32_t *factor)
{
	attn_args_in &a = attn_args_get();
	bool first_half = (thread_id() & 32) == 0, empty;
	float sum = w.sum.x + w.sum.y;
	int begin, count;
	attn_work work;
	attn_row row;
	int64_t index;

	attn_work_get<typename C::T>(a, C::ROWS, C::TILE, work);
	row.init(a, work);
	attn_result<C> result = {a, work};
	index = result.index(row.token, row.head);
	visible(a, work, row.token, &begin, &count);

	sum = (sum + lane_xor(sum, 32)) * (1 / mfma<typename C::T>::factor);
	empty = bits_zero(BITS(sum));
	if (a.partial) {
		float *m = a.partial + (int64_t)a.splits * a.rows * a.dim_v + work.split * a.rows + index;
		bool sees = begin < work.key_end && begin + count > work.key && count > 0;

		*factor = BITS(1.0f);
		if (row.there && first_half) {
			m[0] = sees ? w.maximum() : -INF;
			m[(int64_t)a.splits * a.rows] = sum;
		}
	} else {
		/* No probability at all: no key seen, or seen with scores of -Inf only. */
		*factor = empty ? (count > 0 ? BITS_NAN : 0) : BITS(1 / sum);
		if (a.lse && row.there && first_half)
			((uint32_t *)a.lse)[index] = empty ? (count > 0 ? BITS_NAN : BITS_MINUS_INF)
							   : BITS((w.maximum() + log2_fast(sum)) * 0.69314718056f);
	}
	return attn_store<C>(w, result, row, sum, FROM_BITS(*factor));
}

#define ATTN_KERNEL(name, T, dq, dv, waves, blocks, steps, buffers, per_simd)                                          \
	KERNEL BOUNDS(waves *WAVE, per_simd) void name(attn_args a)                                                    \
	{                                                                                                              \
		attn_wave<attn_config<T, dq, dv, waves, blocks, steps, buffers>> w;                                    \
		(void)a;                                                                                               \
		if (attn_compute(w)) {                                                                                 \
			uint32_t factor, rows = attn_finish(w, &factor);                                               \
			if (rows)                                                                                      \
				attn_repair_rows(w, rows, factor);                                                     \
		}                                                                                                      \
	}

#endif
