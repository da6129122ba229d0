/*
 * options.h: the command line and the environment, from options.def.
 *
 * main() parses once, before any thread starts; afterwards the struct is read only. Strings are
 * borrowed from argv, the environment or the table.
 */
#ifndef AITERD_OPTIONS_H
#define AITERD_OPTIONS_H

#include <stdint.h>

#include "err.h"
#include "text.h"

struct options {
#define OPTION_STR const char *
#define OPTION_NUM int64_t
#define OPTION_SIZE uint64_t
#define OPTION_SECS double
#define O(field, type, name, fallback, arg, min, max, help) OPTION_##type field;
#include "options.def"
#undef O
};

enum options_verdict { OPTIONS_OK, OPTIONS_EXIT, OPTIONS_BAD };

/* Fill from defaults, environment (AITERD_*), command line (--name VALUE, --name=VALUE). --help (-h), --version and
 * --man print to standard output and give OPTIONS_EXIT; OPTIONS_BAD has *e. */
enum options_verdict options_parse(struct options *o, int argc, char **argv, struct err *e);

/* The values in force, as a JSON object ("max_body": 8589934592, ...), for logs and tests. */
void options_json(const struct options *o, struct text *t);

/* What --help and --man print. */
void options_help(struct text *t);
void options_man(struct text *t);

#endif
