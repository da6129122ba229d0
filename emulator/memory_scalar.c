/*
 * memory_scalar.c: scalar loads, stores and atomics. d is the data, s[0] the base or buffer descriptor, s[1] an
 * offset register if there is one, imm an offset. Part of the executor, see exec.h.
 */
#define OP_GROUP memory_scalar
#include "emulator/memory.h"

/* s_buffer_load: words outside the buffer are zero. */
static void
load_buffer(struct wave *w, const struct op *o, u32 soffset)
{
	const u32 *r = &w->s[o->s[0].reg];
	u64 base = (r[0] | (u64)r[1] << 32) & 0xffffffffffff;
	u32 stride = r[1] >> 16 & 0x3fff, records = r[2];
	u64 size = stride != 0 ? (u64)stride * records : records, at = ((u64)soffset + (u64)(i64)o->imm) & ~(u64)3;
	u32 loaded[16];

	for (u32 j = 0; j < o->dwords; j++, at += 4) {
		loaded[j] = 0;
		if (at + 4 > size)
			continue;
		memory_check(w, base + at, 4, -1);
		memcpy(&loaded[j], (u8 *)(base + at), 4);
	}
	memcpy(&w->s[o->d.reg], loaded, 4 * o->dwords);
}

static void
atomic(struct wave *w, const struct op *o, u8 *p)
{
	u32 *d = &w->s[o->d.reg], n = o->dwords;
	u64 x = d[0] | (n == 2 ? (u64)d[1] << 32 : 0), compare = 0, old;

	if (o->atomic == ATOMIC_CMPSWAP)
		compare = d[n] | (n == 2 ? (u64)d[3] << 32 : 0);
	old = memory_atomic(p, o->atomic, 4 * (int)n, x, compare);
	if (o->returns) {
		d[0] = (u32)old;
		if (n == 2)
			d[1] = (u32)(old >> 32);
	}
}

OP(scalar_memory)
{
	u32 soffset = o->sgpr_offset ? scalar_32(w, &o->s[1]) : 0;
	u32 n = 4u * o->dwords;
	u64 a;

	if (o->buffer) {
		load_buffer(w, o, soffset);
		return;
	}
	a = (scalar_64(w, &o->s[0]) + (u64)(i64)o->imm + soffset) & ~(u64)3;
	/* Compilers widen aligned loads past the end of what is there, as they cannot cross into another page. */
	memory_check(w, a, o->access == ACCESS_LOAD && a % n == 0 ? 4 : n, -1);
	if (o->access == ACCESS_LOAD)
		memcpy(&w->s[o->d.reg], (u8 *)a, n);
	else if (o->access == ACCESS_STORE)
		memcpy((u8 *)a, &w->s[o->d.reg], n);
	else
		atomic(w, o, (u8 *)a);
}

OP_GROUP_END
