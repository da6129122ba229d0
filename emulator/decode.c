/*
 * decode.c: the disassembler's text to a struct op: the mnemonic finds the function, the operands and modifiers
 * are read from the text, which is easier to get right than CDNA3's many encodings. Done once for each instruction
 * when a code object is loaded.
 */
#include "emulator/exec.h"

#include <stdlib.h>

static int
begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static void
unknown(struct wave *w, const struct op *o)
{
	(void)o;
	emu_wave_fault(w, FAULT_LAUNCH, "instruction not implemented by the emulator");
}

/* "[0,1,1]" to bits, the first one lowest. */
static u8
bit_list(const char *s)
{
	unsigned m = 0;

	for (int i = 0; *s != '\0' && *s != ']'; s++)
		if (*s == '0' || *s == '1')
			m |= (unsigned)(*s - '0') << i++;
	return (u8)m;
}

static u8
sdwa_selector(const char *s)
{
	static const char *const names[] = {"BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3", "WORD_0", "WORD_1"};

	for (u8 i = 0; i < sizeof names / sizeof *names; i++)
		if (begins(s, names[i]))
			return i;
	return SEL_DWORD;
}

/* Modifiers without a value. */
static int
set_flag(struct op *o, const char *t)
{
	if (strcmp(t, "offen") == 0)
		o->offen = 1;
	else if (strcmp(t, "idxen") == 0)
		o->idxen = 1;
	else if (strcmp(t, "lds") == 0)
		o->lds = 1;
	else if (strcmp(t, "sc0") == 0 || strcmp(t, "glc") == 0)
		o->returns = 1;
	else if (strcmp(t, "clamp") == 0)
		o->clamp = 1;
	else if (strcmp(t, "mul:2") == 0)
		o->omod = 1;
	else if (strcmp(t, "mul:4") == 0)
		o->omod = 2;
	else if (strcmp(t, "div:2") == 0)
		o->omod = 3;
	else
		return 0;
	return 1;
}

static void
set_modifier(struct op *o, const char *t)
{
	const char *v = strchr(t, ':');

	if (set_flag(o, t) || v == NULL)
		return;
	v++;
	if (begins(t, "offset:"))
		o->imm = (i32)strtol(v, NULL, 0);
	else if (begins(t, "offset0:"))
		o->off0 = (i32)strtol(v, NULL, 0);
	else if (begins(t, "offset1:"))
		o->off1 = (i32)strtol(v, NULL, 0);
	else if (begins(t, "op_sel:"))
		o->op_sel = bit_list(v);
	else if (begins(t, "op_sel_hi:"))
		o->op_sel_hi = bit_list(v);
	else if (begins(t, "neg_lo:"))
		o->neg_lo = bit_list(v);
	else if (begins(t, "neg_hi:"))
		o->neg_hi = bit_list(v);
	else if (begins(t, "cbsz:"))
		o->cbsz = (u8)strtol(v, NULL, 10);
	else if (begins(t, "abid:"))
		o->abid = (u8)strtol(v, NULL, 10);
	else if (begins(t, "blgp:"))
		o->blgp = (u8)strtol(v, NULL, 10);
	else if (begins(t, "dst_sel:"))
		o->dst_sel = sdwa_selector(v);
	else if (begins(t, "src0_sel:"))
		o->src_sel[0] = sdwa_selector(v);
	else if (begins(t, "src1_sel:"))
		o->src_sel[1] = sdwa_selector(v);
	else if (begins(t, "dst_unused:"))
		o->dst_unused = begins(v, "UNUSED_PRESERVE") ? UNUSED_PRESERVE
				: begins(v, "UNUSED_SEXT")   ? UNUSED_SEXT
							     : UNUSED_PAD;
	else if (begins(t, "row_mask:"))
		o->row_mask = (u8)strtol(v, NULL, 0);
	else if (begins(t, "bank_mask:"))
		o->bank_mask = (u8)strtol(v, NULL, 0);
	else if (begins(t, "bound_ctrl:"))
		o->bound_ctrl = 1;
}

/* The length of what comes before the first `end` outside brackets. */
static size_t
outside_brackets(const char *s, char end)
{
	int depth = 0;
	const char *p;

	for (p = s; *p != '\0' && (*p != end || depth != 0); p++) {
		if (*p == '[' || *p == '(')
			depth++;
		else if (*p == ']' || *p == ')')
			depth--;
	}
	return (size_t)(p - s);
}

static char *
skip_blanks(char *s)
{
	return s + strspn(s, " \t");
}

/* Cuts the text after the mnemonic into operands; *modifiers is what follows the last one, or NULL. */
static int
cut_operands(char *text, char *operands[8], char **modifiers)
{
	int n = 0;
	size_t len;

	*modifiers = NULL;
	text = skip_blanks(text);
	if (*text == '\0')
		return 0;
	for (;;) {
		int last;

		len = outside_brackets(text, ',');
		last = text[len] == '\0';
		text[len] = '\0';
		if (n < 8)
			operands[n++] = skip_blanks(text);
		if (last)
			break;
		text += len + 1;
	}
	len = outside_brackets(operands[n - 1], ' ');
	if (operands[n - 1][len] != '\0') {
		operands[n - 1][len] = '\0';
		*modifiers = operands[n - 1] + len + 1;
	}
	return n;
}

/* Takes the encoding's suffix off the mnemonic. */
static void
cut_suffix(struct op *o, char *mn)
{
	size_t len = strlen(mn);

	if (len > 4 && (strcmp(mn + len - 4, "_e32") == 0 || strcmp(mn + len - 4, "_e64") == 0)) {
		mn[len - 4] = '\0';
	} else if (len > 4 && strcmp(mn + len - 4, "_dpp") == 0) {
		mn[len - 4] = '\0';
		o->dpp = 1;
	} else if (len > 5 && strcmp(mn + len - 5, "_sdwa") == 0) {
		mn[len - 5] = '\0';
		o->sdwa = 1;
	}
	o->modified = o->dpp | o->sdwa;
}

/* Instructions whose operands are in the immediate, or don't matter. */
static int
has_no_operands(const char *mn)
{
	static const char *const prefixes[] = {"s_waitcnt", "s_nop",   "s_cbranch",	    "s_branch", "s_setreg",
					       "s_send",    "s_sleep", "s_setprio",	    "v_nop",	"s_dcache",
					       "buffer_",   "s_trap",  "s_set_gpr_idx_mode"};

	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		if (begins(mn, prefixes[i]))
			return 1;
	return 0;
}

/*
 * op_sel of instructions with one or two sources is printed as sources, then destination: put the destination where
 * three sources have it, in bit 3. v_cvt_pk_fp8 tests both places itself; packed instructions have none.
 */
static void
place_op_sel(struct op *o, const char *mn)
{
	unsigned sources, dst;

	if (o->op_sel == 0 || o->nsrc >= 3 || !begins(mn, "v_") || begins(mn, "v_pk_") || begins(mn, "v_dot") ||
	    begins(mn, "v_fma_mix") || begins(mn, "v_mad_mix") || begins(mn, "v_cvt_pk_fp8") ||
	    begins(mn, "v_cvt_pk_bf8"))
		return;
	sources = o->op_sel & ((1u << o->nsrc) - 1);
	dst = o->op_sel >> o->nsrc & 1;
	o->op_sel = (u8)(sources | dst << 3);
}

/* s_addk_i32, s_cmpk_lt_i32 ...: their 16-bit constants are signed but printed as 0xff80. */
static void
extend_constants(struct op *o, const char *mn)
{
	size_t len = strlen(mn);

	if (!begins(mn, "s_") || strstr(mn, "k_") == NULL || len < 4 || strcmp(mn + len - 4, "_i32") != 0)
		return;
	for (int i = 0; i < o->nsrc; i++)
		if (o->s[i].kind == OPERAND_IMM)
			o->s[i].imm32 = (u32)(i32)(i16)(u16)o->s[i].imm32;
}

/* Everything that is not a memory instruction. Bit i of bad: operand i could not be read. */
static int
decode_plain(struct op *o, const char *mn, u32 raw, const struct operand *p, int n, unsigned bad)
{
	const struct op_entry *e = emu_isa_find(mn);
	int ndst, nsrc, only_source = strcmp(mn, "s_set_gpr_idx_on") == 0;

	if (e == NULL)
		return -1;
	o->imm = begins(mn, "ds_") ? (i32)(raw & 0xffff) : (i16)(u16)raw;
	o->fn = e->fn;
	ndst = (int)e->ndst;
	if (has_no_operands(mn))
		return 0;
	nsrc = n - ndst;
	if (strcmp(mn, "s_getreg_b32") == 0 || strcmp(mn, "s_call_b64") == 0)
		nsrc = 0;
	if (only_source)
		nsrc = 1;
	if (nsrc > 5)
		nsrc = 5;
	if (nsrc < 0 || ndst + nsrc > n || (bad & ((1u << (ndst + nsrc)) - 1)) != 0)
		return -1;
	o->ndst = (u8)ndst;
	if (ndst > 0)
		o->d = p[0];
	if (ndst > 1)
		o->d2 = p[1];
	for (int i = 0; i < nsrc; i++)
		o->s[o->nsrc++] = p[ndst + i];
	place_op_sel(o, mn);
	extend_constants(o, mn);
	if (strstr(mn, "f64") != NULL) /* literals of fp64 operands are the high word */
		for (int i = 0; i < o->nsrc; i++)
			if (o->s[i].kind == OPERAND_IMM && o->s[i].special)
				o->s[i].imm64 = (u64)o->s[i].imm32 << 32;
	return 0;
}

int
emu_decode(struct op *o, char *text, u32 raw, u32 raw1)
{
	struct operand p[8];
	char mn[64], *operands[8], *modifiers, *save = NULL;
	unsigned bad = 0;
	size_t len;
	int n, r;

	memset(o, 0, sizeof *o);
	o->fn = unknown;
	o->words = o->dwords = 1;
	o->raw = raw;
	o->row_mask = o->bank_mask = 15;
	o->dst_sel = o->src_sel[0] = o->src_sel[1] = SEL_DWORD;
	if (text == NULL)
		return -1;
	text = skip_blanks(text);
	len = strcspn(text, " \t");
	if (len >= sizeof mn)
		return -1;
	memcpy(mn, text, len);
	mn[len] = '\0';
	cut_suffix(o, mn);
	o->vector = !begins(mn, "s_");
	o->op_sel_hi = begins(mn, "v_fma_mix") || begins(mn, "v_mad_mix") ? 0 : 7;
	n = cut_operands(text + len, operands, &modifiers);
	for (char *t = modifiers != NULL ? strtok_r(modifiers, " ", &save) : NULL; t != NULL;
	     t = strtok_r(NULL, " ", &save))
		set_modifier(o, t);
	if (o->dpp)
		o->dpp_ctrl = (u16)(raw1 >> 8 & 0x1ff);
	for (int i = 0; i < n; i++)
		if (emu_decode_operand(operands[i], &p[i]) != 0)
			bad |= 1u << i;
	if (emu_decode_memory(o, mn, p, n, bad, &r))
		return r;
	return decode_plain(o, mn, raw, p, n, bad);
}
