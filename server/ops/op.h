/*
 * op.h: the operator table. An operator is one entry (one file, ops/<name>.c): its tensors, dtypes,
 * shape rules, parameters, tolerances, its float64 reference, its fast CPU implementation.
 * Validation, the catalogue, OpenAPI, --help and the tests all read these rows.
 *
 * Shape rules are strings of dimensions, unified over the inputs from left to right:
 *   "B Sq Hq D"   names bind the first time and must be equal afterwards
 *   "M.. N"       one run of any number of dimensions (also none), first in the rule
 *   "B+1"         a name plus a number
 *   "4"           a fixed length
 * An operator with two layouts has a second rule per tensor (`shape_alt`), chosen by its enum parameter `layout`.
 * Dtype rules: "fp32|fp16|bf16", "=q" (the same as input q), "int32".
 * An input's dtype alternatives are checked in order, so "=q" names an earlier input.
 */
#ifndef AITERD_OP_H
#define AITERD_OP_H

#include "err.h"
#include "tensor.h"

#define OP_TENSORS_MAX 12 /* inputs and outputs of one operator together */
#define OP_PARAMS_MAX 16
#define OP_DIMS_MAX 16 /* names in an operator's shape rules */
#define OP_VALUE_INTS 4
#define OP_VARIANT_MAX 96

enum op_role { OP_IN, OP_OUT };

struct op_tensor {
	const char *name; /* NULL ends the list */
	enum op_role role;
	const char *dtypes;
	const char *shape;
	const char *shape_alt; /* the rule when the layout parameter is not at its first choice; NULL: the same */
	const char *aliases;   /* input: AITER's other spellings, "|"-separated, or NULL */
	const char *help;
	bool optional;	   /* input: may be absent; output: only made when its param asks for it */
	const char *asked; /* output: the bool parameter that asks for it ("return_lse") */
};

/* A dimension that stands in the shape rules: all of an operator's are declared, in the order of op_call's dims. */
struct op_dim_info {
	const char *name; /* NULL ends the list */
	const char *help; /* in words, after "the": "number of query heads" */
	int64_t min, max; /* inclusive; max 0: no limit */
};

/*
 * A length that tells how large inputs are which nobody brings: they are made then. One that is named like a dimension of the
 * shape rules is that dimension's length.
 */
struct op_size {
	const char *name;    /* NULL ends the list */
	const char *aliases; /* what people call it, "|"-separated: "batch" */
	const char *help;    /* in words, after "the" */
	const char *like;    /* when it is not given: as long as this one, which stands before it; NULL: see fallback */
	int64_t fallback;
};

enum op_type {
	OP_BOOL,  /* true, false, 1, 0, True, False */
	OP_INT,	  /* a 64-bit integer */
	OP_FLOAT, /* a finite number */
	OP_ENUM,  /* one of `choices`, separated by '|' ; value i[0] = index */
	OP_INTS,  /* a list of up to 4 integers: "[8, 0]", "8,0" or "(8, 0)"; n = how many were given */
		  /* "None" and "null" mean not given, for every parameter that is not required. */
};

struct op_value {
	bool given; /* by the client; otherwise the default was filled in, or there is none */
	uint8_t n;  /* OP_INTS: how many */
	uint16_t reserved0;
	uint32_t reserved1;
	double f;		  /* OP_FLOAT; OP_INT too */
	int64_t i[OP_VALUE_INTS]; /* OP_BOOL: 0 or 1; OP_INT; OP_ENUM: index; OP_INTS */
};

struct op_param {
	const char *name; /* NULL ends the list */
	enum op_type type;
	const char *fallback;	  /* default as text, parsed like a given value; NULL: none (not given) */
	double min, max;	  /* inclusive, for OP_INT and OP_FLOAT (0, 0: any) and each of OP_INTS */
	const char *choices;	  /* OP_ENUM; taken in capitals too */
	const char *unclear;	  /* OP_ENUM: a spelling that means different things to different people, or NULL */
	const char *unclear_help; /* what to give instead of it */
	const char *help;
	const char *aliases; /* AITER's other spellings, "|"-separated, or NULL */
	bool required;
};

/* AITER's parameters that are not offered: refused by name, unless at the value that changes nothing. */
struct op_refused {
	const char *name;    /* NULL ends the list */
	const char *neutral; /* "|"-separated values that are accepted and ignored ("None|0.0"), or NULL */
	const char *help;    /* why, what instead; stands behind "name=value: " */
};

struct op_tolerance {
	enum dtype dtype;
	double atol, rtol;
};

/* One call of an operator: plain data, sent to the worker as it is (with segments for pointers). */
struct op_call {
	uint32_t op; /* index in the table */
	uint32_t reserved0;
	struct tensor tensors[OP_TENSORS_MAX]; /* in the order of op->tensors; absent: dtype DT_NONE */
	struct op_value params[OP_PARAMS_MAX]; /* in the order of op->params */
	int64_t dims[OP_DIMS_MAX];	       /* bound lengths, in the order op_dim_name() tells */
};

struct compute; /* worker/compute.h: threads and counted memory */

typedef int (*op_run_f)(const struct op_call *c, struct compute *ctx, struct err *e);

struct op {
	const char *name;
	const char *summary; /* one sentence */
	const char *help;    /* a paragraph or more for GET /v1/ops/{op} */
	const struct op_tensor *tensors;
	const struct op_dim_info *dims;
	const struct op_size *sizes;
	const struct op_param *params;
	const struct op_refused *refused;
	const struct op_tolerance *tolerances;
	const char *tolerance_source; /* where they come from, in words */
	const char *example;	      /* a curl line; @HOST@ is replaced by the server's address */
	const char *layout; /* the OP_ENUM parameter of two choices that chooses between shape and shape_alt, or NULL */
	const char *fp8_note; /* a sentence added to errors about fp8 inputs, or NULL */

	/* Called with dims bound and params parsed; what strings cannot say. May change params and
	 * must not touch tensor data (inputs that rule shapes by value are checked in `check_data`). */
	int (*check)(struct op_call *c, struct err *e);
	/* NULL or: called in the front when the inputs have arrived; may read small inputs (cu_seqlens). */
	int (*check_data)(const struct op_call *c, struct err *e);
	/* NULL or: the dimensions and parameters that follow from sizes, where they are not sizes themselves (the total of
	 * packed sequences); sizes in the order of op->sizes, c->dims holds those named alike. */
	int (*size)(struct op_call *c, const int64_t *sizes, struct err *e);
	/* NULL or: write input i, whose values mean something (cu_seqlens), as sizes say. False: any numbers will do. */
	bool (*make_input)(const struct op_call *c, int i, const int64_t *sizes);
	/* NULL or: do the bound lengths look like what people mean? Only used to suggest the other layout. */
	bool (*plausible)(const struct op_call *c);
	/* NULL or: writes hints, one per call of `add`. */
	void (*hints)(const struct op_call *c, void (*add)(void *cls, const char *text), void *cls);
	/* Floating-point operations, and bytes that must move at least (each input read, each output written). */
	double (*flop)(const struct op_call *c);
	const char *flop_help; /* how they are counted */

	/* All run in a worker; tensors' data point to host memory. They write the outputs present in
	 * the call (an optional output not asked for is DT_NONE). */
	op_run_f ref;	/* plain float64 loops: the oracle; rounds to the output dtype once, at the end */
	op_run_f cpu;	/* fast; sets compute_variant() */
	op_run_f naive; /* unfused baseline on the CPU, threaded and vectorised fairly; NULL: none */

	bool aiter; /* AITER has code objects for it: gpu_ops.c has their planner */
};

/* The table: op_count() entries. */
uint32_t op_count(void);
const struct op *op_get(uint32_t index);
/* NULL if there is none; *index is set when found (may be NULL). */
const struct op *op_find(const char *name, size_t len, uint32_t *index);

/* Index of a tensor or parameter (aliases too) by name, or -1. */
int op_tensor_find(const struct op *op, const char *name, size_t len);
int op_param_find(const struct op *op, const char *name, size_t len);

/* Is `name` the known name or one of the "|"-separated aliases (or NULL)? */
bool op_name_is(const char *known, const char *aliases, const char *name, size_t len);

/* "a|b|c" for people: "a, b or c"; returns buf. */
char *op_list_words(const char *list, char *buf, size_t size);

/* How many tensors, parameters, dimensions the operator has. */
int op_tensor_count(const struct op *op);
int op_param_count(const struct op *op);
int op_dim_count(const struct op *op);

/* Name of dimension i as in op_call's dims; NULL past the last. */
const char *op_dim_name(const struct op *op, int i);

/* How many sizes the operator has; one by its name (aliases too) or -1. */
#define OP_SIZES_MAX 12
int op_size_count(const struct op *op);
int op_size_find(const struct op *op, const char *name, size_t len);

/* Lengths not given (-1) get their defaults. */
void op_sizes_finish(const struct op *op, int64_t *sizes);

/* The dtype that inputs are made of when none is named: fp16 where the operator takes it. */
enum dtype op_default_dtype(const struct op *op);

/*
 * Describe the inputs of a call as sizes say: dtype, shape, bytes of all that are not optional; no data. Parameters given must
 * be in c already (a layout); those that follow from sizes are set. What the operator refuses, op_bind() says afterwards.
 */
int op_sizes_call(const struct op *op, const int64_t *sizes, enum dtype dt, struct op_call *c, struct err *e);

/* The rule that holds for tensor i in this call (its layout parameter decides). */
const char *op_shape_rule(const struct op *op, const struct op_call *c, int i);

/* Text from anywhere (query, form, JSON scalar or list as text) to a value. */
int op_value_parse(const struct op_param *p, const char *text, size_t len, struct op_value *v, struct err *e);

/*
 * A parameter that op_param_find does not know. 1: it is one of AITER's and at a value that changes nothing,
 * ignore it. -1 and an error: AITER has it but this value is not offered. 0: AITER has none of this name.
 */
int op_refused_check(const struct op *op, const char *name, size_t name_len, const char *text, size_t text_len,
		     struct err *e);

/* The error for a parameter that nobody knows, with the nearest known name; `more`: names of run options. */
int op_param_unknown(const struct op *op, const char *name, size_t len, const char *const *more, size_t n_more,
		     struct err *e);
/* The same for an input, which may also be an output's name or a parameter's. */
int op_input_unknown(const struct op *op, const char *name, size_t len, struct err *e);

/* A parameter's default; not given. All zero where there is none. */
void op_default(const struct op_param *p, struct op_value *v);

/* Fill defaults of all params not yet given, for an operator of the table; refuses a missing required one. */
int op_params_finish(const struct op *op, struct op_call *c, struct err *e);

/*
 * Check that the inputs (tensors of role OP_IN set in c, others DT_NONE) fit the rules, bind dims,
 * call op->check, then describe the outputs (dtype, shape, bytes; data and segments stay unset;
 * outputs not asked for stay DT_NONE). Errors name input, found and wanted.
 */
int op_bind(const struct op *op, struct op_call *c, struct err *e);

/* True when the call's inputs would also fit the operator's other layout, and plausibly so. */
bool op_other_layout_fits(const struct op *op, const struct op_call *c);

/* The rule in words: "B Sq Hq D" is "[batch size, query length, ...]"; returns buf. */
char *op_shape_words(const struct op *op, const char *rule, char *buf, size_t size);

/* Bound length of a dimension by its name ("Hq"); -1 when the operator has none. "M" of "M.." is the
 * product of the run. */
int64_t op_dim(const struct op_call *c, const char *name);

/* Bytes of present inputs plus present outputs: the fewest that must move. */
double op_bytes_moved(const struct op_call *c);

const struct op_tolerance *op_tolerance(const struct op *op, enum dtype dt);

/* The one of `names` nearest to `name` ("did you mean"), or NULL when none is near. NULL entries are skipped. */
const char *op_nearest(const char *name, size_t len, const char *const *names, size_t count);

/* Convenience for implementations. */
static inline const struct tensor *
op_in(const struct op_call *c, int i)
{
	return c->tensors[i].dtype == DT_NONE ? NULL : &c->tensors[i];
}

#endif
