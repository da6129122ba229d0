/*
 * run_options.c: the options of a run that belong to no operator. They share one namespace with the operator's
 * parameters, and are parsed by the same code; the catalogue lists both.
 */
#include <pthread.h>
#include <string.h>
#include <strings.h>

#include "front/request.h"

enum {
	RO_IMPL,
	RO_DEVICE,
	RO_OUTPUTS,
	RO_WARMUP,
	RO_ITERS,
	RO_FLUSH,
	RO_BASELINE,
	RO_DRY_RUN,
	RO_TIMEOUT_MS,
	RO_FORMAT,
	RO_JSON,
	RO_SHUFFLE,
	RO_INPUTS,
	RO_COUNT
};

static const struct op_param options[] = {
	[RO_IMPL] = {.name = "impl",
		     .type = OP_ENUM,
		     .fallback = "auto",
		     .choices = "auto|aiter|own|naive|reference",
		     .help = "Which implementation: auto takes AITER's where it has one for this shape and dtype, else our own; "
			     "naive is the unfused one, reference the float64 oracle."},
	[RO_DEVICE] = {.name = "device",
		       .type = OP_ENUM,
		       .fallback = "auto",
		       .choices = NULL,
		       .help = "auto, or a device from GET /v1/info, such as cpu:0."},
	[RO_OUTPUTS] =
		{.name = "outputs",
		 .type = OP_ENUM,
		 .fallback = "all",
		 .choices = "all|none|digest",
		 .help = "What of the outputs comes back: their data, nothing, or SHA-256, min, max, mean and NaN count."},
	[RO_WARMUP] = {.name = "warmup",
		       .type = OP_INT,
		       .fallback = "0",
		       .min = 0,
		       .max = 1e8,
		       .help = "Untimed runs before the timed ones."},
	[RO_ITERS] = {.name = "iters",
		      .type = OP_INT,
		      .fallback = "1",
		      .min = 1,
		      .max = 1e8,
		      .help = "Timed runs; kernel_ms summarises them."},
	[RO_FLUSH] = {.name = "flush",
		      .type = OP_BOOL,
		      .fallback = "false",
		      .help = "Clear the device's caches before each timed run."},
	[RO_BASELINE] = {.name = "baseline",
			 .type = OP_ENUM,
			 .fallback = "none",
			 .choices = "none|naive",
			 .help = "naive: also time the unfused implementation on the same device, and report the speed-up "
				 "and the largest difference."},
	[RO_DRY_RUN] = {.name = "dry_run",
			.type = OP_BOOL,
			.fallback = "false",
			.help = "Check the request and say what would run and why, without running it."},
	[RO_TIMEOUT_MS] = {.name = "timeout_ms",
			   .type = OP_FLOAT,
			   .fallback = NULL,
			   .min = 1e-3,
			   .max = 86400000,
			   .help = "Milliseconds the request may take from its last byte to its result; the server's "
				   "own limit (GET /v1/limits) stays."},
	[RO_FORMAT] = {.name = "format",
		       .type = OP_ENUM,
		       .fallback = NULL,
		       .choices = "npy|safetensors|json",
		       .help = "The reply's form; before the Accept header."},
	[RO_JSON] = {.name = "json",
		     .type = OP_ENUM,
		     .fallback = "list",
		     .choices = "list|base64",
		     .help = "In a JSON reply: tensors as lists of numbers, or base64 of their bytes."},
	/* these two: acted upon, and taken away, by intake_finish() */
	[RO_SHUFFLE] = {.name = "shuffle",
			.type = OP_ENUM,
			.fallback = NULL,
			.choices = NULL,
			.help = "Inputs that were byte-shuffled before compression, such as q,k,v."},
	[RO_INPUTS] =
		{.name = "inputs",
		 .type = OP_ENUM,
		 .fallback = NULL,
		 .choices = NULL,
		 .help = "Inputs that are not sent but told, as JSON: {\"q\":{\"generate\":\"normal\",\"dtype\":\"fp16\","
			 "\"shape\":[2,512,8,64],\"seed\":7}}; api/generate.md says what is made."},
	[RO_COUNT] = {.name = NULL},
};

const struct op_param *
run_option_table(void)
{
	return options;
}

int
option_find(const struct op_param *table, const char *name, size_t len)
{
	int i;

	for (i = 0; table != NULL && table[i].name != NULL; i++)
		if (len > 0 && table[i].name[0] == name[0] && strlen(table[i].name) == len &&
		    memcmp(table[i].name, name, len) == 0)
			return i;
	return -1;
}

int
run_option_find(const char *name, size_t len)
{
	return option_find(options, name, len);
}

int
option_values(const struct op_param *table, struct op_value *v, const struct intake *in, struct err *e)
{
	for (int i = 0; table[i].name != NULL; i++) {
		const char *text = intake_param_find(in, table[i].name);

		op_default(&table[i], &v[i]);
		if (table[i].type == OP_ENUM && table[i].choices == NULL) /* a text that is looked at elsewhere */
			continue;
		if (text != NULL && op_value_parse(&table[i], text, strlen(text), &v[i], e) == -1)
			return -1;
		if (!v[i].given) /* "None" stands for not given */
			op_default(&table[i], &v[i]);
	}
	return 0;
}

double
run_option_max(const struct service *svc, int i)
{
	return i == RO_WARMUP || i == RO_ITERS ? (double)svc->opt->max_iters : options[i].max;
}

/* A text that is looked at elsewhere: no list of choices could be complete. */
static bool
is_text(int i)
{
	return options[i].type == OP_ENUM && options[i].choices == NULL;
}

static struct op_value defaults[RO_COUNT];

static void
read_defaults(void)
{
	for (int i = 0; i < RO_COUNT; i++)
		if (!is_text(i))
			op_default(&options[i], &defaults[i]);
}

/* The options that intake holds, parsed; of the others, the defaults. */
static int
read_values(struct op_value v[RO_COUNT], const struct intake *in, const struct service *svc, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, read_defaults);
	memcpy(v, defaults, sizeof(defaults));
	for (int k = 0; k < in->n_params; k++) {
		const char *text = in->params[k].value;
		int i = run_option_find(in->params[k].name, strlen(in->params[k].name));
		struct op_param p;

		if (i < 0 || is_text(i))
			continue;
		p = options[i];
		p.max = run_option_max(svc, i);
		if (op_value_parse(&p, text, strlen(text), &v[i], e) == -1)
			return -1;
		if (!v[i].given) /* "None" stands for not given */
			v[i] = defaults[i];
	}
	return 0;
}

int
run_options_parse(struct run_options *o, const struct intake *in, const struct service *svc, struct err *e)
{
	static const enum impl impls[] = {IMPL_AUTO, IMPL_AITER, IMPL_OWN, IMPL_NAIVE, IMPL_REFERENCE};
	static const enum data_mode modes[] = {DATA_ALL, DATA_NONE, DATA_DIGEST};
	static const char *const forms[] = {"npy", "safetensors", "json"};
	struct op_value v[RO_COUNT];

	if (read_values(v, in, svc, e) == -1)
		return -1;
	o->warmup = (uint32_t)v[RO_WARMUP].i[0];
	o->iters = (uint32_t)v[RO_ITERS].i[0];
	o->impl = impls[v[RO_IMPL].i[0]];
	o->outputs = modes[v[RO_OUTPUTS].i[0]];
	o->baseline = v[RO_BASELINE].i[0] == 1 ? IMPL_NAIVE : IMPL_AUTO;
	o->flush = v[RO_FLUSH].i[0] != 0;
	o->dry_run = v[RO_DRY_RUN].i[0] != 0;
	o->base64 = v[RO_JSON].i[0] == 1;
	o->timeout_s = svc->opt->timeout;
	if (v[RO_TIMEOUT_MS].given && v[RO_TIMEOUT_MS].f / 1e3 < o->timeout_s)
		o->timeout_s = v[RO_TIMEOUT_MS].f / 1e3;
	o->format = v[RO_FORMAT].given ? forms[v[RO_FORMAT].i[0]] : NULL;
	o->device = intake_param_find(in, "device");
	if (o->device == NULL || strcasecmp(o->device, "none") == 0 || strcasecmp(o->device, "null") == 0)
		o->device = "auto";
	return 0;
}
