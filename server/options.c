/*
 * options.c: every option of aiterd from one table (options.def): the command line, the environment,
 * --help and the man page. Called once by main(), before there are threads; owns nothing.
 */
#include "options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/op.h"

enum option_type { STR, NUM, SIZE, SECS };

struct option_row {
	const char *name; /* without the dashes */
	enum option_type type;
	size_t offset; /* in struct options */
	const char *fallback;
	const char *arg;
	double min, max; /* inclusive; STR: unused */
	const char *help;
};

static const struct option_row rows[] = {
#define O(field, type, name, fallback, arg, min, max, help)                                                            \
	{name, type, offsetof(struct options, field), fallback, arg, min, max, help},
#include "options.def"
#undef O
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))
#define NAME_MAX_LEN 40
#define HELP_WIDTH 79
#define HELP_INDENT 8

/* AITERD_MAX_BODY for max-body. */
static void
options_env_name(const struct option_row *r, char name[NAME_MAX_LEN])
{
	char *p = name + snprintf(name, NAME_MAX_LEN, "AITERD_");

	assert(strlen(r->name) + sizeof("AITERD_") <= NAME_MAX_LEN);
	for (const char *s = r->name; *s != '\0'; s++)
		*p++ = *s == '-' ? '_' : (char)toupper((unsigned char)*s);
	*p = '\0';
}

/* Where a value came from, for messages: "--max-body" or "AITERD_MAX_BODY". */
static int
options_bad(struct err *e, const char *from, const char *value, const char *wanted)
{
	return err_param(e, ERR_INVALID_PARAMETER, from, value, wanted, "%s: found '%.100s', wanted %s", from, value,
			 wanted);
}

static bool
options_digits(const char *s)
{
	if (*s == '-' || *s == '+')
		s++;
	return isdigit((unsigned char)*s) != 0;
}

static int
options_num(const struct option_row *r, const char *from, const char *value, int64_t *out, struct err *e)
{
	char wanted[120], *end;
	long long v;

	snprintf(wanted, sizeof(wanted), "an integer from %.0f to %.0f", r->min, r->max);
	errno = 0;
	v = strtoll(value, &end, 10);
	if (!options_digits(value) || *end != '\0' || errno != 0 || (double)v < r->min || (double)v > r->max)
		return options_bad(e, from, value, wanted);
	*out = v;
	return 0;
}

/* 1.5G is refused: sizes are whole numbers of their unit. */
static int
options_size(const struct option_row *r, const char *from, const char *value, uint64_t *out, struct err *e)
{
	static const char units[] = "KMGT";
	char wanted[160], *end;
	unsigned long long v;
	unsigned shift = 0;
	const char *unit;

	snprintf(wanted, sizeof(wanted), "a number of bytes from %.0f to %.0f, whole, as such or with K, M, G or T",
		 r->min, r->max);
	if (!isdigit((unsigned char)*value))
		return options_bad(e, from, value, wanted);
	errno = 0;
	v = strtoull(value, &end, 10);
	if (errno != 0)
		return options_bad(e, from, value, wanted);
	if (*end != '\0') {
		unit = strchr(units, toupper((unsigned char)*end));
		if (unit == NULL || end[1] != '\0')
			return options_bad(e, from, value, wanted);
		shift = 10u * (unsigned)(unit - units + 1);
	}
	if (v > UINT64_MAX >> shift || (double)(v << shift) < r->min || (double)(v << shift) > r->max)
		return options_bad(e, from, value, wanted);
	*out = v << shift;
	return 0;
}

static int
options_secs(const struct option_row *r, const char *from, const char *value, double *out, struct err *e)
{
	char wanted[120], *end;
	double v;

	snprintf(wanted, sizeof(wanted), "seconds from %.10g to %.10g, with decimals if need be", r->min, r->max);
	/* strtod alone would also take "nan", "infinity" and hexadecimal. */
	if (value[strspn(value, "0123456789.eE+-")] != '\0')
		return options_bad(e, from, value, wanted);
	v = strtod(value, &end);
	if (end == value || *end != '\0' || !(v >= r->min && v <= r->max))
		return options_bad(e, from, value, wanted);
	*out = v;
	return 0;
}

static int
options_set(struct options *o, const struct option_row *r, const char *from, const char *value, struct err *e)
{
	char *field = (char *)o + r->offset;

	switch (r->type) {
	case STR:
		*(const char **)(void *)field = value;
		return 0;
	case NUM:
		return options_num(r, from, value, (int64_t *)(void *)field, e);
	case SIZE:
		return options_size(r, from, value, (uint64_t *)(void *)field, e);
	case SECS:
		return options_secs(r, from, value, (double *)(void *)field, e);
	}
	assert(0);
	return -1;
}

static const struct option_row *
options_find(const char *name, size_t len)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
			return &rows[i];
	return NULL;
}

static int
options_unknown(const char *word, size_t len, struct err *e)
{
	const char *names[ROWS], *nearest;

	for (size_t i = 0; i < ROWS; i++)
		names[i] = rows[i].name;
	nearest = op_nearest(word, len, names, ROWS);
	return err_param(e, ERR_UNKNOWN_PARAMETER, "", word, "an option that --help lists",
			 "there is no option --%.*s%s%s; --help lists them", (int)(len < 60 ? len : 60), word,
			 nearest != NULL ? "; did you mean --" : "", nearest != NULL ? nearest : "");
}

/* One word of the command line, and the next one where the value stands there; *i moves along. */
static int
options_word(struct options *o, int argc, char **argv, int *i, struct err *e)
{
	const char *word = argv[*i], *value;
	char from[NAME_MAX_LEN];
	const struct option_row *r;
	size_t len;

	if (strncmp(word, "--", 2) != 0 || word[2] == '\0')
		return err_param(e, ERR_UNKNOWN_PARAMETER, "", word, "--name VALUE or --name=VALUE",
				 "'%.60s' is no option: options are --name VALUE or --name=VALUE; --help lists them",
				 word);
	word += 2;
	len = strcspn(word, "=");
	r = options_find(word, len);
	if (r == NULL)
		return options_unknown(word, len, e);
	snprintf(from, sizeof(from), "--%s", r->name);
	if (word[len] == '=') {
		value = word + len + 1;
	} else {
		if (*i + 1 >= argc)
			return err_param(e, ERR_INVALID_PARAMETER, from, "nothing", r->arg,
					 "%s: its value %s is missing", from, r->arg);
		value = argv[++*i];
	}
	return options_set(o, r, from, value, e);
}

/* Print `t` whole; a full disk or a closed pipe is not a success. */
static enum options_verdict
options_print(struct text *t, struct err *e)
{
	enum options_verdict verdict = OPTIONS_EXIT;

	if (t->failed || fputs(t->p, stdout) == EOF || fflush(stdout) == EOF) {
		err_set(e, ERR_INTERNAL, "cannot write to standard output: %s", strerror(errno));
		verdict = OPTIONS_BAD;
	}
	text_fini(t);
	return verdict;
}

enum options_verdict
options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	char env[NAME_MAX_LEN];
	const char *value;
	struct text t;

	memset(o, 0, sizeof(*o));
	for (int i = 1; i < argc; i++) {
		bool help = strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0,
		     man = strcmp(argv[i], "--man") == 0;

		if (!help && !man && strcmp(argv[i], "--version") != 0)
			continue;
		text_init(&t, 1 << 20);
		if (help)
			options_help(&t);
		else if (man)
			options_man(&t);
		else
			text_addf(&t, "aiterd %s\n", PACKAGE_VERSION);
		return options_print(&t, e);
	}
	for (size_t i = 0; i < ROWS; i++) {
		if (options_set(o, &rows[i], "default", rows[i].fallback, e) < 0)
			return OPTIONS_BAD;
		options_env_name(&rows[i], env);
		value = getenv(env);
		/* Set but empty counts as not set: that is how compose files and unit files leave a variable out. */
		if (value != NULL && value[0] != '\0' && options_set(o, &rows[i], env, value, e) < 0)
			return OPTIONS_BAD;
	}
	for (int i = 1; i < argc; i++)
		if (options_word(o, argc, argv, &i, e) < 0)
			return OPTIONS_BAD;
	return OPTIONS_OK;
}

void
options_json(const struct options *o, struct text *t)
{
	char key[NAME_MAX_LEN];

	for (size_t i = 0; i < ROWS; i++) {
		const void *field = (const char *)o + rows[i].offset;
		size_t n = strlen(rows[i].name);

		for (size_t k = 0; k <= n; k++)
			key[k] = rows[i].name[k] == '-' ? '_' : rows[i].name[k];
		text_addf(t, "%c\"%s\":", i == 0 ? '{' : ',', key);
		switch (rows[i].type) {
		case STR:
			text_json(t, *(const char *const *)field);
			break;
		case NUM:
			text_addf(t, "%" PRId64, *(const int64_t *)field);
			break;
		case SIZE:
			text_addf(t, "%" PRIu64, *(const uint64_t *)field);
			break;
		case SECS:
			text_number(t, *(const double *)field);
			break;
		}
	}
	text_add(t, "}");
}

/* `s` in lines of HELP_WIDTH, each behind HELP_INDENT spaces. */
static void
options_wrap(struct text *t, const char *s)
{
	size_t column = 0;

	while (*s != '\0') {
		size_t n = strcspn(s, " ");

		if (column > 0 && column + 1 + n > HELP_WIDTH) {
			text_add(t, "\n");
			column = 0;
		}
		if (column == 0) {
			text_addf(t, "%*s", HELP_INDENT, "");
			column = HELP_INDENT;
		} else {
			text_add(t, " ");
			column++;
		}
		text_addn(t, s, n);
		column += n;
		s += n + strspn(s + n, " ");
	}
	text_add(t, "\n");
}

void
options_help(struct text *t)
{
	char env[NAME_MAX_LEN];

	text_add(t, "Usage: aiterd [--OPTION VALUE]...\n"
		    "Serve AITER's attention and normalisation operators over HTTP.\n\n"
		    "Each option can also be given in the environment under the name that stands\n"
		    "beside it; the command line wins. Sizes take K, M, G and T (powers of 1024).\n"
		    "The value in [brackets] is the default.\n\n");
	for (size_t i = 0; i < ROWS; i++) {
		options_env_name(&rows[i], env);
		text_addf(t, "  --%s %s  (%s)", rows[i].name, rows[i].arg, env);
		if (rows[i].fallback[0] != '\0')
			text_addf(t, " [%s]", rows[i].fallback);
		text_add(t, "\n");
		options_wrap(t, rows[i].help);
	}
	text_add(t, "  -h, --help\n        Print this.\n"
		    "  --version\n        Print the version.\n"
		    "  --man\n        Print the manual page, in roff.\n");
}

/* Text for roff: no hyphens for dashes, no escapes, no control lines. */
static void
options_roff(struct text *t, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\\')
			text_add(t, "\\e");
		else if (*s == '-')
			text_add(t, "\\-");
		else
			text_addn(t, s, 1);
	}
}

static const char man_head[] =
	".\\\" Made by \"aiterd --man\" from server/options.def; do not edit.\n"
	".TH AITERD 8 \"\" \"aiterd " PACKAGE_VERSION "\" \"System Manager's Manual\"\n"
	".SH NAME\n"
	"aiterd \\- serve AITER's operators over HTTP\n"
	".SH SYNOPSIS\n"
	".B aiterd\n"
	"[\\fB\\-\\-\\fIoption value\\fR] ...\n"
	".SH DESCRIPTION\n"
	".B aiterd\n"
	"takes tensors in over HTTP, runs an attention or normalisation operator on them and answers with the\n"
	"results, where the time went and what memory it took.\n"
	"It serves its own interface under\n"
	".I /v1\n"
	"and the Open Inference Protocol under\n"
	".IR /v2 .\n"
	"Each device is driven by a worker process of its own; a worker that dies or hangs is replaced, and only the\n"
	"request that it was running fails.\n"
	".PP\n"
	"When it is ready it prints a line\n"
	".RI \"\\(lqlistening on http://\" HOST : PORT \\(rq\n"
	"for each address to standard output. Log lines go to standard error.\n"
	".SH OPTIONS\n"
	"Options are written\n"
	".BI \\-\\- \"name value\"\n"
	"or\n"
	".BI \\-\\- name = value\n"
	"and can also be given as environment variables, whose names are given with each; the command line wins, and an\n"
	"empty variable counts as absent. Sizes are bytes, or a whole number with K, M, G or T (powers of 1024).\n";

static const char man_tail[] =
	".TP\n.BR \\-h \", \" \\-\\-help\nPrint a summary of the options.\n"
	".TP\n.B \\-\\-version\nPrint the version.\n"
	".TP\n.B \\-\\-man\nPrint this manual page, in roff.\n"
	".SH SIGNALS\n"
	".TP\n.BR SIGTERM \", \" SIGINT\n"
	"Drain: readiness turns false, new work is answered 503, what runs is finished (for at most\n"
	".BR \\-\\-drain\\-timeout ),\n"
	"then leave with status 0.\n"
	".SH ENVIRONMENT\n"
	".TP\n.B AITERD_CPU_ISA\n"
	"Lowers the instruction set that the cpu device uses: avx512, avx2 or scalar.\n"
	".TP\n.B AITER_ASM_DIR\n"
	"AITER's own variable for the folder of its code objects; see\n.BR \\-\\-aiter\\-dir .\n"
	"Without either, aiterd/aiter in\n.B XDG_DATA_HOME\n(~/.local/share) and the installed place are looked for.\n"
	".TP\n.BR NOTIFY_SOCKET \", \" LISTEN_FDS\n"
	"As set by\n.BR systemd (1):\nreadiness is notified, and sockets passed are served.\n"
	".SH EXIT STATUS\n"
	"0 after draining, 1 when it could not start or go on, 2 for options that cannot be understood.\n"
	".SH EXAMPLES\n"
	"Serve on a free port of the loopback interface, and run an operator from\n.B .npy\nfiles:\n"
	".PP\n.nf\n.RS\n"
	"aiterd \\-\\-listen 127.0.0.1:0 \\-\\-device cpu\n"
	"curl \\-F q=@q.npy \\-F k=@k.npy \\-F v=@v.npy \\-F causal=true \\e\n"
	"     \\-o out.npy http://127.0.0.1:PORT/v1/ops/flash_attn_func\n"
	".RE\n.fi\n";

void
options_man(struct text *t)
{
	char env[NAME_MAX_LEN];

	text_add(t, man_head);
	for (size_t i = 0; i < ROWS; i++) {
		options_env_name(&rows[i], env);
		text_add(t, ".TP\n\\fB\\-\\-");
		options_roff(t, rows[i].name);
		text_addf(t, "\\fR \\fI%s\\fR\n", rows[i].arg);
		text_add(t, "\\&");
		options_roff(t, rows[i].help);
		text_add(t, "\n.br\nEnvironment: \\fB");
		text_addf(t, "%s\\fR.", env);
		if (rows[i].fallback[0] != '\0') {
			text_add(t, " Default: ");
			options_roff(t, rows[i].fallback);
			text_add(t, ".");
		}
		text_add(t, "\n");
	}
	text_add(t, man_tail);
}
