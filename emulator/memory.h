/*
 * memory.h: what the files for memory instructions share: address checks, moving data between lanes and memory,
 * atomics. For the executor's files only.
 */
#ifndef EMU_MEMORY_H
#define EMU_MEMORY_H

#include "emulator/operand.h"
#include "emulator/settings.h"

#define memory_check_slow EMU_FN(emu_memory_check_slow)
#define memory_transfer EMU_FN(emu_memory_transfer)
#define memory_atomic EMU_FN(emu_memory_atomic)

/* memory.c */
void memory_check_slow(struct wave *w, u64 a, u32 n, int lane);
/* Does what o says for the lanes in mask, lane i's memory being at p[i]. */
void memory_transfer(struct wave *w, const struct op *o, u8 *const *p, u64 mask);
/* One atomic operation on 4 or 8 bytes; the old value. compare is for compare-and-swap. */
u64 memory_atomic(u8 *p, int kind, int size, u64 x, u64 compare);

/* Faults unless kernels may touch n bytes at a; lane -1: a scalar access. */
static inline void
memory_check(struct wave *w, u64 a, u32 n, int lane)
{
	const struct workgroup *g = w->wg;

	if (!emu_settings.check)
		return;
	for (int k = 0; k < 2; k++)
		if (a >= g->seen[k].lo && a + n <= g->seen[k].hi)
			return;
	memory_check_slow(w, a, n, lane);
}

/* The same for each lane in mask; mostly all lanes are in one range, which two comparisons tell. */
static inline void
memory_check_lanes(struct wave *w, const u64 *a, u32 n, u64 mask)
{
	const struct workgroup *g = w->wg;
	u64 first, lo, hi;

	if (!emu_settings.check || mask == 0)
		return;
	first = lo = hi = a[__builtin_ctzll(mask)];
	EACH_LANE(i)
	{
		u64 x = mask >> i & 1 ? a[i] : first;

		lo = x < lo ? x : lo;
		hi = x > hi ? x : hi;
	}
	for (int k = 0; k < 2; k++)
		if (lo >= g->seen[k].lo && hi + n <= g->seen[k].hi)
			return;
	for (; mask != 0; mask &= mask - 1) {
		int i = __builtin_ctzll(mask);

		memory_check(w, a[i], n, i);
	}
}

#endif
