/*
 * test_bench_line.c: what is claimed about a measurement, and what is not: shares of peak where peaks are known, nothing that
 * is above them, nothing from a device whose times mean nothing. The lines are read back with cJSON.
 */
#include <criterion/criterion.h>

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "front/bench.h"

static struct device_state device;

/* The supervisor's, which is not linked. */
void
supervisor_device(struct supervisor *s, unsigned index, struct device_state *out)
{
	(void)s;
	(void)index;
	*out = device;
}

static struct service service;
static struct loop loop = {.svc = &service};
static struct request req = {.loop = &loop, .id = "an-id"};
static struct compute_request run;
static struct bench bench;
static double samples[4] = {4, 1, 3, 2};
static struct text t;

/* Attention whose work is 4 x 2 x 512 x 512 x 8 x 64 FLOP on an MI300X. */
static void
setup(void)
{
	struct op_call *c = &run.job.msg.call;
	int64_t sizes[OP_SIZES_MAX] = {2, 512, 8, 64, 512, 8, 64};
	struct err e;

	req.op = op_find("flash_attn_func", 15, &req.op_index);
	req.run = &run;
	run.bench = &bench;
	c->op = req.op_index;
	cr_assert_eq(op_sizes_call(req.op, sizes, DT_FP16, c, &e), 0);
	cr_assert_eq(op_params_finish(req.op, c, &e), 0);
	cr_assert_eq(op_bind(req.op, c, &e), 0);
	run.bytes_moved = op_bytes_moved(c);
	bench.sweep.op = req.op;
	bench.sweep.cases = 3;
	bench.index = 1;
	snprintf(device.id, sizeof(device.id), "hip:0");
	snprintf(device.info.name, sizeof(device.info.name), "AMD Instinct MI300X");
	snprintf(device.info.arch, sizeof(device.info.arch), "gfx942");
	device.info.compute_units = 304;
	device.info.clock_mhz = 2100;
	snprintf(run.done.impl, sizeof(run.done.impl), "own:x");
	run.done.kernel = (struct sample_stats){3, 4, 1, 2.5, 2.5, 4, 4, 1.25};
	run.done.bench = (struct bench_outcome){.cache_bytes = 256u << 20,
						.rotation_bytes = 513u << 20,
						.copies = 65,
						.cold = 1,
						.validated = 1,
						.identical = 1};
	text_init(&t, 1 << 20);
}

static cJSON *
line(void)
{
	cJSON *tree;

	t.len = 0;
	bench_line(&req, &t);
	tree = t.failed ? NULL : cJSON_Parse(t.p);
	cr_assert(tree, "%s", t.p);
	return tree;
}

static const cJSON *
at(const cJSON *tree, const char *path)
{
	char name[64];

	while (tree && *path) {
		size_t n = strcspn(path, ".");

		snprintf(name, sizeof(name), "%.*s", (int)n, path);
		tree = cJSON_GetObjectItemCaseSensitive(tree, name);
		path += n + (path[n] == '.');
	}
	cr_assert(tree, "%s", path);
	return tree;
}

#define NUMBER(tree, path) (at(tree, path)->valuedouble)

TestSuite(bench_line, .init = setup);

Test(bench_line, rates_and_shares)
{
	double flop = 4.0 * 2 * 512 * 512 * 8 * 64, bytes = 4.0 * 2 * 512 * 8 * 64 * 2;
	cJSON *tree;

	run.done.kernel.median = 0.002; /* 537 TFLOP/s, 2097 GB/s */
	tree = line();
	cr_assert_eq(NUMBER(tree, "rates.flop"), flop);
	cr_assert_eq(NUMBER(tree, "rates.bytes_moved"), bytes);
	cr_assert_float_eq(NUMBER(tree, "rates.tflops"), flop / 0.002 / 1e9, 1e-3);
	cr_assert_float_eq(NUMBER(tree, "rates.gb_per_s"), bytes / 0.002 / 1e6, 1e-3);
	cr_assert_eq(NUMBER(tree, "rates.peak_tflops"), 1307.4);
	cr_assert_float_eq(NUMBER(tree, "rates.peak_share"), flop / 0.002 / 1e9 / 1307.4, 1e-4);
	cr_assert_eq(NUMBER(tree, "rates.peak_gb_per_s"), 5300);
	cr_assert_float_eq(NUMBER(tree, "rates.bandwidth_share"), bytes / 0.002 / 1e6 / 5300, 1e-4);
	cr_assert(cJSON_IsNull(at(tree, "rates.suspect")));
	cr_assert(strstr(at(tree, "rates.peak_source")->valuestring, "white paper"));
	cr_assert_str_eq(at(tree, "mode")->valuestring, "cold");
	cr_assert_eq(NUMBER(tree, "rotation.copies"), 65);
	cr_assert_float_eq(NUMBER(tree, "kernel_ms.per_sample"), 0.001, 1e-9);
	cr_assert_eq(NUMBER(tree, "index"), 1);
	cr_assert_eq(NUMBER(tree, "of"), 3);
	cJSON_Delete(tree);
}

Test(bench_line, above_the_peak_is_not_believed)
{
	cJSON *tree;

	run.done.kernel.median = 0.0005; /* 2147 TFLOP/s, 8389 GB/s */
	tree = line();
	cr_assert(cJSON_IsNull(at(tree, "rates.tflops")) && cJSON_IsNull(at(tree, "rates.peak_share")));
	cr_assert(cJSON_IsNull(at(tree, "rates.gb_per_s")) && cJSON_IsNull(at(tree, "rates.bandwidth_share")));
	cr_assert(strstr(at(tree, "rates.suspect")->valuestring, "2147.5 TFLOP/s, more than the device's 1307.4"), "%s",
		  at(tree, "rates.suspect")->valuestring);
	cr_assert(strstr(at(tree, "rates.suspect")->valuestring, "8389 GB/s, more than the 5300"));
	cJSON_Delete(tree);
	/* In the caches data come faster than from memory: nothing is wrong with that. */
	run.done.bench.cold = 0;
	bench.options[BO_MODE].i[0] = 1;
	run.done.kernel.median = 0.001;
	run.bytes_moved = 1e7;
	tree = line();
	cr_assert(cJSON_IsNull(at(tree, "rates.suspect")));
	cr_assert_float_eq(NUMBER(tree, "rates.gb_per_s"), 1e4, 0.1);
	cr_assert(cJSON_IsNull(at(tree, "rates.bandwidth_share")));
	cr_assert_str_eq(at(tree, "mode")->valuestring, "warm");
	cJSON_Delete(tree);
}

Test(bench_line, nothing_is_claimed_without_ground)
{
	static const char *const none[] = {"tflops",	      "gb_per_s", "peak_tflops", "peak_share", "peak_gb_per_s",
					   "bandwidth_share", "peak_of",  "peak_source", "suspect"};
	cJSON *tree;

	device.info.timing_meaningless = 1;
	snprintf(run.done.baseline_impl, sizeof(run.done.baseline_impl), "naive:x");
	run.done.baseline = run.done.kernel;
	tree = line();
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		cr_assert(cJSON_IsNull(cJSON_GetObjectItem(at(tree, "rates"), none[i])), "%s", none[i]);
	cr_assert(cJSON_IsNull(at(tree, "baseline.speedup")));
	cr_assert(cJSON_IsTrue(at(tree, "device.timing_meaningless")));
	cJSON_Delete(tree);
	/* Known device, unknown time. */
	device.info.timing_meaningless = 0;
	run.done.kernel.median = 0;
	tree = line();
	cr_assert(cJSON_IsNull(at(tree, "rates.tflops")));
	cr_assert_eq(NUMBER(tree, "kernel_ms.spread"), 0);
	cJSON_Delete(tree);
}

/* A worker may lie; what leaves the server is JSON. */
Test(bench_line, wild_numbers)
{
	cJSON *tree;

	run.done.kernel = (struct sample_stats){.min = NAN, .median = INFINITY, .mean = -INFINITY, .max = 1e300};
	run.done.baseline = run.done.kernel;
	run.done.bench.max_diff_after = INFINITY;
	snprintf(run.done.baseline_impl, sizeof(run.done.baseline_impl), "naive:x");
	tree = line();
	cr_assert(cJSON_IsNull(at(tree, "kernel_ms.median")) && cJSON_IsNull(at(tree, "kernel_ms.max")));
	cr_assert(cJSON_IsNull(at(tree, "baseline.speedup")));
	cJSON_Delete(tree);
}

/* A rate of more digits than the sentence has room for, which only a worker gone mad reports. */
Test(bench_line, absurdly_fast)
{
	cJSON *tree = line();

	run.done.kernel.median = NUMBER(tree, "rates.flop") / 1e305;
	cJSON_Delete(tree);
	tree = line();
	cr_assert(cJSON_IsNull(at(tree, "rates.tflops")));
	cr_assert_eq(strncmp(at(tree, "rates.suspect")->valuestring, "the median would be ", 20), 0);
	cJSON_Delete(tree);
}

Test(bench_line, the_rest_of_it)
{
	int64_t shape[2] = {1, 4};
	cJSON *tree;

	run.done.bench.cold = 0;
	run.done.bench.cache_bytes = 0;
	run.done.bench.validated = run.done.bench.identical = 0;
	run.done.bench.max_diff_after = NAN;
	snprintf(run.done.bench.note, sizeof(run.done.bench.note), "a \"reason\"");
	cr_assert_eq(tensor_describe(&run.job.msg.samples, "samples", DT_FP64, 2, shape, NULL), 0);
	run.job.msg.samples.data = samples;
	tree = line();
	cr_assert_str_eq(at(tree, "mode")->valuestring, "not cold");
	cr_assert_str_eq(at(tree, "rotation.note")->valuestring, "a \"reason\"");
	cr_assert(cJSON_IsNull(at(tree, "rotation.cache_bytes")));
	cr_assert(cJSON_IsFalse(at(tree, "validated")) && cJSON_IsFalse(at(tree, "identical")));
	cr_assert_str_eq(at(tree, "max_diff_after")->valuestring, "NaN");
	cr_assert_eq(cJSON_GetArraySize(at(tree, "kernel_ms.samples")), 4);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(cJSON_GetArrayItem(at(tree, "kernel_ms.samples"), i)->valuedouble, samples[i]);
	cr_assert_eq(NUMBER(tree, "kernel_ms.spread"), 3 / 2.5);
	cr_assert_null(cJSON_GetObjectItem(tree, "baseline"));
	cr_assert_null(strchr(t.p, '\n'), "it is one line");
	cJSON_Delete(tree);
}
