/*
 * range.h: the address ranges that kernels may touch: allocations, registered host memory, code objects, kernel
 * arguments. The executor looks them up for each access, api_*.c and launch.c add and remove them.
 */
#ifndef EMU_RANGE_H
#define EMU_RANGE_H

#include "emulator/types.h"

struct emu_range {
	u64 lo, hi; /* hi is one past the end */
	char what[40];
};

void emu_range_add(const void *p, size_t n, const char *what);

/* True if there was a range that begins at p. */
int emu_range_remove(const void *p);

/* The size of the range that holds p, and where it begins; 0 if there is none. */
size_t emu_range_find(const void *p, const void **base);

/* While a kernel runs the ranges stand still: it holds the lock for reading. */
void emu_range_hold(void);
void emu_range_release(void);

/* Only under emu_range_hold: the last range that begins at or below a, NULL if none. */
const struct emu_range *emu_range_below(u64 a);

#endif
