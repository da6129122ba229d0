/*
 * attn_feed.h: the copying half of fused attention on Hopper: which tiles a workgroup takes, where they lie in shared
 * memory, the barriers between copying and multiplying warpgroups, and the warpgroup that copies. Used by
 * attn_sm90.h.
 */
#ifndef AITERD_KERNELS_ATTN_FEED_H
#define AITERD_KERNELS_ATTN_FEED_H

#include "attn.h"
#include "attn_rows.h"
#include "attn_wgmma.h"
#include "device.h"

/* Numbers of an instance: attn.h. Every consumer warpgroup has 64 rows. */
template <class T_, int DQ_, int DV_, int GROUPS_, int KEYS_, int STAGES_, int Q_TILES_, int TURNS_> struct attn_shape {
	typedef T_ T;
	enum {
		DQ = DQ_,
		DV = DV_,
		GROUPS = GROUPS_,
		ROWS = 64 * GROUPS,
		KEYS = KEYS_,
		STAGES = STAGES_,
		Q_TILES = Q_TILES_,
		TURNS = TURNS_,
		SIZE = 2,
		Q_BLOCKS = (DQ + 63) / 64,
		V_BLOCKS = (DV + 63) / 64,
		Q_BYTES = Q_BLOCKS * ROWS * 128,
		K_BYTES = Q_BLOCKS * KEYS * 128,
		V_BYTES = V_BLOCKS * KEYS * 128,
		K_AT = Q_TILES * Q_BYTES,
		V_AT = K_AT + STAGES * K_BYTES,
		PHASES_AT = V_AT + STAGES * V_BYTES,
		WORKS_AT = PHASES_AT + 256,
		BYTES = ATTN_SM90_SHARED(DQ, DV, GROUPS, KEYS, STAGES, Q_TILES),
		/* All 65536 of a multiprocessor, in units of 8 a thread. */
		FEED_REGISTERS = GROUPS == 3 ? 32 : 40,
		REGISTERS = GROUPS == 3 ? 160 : 232,
	};
};

/* The barriers of each buffer, in this order; as many as buffers of the kind. */
enum { ATTN_Q_FULL, ATTN_Q_EMPTY, ATTN_K_FULL, ATTN_K_EMPTY, ATTN_V_FULL, ATTN_V_EMPTY, ATTN_PHASES };
#define ATTN_STAGES_MAX 4
/* Tiles of rows the copying warps may be ahead of the last result not yet stored: 2 tiles of Q, and one. */
#define ATTN_WORKS 4

/* How far one is in a ring of n buffers, a power of two. */
template <int n> struct attn_ring {
	uint32_t count;

	DEV_MEMBER int
	slot() const
	{
		return (int)(count % n);
	}

	DEV_MEMBER uint32_t
	parity() const
	{
		return count / n & 1;
	}

	DEV_MEMBER attn_ring
	before() const
	{
		return {count - 1};
	}
};

extern SHARED char attn_shared[];

template <class C> struct attn_place {
	uint32_t shared; /* address of attn_shared */

	/* Of a warpgroup's 64 rows. */
	DEV_MEMBER uint32_t
	q(const attn_ring<C::Q_TILES> &r, int group) const
	{
		return shared + (uint32_t)r.slot() * C::Q_BYTES + (uint32_t)group * (64 * 128);
	}

	DEV_MEMBER uint32_t
	k(const attn_ring<C::STAGES> &r) const
	{
		return shared + C::K_AT + (uint32_t)r.slot() * C::K_BYTES;
	}

	DEV_MEMBER uint32_t
	v(const attn_ring<C::STAGES> &r) const
	{
		return shared + C::V_AT + (uint32_t)r.slot() * C::V_BYTES;
	}

	DEV_MEMBER uint32_t
	phase(int which, int slot) const
	{
		return shared + C::PHASES_AT + (uint32_t)(which * ATTN_STAGES_MAX + slot) * 8;
	}

	/* What the copying warps tell the others about a tile of rows; rows is 0 when there is none left. */
	DEV_MEMBER attn_work &
	work(uint32_t tile) const
	{
		return *(attn_work *)(attn_shared + C::WORKS_AT + tile % ATTN_WORKS * sizeof(attn_work));
	}

	DEV_MEMBER void
	init(attn_args_in &a) const
	{
		static_assert(C::STAGES <= ATTN_STAGES_MAX && C::Q_TILES < ATTN_WORKS, "room for barriers");
		static_assert(C::PHASES_AT + ATTN_PHASES * ATTN_STAGES_MAX * 8 <= C::WORKS_AT &&
				      C::WORKS_AT + ATTN_WORKS * (int)sizeof(attn_work) <= C::BYTES,
			      "shared memory");
		static_assert((C::STAGES & (C::STAGES - 1)) == 0 && (C::Q_TILES & (C::Q_TILES - 1)) == 0, "rings");
		if (thread_id() < ATTN_PHASES * ATTN_STAGES_MAX) {
			int which = thread_id() / ATTN_STAGES_MAX;

			phase_init(phase(which, thread_id() % ATTN_STAGES_MAX), which % 2 ? 4 * C::GROUPS
										: which == ATTN_Q_FULL && a.pack > 1
											? 3
											: 1);
			phase_init_done();
		}
	}

	/* Until the ring's buffer is full. */
	template <int n>
	DEV_MEMBER void
	wait(int which, const attn_ring<n> &r) const
	{
		phase_wait(phase(which, r.slot()), r.parity());
	}

	/* This warp is done with the ring's buffer. */
	template <int n>
	DEV_MEMBER void
	free(int which, const attn_ring<n> &r) const
	{
		if (thread_id() % WAVE == 0)
			phase_arrive(phase(which, r.slot()));
	}
};

/* The tiles of rows that this workgroup takes, in an order that all its warps know. */
template <class C> struct attn_tiles {
	int turn = 0;

	/*
	 * Tiles are numbered such that those of a.chunk heads (and splits) come one after the other, longest first:
	 * their keys and values stay in the cache. The first of a row of workgroups is the last of the next one, so
	 * that all get as much to do.
	 */
	DEV_MEMBER bool
	next(attn_args_in &a, attn_work &w)
	{
		int groups = (int)gridDim.x, units = a.batch * a.heads_k * a.groups * a.splits;

		for (;; turn++) {
			int t = turn * groups + (turn & 1 ? groups - 1 - group_x() : group_x());
			uint32_t chunk = 0, in = (uint32_t)t, n = (uint32_t)units, z, unit, split = 0;

			if (turn * groups >= units * a.tiles)
				return false;
			if (t >= units * a.tiles)
				continue;
			/* Mostly there is one chunk, one tile at a time, no split and no group: few divisions. */
			if (a.chunk < units) {
				chunk = in / (uint32_t)(a.chunk * a.tiles) * (uint32_t)a.chunk;
				in -= chunk * (uint32_t)a.tiles;
				n = (uint32_t)units - chunk;
				n = n < (uint32_t)a.chunk ? n : (uint32_t)a.chunk;
			}
			z = n == 1 ? in : in / n;
			unit = chunk + in - z * n;
			if (a.splits > 1) {
				split = unit % (uint32_t)a.splits;
				unit /= (uint32_t)a.splits;
			}
			in = a.groups == 1 ? unit : unit / (uint32_t)a.groups;
			if (attn_work_at<typename C::T>(a, (int)in, (int)((split - in) * (uint32_t)a.groups + unit),
							(int)z, C::ROWS, C::KEYS, w)) {
				turn++;
				return true;
			}
		}
	}
};

/*
 * A tile of Q of packed heads, by warps 1 and 2: rows past the last and columns past the end are zeros. Without
 * packing the copy engine does it.
 */
template <class C>
DEV void
attn_feed_packed(attn_args_in &a, const attn_work &w, uint32_t to)
{
	int t = thread_id() - 32, row = t / 8, column = t % 8 * 8;

	to += (uint32_t)(row * 128 + (t % 8 ^ row % 8) * 16);
	row += w.first_row;
#pragma unroll 1
	for (int i = 0; i < C::ROWS / 8; i++, row += 8, to += 1024) {
		int r = row < w.rows ? row : w.rows - 1, token = token_of(a, r), head = r - token * a.pack;
		const char *from = w.q + (token * a.q_stride.seq + head * a.q_stride.head) * C::SIZE;

#pragma unroll
		for (int b = 0; b < C::Q_BLOCKS; b++) {
			bool there = row < w.rows && b * 64 + column < a.dim;

			copy_16(to + (uint32_t)(b * C::ROWS * 128), there ? from + (b * 64 + column) * C::SIZE : from,
				there ? 16 : 0);
		}
	}
	copy_commit();
	copy_wait<0>();
	fence_for_matrix();
	__syncwarp();
}

template <class C>
DEV void
attn_feed_queries(attn_args_in &a, const attn_place<C> &place)
{
	attn_tiles<C> tiles;
	attn_ring<C::Q_TILES> q = {};
	attn_work w;

	for (bool more = true; more;) {
		more = tiles.next(a, w);
		phase_wait(place.phase(ATTN_Q_EMPTY, q.slot()), q.parity() ^ 1);
		if (more)
			attn_feed_packed<C>(a, w, place.q(q, 0));
		place.free(ATTN_Q_FULL, q); /* and once more for the end of it all */
		q.count++;
	}
}

/* One thread has everything else copied, a tile of K ahead of the tile of V. */
template <class C>
DEV void
attn_feed_tiles(const attn_sm90_args &a, const attn_place<C> &place)
{
	attn_tiles<C> tiles;
	attn_ring<C::Q_TILES> q = {};
	attn_ring<C::STAGES> k = {}, v = {};
	attn_work w;

	for (;;) {
		bool more = tiles.next(a.a, w);
		uint32_t full = place.phase(ATTN_Q_FULL, q.slot());
		int key_k = w.key, key_v = w.key;

		phase_wait(place.phase(ATTN_Q_EMPTY, q.slot()), q.parity() ^ 1);
		if (!more)
			w.rows = 0;
		place.work(q.count) = w;
		if (more && a.a.pack == 1) {
			phase_expect(full, C::Q_BYTES);
#pragma unroll
			for (int b = 0; b < C::Q_BLOCKS; b++)
				copy_box(place.q(q, 0) + (uint32_t)(b * C::ROWS * 128), a.maps[0], b * 64,
					 w.first_q + w.first_row, w.head, w.batch, full);
		} else {
			phase_arrive(full);
		}
		if (!more)
			return;
		q.count++;
		for (; key_v < w.key_end; key_k += C::KEYS) {
			if (key_k < w.key_end) {
				full = place.phase(ATTN_K_FULL, k.slot());
				phase_wait(place.phase(ATTN_K_EMPTY, k.slot()), k.parity() ^ 1);
				phase_expect(full, C::K_BYTES);
#pragma unroll
				for (int b = 0; b < C::Q_BLOCKS; b++)
					copy_box(place.k(k) + (uint32_t)(b * C::KEYS * 128), a.maps[1], b * 64,
						 w.first_k + key_k, w.head_k, w.batch, full);
				k.count++;
			}
			if (key_v < key_k) {
				full = place.phase(ATTN_V_FULL, v.slot());
				phase_wait(place.phase(ATTN_V_EMPTY, v.slot()), v.parity() ^ 1);
				phase_expect(full, C::V_BYTES);
#pragma unroll
				for (int b = 0; b < C::V_BLOCKS; b++)
					copy_box(place.v(v) + (uint32_t)(b * C::KEYS * 128), a.maps[2], b * 64,
						 w.first_k + key_v, w.head_k, w.batch, full);
				v.count++;
				key_v += C::KEYS;
			}
		}
	}
}

/* The copying warpgroup. */
template <class C>
DEV void
attn_feed(const attn_sm90_args &a, const attn_place<C> &place)
{
	if (thread_id() == 0)
		attn_feed_tiles<C>(a, place);
	else if (thread_id() >= 32 && thread_id() < 96 && a.a.pack > 1)
		attn_feed_queries<C>(a.a, place);
}

#endif
