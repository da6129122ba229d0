/*
 * gpu_attn_sm90.h: what gpu_attn.c plans differently for Hopper's 16-bit attention kernels (kernels/attn_sm90.h):
 * workgroups that take tile after tile, and tensors described to the copy engine. Pure functions.
 */
#ifndef AITERD_GPU_ATTN_SM90_H
#define AITERD_GPU_ATTN_SM90_H

#include "../kernels/attn.h"
#include "launch.h"
#include "ops/flash_attn.h"

/* The order of tiles, a->chunk, and the grid; a's groups, splits and tiles are known. */
int gpu_attn_sm90_grid(const struct attn_problem *p, int units, struct attn_args *a, int64_t grid[3], struct err *e);

/* Makes the arguments a of launch l longer, and says which maps belong there, for tiles of `rows` and `keys`. */
void gpu_attn_sm90_maps(const struct attn_problem *p, int64_t tokens_k, const struct attn_args *a, int rows, int keys,
			struct launch *l);

#endif
