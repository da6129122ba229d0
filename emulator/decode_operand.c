/*
 * decode_operand.c: one operand of an instruction from the disassembler's text: a register or several, a constant,
 * a special value, with its modifiers.
 */
#include "emulator/exec.h"
#include "emulator/half.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
	const char *name;
	u8 kind, n;
	u16 reg; /* or the special value */
} named[] = {
	{"vcc", OPERAND_S, 2, REG_VCC},
	{"vcc_lo", OPERAND_S, 1, REG_VCC},
	{"vcc_hi", OPERAND_S, 1, REG_VCC + 1},
	{"exec", OPERAND_S, 2, REG_EXEC},
	{"exec_lo", OPERAND_S, 1, REG_EXEC},
	{"exec_hi", OPERAND_S, 1, REG_EXEC + 1},
	{"m0", OPERAND_S, 1, REG_M0},
	{"flat_scratch", OPERAND_S, 2, REG_FLAT_SCRATCH},
	{"flat_scratch_lo", OPERAND_S, 1, REG_FLAT_SCRATCH},
	{"flat_scratch_hi", OPERAND_S, 1, REG_FLAT_SCRATCH + 1},
	{"xnack_mask", OPERAND_S, 2, REG_XNACK},
	{"xnack_mask_lo", OPERAND_S, 1, REG_XNACK},
	{"xnack_mask_hi", OPERAND_S, 1, REG_XNACK + 1},
	{"scc", OPERAND_SPECIAL, 1, SPECIAL_SCC},
	{"vccz", OPERAND_SPECIAL, 1, SPECIAL_VCCZ},
	{"execz", OPERAND_SPECIAL, 1, SPECIAL_EXECZ},
	{"src_scc", OPERAND_SPECIAL, 2, SPECIAL_SCC},
	{"src_vccz", OPERAND_SPECIAL, 2, SPECIAL_VCCZ},
	{"src_execz", OPERAND_SPECIAL, 2, SPECIAL_EXECZ},
	{"src_shared_base", OPERAND_SPECIAL, 2, SPECIAL_SHARED_BASE},
	{"src_shared_limit", OPERAND_SPECIAL, 2, SPECIAL_SHARED_LIMIT},
	{"src_private_base", OPERAND_SPECIAL, 2, SPECIAL_PRIVATE_BASE},
	{"src_private_limit", OPERAND_SPECIAL, 2, SPECIAL_PRIVATE_LIMIT},
	{"src_pops_exiting_wave_id", OPERAND_SPECIAL, 2, SPECIAL_POPS},
	{"off", OPERAND_OFF, 1, 0},
	{"null", OPERAND_OFF, 1, 0},
};

static int
decode_named(const char *t, struct operand *p)
{
	for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
		if (strcmp(t, named[i].name) != 0)
			continue;
		p->kind = named[i].kind;
		p->n = named[i].n;
		if (p->kind == OPERAND_SPECIAL)
			p->special = (u8)named[i].reg;
		else
			p->reg = named[i].reg;
		return 0;
	}
	return -1;
}

/* "v7", "a[0:3]", "s[4:5]", "ttmp11" */
static int
decode_register(const char *t, struct operand *p)
{
	static const struct {
		const char *prefix;
		u8 kind;
		u16 first;
	} files[] = {{"v", OPERAND_V, 0}, {"a", OPERAND_V, REG_ACC}, {"s", OPERAND_S, 0}, {"ttmp", OPERAND_S, REG_TTMP}};

	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		size_t len = strlen(files[i].prefix);
		unsigned first, last;

		if (strncmp(t, files[i].prefix, len) != 0)
			continue;
		if (sscanf(t + len, "[%u:%u]", &first, &last) == 2)
			;
		else if (isdigit((unsigned char)t[len]))
			first = last = (unsigned)strtol(t + len, NULL, 10);
		else
			continue;
		if (last < first || last > 255)
			return -1;
		p->kind = files[i].kind;
		p->reg = (u16)(files[i].first + first);
		p->n = (u8)(last - first + 1);
		return 0;
	}
	return -1;
}

static int
decode_number(const char *t, struct operand *p)
{
	int hex = strncmp(t, "0x", 2) == 0;
	char *end;

	if (!isdigit((unsigned char)*t) && *t != '-')
		return -1;
	p->kind = OPERAND_IMM;
	if (!hex && strchr(t, '.') != NULL) {
		double d = strtod(t, &end);

		p->imm32 = as_u32((float)d);
		p->imm64 = as_u64(d);
		p->imm16 = f32_to_half((float)d);
		if (fabs(d - 0.15915494309189532) < 1e-6) { /* 1 / (2 pi), whose bits the hardware defines */
			p->imm32 = 0x3e22f983;
			p->imm64 = 0x3fc45f306dc9c882;
			p->imm16 = 0x3118;
		}
	} else {
		long long x = strtoll(t, &end, 0);

		p->imm32 = (u32)x;
		p->imm64 = hex ? (u64)(i64)(i32)(u32)x : (u64)x;
		p->imm16 = (u16)x;
		p->special = (u8)hex;
	}
	return *end != '\0' ? -1 : 0;
}

/* If *t is "name(...)", leaves what is inside the brackets in *t. */
static u8
unwrap(char **t, const char *name)
{
	size_t len = strlen(name), end = strlen(*t);

	if (strncmp(*t, name, len) != 0 || (*t)[len] != '(' || (*t)[end - 1] != ')')
		return 0;
	(*t)[end - 1] = '\0';
	*t += len + 1;
	return 1;
}

int
emu_decode_operand(char *text, struct operand *p)
{
	char *t = text + strspn(text, " ");
	size_t len = strlen(t);

	memset(p, 0, sizeof *p);
	p->n = 1;
	while (len > 0 && t[len - 1] == ' ')
		t[--len] = '\0';
	if (*t == '\0')
		return -1;
	p->sext = unwrap(&t, "sext");
	if (*t == '-' && !isdigit((unsigned char)t[1])) {
		p->neg = 1;
		t++;
	} else {
		p->neg = unwrap(&t, "neg");
	}
	len = strlen(t);
	if (*t == '|' && len > 1) {
		p->abs = 1;
		t[len - 1] = '\0';
		t++;
	} else {
		p->abs = unwrap(&t, "abs");
	}
	if (decode_named(t, p) == 0 || decode_register(t, p) == 0)
		return 0;
	return decode_number(t, p);
}
