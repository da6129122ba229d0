/*
 * args.c: aiterctl's command line: one table of options, one of commands; help, completion and parsing read them. Owns
 * the list of arguments, not their text.
 */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

enum type { FLAG, TEXT, COUNT, SECONDS, OUTPUT };

/* In which commands an option means something. */
enum {
	IN_RUN = 1,
	IN_CHECK = 2,
	IN_BENCH = 4,
	IN_TENSORS = 8,
	IN_TOP = 16,
	IN_JOBS = 32,
	IN_GENERATE = 64,
	IN_ALL = 0xffff
};

static const struct option {
	const char *name, *value; /* value: what stands for it in the help */
	char letter;
	enum type type;
	unsigned in;
	size_t at;
	const char *help;
} options[] = {
	{"url", "URL", 'u', TEXT, IN_ALL, offsetof(struct options, url),
	 "the server: http://HOST:PORT, unix:PATH; else AITERD_URL, else http://127.0.0.1:8000"},
	{"json", NULL, 0, FLAG, IN_ALL, offsetof(struct options, json),
	 "JSON on standard output, for programs; bench: a line for each case"},
	{"quiet", NULL, 'q', FLAG, IN_ALL, offsetof(struct options, quiet),
	 "no progress, and no words about what was done"},
	{"compress", "gzip|zstd", 0, TEXT, IN_ALL, offsetof(struct options, compress),
	 "compress what is sent; for slow links"},
	{"retries", "N", 0, COUNT, IN_ALL, offsetof(struct options, retries),
	 "ask a busy server again so often (default 3, for 30 s in all)"},
	{"timeout", "SECONDS", 0, SECONDS, IN_ALL, offsetof(struct options, timeout_s),
	 "give up on a request after so long (default: never; the server has a limit)"},
	{"output", "FILE", 'o', OUTPUT, IN_RUN | IN_TENSORS | IN_JOBS | IN_GENERATE, 0,
	 "write the output: a .npy or .safetensors file, - for standard output, NAME=FILE for one of several"},
	{"keep", NULL, 0, FLAG, IN_RUN | IN_CHECK | IN_BENCH, offsetof(struct options, keep),
	 "leave large inputs on the server, and send only those that are not there"},
	{"save", "FILE", 0, TEXT, IN_CHECK, offsetof(struct options, save),
	 "write the case (inputs, candidate, verdict) as .safetensors, to be checked again"},
	{"background", NULL, 'b', FLAG, IN_RUN | IN_CHECK | IN_BENCH, offsetof(struct options, background),
	 "hand it over as a job and print the job's id (see aiterctl jobs)"},
	{"ttl", "SECONDS", 0, COUNT, IN_TENSORS, offsetof(struct options, ttl_s),
	 "put: how long an unused tensor stays (default: the server's)"},
	{"interval", "SECONDS", 'd', SECONDS, IN_TOP, offsetof(struct options, interval_s),
	 "between two views (default 2)"},
	{"count", "N", 'n', COUNT, IN_TOP, offsetof(struct options, count), "leave after so many views"},
};
#define N_OPTIONS (sizeof(options) / sizeof(options[0]))

static const struct command {
	const char *name, *usage;
	unsigned in;
	const char *help, *more;
} commands[] = {
	{"info", "", 0, "versions, devices and what they can run", NULL},
	{"ops", "[OPERATOR]", 0, "the operators, or one of them with all its inputs and parameters", NULL},
	{"run", "OPERATOR [NAME=VALUE]... [FILE.safetensors] [-o FILE]", IN_RUN, "run an operator",
	 "VALUE of an input: a .npy or .safetensors file (FILE#NAME: one of its tensors), @NAME for a kept tensor, or one\n"
	 "that the server makes: KIND:SHAPE:DTYPE[:seed=N...], KIND being normal, uniform, zeros, ones, arange or randint.\n"
	 "Other names are parameters and run options (aiterctl ops OPERATOR). keep.OUTPUT=NAME keeps an output.\n"
	 "Without -o the outputs stay where they are, and their digests are printed.\n"
	 "  aiterctl run flash_attn_func q=q.npy k=k.npy v=v.npy causal=true -o out.npy\n"
	 "  aiterctl run rmsnorm x=normal:1024x4096:fp16:seed=7 weight=ones:4096:fp16 iters=20\n"},
	{"check", "OPERATOR [NAME=VALUE]... expected.OUTPUT=FILE | FILE.safetensors", IN_CHECK,
	 "compare your result with the kernel's and with float64; status 1 if it fails",
	 "  aiterctl check flash_attn_func q=q.npy k=k.npy v=v.npy causal=true expected.out=mine.npy\n"
	 "  aiterctl check case.safetensors     a case that --save wrote, once more\n"
	 "rtol=, atol= set the tolerances, runs=K tests whether the kernel gives the same bits K times.\n"},
	{"bench", "OPERATOR [NAME=VALUE[,VALUE]...]...", IN_BENCH, "time an operator over one case or a sweep of them",
	 "Lengths by the names of dimensions; a list of values is a sweep:\n"
	 "  aiterctl bench flash_attn_func batch=1,4,16,64 seqlen=512 heads=8 head_dim=64 dtype=fp16 baseline=naive\n"},
	{"tensors", "[list | put NAME=SOURCE... | get NAME [-o FILE] | rm NAME...]", IN_TENSORS,
	 "tensors that the server keeps between requests", NULL},
	{"generate", "KIND:SHAPE:DTYPE[:seed=N...] -o FILE", IN_GENERATE,
	 "make here the tensor that the server would make",
	 "KIND is normal, uniform, zeros, ones, arange or randint. An input of a run has the stream of its position:\n"
	 "  aiterctl generate normal:2x512x8x64:fp16:seed=7:stream=1 -o k.npy   is k=normal:2x512x8x64:fp16:seed=7\n"},
	{"top", "", IN_TOP, "devices, queue and operators, again and again", NULL},
	{"jobs", "[list | show ID | wait ID | get ID [-o FILE] | cancel ID]", IN_JOBS,
	 "requests that were handed over with -b", NULL},
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *
find_command(const char *name)
{
	for (size_t i = 0; name && i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

bool
args_is_command(const char *name)
{
	return find_command(name) != NULL;
}

static bool
applies(const struct option *o, const struct command *cmd)
{
	return o->in == IN_ALL || (cmd && (o->in & cmd->in));
}

static void
help_options(FILE *to, const struct command *cmd)
{
	char left[40];

	fprintf(to, "\nOptions:\n");
	for (size_t i = 0; i < N_OPTIONS; i++) {
		const struct option *o = &options[i];

		if (!applies(o, cmd))
			continue;
		snprintf(left, sizeof(left), "%c%c%s--%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
			 o->letter ? ", " : "  ", o->name, o->value ? " " : "", o->value ? o->value : "");
		fprintf(to, "  %-26s %s\n", left, o->help);
	}
}

void
args_help(FILE *to, const char *command)
{
	const struct command *cmd = find_command(command);

	if (cmd) {
		fprintf(to, "Usage: aiterctl %s%s%s\n\n%c%s.\n", cmd->name, *cmd->usage ? " " : "", cmd->usage,
			cmd->help[0] - 'a' + 'A', cmd->help + 1);
		if (cmd->more)
			fprintf(to, "\n%s", cmd->more);
		help_options(to, cmd);
		return;
	}
	fprintf(to, "Usage: aiterctl COMMAND [ARGUMENT]... [OPTION]...\n\nCommands:\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].help);
	help_options(to, NULL);
	fprintf(to,
		"\naiterctl COMMAND --help tells more of one. Status: 0 fine, 1 a check failed, 2 usage, 3 refused,\n"
		"4 no server, 5 server or device failed, 6 cannot write. Manual: aiterctl(1).\n");
}

void
args_list(FILE *to, const char *command)
{
	const struct command *cmd = find_command(command);

	if (!cmd)
		for (size_t i = 0; i < N_COMMANDS; i++)
			fprintf(to, "%s\n", commands[i].name);
	for (size_t i = 0; cmd && i < N_OPTIONS; i++)
		if (applies(&options[i], cmd))
			fprintf(to, "--%s\n", options[i].name);
}

static int
number(const struct option *o, const char *value, double *v)
{
	char *end;

	errno = 0;
	*v = strtod(value, &end);
	if (end == value || *end || errno || !isfinite(*v) || *v < 0 || *v > 1e9 ||
	    (o->type == COUNT && *v != floor(*v)))
		return fail_usage("--%s '%s' is no %s", o->name, value,
				  o->type == COUNT ? "whole number from 0 to 1000000000" : "number of seconds");
	return 0;
}

static int
take(struct options *o, const struct option *opt, const char *value)
{
	char *base = (char *)o + opt->at;
	double v;
	int rc;

	switch (opt->type) {
	case FLAG:
		*(bool *)base = true;
		return 0;
	case TEXT:
		*(const char **)(void *)base = value;
		return 0;
	case OUTPUT:
		if (o->n_outputs == OUTPUTS_MAX)
			return fail_usage("-o is given more than %d times", OUTPUTS_MAX);
		o->outputs[o->n_outputs++] = value;
		return 0;
	case COUNT:
		rc = number(opt, value, &v);
		if (!rc)
			*(long *)(void *)base = (long)v;
		return rc;
	case SECONDS:
		rc = number(opt, value, &v);
		if (!rc)
			*(double *)(void *)base = v;
		return rc;
	}
	return 0;
}

static const struct option *
find_option(const char *name, size_t len, char letter)
{
	for (size_t i = 0; i < N_OPTIONS; i++)
		if (letter ? options[i].letter == letter
			   : strlen(options[i].name) == len && strncmp(options[i].name, name, len) == 0)
			return &options[i];
	return NULL;
}

struct given {
	const struct option *option;
	const char *value;
};

static bool
is_help(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

/* One argument that begins with '-'; *i moves on when its value is the next one. */
static int
parse_option(int argc, char **argv, int *i, const char *command, struct given *g)
{
	const char *arg = argv[*i], *value = NULL;
	size_t len = 0;

	if (arg[1] == '-') {
		len = strcspn(arg + 2, "=");
		g->option = find_option(arg + 2, len, 0);
		value = arg[2 + len] == '=' ? arg + 3 + len : NULL;
	} else {
		g->option = find_option(NULL, 0, arg[1]);
		value = arg[2] ? arg + 2 : NULL;
	}
	if (!g->option)
		return fail_usage("there is no option %s; aiterctl %s%s--help lists them", arg, command ? command : "",
				  command ? " " : "");
	if (g->option->type == FLAG && value)
		return fail_usage("--%s takes no value", g->option->name);
	if (g->option->type != FLAG && !value) {
		if (*i + 1 == argc)
			return fail_usage("--%s wants %s", g->option->name, g->option->value);
		value = argv[++*i];
	}
	g->value = value;
	return 0;
}

int
args_parse(struct options *o, int argc, char **argv, const char **command)
{
	struct given *given = calloc((size_t)argc + 1, sizeof(*given));
	int n_given = 0, rc = 0;
	bool help = false, only_args = false;

	*command = NULL;
	*o = (struct options){.retries = -1, .interval_s = 2, .args = calloc((size_t)argc + 1, sizeof(*o->args))};
	if (!given || !o->args) {
		fprintf(stderr, "aiterctl: there is not enough memory\n");
		rc = EXIT_LOCAL;
	}
	for (int i = 1; i < argc && !rc; i++) {
		if (only_args || argv[i][0] != '-' || !argv[i][1]) {
			if (!*command)
				*command = argv[i];
			else
				o->args[o->n_args++] = argv[i];
		} else if (strcmp(argv[i], "--") == 0) {
			only_args = true;
		} else if (strcmp(argv[i], "--version") == 0) {
			printf("aiterctl %s\n", aiterd_version());
			*command = NULL;
			goto out;
		} else if (is_help(argv[i])) {
			help = true;
		} else {
			rc = parse_option(argc, argv, &i, *command, &given[n_given]);
			n_given += !rc;
		}
	}
	if (!rc && *command && strcmp(*command, "help") == 0) {
		*command = o->n_args ? o->args[0] : NULL;
		help = true;
	}
	if (!rc && *command && strcmp(*command, "_complete") != 0 && !args_is_command(*command))
		rc = fail_usage(
			"there is no command '%s'; there are info, ops, run, check, bench, tensors, generate, top and jobs",
			*command);
	for (int i = 0; i < n_given && !rc && !help; i++) {
		if (*command && strcmp(*command, "_complete") != 0 && !applies(given[i].option, find_command(*command)))
			rc = fail_usage("--%s means nothing to aiterctl %s", given[i].option->name, *command);
		else
			rc = take(o, given[i].option, given[i].value);
	}
	if (!rc && help) {
		args_help(stdout, *command);
		*command = NULL;
	} else if (!rc && !*command) {
		args_help(stderr, NULL);
		rc = EXIT_USAGE;
	}
out:
	free(given);
	return rc;
}
