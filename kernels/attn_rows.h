/*
 * attn_rows.h: which rows and keys a workgroup and a lane of fused attention have to do with. Scalar code, the same for
 * every vendor. Used by attn_fwd.h and attn_repair.h.
 */
#ifndef AITERD_KERNELS_ATTN_ROWS_H
#define AITERD_KERNELS_ATTN_ROWS_H

#include "attn.h"
#include "device.h"

/* Kernel arguments where they lie, so that they need not stay in registers. */
typedef CONSTANT attn_args attn_args_in;

#ifndef __CUDACC__
/* The kernel's arguments; what is read through one result is not kept for use through another. */
DEV attn_args_in &
attn_args_get()
{
	attn_args_in *a = (attn_args_in *)__builtin_amdgcn_kernarg_segment_ptr();

	__asm__("" : "+s"(a));
	return *a;
}

#define ATTN_ARGS(a) ((void)(a), attn_args_get())
#else
#define ATTN_ARGS(a) (a) /* of a kernel's parameter `a` */
#endif

/* One workgroup's share: a tile of rows of one sequence and key/value head, and the keys of its split. */
struct attn_work {
	const char *q, *k, *v; /* first row of the sequence, of head `head` or of the key/value head */
	char *out;
	int64_t row; /* of token 0 of head `head`, as the log-sum-exp and the workspace count */
	int len_q, len_k;
	int rows;      /* of the sequence: len_q * pack */
	int first_row; /* of this workgroup */
	int split;
	int key, key_end; /* keys of the split that some row here may see */
	/* As coordinates; batch is 0 where sequences lie one after the other, from first_q and first_k on. */
	int batch, head, head_k, first_q, first_k;
};

DEV int
clamp(int x, int lo, int hi)
{
	return x < lo ? lo : x > hi ? hi : x;
}

/* Keys [*begin, *begin + *count) are what token i sees; the last token sees the last key. */
DEV void
visible(attn_args_in &a, const attn_work &w, int i, int *begin, int *count)
{
	int diagonal = i + w.len_k - w.len_q;
	int lo = a.left < 0 ? 0 : clamp(diagonal - a.left, 0, w.len_k);
	int hi = a.right < 0 ? w.len_k : clamp(diagonal + a.right + 1, lo, w.len_k);

	*begin = lo;
	*count = hi - lo;
}

/* Of a row; both uniform. Most of the time there is nothing to divide by. */
DEV int
token_of(attn_args_in &a, int row)
{
	return a.pack == 1 ? row : uniform((int)((uint32_t)row / (uint32_t)a.pack));
}

/* Sequence b's lengths, and where query head `head` and key/value head `head_k` of it begin. */
template <class T>
DEV void
attn_sequence_get(attn_args_in &a, int b, int64_t head, int64_t head_k, attn_work &w)
{
	int64_t q0 = 0, k0 = 0;

	w.len_q = a.seqlen_q;
	w.len_k = a.seqlen_k;
	if (a.cu_q) {
		q0 = uniform(a.cu_q[b]);
		k0 = uniform(a.cu_k[b]);
		w.len_q = uniform(a.cu_q[b + 1]) - (int)q0;
		w.len_k = uniform(a.cu_k[b + 1]) - (int)k0;
	}
	w.batch = a.cu_q ? 0 : b;
	w.head = (int)head;
	w.head_k = (int)head_k;
	w.first_q = (int)q0;
	w.first_k = (int)k0;
	w.q = (const char *)a.q + (b * a.q_stride.batch + q0 * a.q_stride.seq + head * a.q_stride.head) * (int)sizeof(T);
	w.k = (const char *)a.k +
	      (b * a.k_stride.batch + k0 * a.k_stride.seq + head_k * a.k_stride.head) * (int)sizeof(T);
	w.v = (const char *)a.v +
	      (b * a.v_stride.batch + k0 * a.v_stride.seq + head_k * a.v_stride.head) * (int)sizeof(T);
	w.out = (char *)a.out +
		(b * a.out_stride.batch + q0 * a.out_stride.seq + head * a.out_stride.head) * (int)sizeof(T);
	w.row = b * a.lse_batch + q0 + head * a.lse_head;
}

/*
 * From a place in the grid of attn.h. False: nothing to do. `tile_rows` rows a workgroup, splits on multiples of
 * `tile_keys`.
 */
template <class T>
DEV bool
attn_work_at(attn_args_in &a, int x, int y, int z, int tile_rows, int tile_keys, attn_work &w)
{
	int b = uniform((int)((uint32_t)x / (uint32_t)a.heads_k)), head_k = x - b * a.heads_k, groups = a.groups;
	int last, begin, count, tiles;

	w.split = a.splits == 1 ? 0 : uniform((int)((uint32_t)y / (uint32_t)groups));
	attn_sequence_get<T>(a, b, (int64_t)head_k * (groups * a.pack) + (y - w.split * groups) * a.pack, head_k, w);
	w.rows = w.len_q * a.pack;
	/* Last tile first: with a causal mask that is the longest. */
	w.first_row = (a.tiles - 1 - z) * tile_rows;
	if (w.first_row >= w.rows)
		return false;
	visible(a, w, token_of(a, w.first_row), &w.key, &count);
	last = w.first_row + tile_rows < w.rows ? w.first_row + tile_rows : w.rows;
	visible(a, w, token_of(a, last - 1), &begin, &count);
	w.key_end = begin + count < w.key ? w.key : begin + count;
	if (a.splits > 1) {
		int first = w.key;

		tiles = (w.key_end - w.key + tile_keys - 1) / tile_keys;
		w.key = first + uniform((int)((uint32_t)tiles * (uint32_t)w.split / (uint32_t)a.splits)) * tile_keys;
		last = first +
		       uniform((int)((uint32_t)tiles * (uint32_t)(w.split + 1) / (uint32_t)a.splits)) * tile_keys;
		w.key_end = last < w.key_end ? last : w.key_end;
	}
	return true;
}

/* Of this workgroup. */
template <class T>
DEV bool
attn_work_get(attn_args_in &a, int tile_rows, int tile_keys, attn_work &w)
{
	return attn_work_at<T>(a, group_x(), group_y(), group_z(), tile_rows, tile_keys, w);
}

#endif
