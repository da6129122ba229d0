/*
 * intake.h: what a request's body is decoded into, whatever its form: named tensors in the request's
 * memory, and parameters as text. Decoders (decoder.h) fill it; the request reads it when the body
 * has ended. One event loop or helper thread at a time; no locks.
 */
#ifndef AITERD_INTAKE_H
#define AITERD_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "codec/generate.h"
#include "err.h"
#include "ops/op.h"
#include "tensor.h"

#define INTAKE_TENSORS_MAX 24
#define INTAKE_PARAMS_MAX 64
#define INTAKE_VALUE_MAX (64 * 1024) /* bytes of a parameter's value */

struct cJSON;

struct intake_tensor {
	char name[TENSOR_NAME_MAX];
	size_t name_len;
	struct tensor t; /* data set once described; complete once `arrived` */
	bool arrived;
	bool raw; /* numpy's void type (V1, V2): what it holds, the parameter dtype.<name> may say; see intake_finish */
	bool shuffled;	/* still byte-shuffled: set by intake_finish, mended by intake_unshuffle */
	bool kept;	/* its memory is not the request's; see intake_kept_f */
	bool generated; /* as `generate` says; data NULL until intake_reserve, and then still to be filled */
	struct generate generate;
};

struct intake_param {
	char *name, *value; /* one allocation for both; value is text: JSON scalars and lists as written */
};

struct intake_output { /* an output named in the request (OIP "outputs") */
	char name[TENSOR_NAME_MAX];
	bool binary; /* OIP parameters.binary_data */
	bool binary_given;
};

struct intake_limits {
	uint64_t json_bytes; /* largest JSON text, tensor data in it included */
	uint32_t json_depth;
	uint64_t tensor_bytes; /* largest decoded body */
};

/*
 * Finds the tensor that {"tensor":"w1"} means for the input called `input`: describes it in t, with slab, offset and data, and
 * sees to it that it stays there while the request lives. -1 and e when there is none.
 */
typedef int (*intake_kept_f)(void *cls, const char *input, const char *name, struct tensor *t, struct err *e);

struct intake {
	const struct op *op; /* the operator in the path; borrowed. Tells dtypes for V1/V2 npy's and names */
	struct mem *mem;     /* borrowed */
	struct intake_limits limits;
	bool takes_expected; /* candidates' outputs are taken: "expected.out" (check). Set it after intake_init */
	intake_kept_f kept;  /* NULL, as after intake_init: no tensors are kept */
	void *kept_cls;

	struct intake_tensor tensors[INTAKE_TENSORS_MAX];
	int n_tensors;
	struct intake_param params[INTAKE_PARAMS_MAX];
	int n_params;
	struct intake_output outputs[OP_TENSORS_MAX];
	int n_outputs;
	bool binary_output_all; /* OIP parameters.binary_data_output */
	char *id;		/* OIP id, to be echoed; NULL: none */
	char op_named[64];	/* __metadata__.op, if any; the request compares it with the path */
};

void intake_init(struct intake *in, const struct op *op, struct mem *mem, const struct intake_limits *limits);
void intake_fini(struct intake *in);

/*
 * Announce a tensor: checks name (unknown inputs are refused when op is set, with the nearest known one;
 * twice the same is malformed; "expected.*" where it is not taken is ERR_UNEXPECTED_EXPECTED), describes it, borrows memory.
 * AITER's other spellings of an input are stored under the operator's own name.
 * Returns it with data set, or NULL. The caller fills data and sets `arrived`.
 */
struct intake_tensor *intake_tensor(struct intake *in, const char *name, size_t name_len, enum dtype dt, int rank,
				    const int64_t *shape, struct err *e);

/* The same without memory: for a tensor whose data are made or found elsewhere. */
struct intake_tensor *intake_announce(struct intake *in, const char *name, size_t name_len, enum dtype dt, int rank,
				      const int64_t *shape, struct err *e);

/*
 * An input that is no bytes but a source object, {"generate":...} (api/generate.md) or {"tensor":...}; the tree is json_parse's.
 * Checks all of it and announces the tensor. A generated one has no memory yet: what is wrong with the request
 * is found before gigabytes are made (intake_reserve, intake_fill).
 */
int intake_source(struct intake *in, const char *name, size_t name_len, const struct cJSON *object, struct err *e);
/* The parameter `inputs`: the text of {"q":{"generate":...},"k":...}. */
int intake_sources_text(struct intake *in, const char *text, size_t len, struct err *e);
/* Is this member of an input's object one that only sources have? */
bool intake_is_source(const char *member);

/* Are there generated tensors that have no memory yet? Of how many bytes? */
bool intake_unmade(const struct intake *in, uint64_t *bytes);
/* Memory for them; to be filled by: */
int intake_reserve(struct intake *in, struct err *e);
/* Elements [first, first + n) of a generated tensor; any thread, pieces in any order. */
void intake_fill(const struct intake_tensor *it, uint64_t first, uint64_t n);

/* Add a parameter. The same name with the same value is fine, with another ERR_CONFLICTING_PARAMETER. */
int intake_param(struct intake *in, const char *name, size_t name_len, const char *value, size_t value_len,
		 struct err *e);

/* NULL when not given. */
const char *intake_param_find(const struct intake *in, const char *name);

/* Parse the query string (percent-decoded, '+' is a space) into parameters. */
int intake_query(struct intake *in, const char *query, struct err *e);

/*
 * Each member of a JSON object becomes a parameter: strings as their text, numbers, booleans and null as
 * written, arrays as JSON text. Objects are refused, but for `inputs`. The tree is json_parse's, which keeps numbers' text.
 */
int intake_json_params(struct intake *in, const struct cJSON *object, struct err *e);
/* The same from the object's text; `where` ("the part 'params'") is for messages. */
int intake_json_params_text(struct intake *in, const char *text, size_t len, const char *where, struct err *e);
/* One member. `inputs` may be an object. */
int intake_json_param(struct intake *in, const struct cJSON *member, struct err *e);

/*
 * To be called once, when the body has ended and the query string has been read: acts on the parameters that
 * are about how tensors travel, and takes them away, so that only the operator's parameters and run options
 * are left: "inputs" (sources, see intake_source), "dtype.<input>" (what a V1, V2 or uint8 tensor really holds) and
 * "shuffle" ("q,k": which tensors are byte-shuffled).
 */
int intake_finish(struct intake *in, struct err *e);

/* The tensor of this name (or of an alias of it), or NULL. */
struct intake_tensor *intake_tensor_find(struct intake *in, const char *name, size_t len);

/* The operator's tensor that "expected.out" is a candidate for; -1: no such name, or no candidate is taken. */
int intake_expected(const struct intake *in, const char *name, size_t len);

/* Is this the name of one of the operator's inputs, or of a candidate? False when no operator is set. */
bool intake_is_input(const struct intake *in, const char *name, size_t len);

/* Undo the byte-shuffle of the tensors that intake_finish found marked; needs fresh memory for each.
 * May take long (memory-bound): large ones belong on a helper thread. */
int intake_unshuffle(struct intake *in, struct err *e);
/* Bytes that intake_unshuffle will have to move; 0: nothing to do. */
uint64_t intake_shuffled_bytes(const struct intake *in);

/* out[i*size + b] = in[b*n + i]: n elements of 2, 4 or 8 bytes (1: a copy). */
void byte_unshuffle(unsigned char *out, const unsigned char *in, size_t n, unsigned size);
void byte_shuffle(unsigned char *out, const unsigned char *in, size_t n, unsigned size);

#endif
