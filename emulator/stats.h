/*
 * stats.h: what launches report to stats.c; emulator.h has what others may ask.
 */
#ifndef EMU_STATS_H
#define EMU_STATS_H

#include "emulator/codeobj.h"
#include "emulator/emulator.h"

/* Adds a launch that has ended. hist: executions of each word of the code, NULL if they were not counted. */
void emu_stats_add(const struct kernel *k, const struct emu_stats *launch, const u64 *hist);

/* One line to stderr; what says what was counted. */
void emu_stats_print_mix(const struct emu_mix *mix, const char *what);

double emu_stats_now(void);

#endif
