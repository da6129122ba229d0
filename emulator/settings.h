/*
 * settings.h: what the environment says, read when the program starts; README.md explains each name.
 */
#ifndef EMU_SETTINGS_H
#define EMU_SETTINGS_H

#include "emulator/types.h"

struct emu_settings {
	double mem_gib;
	int devices;
	int lazy;
	int check;
	int quantum;
	int threads;
	int log;
	int stats;
	int abort;
	int unknown;
	int trace;
	unsigned chip;
	int count_classes; /* from log and stats, or by emu_stats_count_classes */
	u64 max_instructions;
	const char *llvm; /* NULL: the usual names */
	const char *isa;  /* NULL: the best that the processor has */
};

extern struct emu_settings emu_settings;

#endif
