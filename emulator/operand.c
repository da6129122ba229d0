/*
 * operand.c: the operands that are not a plain register: scalars and constants spread over the lanes, DPP, SDWA,
 * modifiers, halves and pairs. Part of the executor, see exec.h.
 */
#define OP_GROUP operand
#include "emulator/operand.h"

u32
operand_special(struct wave *w, int special, int high)
{
	switch (special) {
	case SPECIAL_SCC:
		return high ? 0 : w->scc;
	case SPECIAL_VCCZ:
		return high ? 0 : VCC(w) == 0;
	case SPECIAL_EXECZ:
		return high ? 0 : EXEC(w) == 0;
	case SPECIAL_SHARED_BASE:
		return high ? SHARED_HI : 0;
	case SPECIAL_SHARED_LIMIT:
		return high ? SHARED_HI : 0xffffffff;
	case SPECIAL_PRIVATE_BASE:
		return high ? PRIVATE_HI : 0;
	case SPECIAL_PRIVATE_LIMIT:
		return high ? PRIVATE_HI : 0xffffffff;
	default:
		return 0;
	}
}

/* The lane that lane l reads under a DPP control, and whether there is one. */
static int
dpp_source(int ctl, int l, int *valid)
{
	int row = l & ~15, r = l & 15, n = ctl & 15;

	*valid = 1;
	if (ctl < 0x100) /* quad_perm */
		return (l & ~3) + ((ctl >> 2 * (l & 3)) & 3);
	switch (ctl & 0x1f0) {
	case 0x100: /* row_shl */
		*valid = r + n < 16;
		return l + n;
	case 0x110: /* row_shr */
		*valid = r - n >= 0;
		return l - n;
	case 0x120: /* row_ror */
		return row + ((r - n) & 15);
	case 0x150: /* row_newbcast */
		return row + n;
	default:
		break;
	}
	switch (ctl) {
	case 0x130: /* wave_shl:1 */
		*valid = l < 63;
		return l + 1;
	case 0x134: /* wave_rol:1 */
		return (l + 1) & 63;
	case 0x138: /* wave_shr:1 */
		*valid = l > 0;
		return l - 1;
	case 0x13c: /* wave_ror:1 */
		return (l - 1) & 63;
	case 0x140: /* row_mirror */
		return row + 15 - r;
	case 0x141: /* row_half_mirror */
		return row + ((r & 8) | (7 - (r & 7)));
	case 0x142: /* row_bcast:15 */
		*valid = l >= 16;
		return row - 1;
	case 0x143: /* row_bcast:31 */
		*valid = l >= 32;
		return 31;
	default:
		*valid = 0;
		return 0;
	}
}

static void
apply_dpp(struct wave *w, const struct op *o, const u32 *in, u32 *out)
{
	u64 mask = 0, exec = EXEC(w);
	u32 t[LANES];

	EACH_LANE(i)
	{
		int valid, from = dpp_source(o->dpp_ctrl, i, &valid);

		valid = valid && (exec >> (from & 63) & 1);
		t[i] = valid ? in[from & 63] : 0;
		if ((valid || o->bound_ctrl) && (o->row_mask >> (i >> 4) & 1) && (o->bank_mask >> (i >> 2 & 3) & 1))
			mask |= (u64)1 << i;
	}
	memcpy(out, t, sizeof t);
	w->dpp_mask = mask;
}

static inline u32
sdwa_select(u32 x, int sel, int sext)
{
	if (sel < SEL_WORD_0) {
		x = x >> 8 * sel & 0xff;
		return sext ? (u32)(i32)(i8)x : x;
	}
	if (sel < SEL_DWORD) {
		x = x >> 16 * (sel - SEL_WORD_0) & 0xffff;
		return sext ? (u32)(i32)(i16)x : x;
	}
	return x;
}

const u32 *
operand_raw(struct wave *w, const struct op *o, int k, int word, u32 *buf)
{
	const struct operand *p = &o->s[k];
	u32 x = 0;

	if (p->kind == OPERAND_V) {
		const u32 *v = w->v[source_reg(w, p, k) + (u32)word];

		if (o->dpp && k == 0) {
			apply_dpp(w, o, v, buf);
			return buf;
		}
		if (o->sdwa && k < 2 && o->src_sel[k] != SEL_DWORD) {
			EACH_LANE(i) buf[i] = sdwa_select(v[i], o->src_sel[k], p->sext);
			return buf;
		}
		return v;
	}
	if (p->kind == OPERAND_IMM)
		x = word ? (u32)(p->imm64 >> 32) : p->imm32;
	else if (p->kind == OPERAND_S)
		x = w->s[p->reg + (p->n > 1 ? word : 0)];
	else if (p->kind == OPERAND_SPECIAL)
		x = operand_special(w, p->special, word);
	if (o->sdwa && k < 2)
		x = sdwa_select(x, o->src_sel[k], p->sext);
	EACH_LANE(i) buf[i] = x;
	return buf;
}

const u32 *
operand_32_changed(struct wave *w, const struct op *o, int k, u32 *buf)
{
	const struct operand *p = &o->s[k];
	const u32 *v = operand_raw(w, o, k, 0, buf);
	u32 bits = p->abs ? 0x7fffffff : ~(u32)0, flip = p->neg ? 0x80000000 : 0;

	if (!(p->abs | p->neg))
		return v;
	EACH_LANE(i) buf[i] = (v[i] & bits) ^ flip;
	return buf;
}

const u32 *
operand_16(struct wave *w, const struct op *o, int k, u32 *buf)
{
	const struct operand *p = &o->s[k];
	u32 bits = p->abs ? 0x7fff : 0xffff, flip = p->neg ? 0x8000 : 0;
	const u32 *v;
	int shift;

	if (p->kind == OPERAND_IMM) {
		u32 x = (p->imm16 & bits) ^ flip;

		EACH_LANE(i) buf[i] = x;
		return buf;
	}
	v = operand_raw(w, o, k, 0, buf);
	shift = (o->op_sel >> k & 1) ? 16 : 0;
	EACH_LANE(i) buf[i] = (v[i] >> shift & bits) ^ flip;
	return buf;
}

const u64 *
operand_64(struct wave *w, const struct op *o, int k, u64 *buf)
{
	const struct operand *p = &o->s[k];
	u64 bits = p->abs ? ~(u64)0 >> 1 : ~(u64)0, flip = p->neg ? (u64)1 << 63 : 0;

	if (p->kind == OPERAND_V) {
		u32 r = source_reg(w, p, k), lo[LANES], hi[LANES];
		const u32 *a = w->v[r], *b = w->v[r + 1];

		if (o->dpp && k == 0) {
			apply_dpp(w, o, a, lo);
			apply_dpp(w, o, b, hi);
			a = lo;
			b = hi;
		}
		EACH_LANE(i) buf[i] = ((a[i] | (u64)b[i] << 32) & bits) ^ flip;
	} else {
		u64 x = (scalar_64(w, p) & bits) ^ flip;

		EACH_LANE(i) buf[i] = x;
	}
	return buf;
}

void
put_sdwa(struct wave *w, const struct op *o, const u32 *r)
{
	u32 *d = w->v[o->d.reg], t[LANES], shift = 0, mask = ~(u32)0;

	if (o->dst_sel < SEL_WORD_0) {
		shift = 8 * o->dst_sel;
		mask = 0xff;
	} else if (o->dst_sel < SEL_DWORD) {
		shift = 16 * (o->dst_sel - SEL_WORD_0);
		mask = 0xffff;
	}
	EACH_LANE(i)
	{
		u32 x = r[i] & mask, y = x << shift;

		if (o->dst_unused == UNUSED_PRESERVE)
			y |= d[i] & ~(mask << shift);
		else if (o->dst_unused == UNUSED_SEXT && o->dst_sel < SEL_DWORD && (x & (mask ^ mask >> 1)))
			y |= ~(u32)0 << shift & ~(mask << shift);
		t[i] = y;
	}
	store_lanes(d, t, EXEC(w));
}

void
put_16(struct wave *w, const struct op *o, u32 *r, int keep)
{
	u32 *d = w->v[dest_reg(w, o)];

	if (o->sdwa) {
		put_sdwa(w, o, r);
		return;
	}
	if (o->op_sel & 8)
		EACH_LANE(i) r[i] = (d[i] & 0xffff) | r[i] << 16;
	else if (keep)
		EACH_LANE(i) r[i] = (d[i] & 0xffff0000) | (r[i] & 0xffff);
	else
		EACH_LANE(i) r[i] &= 0xffff;
	store_lanes(d, r, write_mask(w, o));
}

void
put_f16(struct wave *w, const struct op *o, float *r, int keep)
{
	u32 bits[LANES] LANE_ALIGNED;

	if (o->omod | o->clamp)
		/* the modifiers apply to the rounded result */
		EACH_LANE(i) r[i] = output_modifiers(o, half_to_f32(f32_to_half(r[i])));
	f32_to_halves(r, bits);
	put_16(w, o, bits, keep);
}

void
put_64(struct wave *w, const struct op *o, const u64 *r)
{
	u32 lo[LANES], hi[LANES], d = dest_reg(w, o);
	u64 mask = write_mask(w, o);

	EACH_LANE(i) lo[i] = (u32)r[i];
	EACH_LANE(i) hi[i] = (u32)(r[i] >> 32);
	store_lanes(w->v[d], lo, mask);
	store_lanes(w->v[d + 1], hi, mask);
}

void
put_f64(struct wave *w, const struct op *o, double *r)
{
	if (o->omod | o->clamp) {
		double by = o->omod == 1 ? 2 : o->omod == 2 ? 4 : o->omod == 3 ? 0.5 : 1;

		EACH_LANE(i)
		{
			double x = r[i] * by;

			if (o->clamp)
				x = x > 0 ? (x < 1 ? x : 1) : 0;
			r[i] = x;
		}
	}
	put_64(w, o, (const u64 *)r);
}
