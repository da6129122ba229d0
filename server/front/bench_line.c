/*
 * bench_line.c: what a bench request tells: a case's times and rates, what failed, how far it is. Called by request_bench.c.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "front/bench.h"
#include "front/peaks.h"
#include "front/problem.h"

/* {"case":{...},"index":0,"of":4 */
static void
add_case(const struct bench *b, struct text *t)
{
	text_add(t, "{\"case\":");
	sweep_case(&b->sweep, b->index, t);
	text_addf(t, ",\"index\":%llu,\"of\":%llu", (unsigned long long)b->index, (unsigned long long)b->sweep.cases);
}

void
bench_line_failed(struct request *req, const struct err *e, struct text *t)
{
	add_case(req->run->bench, t);
	text_add(t, ",\"error\":");
	problem_body(t, e, req->op->name, req->id, false);
	text_add(t, "}");
}

void
bench_line_progress(struct request *req, uint64_t runs, uint64_t of, struct text *t)
{
	const struct bench *b = req->run->bench;

	text_addf(t, "{\"progress\":{\"index\":%llu,\"of\":%llu,\"iterations\":%llu,\"iterations_of\":%llu}}",
		  (unsigned long long)b->index, (unsigned long long)b->sweep.cases, (unsigned long long)runs,
		  (unsigned long long)of);
}

/* ---------------------------------------------------------------- a case */

/* Milliseconds; a worker's word, which may be anything. */
static void
add_ms(struct text *t, const char *before, double ms)
{
	text_add(t, before);
	if (isfinite(ms) && fabs(ms) < 1e12)
		text_addf(t, "%.6f", ms);
	else
		text_add(t, "null");
}

static void
add_samples(struct text *t, const struct tensor *samples, int row)
{
	const double *ms = samples->data;

	if (samples->dtype == DT_NONE || row >= samples->shape[0])
		return;
	ms += row * samples->shape[1];
	for (int64_t i = 0; i < samples->shape[1]; i++)
		add_ms(t, i > 0 ? "," : ",\"samples\":[", ms[i]);
	text_add(t, "]");
}

static void
add_times(struct text *t, const struct sample_stats *s, double batch, const struct tensor *samples, int row)
{
	add_ms(t, "{\"min\":", s->min);
	add_ms(t, ",\"median\":", s->median);
	add_ms(t, ",\"mean\":", s->mean);
	add_ms(t, ",\"p95\":", s->p95);
	add_ms(t, ",\"max\":", s->max);
	add_ms(t, ",\"stddev\":", s->stddev);
	add_ms(t, ",\"spread\":", s->median > 0 ? (s->max - s->min) / s->median : 0);
	text_addf(t, ",\"iters\":%u,\"warmup\":%u", s->iters, s->warmup);
	if (batch > 0)
		add_ms(t, ",\"per_sample\":", s->median / batch);
	add_samples(t, samples, row);
	text_add(t, "}");
}

struct rates {
	double tflops, gb_per_s; /* NaN: not told */
	struct peaks peaks;
	bool has_peaks;
	char suspect[320]; /* "": nothing is */
};

static void
rates_get(const struct request *req, const struct device_info *info, struct rates *r)
{
	const struct compute_request *run = req->run;
	const struct msg_done *d = &run->done;
	double ms = d->kernel.median, flop = req->op->flop(&run->job.msg.call);
	size_t n = 0;

	memset(r, 0, sizeof(*r));
	r->has_peaks = peaks_find(info, (enum dtype)run->job.msg.call.tensors[0].dtype, &r->peaks);
	r->tflops = r->gb_per_s = NAN;
	if (info->timing_meaningless || !(ms > 0))
		return;
	r->tflops = flop / ms / 1e9;
	r->gb_per_s = run->bytes_moved / ms / 1e6;
	if (r->peaks.tflops > 0 && r->tflops > r->peaks.tflops) {
		n = (size_t)snprintf(r->suspect, sizeof(r->suspect),
				     "the median would be %.1f TFLOP/s, more than the device's %.1f (%s)", r->tflops,
				     r->peaks.tflops, r->peaks.tflops_of);
		n = n < sizeof(r->suspect) ? n : sizeof(r->suspect) - 1;
		r->tflops = NAN;
	}
	/* Data in the caches come faster than memory gives them, and rightly so. */
	if (d->bench.cold && r->peaks.gb_per_s > 0 && r->gb_per_s > r->peaks.gb_per_s) {
		snprintf(r->suspect + n, sizeof(r->suspect) - n,
			 "%sthe median would be %.0f GB/s, more than the %.0f of the device's memory",
			 n > 0 ? "; " : "", r->gb_per_s, r->peaks.gb_per_s);
		r->gb_per_s = NAN;
	}
}

static void
add_or_null(struct text *t, const char *name, const char *format, double v)
{
	text_addf(t, ",\"%s\":", name);
	if (!isfinite(v)) {
		text_add(t, "null");
		return;
	}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	text_addf(t, format, v);
#pragma GCC diagnostic pop
}

static double
known(double v)
{
	return v > 0 ? v : NAN;
}

static void
add_rates(struct request *req, const struct device_info *info, struct text *t)
{
	const struct compute_request *run = req->run;
	struct rates r;

	rates_get(req, info, &r);
	text_add(t, ",\"rates\":{\"flop\":");
	text_number(t, req->op->flop(&run->job.msg.call));
	text_add(t, ",\"bytes_moved\":");
	text_number(t, run->bytes_moved);
	add_or_null(t, "tflops", "%.4f", r.tflops);
	add_or_null(t, "gb_per_s", "%.4f", r.gb_per_s);
	add_or_null(t, "peak_tflops", "%.1f", known(r.peaks.tflops));
	add_or_null(t, "peak_share", "%.4f", r.tflops / known(r.peaks.tflops));
	add_or_null(t, "peak_gb_per_s", "%.0f", known(r.peaks.gb_per_s));
	add_or_null(t, "bandwidth_share", "%.4f", run->done.bench.cold ? r.gb_per_s / known(r.peaks.gb_per_s) : NAN);
	text_add(t, ",\"peak_of\":");
	text_json(t, r.peaks.tflops_of);
	text_add(t, ",\"peak_source\":");
	text_json(t, r.peaks.source);
	text_add(t, ",\"suspect\":");
	text_json(t, r.suspect[0] != '\0' ? r.suspect : NULL);
	text_add(t, ",\"formula\":");
	text_json(t, "tflops = flop / median / 1e9, gb_per_s = bytes_moved / median / 1e6 (median in milliseconds)");
	text_add(t, ",\"flop_counted\":");
	text_json(t, req->op->flop_help);
	text_add(t, ",\"bytes_counted\":\"each input read once, each output written once\"}");
}

static void
add_mode(const struct compute_request *run, struct text *t)
{
	const struct bench_outcome *o = &run->done.bench;
	const char *mode = run->bench->options[BO_MODE].i[0] != 0 ? "warm" : o->cold ? "cold" : "not cold";

	text_addf(t, ",\"mode\":\"%s\",\"rotation\":{\"copies\":%u,\"bytes\":%llu,\"cache_bytes\":", mode, o->copies,
		  (unsigned long long)o->rotation_bytes);
	if (o->cache_bytes > 0)
		text_u64(t, o->cache_bytes);
	else
		text_add(t, "null");
	text_add(t, ",\"note\":");
	text_json(t, o->note[0] != '\0' ? o->note : NULL);
	text_add(t, "}");
}

static void
add_inputs(struct request *req, struct text *t)
{
	const struct op_call *c = &req->run->job.msg.call;
	const char *sep = ",\"inputs\":{";
	char shape[160];

	for (int i = 0; req->op->tensors[i].name != NULL; i++) {
		if (req->op->tensors[i].role != OP_IN || c->tensors[i].dtype == DT_NONE)
			continue;
		text_addf(t, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s}", sep, req->op->tensors[i].name,
			  dtype_info((enum dtype)c->tensors[i].dtype)->name,
			  tensor_shape_text(&c->tensors[i], shape, sizeof(shape)));
		sep = ",";
	}
	text_add(t, "}");
}

static void
add_memory(const struct memory_stats *m, struct text *t)
{
	text_addf(t,
		  ",\"memory\":{\"inputs\":%llu,\"outputs\":%llu,\"workspace\":%llu,\"peak\":%llu,\"device_free\":%llu,"
		  "\"device_total\":%llu}",
		  (unsigned long long)m->inputs, (unsigned long long)m->outputs, (unsigned long long)m->workspace,
		  (unsigned long long)m->peak, (unsigned long long)m->device_free, (unsigned long long)m->device_total);
}

static void
add_baseline(const struct compute_request *run, bool meaningless, struct text *t)
{
	const struct msg_done *d = &run->done;

	if (d->baseline_impl[0] == '\0')
		return;
	text_add(t, ",\"baseline\":{\"impl\":");
	text_json(t, d->baseline_impl);
	text_add(t, ",\"kernel_ms\":");
	add_times(t, &d->baseline, 0, &run->job.msg.samples, 1);
	add_or_null(t, "speedup", "%.4f", meaningless ? NAN : d->baseline.median / known(d->kernel.median));
	text_add(t, ",\"max_abs_diff\":");
	text_number(t, d->baseline_max_abs_diff);
	text_add(t, "}");
}

void
bench_line(struct request *req, struct text *t)
{
	const struct compute_request *run = req->run;
	const struct msg_done *d = &run->done;
	struct device_state dev;

	supervisor_device(req->loop->svc->sup, run->device, &dev);
	add_case(run->bench, t);
	add_mode(run, t);
	text_add(t, ",\"impl\":");
	text_json(t, d->impl);
	text_add(t, ",\"device\":{\"id\":");
	text_json(t, dev.id);
	text_add(t, ",\"name\":");
	text_json(t, dev.info.name);
	text_add(t, ",\"arch\":");
	text_json(t, dev.info.arch);
	text_add(t, dev.info.timing_meaningless ? ",\"timing_meaningless\":true}" : "}");
	add_inputs(req, t);
	text_add(t, ",\"kernel_ms\":");
	add_times(t, &d->kernel, (double)op_dim(&run->job.msg.call, "B"), &run->job.msg.samples, 0);
	add_rates(req, &dev.info, t);
	text_addf(t, ",\"validated\":%s,\"identical\":%s,\"max_diff_after\":", d->bench.validated ? "true" : "false",
		  d->bench.identical ? "true" : "false");
	text_number(t, d->bench.max_diff_after);
	add_baseline(run, dev.info.timing_meaningless, t);
	add_memory(&d->memory, t);
	text_addf(t, ",\"hints\":%s}", run->hints.len > 0 ? run->hints.p : "[]");
}
