/*
 * request_stats.c: the statistics of a run: as JSON for the Aiterd-Stats field and the JSON forms' bodies, the same as
 * it stands inside a JSON string for safetensors and the Open Inference Protocol, and as Server-Timing. Called by
 * request_reply.c; the texts are the request's.
 *
 * A small request makes about fifty numbers, so both forms are written side by side, into room that is made once.
 */
#include <math.h>
#include <string.h>

#include "digits.h"
#include "front/request.h"

#define STATS_HEADER_MAX 4096
#define STATS_MAX (64 * 1024)
/* All keys and, at their longest, all numbers; strings and hints come on top. */
#define FIXED_ROOM 3072
#define NUMBER_MAX 26  /* a number's text, as text_number() writes it */
#define NUMBER_COPY 32 /* so much is copied, whatever its length */

struct pen {
	struct text *text, *quoted_text;
	char *plain, *quoted;
};

/* Takes the pen off the paper, for text.h's functions; pen_on() afterwards. */
static void
pen_off(struct pen *w)
{
	w->text->len = (size_t)(w->plain - w->text->p);
	w->quoted_text->len = (size_t)(w->quoted - w->quoted_text->p);
}

static void
pen_on(struct pen *w)
{
	w->plain = w->text->p + w->text->len;
	w->quoted = w->quoted_text->p + w->quoted_text->len;
}

static inline void
put(char **p, const char *s, size_t n)
{
	memcpy(*p, s, n);
	*p += n;
}

/* Literals without quotes, and a member's name with what stands before it. */
#define MARK(w, s) (put(&(w)->plain, s, sizeof(s) - 1), put(&(w)->quoted, s, sizeof(s) - 1))
#define KEY(w, before, key)                                                                                            \
	(put(&(w)->plain, before "\"" key "\":", sizeof(before "\"" key "\":") - 1),                                   \
	 put(&(w)->quoted, before "\\\"" key "\\\":", sizeof(before "\\\"" key "\\\":") - 1))

/* A number was written behind the plain text: up to `end`. */
static inline void
number_end(struct pen *w, char *end)
{
	size_t n = (size_t)(end - w->plain);

	memcpy(w->quoted, w->plain, NUMBER_COPY);
	w->plain = end;
	w->quoted += n;
}

static inline void
add_u64(struct pen *w, uint64_t v)
{
	number_end(w, digits_u64(w->plain, v));
}

/* What was added to the plain text since it was `at` bytes long, once more for the quoted one. */
static void
quote_rest(struct pen *w, size_t at)
{
	text_escape(w->quoted_text, w->text->p + at, w->text->len - at);
	pen_on(w);
}

/* As text_number() writes it. */
static void
add_odd_number(struct pen *w, double v)
{
	size_t at;

	pen_off(w);
	at = w->text->len;
	text_number(w->text, v);
	quote_rest(w, at);
}

static void
add_number(struct pen *w, double v)
{
	if (v >= 1 && v < 1e15 && v == (double)(int64_t)v)
		add_u64(w, (uint64_t)(int64_t)v);
	else
		add_odd_number(w, v);
}

static void
add_string(struct pen *w, const char *s)
{
	size_t at, n = strlen(s);

	if (text_is_plain(s, n)) {
		put(&w->plain, "\"", 1);
		put(&w->plain, s, n);
		put(&w->plain, "\"", 1);
		put(&w->quoted, "\\\"", 2);
		put(&w->quoted, s, n);
		put(&w->quoted, "\\\"", 2);
		return;
	}
	pen_off(w);
	at = w->text->len;
	text_jsonn(w->text, s, n);
	quote_rest(w, at);
}

static inline bool
is_ordinary(double v)
{
	return v >= 0 && v < 1e12;
}

/* Rounded to six decimals; printf is too slow for so many numbers. */
static void
add_ms(struct pen *w, double ms)
{
	if (is_ordinary(ms))
		number_end(w, digits_fixed(w->plain, ms, 3));
	else
		add_odd_number(w, ms);
}

static void
add_rate(struct pen *w, double rate)
{
	if (is_ordinary(rate))
		number_end(w, digits_fixed(w->plain, rate, 2));
	else
		add_odd_number(w, isfinite(rate) ? rate : 0);
}

static double
ms_between(const struct request *req, enum request_time from, enum request_time to)
{
	uint64_t a = req->t[from], b = req->t[to];

	return a == 0 || b <= a ? 0 : (double)(b - a) / 1e6;
}

static void
add_samples(struct pen *w, const struct sample_stats *s, double batch)
{
	KEY(w, "{", "warmup");
	add_u64(w, s->warmup);
	KEY(w, ",", "iters");
	add_u64(w, s->iters);
	KEY(w, ",", "min");
	add_ms(w, s->min);
	KEY(w, ",", "median");
	add_ms(w, s->median);
	KEY(w, ",", "mean");
	add_ms(w, s->mean);
	KEY(w, ",", "p95");
	add_ms(w, s->p95);
	KEY(w, ",", "max");
	add_ms(w, s->max);
	KEY(w, ",", "stddev");
	add_ms(w, s->stddev);
	if (batch > 0) {
		KEY(w, ",", "per_sample");
		add_ms(w, s->median / batch);
	}
	MARK(w, "}");
}

static void
add_device(struct pen *w, unsigned index, const struct device_state *dev)
{
	KEY(w, "{", "index");
	add_u64(w, index);
	KEY(w, ",", "id");
	add_string(w, dev->id);
	KEY(w, ",", "name");
	add_string(w, dev->info.name);
	KEY(w, ",", "arch");
	add_string(w, dev->info.arch);
	if (dev->info.timing_meaningless) {
		KEY(w, ",", "timing_meaningless");
		MARK(w, "true");
	}
	MARK(w, "}");
}

/* Without its end: encode and total are known only when the body, which holds the statistics too, has been made. */
static void
add_timing(struct pen *w, const struct request *req)
{
	const struct msg_done *d = &req->run->done;

	KEY(w, "{", "receive");
	add_ms(w, ms_between(req, T_BODY, T_RECEIVED));
	KEY(w, ",", "decode");
	add_ms(w, ms_between(req, T_RECEIVED, T_DECODED));
	KEY(w, ",", "reserve");
	add_ms(w, (double)req->run->reserve_ns / 1e6);
	KEY(w, ",", "queue");
	add_ms(w, d->wait_ms);
	KEY(w, ",", "upload");
	add_ms(w, d->upload_ms);
	KEY(w, ",", "kernel");
	add_ms(w, d->kernel.median);
	KEY(w, ",", "download");
	add_ms(w, d->download_ms);
	KEY(w, ",", "device");
	add_ms(w, ms_between(req, T_SUBMITTED, T_DONE));
}

static void
add_rates(struct pen *w, double flop, double bytes, double ms)
{
	KEY(w, "{", "flop");
	add_number(w, flop);
	KEY(w, ",", "bytes_moved");
	add_number(w, bytes);
	KEY(w, ",", "tflops");
	add_rate(w, flop / ms / 1e9);
	KEY(w, ",", "gb_per_s");
	add_rate(w, bytes / ms / 1e6);
	MARK(w, "}");
}

static void
add_baseline(struct pen *w, const struct msg_done *d)
{
	KEY(w, "{", "impl");
	add_string(w, d->baseline_impl);
	KEY(w, ",", "kernel_ms");
	add_samples(w, &d->baseline, 0);
	KEY(w, ",", "speedup");
	add_rate(w, d->baseline.median / d->kernel.median);
	KEY(w, ",", "max_abs_diff");
	add_number(w, d->baseline_max_abs_diff);
	MARK(w, "}");
}

static void
add_memory(struct pen *w, const struct memory_stats *m)
{
	uint64_t known = m->allocated_before + m->inputs + m->outputs;

	KEY(w, "{", "allocated_before");
	add_u64(w, m->allocated_before);
	KEY(w, ",", "inputs");
	add_u64(w, m->inputs);
	KEY(w, ",", "cached");
	add_u64(w, m->cached);
	KEY(w, ",", "outputs");
	add_u64(w, m->outputs);
	KEY(w, ",", "workspace");
	add_u64(w, m->workspace);
	KEY(w, ",", "peak");
	add_u64(w, m->peak);
	KEY(w, ",", "overhead");
	add_u64(w, m->peak > known ? m->peak - known : 0);
	KEY(w, ",", "device_free");
	add_u64(w, m->device_free);
	KEY(w, ",", "device_total");
	add_u64(w, m->device_total);
	MARK(w, "}");
}

int
request_stats(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	const struct msg_done *d = &run->done;
	const struct op_call *c = &run->job.msg.call;
	struct pen w = {.text = &run->stats, .quoted_text = &run->stats_quoted};
	struct device_state dev;
	size_t strings, at;

	supervisor_device(req->loop->svc->sup, run->device, &dev);
	strings = strlen(req->op->name) + strlen(d->impl) + strlen(d->baseline_impl) + strlen(dev.id) +
		  strlen(dev.info.name) + strlen(dev.info.arch) + run->kept.len;
	text_init_in(&run->stats, run->stats_room, sizeof(run->stats_room), STATS_MAX);
	text_init_in(&run->stats_quoted, run->stats_quoted_room, sizeof(run->stats_quoted_room), STATS_MAX);
	/* A string's byte may become \u0001, and that \\u0001. */
	if (!text_room(&run->stats, FIXED_ROOM + 6 * strings + run->hints.len) ||
	    !text_room(&run->stats_quoted, FIXED_ROOM + 7 * strings + 2 * run->hints.len))
		goto fail;
	pen_on(&w);
	KEY(&w, "{", "op");
	add_string(&w, req->op->name);
	KEY(&w, ",", "impl");
	add_string(&w, d->impl);
	KEY(&w, ",", "device");
	add_device(&w, run->device, &dev);
	KEY(&w, ",", "timing_ms");
	add_timing(&w, req);
	run->stats_open = (size_t)(w.plain - run->stats.p);
	KEY(&w, "},", "kernel_ms");
	add_samples(&w, &d->kernel, (double)op_dim(c, "B"));
	KEY(&w, ",", "rates");
	add_rates(&w, req->op->flop(c), run->bytes_moved, d->kernel.median);
	if (d->baseline_impl[0] != '\0') {
		KEY(&w, ",", "baseline");
		add_baseline(&w, d);
	}
	KEY(&w, ",", "memory");
	add_memory(&w, &d->memory);
	if (run->kept.len > 0) {
		KEY(&w, ",", "kept");
		pen_off(&w);
		at = run->stats.len;
		text_add(&run->stats, run->kept.p);
		quote_rest(&w, at);
	}
	KEY(&w, ",", "hints");
	pen_off(&w);
	run->stats_hints = run->stats.len;
	text_add(&run->stats, run->hints.len > 0 ? run->hints.p : "[]");
	text_add(&run->stats, "}");
	quote_rest(&w, run->stats_hints);
	if (!run->stats.failed && !run->stats_quoted.failed)
		return 0;
fail:
	return err_set(e, ERR_INTERNAL, "the statistics do not fit");
}

static char *
put_ms(char *p, double ms)
{
	struct text t;

	if (is_ordinary(ms))
		return digits_fixed(p, ms, 3);
	text_init_in(&t, p, NUMBER_MAX, NUMBER_MAX - 1);
	text_number(&t, ms);
	return p + t.len;
}

const char *
request_stats_finish(struct request *req)
{
	struct compute_request *run = req->run;
	struct text *t = &run->stats;
	char extra[128], *p = extra;
	double encode = ms_between(req, T_DONE, T_ENCODED), total = ms_between(req, T_BEGIN, T_ENCODED);
	size_t n, rest = t->len - run->stats_open;

	put(&p, ",\"encode\":", 10);
	p = put_ms(p, encode);
	put(&p, ",\"total\":", 9);
	p = put_ms(p, total);
	n = (size_t)(p - extra);
	if (!text_room(t, n))
		return NULL;
	p = t->p + run->stats_open;
	memmove(p + n, p, rest + 1);
	memcpy(p, extra, n);
	t->len += n;
	/* The field must stay short: hints only where they fit. */
	if (t->len > STATS_HEADER_MAX) {
		t->len = run->stats_hints + n;
		text_add(t, "[]}");
	}
	return t->failed ? NULL : t->p;
}

void
request_server_timing(struct request *req)
{
	const struct msg_done *d = &req->run->done;
	char *p = req->reply.timing;

	_Static_assert(sizeof(req->reply.timing) >= 9 * (sizeof(", download;dur=") + NUMBER_MAX), "room for nine");
#define DURATION(name, ms) (put(&p, name ";dur=", sizeof(name ";dur=") - 1), p = put_ms(p, ms))
	DURATION("receive", ms_between(req, T_BODY, T_RECEIVED));
	DURATION(", decode", ms_between(req, T_RECEIVED, T_DECODED));
	DURATION(", reserve", (double)req->run->reserve_ns / 1e6);
	DURATION(", queue", d->wait_ms);
	DURATION(", upload", d->upload_ms);
	DURATION(", kernel", d->kernel.median);
	DURATION(", download", d->download_ms);
	DURATION(", encode", ms_between(req, T_DONE, T_ENCODED));
	DURATION(", total", ms_between(req, T_BEGIN, T_ENCODED));
#undef DURATION
	*p = '\0';
}
