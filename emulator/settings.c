/*
 * settings.c: reads the environment once, before main(), so that the executor's threads need no lock to look at
 * it; emu_settings_read is for tests that change the environment between launches.
 */
#include "emulator/settings.h"

#include "emulator/emulator.h"

#include <stdlib.h>
#include <unistd.h>

struct emu_settings emu_settings;

static int
integer(const char *name, int fallback)
{
	const char *s = getenv(name);

	return s != NULL && *s != '\0' ? (int)strtol(s, NULL, 0) : fallback;
}

void
emu_settings_read(void)
{
	struct emu_settings *t = &emu_settings;
	const char *s;

	s = getenv("EMUHIP_MEM");
	t->mem_gib = s != NULL ? strtod(s, NULL) : 16;
	t->devices = integer("EMUHIP_DEVICES", 1);
	if (t->devices < 0)
		t->devices = 0;
	t->lazy = integer("EMUHIP_LAZY", 0);
	t->check = integer("EMUHIP_CHECK", 1);
	t->quantum = integer("EMUHIP_QUANTUM", 8);
	t->threads = integer("EMUHIP_THREADS", 0);
	if (t->threads < 1)
		t->threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
	t->log = integer("EMUHIP_LOG", 0);
	t->stats = integer("EMUHIP_STATS", 0);
	t->abort = integer("EMUHIP_ABORT", 0);
	t->unknown = integer("EMUHIP_UNKNOWN", 0);
	t->trace = integer("EMUHIP_TRACE", 0);
	t->chip = (unsigned)integer("EMUHIP_CHIP", 0x74a1);
	t->count_classes = t->log > t->stats ? t->log : t->stats;
	s = getenv("EMUHIP_MAXINST");
	t->max_instructions = s != NULL ? strtoull(s, NULL, 0) : 2000000000;
	t->llvm = getenv("EMUHIP_LLVM");
	t->isa = getenv("EMUHIP_ISA");
}

unsigned
emu_chip_id(void)
{
	return emu_settings.chip;
}

__attribute__((constructor)) static void
read_at_start(void)
{
	emu_settings_read();
}
