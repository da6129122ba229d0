/*
 * progress.c: one line on standard error that shows how far a long transfer or sweep is. Nothing at all where standard
 * error is no terminal, and nothing for what is over in a moment.
 */
#include <string.h>
#include <time.h>

#include "ctl.h"

#define SHOW_BYTES ((uint64_t)4 << 20) /* smaller ones are not worth a bar */
#define SHOW_AFTER 0.4		       /* seconds */
#define SHOW_EVERY 0.1

static bool shown;

static struct {
	const struct ctl *c;
	double begin, last;
	uint64_t of; /* total of the transfer that the times are of */
} bar;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void
progress_clear(void)
{
	if (shown)
		fputs("\r\033[K", stderr);
	shown = false;
}

void
progress_line(const struct ctl *c, const char *text)
{
	if (!c->tty_err || c->o.quiet)
		return;
	fputs("\r\033[K", stderr);
	for (int n = 0; text[n] && n < c->columns - 1; n++)
		fputc(text[n] >= ' ' && text[n] < 0x7f ? text[n] : '?', stderr);
	fflush(stderr);
	shown = *text != '\0';
}

static void
draw(const char *what, uint64_t done, uint64_t of, double seconds)
{
	char bytes[24], total[24], line[200], cells[31];
	double share = of ? (double)done / (double)of : 0;
	int full = (int)(share * 30);

	for (int i = 0; i < 30; i++)
		cells[i] = i < full ? '#' : '.';
	cells[30] = '\0';
	snprintf(line, sizeof(line), "%s [%s] %3.0f %%  %s of %s  %.0f MB/s", what, cells, share * 100,
		 show_bytes((double)done, bytes, sizeof(bytes)), show_bytes((double)of, total, sizeof(total)),
		 seconds > 0 ? (double)done / seconds / 1e6 : 0);
	progress_line(bar.c, line);
}

static int
on_progress(void *user, uint64_t sent, uint64_t to_send, uint64_t received, uint64_t to_receive)
{
	bool sending = to_send >= SHOW_BYTES && sent < to_send,
	     receiving = to_receive >= SHOW_BYTES && received < to_receive;
	uint64_t of = sending ? to_send : receiving ? to_receive : 0;
	double t;

	(void)user;
	if (!of) {
		if (bar.of)
			progress_clear();
		bar.of = 0;
		return 0;
	}
	t = now();
	if (of != bar.of) {
		bar.of = of;
		bar.begin = t;
	}
	if (t - bar.begin < SHOW_AFTER || t - bar.last < SHOW_EVERY)
		return 0;
	bar.last = t;
	draw(sending ? "sending" : "receiving", sending ? sent : received, of, t - bar.begin);
	return 0;
}

void
progress_on(struct ctl *c)
{
	if (!c->tty_err || c->o.quiet)
		return;
	bar.c = c;
	aiterd_set_progress(c->server, on_progress, NULL);
}
