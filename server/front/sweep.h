/*
 * sweep.h: which cases a bench request asks for. Any size, any parameter and the options impl, dtype, device and mode may be
 * lists; the cases are their product, the first one named varying slowest. Plain data: no request, no device.
 */
#ifndef AITERD_SWEEP_H
#define AITERD_SWEEP_H

#include "codec/intake.h"
#include "ops/op.h"
#include "text.h"

enum sweep_kind {
	SWEEP_SIZE,   /* op->sizes[index] */
	SWEEP_PARAM,  /* op->params[index] */
	SWEEP_OPTION, /* an option that may be a list */
	SWEEP_OTHER   /* another option, or a parameter that changes nothing */
};

struct sweep_axis {
	enum sweep_kind kind;
	int index;
	const char *name; /* as given; the intake's */
	int n;		  /* values */
	char **values;
};

struct sweep {
	const struct op *op;
	int n;
	struct sweep_axis axes[INTAKE_PARAMS_MAX];
	uint64_t cases;
	bool sized; /* sizes, dtype or seed are given: inputs are to be made */
};

/*
 * From a request's parameters. own: the options that only this route has. Every value is looked at: what cannot be a value
 * of its size, parameter or option is refused here, for all cases. sweep_fini in any case.
 */
int sweep_make(struct sweep *s, const struct op *op, const struct intake *in, const struct op_param *own, uint64_t most,
	       struct err *e);
void sweep_fini(struct sweep *s);

/* The value of an axis in case `at`. */
const char *sweep_value(const struct sweep *s, uint64_t at, int axis);
/* By the option's name; NULL when it is not given. */
const char *sweep_option(const struct sweep *s, uint64_t at, const char *name);
/* All sizes of a case, defaults included. */
void sweep_sizes(const struct sweep *s, uint64_t at, int64_t *sizes);
/* Whatever is to be parsed as for a run: parameters and options, with the case's values. */
int sweep_params(const struct sweep *s, uint64_t at, struct intake *in, struct err *e);
/* What was asked for, as a JSON object: {"batch":4,"causal":true}. */
void sweep_case(const struct sweep *s, uint64_t at, struct text *t);

#endif
