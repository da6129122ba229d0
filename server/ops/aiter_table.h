/*
 * aiter_table.h: AITER's table of assembly attention kernels, hsa/<arch>/fmha_v3_fwd/fmha_fwd.csv: which code object and
 * symbol serve which problem. Parsed at a worker's start (worker/aiter_files.c, which owns the table and attaches the
 * objects' bytes); afterwards read only, by the planner gpu_aiter.c.
 */
#ifndef AITERD_AITER_TABLE_H
#define AITERD_AITER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "launch.h"

#define AITER_ROWS_MAX 64
#define AITER_FILE_MAX 96

struct aiter_row {
	int dim, dim_v;
	int mask;	    /* 0 none, 2 causal, aligned at the end */
	bool group;	    /* variable length */
	int cvt;	    /* how probabilities become bf16: 0 to nearest even, 1 to nearest, ties away, 2 truncated */
	int tile_q, tile_k; /* rows of q a workgroup handles at a time; keys a step */
	char symbol[LAUNCH_SYMBOL_MAX];
	char file[AITER_FILE_MAX];   /* "fwd_hd128_bf16_rtne.co" */
	char object[AITER_FILE_MAX]; /* with its folders and without .co, as replies name it */
	const void *image;	     /* NULL: cannot be used, because of */
	char why[200];
};

struct aiter_table {
	int n;
	struct aiter_row rows[AITER_ROWS_MAX];
	char problem[240]; /* why there is no row, when n is 0 */
};

/*
 * Read the CSV's text: the bf16 rows of the head dimensions that gpu_aiter.c drives; other dtypes and dimensions are passed
 * over. Columns are found by their names in the first line. Refuses what cannot be AITER's table, naming the line.
 * Images and object names stay unset.
 */
int aiter_table_parse(struct aiter_table *t, const char *text, size_t len, struct err *e);

/*
 * Which of AITER's folders of code objects is a chip's, by AITER's rule: "MI308" for the PCI device ids 74a2, 74a8, 74b6 and
 * 74bc, else "MI300". Where the id is not known (0), 80 compute units tell an MI308.
 */
const char *aiter_folder(unsigned chip_id, int compute_units);

/* NULL: AITER has no such kernel. */
const struct aiter_row *aiter_table_find(const struct aiter_table *t, int dim, int dim_v, int mask, bool group, int cvt);

#endif
