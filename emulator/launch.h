/*
 * launch.h: runs a kernel over its grid. api_stream.c calls it when a launch's turn in its stream has come.
 */
#ifndef EMU_LAUNCH_H
#define EMU_LAUNCH_H

#include "emulator/codeobj.h"

struct launch_size {
	u32 grid[3]; /* in workgroups */
	u32 block[3];
	u32 dynamic_lds;
};

/* kernarg: the argument segment, hidden arguments in place. 0, or -1 and *why. */
int emu_launch(struct kernel *k, const struct launch_size *size, void *kernarg, struct emu_fault *why);

#endif
