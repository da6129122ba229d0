/*
 * isa.c: picks the variant of the executor for this processor, once, and looks instructions up in it.
 */
#include "emulator/emulator.h"
#include "emulator/exec.h"
#include "emulator/settings.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef EMU_VARIANTS
#include <cpuid.h>
#endif

extern const struct emu_isa emu_isa_base;
#ifdef EMU_VARIANTS
extern const struct emu_isa emu_isa_avx2, emu_isa_avx512;
#endif

static const struct emu_isa *chosen;
static struct op_entry *table; /* sorted by name */
static size_t entries;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct op_entry *)a)->name, ((const struct op_entry *)b)->name);
}

#ifdef EMU_VARIANTS
/* clang 14's __builtin_cpu_supports does not know it. */
static int
has_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

static const struct emu_isa *
best(void)
{
#ifdef EMU_VARIANTS
	const char *wanted = emu_settings.isa;
	int avx2, avx512;

	__builtin_cpu_init();
	avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
	avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
	if (wanted == NULL || *wanted == '\0')
		return avx512 ? &emu_isa_avx512 : avx2 ? &emu_isa_avx2 : &emu_isa_base;
	if (strcmp(wanted, "avx512") == 0 && avx512)
		return &emu_isa_avx512;
	if (strcmp(wanted, "avx2") == 0 && avx2)
		return &emu_isa_avx2;
	if (strcmp(wanted, "base") != 0)
		fprintf(stderr,
			"emuhip: EMUHIP_ISA=%s is not avx512, avx2 or base, or this processor does not have it; using base\n",
			wanted);
#endif
	return &emu_isa_base;
}

static void
choose(void)
{
	size_t n = 0;

	chosen = best();
	for (const struct op_group *const *g = chosen->groups; *g != NULL; g++)
		entries += (size_t)((*g)->end - (*g)->begin);
	table = malloc(entries * sizeof *table);
	if (table == NULL)
		abort();
	for (const struct op_group *const *g = chosen->groups; *g != NULL; g++)
		for (const struct op_entry *e = (*g)->begin; e < (*g)->end; e++)
			table[n++] = *e;
	qsort(table, entries, sizeof *table, by_name);
}

const struct emu_isa *
emu_isa(void)
{
	pthread_once(&once, choose);
	return chosen;
}

const struct op_entry *
emu_isa_find(const char *name)
{
	struct op_entry key = {name, NULL, 0};

	pthread_once(&once, choose);
	return bsearch(&key, table, entries, sizeof *table, by_name);
}

const char *
emu_isa_name(void)
{
	return emu_isa()->name;
}
