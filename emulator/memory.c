/*
 * memory.c: global, flat, scratch and buffer instructions. After decoding, d is the returned data, s[0] the address,
 * s[1] the data, s[2] the scalar base or the buffer descriptor, s[3] a buffer's scalar offset. Part of the executor,
 * see exec.h.
 */
#define OP_GROUP memory
#include "emulator/memory.h"

#include "emulator/range.h"

#include <stdio.h>

void
memory_check_slow(struct wave *w, u64 a, u32 n, int lane)
{
	const struct emu_range *r = emu_range_below(a);
	struct workgroup *g = w->wg;
	char near[200] = "no allocation below";

	if (r != NULL && a + n <= r->hi && a + n > a) {
		g->seen_last ^= 1;
		g->seen[g->seen_last].lo = r->lo;
		g->seen[g->seen_last].hi = r->hi;
		return;
	}
	if (r != NULL)
		snprintf(near, sizeof near, "nearest below: %s %llx..%llx (+0x%llx past its end)", r->what,
			 (unsigned long long)r->lo, (unsigned long long)r->hi, (unsigned long long)(a + n - r->hi));
	emu_wave_fault(w, FAULT_ADDRESS, "illegal address %llx, %u bytes, lane %d; %s", (unsigned long long)a, n, lane,
		       near);
}

/* Atomics. */
static u64
combine(int kind, int size, u64 old, u64 x, u64 compare)
{
	u32 a = (u32)old, b = (u32)x;
	int wide = size == 8;

	switch (kind) {
	case ATOMIC_ADD:
		return old + x;
	case ATOMIC_SUB:
		return old - x;
	case ATOMIC_AND:
		return old & x;
	case ATOMIC_OR:
		return old | x;
	case ATOMIC_XOR:
		return old ^ x;
	case ATOMIC_SWAP:
		return x;
	case ATOMIC_CMPSWAP:
		return old == compare ? x : old;
	case ATOMIC_SMIN:
		return wide ? ((i64)old < (i64)x ? old : x) : min_i32(a, b);
	case ATOMIC_SMAX:
		return wide ? ((i64)old > (i64)x ? old : x) : max_i32(a, b);
	case ATOMIC_UMIN:
		return old < x ? old : x;
	case ATOMIC_UMAX:
		return old > x ? old : x;
	case ATOMIC_INC:
		return old >= x ? 0 : old + 1;
	case ATOMIC_DEC:
		return old == 0 || old > x ? x : old - 1;
	case ATOMIC_ADD_F:
		return wide ? as_u64(as_f64(old) + as_f64(x)) : as_u32(as_f32(a) + as_f32(b));
	case ATOMIC_MIN_F:
		return wide ? as_u64(min_f64(as_f64(old), as_f64(x))) : as_u32(min_f32(as_f32(a), as_f32(b)));
	case ATOMIC_MAX_F:
		return wide ? as_u64(max_f64(as_f64(old), as_f64(x))) : as_u32(max_f32(as_f32(a), as_f32(b)));
	case ATOMIC_PK_ADD_F16:
		return f32_to_half(half_to_f32(a & 0xffff) + half_to_f32(b & 0xffff)) |
		       (u32)f32_to_half(half_to_f32(a >> 16) + half_to_f32(b >> 16)) << 16;
	case ATOMIC_PK_ADD_BF16:
		return f32_to_bf16(bf16_to_f32(a & 0xffff) + bf16_to_f32(b & 0xffff)) |
		       (u32)f32_to_bf16(bf16_to_f32(a >> 16) + bf16_to_f32(b >> 16)) << 16;
	default:
		return old;
	}
}

u64
memory_atomic(u8 *p, int kind, int size, u64 x, u64 compare)
{
	if (size == 4) {
		u32 *q = (u32 *)(void *)p, old = __atomic_load_n(q, __ATOMIC_RELAXED), new;

		do
			new = (u32)combine(kind, 4, old, (u32)x, (u32)compare);
		while (!__atomic_compare_exchange_n(q, &old, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
		return old;
	} else {
		u64 *q = (u64 *)(void *)p, old = __atomic_load_n(q, __ATOMIC_RELAXED), new;

		do
			new = combine(kind, 8, old, x, compare);
		while (!__atomic_compare_exchange_n(q, &old, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
		return old;
	}
}

/* Moving data. The number of words is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void
load_words(u32 (*v)[LANES], u8 *const *p, u64 mask, int words)
{
	if (mask == ~(u64)0) {
		EACH_LANE(i)
		for (int j = 0; j < words; j++)
			memcpy(&v[j][i], p[i] + 4 * j, 4);
		return;
	}
	for (; mask != 0; mask &= mask - 1) {
		int i = __builtin_ctzll(mask);

		for (int j = 0; j < words; j++)
			memcpy(&v[j][i], p[i] + 4 * j, 4);
	}
}

static inline __attribute__((always_inline)) void
store_words(u32 (*v)[LANES], u8 *const *p, u64 mask, int words)
{
	for (; mask != 0; mask &= mask - 1) {
		int i = __builtin_ctzll(mask);

		for (int j = 0; j < words; j++)
			memcpy(p[i] + 4 * j, &v[j][i], 4);
	}
}

/* Bytes and halves, into a register's low or high half or all of it. */
static void
load_short(const struct op *o, u32 *v, u8 *const *p, u64 mask)
{
	for (; mask != 0; mask &= mask - 1) {
		int i = __builtin_ctzll(mask);
		u32 x;

		if (o->size == 1) {
			x = o->extend == EXTEND_SIGN || o->sign8 ? (u32)(i8)*p[i] : *p[i];
		} else {
			u16 h;

			memcpy(&h, p[i], 2);
			x = o->extend == EXTEND_SIGN ? (u32)(i16)h : h;
		}
		if (o->extend == EXTEND_D16)
			x = (v[i] & 0xffff0000) | (x & 0xffff);
		else if (o->extend == EXTEND_D16_HI)
			x = (v[i] & 0xffff) | x << 16;
		v[i] = x;
	}
}

static void
store_short(const struct op *o, const u32 *v, u8 *const *p, u64 mask)
{
	for (; mask != 0; mask &= mask - 1) {
		int i = __builtin_ctzll(mask);
		u32 x = o->extend == EXTEND_D16_HI ? v[i] >> 16 : v[i];

		memcpy(p[i], &x, o->size);
	}
}

static void
atomics(struct wave *w, const struct op *o, u8 *const *p, u64 mask)
{
	u32(*src)[LANES] = &w->v[o->s[1].reg], (*dst)[LANES] = &w->v[o->d.reg];
	int wide = o->size == 8;

	for (; mask != 0; mask &= mask - 1) {
		int i = __builtin_ctzll(mask);
		u64 x = src[0][i], compare = 0, old;

		if (wide)
			x |= (u64)src[1][i] << 32;
		if (o->atomic == ATOMIC_CMPSWAP)
			compare = wide ? src[2][i] | (u64)src[3][i] << 32 : src[1][i];
		if (((u64)p[i] & (o->size - 1u)) != 0)
			emu_wave_fault(w, FAULT_ADDRESS, "misaligned atomic %p lane %d", (void *)p[i], i);
		old = memory_atomic(p[i], o->atomic, o->size, x, compare);
		if (o->returns) {
			dst[0][i] = (u32)old;
			if (wide)
				dst[1][i] = (u32)(old >> 32);
		}
	}
}

void
memory_transfer(struct wave *w, const struct op *o, u8 *const *p, u64 mask)
{
	u32(*d)[LANES] = &w->v[o->d.reg], (*s)[LANES] = &w->v[o->s[1].reg];

	if (o->access == ACCESS_ATOMIC) {
		atomics(w, o, p, mask);
	} else if (o->access == ACCESS_LOAD) {
		switch (o->size) {
		case 4:
			load_words(d, p, mask, 1);
			break;
		case 8:
			load_words(d, p, mask, 2);
			break;
		case 12:
			load_words(d, p, mask, 3);
			break;
		case 16:
			load_words(d, p, mask, 4);
			break;
		default:
			load_short(o, d[0], p, mask);
			break;
		}
	} else {
		switch (o->size) {
		case 4:
			store_words(s, p, mask, 1);
			break;
		case 8:
			store_words(s, p, mask, 2);
			break;
		case 12:
			store_words(s, p, mask, 3);
			break;
		case 16:
			store_words(s, p, mask, 4);
			break;
		default:
			store_short(o, s[0], p, mask);
			break;
		}
	}
}

/* Where lane's flat address in LDS or scratch is on the host; NULL if it is neither. */
static u8 *
aperture(struct wave *w, u64 a, u32 n, int lane)
{
	u32 offset = (u32)a;

	if (a >> 32 == SHARED_HI) {
		if ((u64)offset + n > w->wg->lds_size)
			emu_wave_fault(w, FAULT_ADDRESS, "flat access to LDS +0x%x past the %u allocated bytes", offset,
				       w->wg->lds_size);
		return w->wg->lds + offset;
	}
	if (a >> 32 == PRIVATE_HI) {
		if ((u64)offset + n > w->scratch_size)
			emu_wave_fault(w, FAULT_ADDRESS, "flat access to scratch +0x%x past the %u allocated bytes",
				       offset, w->scratch_size);
		return w->scratch + (u64)lane * w->scratch_size + offset;
	}
	return NULL;
}

OP(flat)
{
	const u32 *lo = w->v[o->s[0].reg], *hi = w->v[o->s[0].reg + 1];
	u64 exec = EXEC(w), global = exec, a[LANES];
	u8 *p[LANES];

	EACH_LANE(i) a[i] = (lo[i] | (u64)hi[i] << 32) + (u64)(i64)o->imm;
	EACH_LANE(i) p[i] = (u8 *)a[i];
	for (u64 m = exec; m != 0; m &= m - 1) {
		int i = __builtin_ctzll(m);
		u8 *q = a[i] >> 48 != 0 ? aperture(w, a[i], o->size, i) : NULL;

		if (q != NULL) {
			p[i] = q;
			global &= ~((u64)1 << i);
		}
	}
	memory_check_lanes(w, a, o->size, global);
	memory_transfer(w, o, p, exec);
}

/* A load that goes to LDS: lane after lane from where M0 says. */
static void
global_to_lds(struct wave *w, const struct op *o, const u64 *a, u64 mask)
{
	u32 base = (w->s[REG_M0] & 0xffff) + (u32)o->imm;

	for (; mask != 0; mask &= mask - 1) {
		int i = __builtin_ctzll(mask);
		u32 to = base + 4 * (u32)i, x = 0;

		memcpy(&x, (u8 *)a[i], o->size);
		if (to + 4 <= w->wg->lds_size)
			memcpy(w->wg->lds + to, &x, 4);
	}
}

OP(global)
{
	const u32 *lo = w->v[o->s[0].reg], *hi = w->v[o->s[0].reg + 1];
	u64 exec = EXEC(w), a[LANES];
	u8 *p[LANES];

	if (o->s[2].kind == OPERAND_S) {
		u64 base = scalar_64(w, &o->s[2]) + (u64)(i64)o->imm;

		EACH_LANE(i) a[i] = base + lo[i];
	} else {
		EACH_LANE(i) a[i] = (lo[i] | (u64)hi[i] << 32) + (u64)(i64)o->imm;
	}
	memory_check_lanes(w, a, o->size, exec);
	if (o->lds) {
		global_to_lds(w, o, a, exec);
		return;
	}
	EACH_LANE(i) p[i] = (u8 *)a[i];
	memory_transfer(w, o, p, exec);
}

OP(scratch)
{
	u32 base = (o->s[2].kind == OPERAND_S ? w->s[o->s[2].reg] : 0) + (u32)o->imm;
	const u32 *offset = o->s[0].kind == OPERAND_V ? w->v[o->s[0].reg] : NULL;
	u64 exec = EXEC(w);
	u8 *p[LANES];

	for (u64 m = exec; m != 0; m &= m - 1) {
		int i = __builtin_ctzll(m);
		u32 a = base + (offset != NULL ? offset[i] : 0);

		if ((u64)a + o->size > w->scratch_size)
			emu_wave_fault(w, FAULT_ADDRESS, "scratch access +0x%x past the %u allocated bytes", a,
				       w->scratch_size);
		p[i] = w->scratch + (u64)i * w->scratch_size + a;
	}
	memory_transfer(w, o, p, exec);
}

/* The words of one lane's access that lie inside the buffer, as bits; a part is a word or what is shorter. */
static inline u32
parts_inside(u64 offset, u32 soffset, u32 records, int parts, u32 part_size)
{
	u32 inside = 0;

	for (int j = 0; j < parts; j++)
		inside |= (u32)(offset + 4 * (u64)j + soffset + part_size <= records) << j;
	return inside;
}

/* A lane some of whose words are outside: outside, loads give zero and stores vanish. */
static void
buffer_partial(struct wave *w, const struct op *o, u8 *p, int lane, u32 inside, int parts)
{
	u32(*d)[LANES] = &w->v[o->d.reg], (*s)[LANES] = &w->v[o->s[1].reg];

	if (o->access == ACCESS_ATOMIC) {
		if (o->returns)
			d[0][lane] = 0;
		return;
	}
	if (o->access == ACCESS_LOAD && o->size < 4) {
		u32 keep = o->extend == EXTEND_D16 ? 0xffff0000 : o->extend == EXTEND_D16_HI ? 0xffff : 0;

		d[0][lane] &= keep;
		return;
	}
	for (int j = 0; j < parts; j++) {
		int in = inside >> j & 1;

		if (o->access == ACCESS_STORE) {
			if (in)
				memcpy(p + 4 * j, &s[j][lane], 4);
			continue;
		}
		d[j][lane] = 0;
		if (in)
			memcpy(&d[j][lane], p + 4 * j, 4);
	}
}

static void
buffer_to_lds(struct wave *w, const struct op *o, const u8 *p, int lane, u32 inside, int parts)
{
	u32 to = (w->s[REG_M0] & 0xffff) + (u32)o->imm + (u32)(parts * 4) * (u32)lane;

	for (int j = 0; j < parts; j++, to += 4) {
		u32 x = 0;

		if (inside >> j & 1)
			memcpy(&x, p + 4 * j, o->size < 4 ? o->size : 4);
		if (o->extend == EXTEND_SIGN && o->size < 4)
			x = o->size == 1 ? (u32)(i8)x : (u32)(i16)x;
		if (to + 4 <= w->wg->lds_size)
			memcpy(w->wg->lds + to, &x, 4);
	}
}

/* Raw buffers and structured ones without swizzling. */
OP(buffer)
{
	const u32 *r = w->s + o->s[2].reg;
	u64 base = r[0] | (u64)(r[1] & 0xffff) << 32, whole = 0, a[LANES];
	u32 stride = r[1] >> 16 & 0x3fff, records = r[2], soffset = scalar_32(w, &o->s[3]), reg = o->s[0].reg;
	u32 part = o->access == ACCESS_ATOMIC || o->size < 4 ? o->size : 4;
	int parts = o->size / (int)part, add_lane = r[3] >> 23 & 1;
	const u32 *index = NULL, *offset = NULL;
	u8 *p[LANES];

	if (r[1] >> 31)
		emu_wave_fault(w, FAULT_LAUNCH, "swizzled buffer descriptor is not implemented");
	if (o->idxen)
		index = w->v[reg++];
	if (o->offen)
		offset = w->v[reg];
	for (u64 m = EXEC(w); m != 0; m &= m - 1) {
		int i = __builtin_ctzll(m);
		u64 at = (index != NULL ? index[i] : 0) + (add_lane ? (u64)i : 0), x;
		u32 inside;

		x = (u64)(offset != NULL ? offset[i] : 0) + (u64)(i64)o->imm + at * stride;
		if (stride != 0 && o->idxen)
			inside = at < records ? (1u << parts) - 1 : 0;
		else
			inside = parts_inside(x, soffset, records, parts, part);
		a[i] = base + x + soffset;
		p[i] = (u8 *)a[i];
		if (inside == (1u << parts) - 1 && !o->lds) {
			whole |= (u64)1 << i;
			continue;
		}
		if (inside != 0) {
			u32 first = (u32)__builtin_ctz(inside), last = 31 - (u32)__builtin_clz(inside);

			memory_check(w, a[i] + 4 * first, 4 * (last - first) + part, i);
		}
		if (o->lds)
			buffer_to_lds(w, o, p[i], i, inside, parts);
		else
			buffer_partial(w, o, p[i], i, inside, parts);
	}
	memory_check_lanes(w, a, o->size, whole);
	memory_transfer(w, o, p, whole);
}

OP_GROUP_END
