/*
 * cases.h: attention calls for the kernel tests, made up from a few numbers: tensors of normal numbers from a fixed
 * seed, parameters, the float64 answer of the operator's reference.
 */
#ifndef AITERD_TESTS_CASES_H
#define AITERD_TESTS_CASES_H

#include "ops/op.h"

#define CASE_SEQS 6

/* What is put into inputs that numbers should not be: one value at a time, in one row and column. */
enum odd { ODD_NONE, ODD_Q_NAN, ODD_Q_INF, ODD_K_NAN, ODD_K_INF, ODD_K_MINUS_INF, ODD_V_NAN, ODD_V_INF, ODD_V_BOTH };

struct attn_case {
	const char *name;
	int b, sq, sk, hq, hk, d, dv;
	int causal;
	int left, right; /* 0, 0: no window */
	double scale;	 /* 0: the default; NAN: really 0 */
	int bhsd;
	double grow; /* the last key is so many times as long as the first; 0: all alike. For a maximum that moves */
	int len_q[CASE_SEQS], len_k[CASE_SEQS]; /* b > 0 and sq == 0: variable length, b of them */
	enum odd odd;
};

struct attn_made {
	const struct op *op;
	struct op_call call;   /* inputs on the host */
	struct tensor want[2]; /* out, lse: fp64 */
	void *memory[16];
	int n_memory;
};

int attn_made_make(const struct attn_case *c, enum dtype dt, struct attn_made *m, struct err *e);
void attn_made_free(struct attn_made *m);

#endif
