/*
 * aiter_files.h: AITER's code objects and their table, read from a folder at a GPU worker's start, and kept. Nothing but the
 * bytes whose sums aiter_sums.def holds is ever used: another commit's kernels may want other arguments, and what a kernel
 * does with wrong ones is to write anywhere. A worker's main thread only.
 */
#ifndef AITERD_AITER_FILES_H
#define AITERD_AITER_FILES_H

#include "ops/aiter_table.h"

struct aiter_sum {
	const char *path, *sum; /* "gfx942/fmha_v3_fwd/fmha_fwd.csv"; SHA-256, 64 hexadecimal digits; NULL: the end */
};

extern const struct aiter_sum aiter_sums[];
extern const char aiter_commit[];

struct aiter_files {
	struct aiter_table table; /* n is 0 and problem says why when nothing can be used */
	void *images[AITER_ROWS_MAX];
	const char *folder; /* MI300, MI308 */
	int usable;	    /* rows that have an image */
	char summary[320];  /* for people: what is there, and what is wrong */
};

/* `dir` holds gfx942/fmha_v3_fwd as AITER's hsa/ does; folder: see aiter_folder(). NULL: no memory. */
struct aiter_files *aiter_files_load(const char *dir, const char *arch, const char *folder,
				     const struct aiter_sum *sums);
/* Give up all of them, for this reason. */
void aiter_files_give_up(struct aiter_files *f, const char *problem);
/* Give up the kernel in a row of the table, for this reason. */
void aiter_files_drop(struct aiter_files *f, int row, const char *problem);
void aiter_files_free(struct aiter_files **f);

#endif
