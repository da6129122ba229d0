/*
 * exec.h: a decoded instruction, a wave and its workgroup, and how the files that execute instructions (scalar.c,
 * vector_*.c, matrix.c, memory*.c, wave.c: "the executor") register their functions. The executor is compiled once
 * for each instruction set of the host, with EMU_ISA naming it; isa.c picks one when the program first needs it.
 */
#ifndef EMU_EXEC_H
#define EMU_EXEC_H

#include "emulator/codeobj.h"
#include "emulator/types.h"

#include <setjmp.h>

#define EMU_PASTE_(a, b) a##_##b
#define EMU_PASTE(a, b) EMU_PASTE_(a, b)
#define EMU_STRING_(a) #a
#define EMU_STRING(a) EMU_STRING_(a)
/* A function of the executor that other files call: its name ends in that of the instruction set. */
#define EMU_FN(name) EMU_PASTE(name, EMU_ISA)

#define LANES 64
#define LANE_ALIGNED __attribute__((aligned(64)))

/* Where named registers stand among the scalar registers. */
enum {
	REG_FLAT_SCRATCH = 102,
	REG_XNACK = 104,
	REG_VCC = 106,
	REG_TTMP = 108,
	REG_M0 = 124,
	REG_EXEC = 126,
	SREGS = 136
};

/* Vector registers 256 and up are the accumulation registers a0... */
enum { VREGS = 512, REG_ACC = 256 };

enum operand_kind { OPERAND_NONE, OPERAND_V, OPERAND_S, OPERAND_IMM, OPERAND_OFF, OPERAND_SPECIAL };
enum operand_special {
	SPECIAL_SCC,
	SPECIAL_VCCZ,
	SPECIAL_EXECZ,
	SPECIAL_SHARED_BASE,
	SPECIAL_SHARED_LIMIT,
	SPECIAL_PRIVATE_BASE,
	SPECIAL_PRIVATE_LIMIT,
	SPECIAL_POPS
};

/* Flat apertures: the high words of LDS and scratch addresses. */
#define SHARED_HI 0x00010000u
#define PRIVATE_HI 0x00020000u

struct operand {
	u8 kind, n, neg, abs, sext, special; /* n registers; special is 1 for immediates that were written in hex */
	u16 reg, imm16;
	u32 imm32;
	u64 imm64;
};

enum op_access { ACCESS_LOAD, ACCESS_STORE, ACCESS_ATOMIC };
/* Loads shorter than a register: the rest becomes zero, the sign, or stays (the load goes to the low or high half). */
enum op_extend { EXTEND_ZERO, EXTEND_SIGN, EXTEND_D16, EXTEND_D16_HI };
enum op_atomic {
	ATOMIC_ADD,
	ATOMIC_SUB,
	ATOMIC_SMIN,
	ATOMIC_UMIN,
	ATOMIC_SMAX,
	ATOMIC_UMAX,
	ATOMIC_AND,
	ATOMIC_OR,
	ATOMIC_XOR,
	ATOMIC_INC,
	ATOMIC_DEC,
	ATOMIC_SWAP,
	ATOMIC_CMPSWAP,
	ATOMIC_ADD_F,
	ATOMIC_PK_ADD_F16,
	ATOMIC_PK_ADD_BF16,
	ATOMIC_MIN_F,
	ATOMIC_MAX_F
};

/* SDWA selectors, as the hardware numbers them. */
enum { SEL_BYTE_0, SEL_WORD_0 = 4, SEL_WORD_1 = 5, SEL_DWORD = 6 };
enum { UNUSED_PAD, UNUSED_SEXT, UNUSED_PRESERVE };

struct wave;
struct op;
typedef void (*op_f)(struct wave *w, const struct op *o);

struct op {
	op_f fn;
	u8 words; /* of code */
	u8 ndst, nsrc;
	u8 vector;   /* skipped while s_setvskip says so */
	u8 modified; /* dpp or sdwa: sources cannot be used as they stand */
	u8 dpp, sdwa, clamp, omod;
	u8 bound_ctrl, row_mask, bank_mask;
	u8 dst_sel, dst_unused, src_sel[2];
	u16 dpp_ctrl;
	u8 op_sel, op_sel_hi, neg_lo, neg_hi;
	u8 cbsz, abid, blgp;
	u8 access, size, extend, sign8, atomic; /* memory: size in bytes of one lane's access */
	u8 offen, idxen, lds, returns, dwords, buffer, sgpr_offset;
	u8 cls, cycles; /* enum emu_class, worked out when it is first counted; cycles 0: not yet */
	i32 imm, off0, off1;
	u32 raw;
	struct operand d, d2, s[5];
};

struct workgroup {
	u8 *lds;
	u32 lds_size;
	u32 id[3];
	struct kernel *kernel;
	struct emu_fault *fault;
	/* The address ranges seen last, so that most checks need no search; they stand still while a kernel runs. */
	struct {
		u64 lo, hi;
	} seen[2];
	u32 seen_last;
	jmp_buf leave; /* emu_wave_fault jumps here */
};

struct wave {
	u32 v[VREGS][LANES] LANE_ALIGNED;
	union {
		u32 s[SREGS];
		u64 pairs[SREGS / 2];
	} LANE_ALIGNED;
	u32 scc, pc, done, at_barrier;
	u32 gpr_index; /* s_set_gpr_idx: which operands are relative to M0 */
	u32 vskip;
	u64 dpp_mask; /* lanes that the last DPP source allows to be written */
	u64 executed, mfma;
	u64 *hist; /* executions of each word of the code, NULL: not counted */
	struct workgroup *wg;
	struct codeobj *co;
	u8 *scratch; /* scratch_size bytes for each lane */
	u32 scratch_size, id;
	const struct op *current;
};

#define EXEC(w) ((w)->pairs[REG_EXEC / 2])
#define VCC(w) ((w)->pairs[REG_VCC / 2])

/* Ends the launch with a message that names kernel, instruction, workgroup and wave. launch.c */
void emu_wave_fault(struct wave *w, int code, const char *fmt, ...)
	__attribute__((noreturn, cold, format(printf, 3, 4)));
/* hipError_t that kernels' faults become */
enum { FAULT_ADDRESS = 700, FAULT_TIMEOUT = 702, FAULT_LAUNCH = 719 };

/* An instruction by the name that the disassembler prints, without _e32, _e64, _dpp, _sdwa. */
struct op_entry {
	const char *name;
	op_f fn;
	u64 ndst;
};

struct op_group {
	const struct op_entry *begin, *end;
};

/* One compiled variant of the executor. */
struct emu_isa {
	const char *name;
	void (*run)(struct wave *w, u64 quantum); /* until a barrier, the end, or quantum instructions */
	const struct op_group *const *groups;	  /* ends with NULL */
};

/* isa.c: the variant in use, and one of its instructions. */
const struct emu_isa *emu_isa(void);
const struct op_entry *emu_isa_find(const char *name);

/* decode.c: fills *o from the disassembler's text, which it cuts up; -1 if there is no such instruction. */
int emu_decode(struct op *o, char *text, u32 raw, u32 raw1);

/* decode_operand.c */
int emu_decode_operand(char *text, struct operand *p);
/* decode_memory.c: 1 if mn is a memory instruction; *r is then as for emu_decode. */
int emu_decode_memory(struct op *o, const char *mn, const struct operand *p, int n, unsigned bad, int *r);

/*
 * A file of the executor defines OP_GROUP before including this and ends with OP_GROUP_END. Its entries are put into
 * a section of their own, so that an instruction is one piece of text and not a function here and a line there.
 */
#ifdef OP_GROUP
#define OP_SECTION EMU_PASTE(EMU_PASTE(emu_ops, OP_GROUP), EMU_ISA)
#define OP_ENTRY(id, text, f, n)                                                                                       \
	static const struct op_entry entry_##id                                                                        \
		__attribute__((used, section(EMU_STRING(OP_SECTION)), aligned(8))) = {text, f, n};
#define OP_N(nm, n)                                                                                                    \
	static void op_##nm(struct wave *w, const struct op *o);                                                       \
	OP_ENTRY(nm, #nm, op_##nm, n)                                                                                  \
	static void op_##nm(struct wave *w __attribute__((unused)), const struct op *o __attribute__((unused)))
/* OP: one destination operand; OP_N: n of them; OP_ALIAS: another name for a function. */
#define OP(nm) OP_N(nm, 1)
#define OP_ALIAS(nm, f, n) OP_ENTRY(nm, #nm, f, n)
#define OP_GROUP_END                                                                                                   \
	extern const struct op_entry EMU_PASTE(__start, OP_SECTION)[], EMU_PASTE(__stop, OP_SECTION)[];                \
	const struct op_group EMU_PASTE(EMU_PASTE(emu_group, OP_GROUP), EMU_ISA) = {EMU_PASTE(__start, OP_SECTION),    \
										    EMU_PASTE(__stop, OP_SECTION)};
/*
 * Registers are untyped 32-bit words and most instructions wrap, truncate or reinterpret on purpose: conversion
 * warnings would ask for a cast in each line of the instruction files.
 */
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wfloat-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#ifdef __clang__
#pragma GCC diagnostic ignored "-Wimplicit-int-float-conversion"
#endif
#endif

#endif
