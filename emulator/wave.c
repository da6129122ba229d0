/*
 * wave.c: the loop that executes a wave's instructions, and the list of instruction groups of this variant of the
 * executor. launch.c calls it through isa.c. Part of the executor, see exec.h.
 */
#include "emulator/disasm.h"
#include "emulator/exec.h"
#include "emulator/settings.h"

#include <stdio.h>

static void
trace(const struct wave *w, u32 pc)
{
	const u32 *id = w->wg->id;
	char text[256];

	emu_disasm_at(w->co, pc, text, sizeof text);
	fprintf(stderr, "[%u,%u,%u w%u] %05x exec=%016llx scc=%u%s\n", id[0], id[1], id[2], w->id, pc * 4,
		(unsigned long long)EXEC(w), w->scc, text);
}

static void
run(struct wave *w, u64 quantum)
{
	const struct op *ops = w->co->ops;
	u32 nops = w->co->nops;
	u64 n = w->executed, end = n + quantum;

	while (!(w->done | w->at_barrier) && n < end) {
		u32 pc = w->pc;
		const struct op *o = &ops[pc];

		if (__builtin_expect(pc >= nops, 0))
			emu_wave_fault(w, FAULT_LAUNCH, "program counter ran out of the code object");
		w->current = o;
		w->pc = pc + o->words;
		n++;
		if (__builtin_expect(emu_settings.trace, 0))
			trace(w, pc);
		if (__builtin_expect(w->vskip && o->vector, 0))
			continue;
		if (__builtin_expect(w->hist != NULL, 0))
			w->hist[pc]++;
		o->fn(w, o);
	}
	w->executed = n;
	if (n > emu_settings.max_instructions)
		emu_wave_fault(w, FAULT_TIMEOUT, "more than %llu instructions in one wave (EMUHIP_MAXINST)",
			       (unsigned long long)emu_settings.max_instructions);
}

#define GROUPS(X)                                                                                                      \
	X(scalar)                                                                                                      \
	X(vector_f32)                                                                                                  \
	X(vector_f64)                                                                                                  \
	X(vector_f16)                                                                                                  \
	X(vector_int)                                                                                                  \
	X(vector_div)                                                                                                  \
	X(vector_convert)                                                                                              \
	X(vector_packed)                                                                                               \
	X(vector_compare)                                                                                              \
	X(matrix)                                                                                                      \
	X(memory)                                                                                                      \
	X(memory_lds)                                                                                                  \
	X(memory_scalar)
#define DECLARE(g) extern const struct op_group EMU_PASTE(emu_group_##g, EMU_ISA);
#define ADDRESS(g) &EMU_PASTE(emu_group_##g, EMU_ISA),

GROUPS(DECLARE)
static const struct op_group *const groups[] = {GROUPS(ADDRESS) NULL};

extern const struct emu_isa EMU_FN(emu_isa);
const struct emu_isa EMU_FN(emu_isa) = {EMU_STRING(EMU_ISA), run, groups};
