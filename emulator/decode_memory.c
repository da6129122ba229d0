/*
 * decode_memory.c: global, flat, scratch, buffer, LDS and scalar memory instructions. Their names say what is moved
 * and how: one table for each part of the name instead of one line for each instruction.
 */
#include "emulator/exec.h"

#include <stdlib.h>

/* The operands of the instruction that is being decoded. */
struct operands {
	const struct operand *p;
	int n;
	unsigned bad;
	int at; /* the next one to take */
};

static int
begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int
take(struct operands *from, struct operand *to)
{
	int at = from->at++;

	if (at >= from->n || (from->bad >> at & 1))
		return -1;
	*to = from->p[at];
	return 0;
}

static int
set_function(struct op *o, const char *name)
{
	const struct op_entry *e = emu_isa_find(name);

	if (e == NULL)
		return -1;
	o->fn = e->fn;
	return 0;
}

struct atomic_name {
	const char *name;
	u8 kind, size;
};

/* "add", "add_x2", "pk_add_f16" ... */
static int
decode_atomic(struct op *o, const char *s)
{
	static const struct atomic_name names[] = {
		{"add", ATOMIC_ADD, 4},
		{"sub", ATOMIC_SUB, 4},
		{"smin", ATOMIC_SMIN, 4},
		{"umin", ATOMIC_UMIN, 4},
		{"smax", ATOMIC_SMAX, 4},
		{"umax", ATOMIC_UMAX, 4},
		{"and", ATOMIC_AND, 4},
		{"or", ATOMIC_OR, 4},
		{"xor", ATOMIC_XOR, 4},
		{"inc", ATOMIC_INC, 4},
		{"dec", ATOMIC_DEC, 4},
		{"swap", ATOMIC_SWAP, 4},
		{"cmpswap", ATOMIC_CMPSWAP, 4},
		{"add_f32", ATOMIC_ADD_F, 4},
		{"add_f64", ATOMIC_ADD_F, 8},
		{"min_f64", ATOMIC_MIN_F, 8},
		{"max_f64", ATOMIC_MAX_F, 8},
		{"pk_add_f16", ATOMIC_PK_ADD_F16, 4},
		{"pk_add_bf16", ATOMIC_PK_ADD_BF16, 4},
	};
	size_t len = strlen(s);
	int wide = len > 3 && strcmp(s + len - 3, "_x2") == 0;

	if (wide)
		len -= 3;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strlen(names[i].name) != len || strncmp(s, names[i].name, len) != 0)
			continue;
		o->access = ACCESS_ATOMIC;
		o->atomic = names[i].kind;
		o->size = wide ? 8 : names[i].size;
		return 0;
	}
	return -1;
}

/* "dword", "dwordx2" ...: how many; 0 if it is none. */
static u8
dword_count(const char *s)
{
	if (strcmp(s, "dword") == 0)
		return 1;
	return begins(s, "dwordx") ? (u8)strtol(s + 6, NULL, 10) : 0;
}

struct short_name {
	const char *name;
	u8 size, extend, sign8;
};

static int
decode_short(struct op *o, const char *s, const struct short_name *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(s, names[i].name) != 0)
			continue;
		o->size = names[i].size;
		o->extend = names[i].extend;
		o->sign8 = names[i].sign8;
		return 0;
	}
	return -1;
}

/* "load_ushort", "store_dwordx4", "atomic_add" ... */
static int
decode_access(struct op *o, const char *s)
{
	static const struct short_name names[] = {
		{"ubyte", 1, EXTEND_ZERO, 0},	      {"sbyte", 1, EXTEND_SIGN, 0},
		{"byte", 1, EXTEND_ZERO, 0},	      {"ushort", 2, EXTEND_ZERO, 0},
		{"sshort", 2, EXTEND_SIGN, 0},	      {"short", 2, EXTEND_ZERO, 0},
		{"ubyte_d16", 1, EXTEND_D16, 0},      {"ubyte_d16_hi", 1, EXTEND_D16_HI, 0},
		{"sbyte_d16", 1, EXTEND_D16, 1},      {"sbyte_d16_hi", 1, EXTEND_D16_HI, 1},
		{"short_d16", 2, EXTEND_D16, 0},      {"short_d16_hi", 2, EXTEND_D16_HI, 0},
		{"byte_d16_hi", 1, EXTEND_D16_HI, 0},
	};
	u8 n;

	if (begins(s, "atomic_"))
		return decode_atomic(o, s + 7);
	if (begins(s, "load_")) {
		o->access = ACCESS_LOAD;
		s += 5;
		if (begins(s, "lds_")) {
			o->lds = 1;
			s += 4;
		}
	} else if (begins(s, "store_")) {
		o->access = ACCESS_STORE;
		s += 6;
	} else {
		return -1;
	}
	n = dword_count(s);
	if (n > 4)
		return -1;
	if (n != 0) {
		o->size = (u8)(4 * n);
		return 0;
	}
	return decode_short(o, s, names, sizeof names / sizeof *names);
}

static int
decode_buffer(struct op *o, const char *mn, struct operands *p)
{
	if (strstr(mn, "format") != NULL || decode_access(o, mn + strlen("buffer_")) != 0)
		return -1;
	if (!o->lds) {
		if (take(p, &o->d) != 0)
			return -1;
		o->s[1] = o->d;
	}
	if (take(p, &o->s[0]) != 0 || take(p, &o->s[2]) != 0 || take(p, &o->s[3]) != 0)
		return -1;
	return set_function(o, "buffer");
}

static int
decode_flat(struct op *o, const char *mn, struct operands *p)
{
	int flat = begins(mn, "flat_");

	if (decode_access(o, strchr(mn, '_') + 1) != 0)
		return -1;
	if (!o->lds && (o->access == ACCESS_LOAD || (o->access == ACCESS_ATOMIC && o->returns)))
		if (take(p, &o->d) != 0)
			return -1;
	if (take(p, &o->s[0]) != 0)
		return -1;
	if (o->access != ACCESS_LOAD && take(p, &o->s[1]) != 0)
		return -1;
	if (!flat && take(p, &o->s[2]) != 0)
		return -1;
	return set_function(o, flat ? "flat" : begins(mn, "scratch_") ? "scratch" : "global");
}

/* "read2_b32", "write2st64_b64": offsets count elements, or 64 of them. */
static int
decode_lds_two(struct op *o, const char *s, struct operands *p)
{
	int stride = 1;

	if (begins(s, "2st64_"))
		stride = 64;
	s += stride == 64 ? 6 : 2;
	o->size = strcmp(s, "b64") == 0 ? 8 : strcmp(s, "b32") == 0 ? 4 : 0;
	if (o->size == 0)
		return -1;
	if (o->access == ACCESS_LOAD && take(p, &o->d) != 0)
		return -1;
	if (take(p, &o->s[0]) != 0)
		return -1;
	if (o->access == ACCESS_STORE && (take(p, &o->s[1]) != 0 || take(p, &o->s[2]) != 0))
		return -1;
	o->off0 *= o->size * stride;
	o->off1 *= o->size * stride;
	return set_function(o, "lds_two");
}

static int
decode_lds_access(struct op *o, const char *s, struct operands *p)
{
	static const struct short_name names[] = {
		{"b8", 1, EXTEND_ZERO, 0},	    {"b16", 2, EXTEND_ZERO, 0},
		{"b32", 4, EXTEND_ZERO, 0},	    {"b64", 8, EXTEND_ZERO, 0},
		{"b96", 12, EXTEND_ZERO, 0},	    {"b128", 16, EXTEND_ZERO, 0},
		{"u8", 1, EXTEND_ZERO, 0},	    {"i8", 1, EXTEND_SIGN, 0},
		{"u16", 2, EXTEND_ZERO, 0},	    {"i16", 2, EXTEND_SIGN, 0},
		{"b8_d16_hi", 1, EXTEND_D16_HI, 0}, {"b16_d16_hi", 2, EXTEND_D16_HI, 0},
		{"u8_d16", 1, EXTEND_D16, 0},	    {"u8_d16_hi", 1, EXTEND_D16_HI, 0},
		{"i8_d16", 1, EXTEND_D16, 1},	    {"i8_d16_hi", 1, EXTEND_D16_HI, 1},
		{"u16_d16", 2, EXTEND_D16, 0},	    {"u16_d16_hi", 2, EXTEND_D16_HI, 0},
	};
	int load = begins(s, "read");

	o->access = load ? ACCESS_LOAD : ACCESS_STORE;
	s += load ? 4 : 5;
	if (*s == '2')
		return decode_lds_two(o, s, p);
	if (*s != '_' || decode_short(o, s + 1, names, sizeof names / sizeof *names) != 0)
		return -1;
	if (load && take(p, &o->d) != 0)
		return -1;
	if (take(p, &o->s[0]) != 0 || (!load && take(p, &o->s[1]) != 0))
		return -1;
	return set_function(o, "lds");
}

static int
decode_lds_atomic(struct op *o, const char *s, struct operands *p)
{
	static const struct atomic_name names[] = {
		{"add_u32", ATOMIC_ADD, 4},
		{"sub_u32", ATOMIC_SUB, 4},
		{"inc_u32", ATOMIC_INC, 4},
		{"dec_u32", ATOMIC_DEC, 4},
		{"min_i32", ATOMIC_SMIN, 4},
		{"max_i32", ATOMIC_SMAX, 4},
		{"min_u32", ATOMIC_UMIN, 4},
		{"max_u32", ATOMIC_UMAX, 4},
		{"and_b32", ATOMIC_AND, 4},
		{"or_b32", ATOMIC_OR, 4},
		{"xor_b32", ATOMIC_XOR, 4},
		{"wrxchg_b32", ATOMIC_SWAP, 4},
		{"add_f32", ATOMIC_ADD_F, 4},
		{"min_f32", ATOMIC_MIN_F, 4},
		{"max_f32", ATOMIC_MAX_F, 4},
		{"pk_add_f16", ATOMIC_PK_ADD_F16, 4},
		{"pk_add_bf16", ATOMIC_PK_ADD_BF16, 4},
		{"add_u64", ATOMIC_ADD, 8},
		{"sub_u64", ATOMIC_SUB, 8},
		{"min_i64", ATOMIC_SMIN, 8},
		{"max_i64", ATOMIC_SMAX, 8},
		{"min_u64", ATOMIC_UMIN, 8},
		{"max_u64", ATOMIC_UMAX, 8},
		{"and_b64", ATOMIC_AND, 8},
		{"or_b64", ATOMIC_OR, 8},
		{"xor_b64", ATOMIC_XOR, 8},
		{"wrxchg_b64", ATOMIC_SWAP, 8},
		{"add_f64", ATOMIC_ADD_F, 8},
	};
	char name[64], *rtn;

	if (strlen(s) >= sizeof name)
		return -1;
	memcpy(name, s, strlen(s) + 1);
	rtn = strstr(name, "_rtn");
	if (rtn != NULL)
		memmove(rtn, rtn + 4, strlen(rtn + 4) + 1);
	o->returns = rtn != NULL || begins(name, "wrxchg");
	if ((o->returns && take(p, &o->d) != 0) || take(p, &o->s[0]) != 0 || take(p, &o->s[1]) != 0)
		return -1;
	o->access = ACCESS_ATOMIC;
	if (begins(name, "cmpst_b")) {
		o->size = (u8)(strtol(name + 7, NULL, 10) / 8);
		if (take(p, &o->s[2]) != 0)
			return -1;
		return set_function(o, "lds_compare_store");
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(name, names[i].name) != 0)
			continue;
		o->size = names[i].size;
		o->atomic = names[i].kind;
		return set_function(o, "lds");
	}
	return -1;
}

static int
decode_lds(struct op *o, const char *mn, struct operands *p)
{
	const char *s = mn + 3;

	if (begins(s, "read") || begins(s, "write"))
		return decode_lds_access(o, s, p);
	return decode_lds_atomic(o, s, p);
}

static int
decode_scalar(struct op *o, const char *mn, struct operands *p)
{
	const char *count = NULL;

	if (begins(mn, "s_buffer_load_")) {
		o->buffer = 1;
		count = mn + 14;
	} else if (begins(mn, "s_load_")) {
		count = mn + 7;
	} else if (begins(mn, "s_store_")) {
		o->access = ACCESS_STORE;
		count = mn + 8;
	} else if (decode_atomic(o, mn + 9) != 0) {
		return -1;
	} else {
		o->dwords = o->size / 4;
	}
	if (count != NULL)
		o->dwords = dword_count(count);
	if (o->dwords == 0 || o->dwords > 16)
		return -1;
	if (take(p, &o->d) != 0 || take(p, &o->s[0]) != 0 || take(p, &o->s[1]) != 0)
		return -1;
	if (o->s[1].kind == OPERAND_IMM)
		o->imm = (i32)o->s[1].imm32;
	else
		o->sgpr_offset = 1;
	return set_function(o, "scalar_memory");
}

int
emu_decode_memory(struct op *o, const char *mn, const struct operand *p, int n, unsigned bad, int *r)
{
	struct operands from = {p, n, bad, 0};

	if (begins(mn, "buffer_") && (strstr(mn, "load") || strstr(mn, "store") || strstr(mn, "atomic")))
		*r = decode_buffer(o, mn, &from);
	else if (begins(mn, "global_") || begins(mn, "scratch_") || begins(mn, "flat_"))
		*r = decode_flat(o, mn, &from);
	else if (begins(mn, "ds_") && emu_isa_find(mn) == NULL)
		*r = decode_lds(o, mn, &from);
	else if (begins(mn, "s_load_") || begins(mn, "s_store_") || begins(mn, "s_buffer_load_") ||
		 begins(mn, "s_atomic_"))
		*r = decode_scalar(o, mn, &from);
	else
		return 0;
	return 1;
}
