/*
 * attn_sm90.h: fused attention forward on Hopper for 16-bit types, as one template; attn_<dtype>.hip make its
 * instances. A workgroup stays on its multiprocessor and takes tiles of rows until there are none left. One warpgroup
 * copies (attn_feed.h); the others own 64 rows each and multiply. README.md explains the schedule.
 *
 * A row of scores lies in a quad of lanes: lane l has columns 8j + 2 * (l % 4) and the next one, of rows l / 4 and l
 * / 4 + 8 of its warp's 16. What the softmax leaves there is, packed, already the first operand of the next product.
 */
#ifndef AITERD_KERNELS_ATTN_SM90_H
#define AITERD_KERNELS_ATTN_SM90_H

#include "attn_feed.h"
#include "attn_repair.h"

#define ATTN_NO_MAXIMUM -3.0e38f /* finite, so that a masked score, -Inf, less this is still -Inf */
#define ATTN_SLACK 8.0f

/* A warpgroup of consumers. Index 0 of pairs is row l / 4, 1 row l / 4 + 8. */
template <class C> struct attn_group {
	typedef typename C::T T;
	float o[C::DV / 2], s[C::KEYS / 2];
	uint32_t p[C::KEYS / 4];
	float maximum[2], sum[2]; /* of scores times scale; of a lane's columns */
	int all_begin, all_end;	  /* keys that all rows of the warpgroup see */
	int index;		  /* among the consumers */

	/* The lane's row: of the sequence, perhaps past its end. */
	DEV_MEMBER int
	row(const attn_work &w, int i) const
	{
		return w.first_row + index * 64 + thread_id() % 128 / 32 * 16 + thread_id() % 32 / 4 + i * 8;
	}

	DEV_MEMBER void
	init(attn_args_in &a, const attn_work &w)
	{
		int first = w.first_row + index * 64, last = first + 63, count;

		first = first < w.rows ? first : w.rows - 1;
		last = last < w.rows ? last : w.rows - 1;
		visible(a, w, token_of(a, last), &all_begin, &count);
		visible(a, w, token_of(a, first), &all_end, &count);
		all_end += count;
#pragma unroll
		for (int i = 0; i < 2; i++) {
			maximum[i] = ATTN_NO_MAXIMUM;
			sum[i] = 0;
		}
#pragma unroll
		for (int i = 0; i < C::DV / 2; i++)
			o[i] = 0;
	}

	/* The keys that the lane's row i sees. */
	DEV_MEMBER void
	sees(attn_args_in &a, const attn_work &w, int i, int *begin, int *count) const
	{
		int r = row(w, i);

		visible(a, w, token_of(a, r < w.rows ? r : w.rows - 1), begin, count);
	}

	/* S = Q K^T, begun. */
	DEV_MEMBER void
	scores(uint32_t q, uint32_t k)
	{
		uint32_t a = same_in_warp(wgmma_along(q)), b = same_in_warp(wgmma_along(k));

		wgmma_fence(s);
		wgmma_begin();
#pragma unroll
		for (int i = 0; i < C::DQ / 16; i++)
			wgmma<T, C::KEYS>::scores(s, a + i / 4 * (C::ROWS * 8) + i % 4 * 2,
						  b + i / 4 * (C::KEYS * 8) + i % 4 * 2, i > 0);
		wgmma_commit();
	}

	/* O += P V, begun. */
	DEV_MEMBER void
	values(uint32_t v)
	{
		uint32_t b = same_in_warp(wgmma_across(v, C::KEYS * 128));

		wgmma_fence(o);
		wgmma_begin();
#pragma unroll
		for (int i = 0; i < C::KEYS / 16; i++)
			wgmma<T, C::DV>::values(o, p + 4 * i, b + i * 128);
		wgmma_commit();
	}

	/*
	 * Scores of keys from `key` on that a row does not see become -Inf. A negative scale's sign goes to the
	 * scores here, too.
	 */
	DEV_MEMBER void
	mask(attn_args_in &a, const attn_work &w, int key)
	{
		int column = key + thread_id() % 4 * 2, begin[2], count[2];

		if (a.flags & ATTN_NEGATE) {
#pragma unroll
			for (int i = 0; i < C::KEYS / 2; i++)
				s[i] = -s[i];
		}
		sees(a, w, 0, &begin[0], &count[0]);
		sees(a, w, 1, &begin[1], &count[1]);

#pragma unroll
		for (int j = 0; j < C::KEYS / 8; j++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				if ((uint32_t)(column + j * 8 + i % 2 - begin[i / 2]) >= (uint32_t)count[i / 2])
					s[4 * j + i] = -INF;
	}

	/* Of a row's scores, `at` being its first. Four at a time: one after the other would wait for each other. */
	template <int at>
	DEV_MEMBER float
	largest() const
	{
		float x[4] = {s[at], s[at + 1], s[at + 4], s[at + 5]};

#pragma unroll
		for (int j = 2; j < C::KEYS / 8; j++)
#pragma unroll
			for (int i = 0; i < 2; i++)
				x[j % 2 * 2 + i] = fmaxf(x[j % 2 * 2 + i], s[4 * j + at + i]);
		return fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
	}

	/*
	 * Scores to probabilities, in place. The maximum only moves when a score exceeds it by more than 2^8 (so
	 * probabilities may be up to 256), and lanes of a row agree on one only then. Returns whether it moved; then
	 * alpha is what the output so far must be multiplied by.
	 */
	DEV_MEMBER bool
	softmax(attn_args_in &a, const attn_work &w, int key, float (&alpha)[2])
	{
		float top[2], scale = a.scale;
		bool moved;

		if (__builtin_expect(key < all_begin || key + C::KEYS > all_end || a.flags & ATTN_NEGATE, false))
			mask(a, w, key);
		top[0] = largest<0>();
		top[1] = largest<2>();
		moved = __any_sync(WAVE_ALL, fmaf(top[0], scale, -maximum[0]) > ATTN_SLACK ||
						     fmaf(top[1], scale, -maximum[1]) > ATTN_SLACK);
		if (__builtin_expect(moved, false)) {
#pragma unroll
			for (int i = 0; i < 2; i++) {
				float x = top[i];

				x = fmaxf(x, lane_xor(x, 1));
				x = fmaxf(x, lane_xor(x, 2));
				x = fmaxf(x * scale, maximum[i]);
				alpha[i] = exp2_fast(maximum[i] - x);
				maximum[i] = x;
				sum[i] *= alpha[i];
			}
		}
#pragma unroll
		for (int j = 0; j < C::KEYS / 8; j++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				float x = exp2_fast(fmaf(s[4 * j + i], scale, -maximum[i / 2]));

				s[4 * j + i] = x;
				sum[i / 2] += x;
			}
		/*
		 * All of this is meant to run while the matrix unit works on the last product: not behind the wait
		 * for that.
		 */
		wgmma_fence(s);
		wgmma_fence(sum);
		return moved;
	}

	DEV_MEMBER void
	rescale(const float (&alpha)[2])
	{
#pragma unroll
		for (int i = 0; i < C::DV / 2; i++)
			o[i] *= alpha[i / 2 % 2];
	}

	DEV_MEMBER void
	pack()
	{
#pragma unroll
		for (int i = 0; i < C::KEYS / 4; i++)
			p[i] = halves<T>::of(s[2 * i], s[2 * i + 1]);
	}

	/* A quad's 32 columns: every lane has two neighbours of each 8, and gets 8 neighbours. */
	DEV_MEMBER static void
	gather(uint32_t (&x)[4])
	{
#pragma unroll
		for (int mask = 1; mask <= 2; mask++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				int lo = mask == 1 ? 2 * i : i, hi = lo + mask;
				bool upper = thread_id() & mask;
				uint32_t y = __shfl_xor_sync(WAVE_ALL, upper ? x[lo] : x[hi], mask);

				x[lo] = upper ? y : x[lo];
				x[hi] = upper ? x[hi] : y;
			}
	}

	/* The lane's row i, multiplied by `factor`, to its place; all lanes take part. */
	template <int i>
	DEV_MEMBER void
	store(attn_args_in &a, char *place, float factor, bool there) const
	{
		int lane = thread_id() % 4;

#pragma unroll
		for (int j = 0; j < C::DV / 32; j++) {
			uint32_t x[4];

#pragma unroll
			for (int n = 0; n < 4; n++) {
				int at = 16 * j + 4 * n + 2 * i;

				x[n] = halves<T>::of(o[at] * factor, o[at + 1] * factor);
			}
			gather(x);
			if (there && j * 32 + lane * 8 < a.dim_v)
				*(uint4 *)(place + (j * 32 + lane * 8) * 2) = make_uint4(x[0], x[1], x[2], x[3]);
		}
	}

	/* The same as it is, in fp32. */
	template <int i>
	DEV_MEMBER void
	store_partial(attn_args_in &a, float *place) const
	{
		int lane = thread_id() % 4;

#pragma unroll
		for (int j = 0; j < C::DV / 8; j++)
			if (j * 8 < a.dim_v)
				*(float2 *)(place + j * 8 + lane * 2) = make_float2(o[4 * j + 2 * i],
										    o[4 * j + 2 * i + 1]);
	}

	/* NaN if one of the lane's columns of row i is not finite. */
	template <int i>
	DEV_MEMBER float
	odd() const
	{
		float x[2] = {0, 0};

#pragma unroll
		for (int j = 0; j < C::DV / 8; j++) {
			x[0] = fmaf(o[4 * j + 2 * i], 0, x[0]);
			x[1] = fmaf(o[4 * j + 2 * i + 1], 0, x[1]);
		}
		return x[0] + x[1];
	}

	/*
	 * Results to memory: of the rows, or of their split. Both rows at once: there is little that either could do
	 * while it waits for its own numbers.
	 */
	DEV_MEMBER void
	finish(attn_args_in &a, const attn_work &w)
	{
		int token[2], head[2], begin[2], count[2];
		bool there[2], empty[2];
		uint32_t repair[2];
		float factor[2];

#pragma unroll
		for (int i = 0; i < 2; i++) {
			sum[i] += lane_xor(sum[i], 1);
			sum[i] += lane_xor(sum[i], 2);
			empty[i] = bits_zero(BITS(sum[i]));
			there[i] = row(w, i) < w.rows;
			token[i] = token_of(a, there[i] ? row(w, i) : w.rows - 1);
			head[i] = (there[i] ? row(w, i) : w.rows - 1) - token[i] * a.pack;
			visible(a, w, token[i], &begin[i], &count[i]);
			/* No probability at all: no key seen, or seen with scores of -Inf only. */
			factor[i] = empty[i] ? (count[i] > 0 ? FROM_BITS(BITS_NAN) : 0) : __fdividef(1, sum[i]);
		}
		if (__builtin_expect(!a.partial, true)) {
			store<0>(a, place(a, w, token[0], head[0]), factor[0], there[0]);
			store<1>(a, place(a, w, token[1], head[1]), factor[1], there[1]);
			if (a.lse && thread_id() % 4 == 0) {
#pragma unroll
				for (int i = 0; i < 2; i++) {
					float x = empty[i] ? (count[i] > 0 ? FROM_BITS(BITS_NAN) : -INF)
							   : (maximum[i] + log2_fast(sum[i])) * 0.69314718056f;

					if (there[i])
						a.lse[w.row + token[i] + head[i] * a.lse_head] = x;
				}
			}
		} else {
			float *m = a.partial + (int64_t)a.splits * a.rows * a.dim_v + w.split * a.rows;

#pragma unroll
			for (int i = 0; i < 2; i++) {
				int64_t number = w.row + token[i] + head[i] * a.lse_head;
				bool any = begin[i] < w.key_end && begin[i] + count[i] > w.key && count[i] > 0;
				float *place = a.partial + ((int64_t)w.split * a.rows + number) * a.dim_v;

				factor[i] = 1;
				if (!there[i])
					continue;
				if (thread_id() % 4 == 0) {
					m[number] = any ? maximum[i] : -INF;
					m[(int64_t)a.splits * a.rows + number] = sum[i];
				}
				if (i == 0)
					store_partial<0>(a, place);
				else
					store_partial<1>(a, place);
			}
		}
		repair[0] = __ballot_sync(WAVE_ALL,
					  !bits_finite(BITS(odd<0>())) && there[0] && bits_finite(BITS(sum[0])));
		repair[1] = __ballot_sync(WAVE_ALL,
					  !bits_finite(BITS(odd<1>())) && there[1] && bits_finite(BITS(sum[1])));
		if (__builtin_expect((repair[0] | repair[1]) == 0, true))
			return;
#pragma unroll 1
		for (int i = 0; i < 2; i++) {
			uint32_t rows = i ? repair[1] : repair[0];

			/* One lane in four stands for its row. */
			rows = (rows | rows >> 1 | rows >> 2 | rows >> 3) & 0x11111111u;
			mend(a, w, i, i ? maximum[1] : maximum[0], i ? factor[1] : factor[0], rows);
		}
	}

	DEV_MEMBER static char *
	place(attn_args_in &a, const attn_work &w, int token, int head)
	{
		return w.out + (token * a.out_stride.seq + head * a.out_stride.head) * C::SIZE;
	}

	/* Rows whose result is not finite though their sum is: perhaps only because of keys they do not see. */
	DEV_MEMBER void
	mend(attn_args_in &a, const attn_work &w, int i, float top, float factor, uint32_t rows) const
	{
		for (; rows; rows &= rows - 1) {
			int lane = __ffs((int)rows) - 1, r = __shfl_sync(WAVE_ALL, row(w, i), lane);
			int token = token_of(a, r), head = r - token * a.pack, first, seen;
			attn_repair_row fix;

			visible(a, w, token, &first, &seen);
			fix.q = w.q + (token * a.q_stride.seq + head * a.q_stride.head) * C::SIZE;
			fix.out = a.partial ? (char *)(a.partial +
						       ((int64_t)w.split * a.rows + w.row + token + head * a.lse_head) *
							       a.dim_v)
					    : place(a, w, token, head);
			fix.key = first > w.key ? first : w.key;
			fix.key_end = first + seen < w.key_end ? first + seen : w.key_end;
			fix.maximum = lane_get(top, lane);
			fix.factor = lane_get(factor, lane);
			__syncwarp();
			attn_repair<T>(a, w, fix);
		}
	}
};

/* The consumers' walk over the keys of their tiles. */
template <class C>
DEV void
attn_consume(attn_args_in &a, const attn_place<C> &place)
{
	attn_ring<C::Q_TILES> q = {};
	attn_ring<C::STAGES> k = {}; /* of V always one less has been taken */
	attn_group<C> g;

	g.index = thread_id() / 128 - 1;
	KEEP(g.index);
	if (C::TURNS && g.index == C::GROUPS - 1)
		turn_tell(1, 256);
	for (;;) {
		const attn_work &w = place.work(q.count);
		int key, last;

		place.wait(ATTN_Q_FULL, q);
		if (w.rows == 0)
			break;
		key = w.key;
		last = w.key_end;
		g.init(a, w);
		if (key < last) {
			float alpha[2];

			place.wait(ATTN_K_FULL, k);
			g.scores(place.q(q, g.index), place.k(k));
			wgmma_wait<0>();
			wgmma_fence(g.s);
			place.free(ATTN_K_EMPTY, k);
			g.softmax(a, w, key, alpha);
			g.pack();
			for (key += C::KEYS; key < last; key += C::KEYS) {
				bool moved;

				k.count++;
				place.wait(ATTN_K_FULL, k);
				if (C::TURNS)
					turn_wait(1 + g.index, 256);
				g.scores(place.q(q, g.index), place.k(k));
				place.wait(ATTN_V_FULL, k.before());
				g.values(place.v(k.before()));
				if (C::TURNS)
					turn_tell(g.index == C::GROUPS - 1 ? 1 : 2 + g.index, 256);
				wgmma_wait<1>();
				wgmma_fence(g.s);
				place.free(ATTN_K_EMPTY, k);
				moved = g.softmax(a, w, key, alpha);
				wgmma_wait_with<0>(g.sum[0] + g.sum[1]);
				wgmma_fence(g.o);
				place.free(ATTN_V_EMPTY, k.before());
				if (__builtin_expect(moved, false))
					g.rescale(alpha);
				g.pack();
			}
			place.free(ATTN_Q_EMPTY, q);
			place.wait(ATTN_V_FULL, k);
			g.values(place.v(k));
			wgmma_wait<0>();
			wgmma_fence(g.o);
			place.free(ATTN_V_EMPTY, k);
			k.count++;
		} else {
			place.free(ATTN_Q_EMPTY, q);
		}
		g.finish(a, w);
		q.count++;
	}
}

template <class C>
DEV void
attn_sm90(const attn_sm90_args &a)
{
	attn_place<C> place = {shared_at(attn_shared)};

	KEEP(place.shared); /* rather than found out every time */
	place.init(a.a);
	__syncthreads();
	if (thread_id() < 128) {
		if (C::GROUPS > 1)
			registers_less<C::FEED_REGISTERS>();
		attn_feed<C>(a, place);
	} else {
		if (C::GROUPS > 1)
			registers_more<C::REGISTERS>();
		attn_consume<C>(a.a, place);
	}
}

#define ATTN_SM90_KERNEL(name, T, dq, dv, groups, keys, stages, q_tiles, turns)                                        \
	KERNEL BOUNDS((groups + 1) * 128, 1) void name(ARGUMENT attn_sm90_args a)                                      \
	{                                                                                                              \
		attn_sm90<attn_shape<T, dq, dv, groups, keys, stages, q_tiles, turns>>(a);                             \
	}

#endif
