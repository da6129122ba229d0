/*
 * main.c: aiterctl, aiterd's command line: parses, opens the server, calls the command. Everything about HTTP is libaiterd's.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl.h"

static const struct {
	const char *name;
	int (*run)(struct ctl *c);
} commands[] = {
	{"info", cmd_info},	     {"ops", cmd_ops},	   {"run", cmd_run},
	{"check", cmd_check},	     {"bench", cmd_bench}, {"top", cmd_top},
	{"tensors", cmd_tensors},    {"jobs", cmd_jobs},   {"generate", cmd_generate},
	{"_complete", cmd_complete},
};

static int
open_server(struct ctl *c)
{
	enum aiterd_status status = aiterd_open(&c->server, c->o.url);

	if (status == AITERD_OK && c->o.compress)
		status = aiterd_set_compression(c->server, c->o.compress);
	if (status != AITERD_OK)
		return fail(c, status);
	if (c->o.retries >= 0)
		aiterd_set_retries(c->server, (int)c->o.retries, 600);
	if (c->o.timeout_s > 0)
		aiterd_set_timeouts(c->server, c->o.timeout_s < 10 ? (long)(c->o.timeout_s * 1000) : 10000,
				    (long)(c->o.timeout_s * 1000));
	return 0;
}

int
main(int argc, char **argv)
{
	struct ctl c = {.tty_err = isatty(STDERR_FILENO), .tty_out = isatty(STDOUT_FILENO), .columns = 80};
	const char *command = NULL;
	struct winsize size;
	int rc;

	/* A reader that goes away is noticed when writing (finish_output); a server that does, by libcurl. */
	signal(SIGPIPE, SIG_IGN);
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20)
		c.columns = size.ws_col;
	if (c.tty_out && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		table_wrap_at = size.ws_col;
	rc = args_parse(&c.o, argc, argv, &command);
	if (rc || !command)
		goto out;
	rc = open_server(&c);
	for (size_t i = 0; !rc && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, command) == 0) {
			rc = commands[i].run(&c);
			break;
		}
	progress_clear();
	aiterd_close(c.server);
out:
	free(c.o.args);
	return finish_output(rc);
}
