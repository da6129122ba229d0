/*
 * memory_lds.c: LDS instructions, and those that move data between lanes through it. s[0] is the address, s[1] and
 * s[2] data. Outside the workgroup's allocation loads give zero and stores vanish. Part of the executor, see exec.h.
 */
#define OP_GROUP memory_lds
#include "emulator/memory.h"

OP(lds)
{
	const u32 *address = w->v[o->s[0].reg];
	struct workgroup *g = w->wg;
	u64 inside = 0;
	u8 *p[LANES];

	for (u64 m = EXEC(w); m != 0; m &= m - 1) {
		int i = __builtin_ctzll(m);
		u32 a = address[i] + (u32)o->imm;

		if ((u64)a + o->size <= g->lds_size) {
			p[i] = g->lds + a;
			inside |= (u64)1 << i;
		} else if (o->access == ACCESS_LOAD) {
			for (int j = 0; j < (o->size + 3) / 4; j++)
				w->v[o->d.reg + j][i] = 0;
		}
	}
	memory_transfer(w, o, p, inside);
}

/* ds_cmpst: s[1] is what to compare with, s[2] what to store. */
OP(lds_compare_store)
{
	const u32(*c)[LANES] = (const u32(*)[LANES]) & w->v[o->s[1].reg];
	const u32(*x)[LANES] = (const u32(*)[LANES]) & w->v[o->s[2].reg];
	struct workgroup *g = w->wg;
	int wide = o->size == 8;

	for (u64 m = EXEC(w); m != 0; m &= m - 1) {
		int i = __builtin_ctzll(m);
		u32 a = w->v[o->s[0].reg][i] + (u32)o->imm;
		u64 old;

		if ((u64)a + o->size > g->lds_size)
			continue;
		if ((a & (o->size - 1u)) != 0)
			emu_wave_fault(w, FAULT_ADDRESS, "misaligned LDS atomic 0x%x lane %d", a, i);
		old = memory_atomic(g->lds + a, ATOMIC_CMPSWAP, o->size, x[0][i] | (wide ? (u64)x[1][i] << 32 : 0),
				    c[0][i] | (wide ? (u64)c[1][i] << 32 : 0));
		if (o->returns) {
			w->v[o->d.reg][i] = (u32)old;
			if (wide)
				w->v[o->d.reg + 1][i] = (u32)(old >> 32);
		}
	}
}

/* ds_read2 and ds_write2: two accesses, at off0 and off1. */
OP(lds_two)
{
	const u32 *address = w->v[o->s[0].reg];
	struct workgroup *g = w->wg;
	u64 exec = EXEC(w);
	int words = o->size / 4;
	u32 loaded[4][LANES];

	for (u64 m = exec; m != 0; m &= m - 1) {
		int i = __builtin_ctzll(m);

		for (int h = 0; h < 2; h++) {
			u32 a = address[i] + (u32)(h ? o->off1 : o->off0);
			int inside = (u64)a + o->size <= g->lds_size;

			for (int j = 0; j < words; j++) {
				u32 *t = &loaded[h * words + j][i];

				if (o->access == ACCESS_LOAD) {
					*t = 0;
					if (inside)
						memcpy(t, g->lds + a + 4 * j, 4);
				} else if (inside) {
					memcpy(g->lds + a + 4 * j, &w->v[o->s[1 + h].reg + j][i], 4);
				}
			}
		}
	}
	/* written last: the address register may be among the destinations */
	if (o->access == ACCESS_LOAD)
		for (int j = 0; j < 2 * words; j++)
			store_lanes(w->v[o->d.reg + j], loaded[j], exec);
}

OP(ds_bpermute_b32)
{
	const u32 *a = w->v[o->s[0].reg], *b = w->v[o->s[1].reg];
	u64 exec = EXEC(w);
	u32 R[LANES];

	EACH_LANE(i)
	{
		u32 from = (a[i] + (u32)o->imm) >> 2 & 63;

		R[i] = exec >> from & 1 ? b[from] : 0;
	}
	store_lanes(w->v[o->d.reg], R, exec);
}

OP(ds_permute_b32)
{
	const u32 *a = w->v[o->s[0].reg], *b = w->v[o->s[1].reg];
	u64 exec = EXEC(w);
	u32 R[LANES] = {0};

	EACH_LANE(i)
	if (exec >> i & 1)
		R[(a[i] + (u32)o->imm) >> 2 & 63] = b[i];
	store_lanes(w->v[o->d.reg], R, exec);
}

OP(ds_swizzle_b32)
{
	const u32 *b = w->v[o->s[0].reg];
	u64 exec = EXEC(w);
	u32 R[LANES], pattern = o->raw & 0xffff;

	EACH_LANE(i)
	{
		u32 l = (u32)i, from;

		if (pattern & 0x8000) { /* within groups of four */
			from = (l & ~3u) + (pattern >> 2 * (l & 3) & 3);
		} else { /* within halves of the wave: and, or, xor masks */
			u32 and = pattern & 31, or = pattern >> 5 & 31, xor = pattern >> 10 & 31;

			from = (l & 32) | ((((l & 31) & and) | or) ^ xor);
		}
		R[i] = exec >> from & 1 ? b[from] : 0;
	}
	store_lanes(w->v[o->d.reg], R, exec);
}

OP_GROUP_END
