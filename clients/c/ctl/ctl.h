/*
 * ctl.h: what the parts of aiterctl share: its options, leaving with the right status, tables, progress. One thread, one
 * command a process; what is allocated until it ends need not be freed, but is.
 */
#ifndef AITERCTL_H
#define AITERCTL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "aiterd.h"
#include "text.h"

struct cJSON;

/* Exit statuses; in the manual too. */
enum {
	EXIT_OK = 0,
	EXIT_CHECK_FAILED = 1,
	EXIT_USAGE = 2,	      /* the command line, or a file that it names */
	EXIT_REFUSED = 3,     /* the server refuses the request */
	EXIT_UNREACHABLE = 4, /* there is no server, or no reply */
	EXIT_SERVER = 5,      /* the server or a device failed */
	EXIT_LOCAL = 6,	      /* a file could not be written, memory ran out */
};

#define OUTPUTS_MAX 16

struct options {
	const char *url, *compress, *save, *of_job;
	const char *outputs[OUTPUTS_MAX]; /* -o, as given */
	int n_outputs;
	double timeout_s, interval_s;
	long retries, ttl_s, count;
	bool json, quiet, keep, background;
	char **args; /* what is neither an option nor the command */
	int n_args;
};

struct ctl {
	struct aiterd *server;
	struct options o;
	bool tty_err, tty_out;
	int columns; /* of the terminal */
};

/* ---- args.c ---- */

/* 0, or the exit status, with a message to standard error. *command: its name, NULL when there was only --help. */
int args_parse(struct options *o, int argc, char **argv, const char **command);
/* The command's usage, or all commands' (NULL). */
void args_help(FILE *to, const char *command);
bool args_is_command(const char *name);
/* Names for completion: commands, or options of a command, one a line. */
void args_list(FILE *to, const char *command);

/* ---- source.c ---- */

enum source_kind { SOURCE_FILE, SOURCE_JSON };

struct source {
	enum source_kind kind;
	char *text; /* a path, or a JSON object for the server; to be freed */
};

/* Does the text say by itself that it is a tensor and no parameter? */
bool source_is_plain(const char *text);
/* "q.npy", "@w1", "tensor:w1", "sha256:...", "normal:2x512x8x64:fp16:seed=7", "{...}". 0; -1 and why. */
int source_parse(const char *text, struct source *s, char *why, size_t size);

/* ---- inputs.c ---- */

#define FILES_MAX 64

/* A call with its inputs from the command line; files stay open as long. */
struct inputs {
	struct aiterd_call *call;
	struct cJSON *op; /* the catalogue's entry */
	struct aiterd_file *files[FILES_MAX];
	int n_files;
	int kept_sent, kept_had; /* with --keep: inputs that were uploaded, and that were there */
	bool lost;		 /* a kept one was gone when it was needed: another had taken its place */
};

/* Make the call and act on it. op NULL: told by the file's metadata. Returns the exit status. */
typedef int inputs_f(struct ctl *c, struct inputs *in);
int inputs_with(struct ctl *c, const char *op, char **args, int n, inputs_f *act);
/* For `act`: the call was answered so. True: it is called again, with inputs that are sent. */
bool inputs_lost(const struct ctl *c, struct inputs *in, enum aiterd_status status);
/* --background: hand the call over, print the job. */
int inputs_submit(struct ctl *c, struct inputs *in, const char *action);
bool inputs_has_param(const struct ctl *c, const char *name);

/* ---- out.c ---- */

/* Say what the last call's error was, and which exit status it means. */
int fail(const struct ctl *c, enum aiterd_status status);
int fail_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* For an HTTP status as it stands in a problem. */
int exit_of_http(int status);
/* Flush standard output; EXIT_LOCAL with a message when it could not be written. A closed pipe ends us quietly. */
int finish_output(int status);

/* JSON: members by path ("device.id"), with fallbacks. */
struct cJSON *json_of(const char *text);
const struct cJSON *json_at(const struct cJSON *o, const char *path);
const char *json_str(const struct cJSON *o, const char *path, const char *fallback);
double json_num(const struct cJSON *o, const char *path, double fallback);
bool json_has(const struct cJSON *o, const char *path);
/* A value as short text: numbers with few digits, lists and objects as JSON. Returns buf. */
const char *json_show(const struct cJSON *o, char *buf, size_t size);

/* "1.5 GiB", "512 B"; "2.06"; a shape "[2, 512, 8, 64]"; into buf. */
const char *show_bytes(double n, char *buf, size_t size);
const char *show_number(double v, char *buf, size_t size);
const char *show_shape(const struct cJSON *shape, char *buf, size_t size);

/* A server's JSON onto standard output, as one line. */
void print_json(const char *text);
/* A page of the server's: as it is with --json, else by `show`. Returns the exit status. */
int get_and_show(struct ctl *c, const char *path, void (*show)(const struct cJSON *json));
/* Text from the server, UTF-8: nothing of it can steer the terminal. NULL is "?". */
void print_clean(FILE *to, const char *s);
/* The same for JSON and what else programs read, which get it as it is where no terminal is. */
void print_bytes(FILE *to, const char *text, size_t n);
/* A line of such text; the newline is added. */
void say(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define TABLE_COLUMNS 24

struct table {
	char **cells;
	int columns, n, cap;
	unsigned left; /* bit i: column i is text, and stands left */
};

/* Width of the terminal that standard output is; 0: it is none, and nothing is broken. */
extern int table_wrap_at;

void table_init(struct table *t, int columns, unsigned left);
void table_add(struct table *t, const char *cell); /* copied; NULL: "" */
void table_print(const struct table *t, FILE *to, int indent);
void table_free(struct table *t);

/* ---- progress.c ---- */

/* Show transfers of this server on standard error, if that is a terminal. */
void progress_on(struct ctl *c);
void progress_clear(void);
/* One line that is replaced by the next; "" clears it. */
void progress_line(const struct ctl *c, const char *text);

/* ---- commands ---- */

int cmd_info(struct ctl *c);
int cmd_ops(struct ctl *c);
int cmd_run(struct ctl *c);
int cmd_check(struct ctl *c);
int cmd_bench(struct ctl *c);
int cmd_tensors(struct ctl *c);
int cmd_top(struct ctl *c);
int cmd_jobs(struct ctl *c);
int cmd_generate(struct ctl *c);
int cmd_complete(struct ctl *c);

/* run's and check's way of telling statistics (cmd_run.c). */
void show_stats(FILE *to, const struct cJSON *stats);
/* A verdict as a table (cmd_check.c). */
void show_verdict(const struct cJSON *verdict);
/* A line of a sweep; for jobs' results too (cmd_bench.c). */
struct sweep;
struct sweep *sweep_new(struct ctl *c);
int sweep_line(void *sweep, const char *line, size_t length);
int sweep_end(struct sweep *s, bool complete); /* the exit status; frees it */

#endif
