/*
 * test_request_stats.c: the statistics of a run, in all the forms they travel in, read back by cJSON: the two texts hold
 * the same, whatever strings and numbers a device brings, and both stay inside their buffers.
 */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/request.h"

static struct device_state device;

/* Instead of the supervisor's. */
void
supervisor_device(struct supervisor *s, unsigned index, struct device_state *out)
{
	(void)s;
	cr_assert_eq(index, 3);
	*out = device;
}

static struct service svc;
static struct loop loop = {.svc = &svc};
static struct request *req;

static void
begin(void)
{
	struct tensor *t;
	int64_t shape[2] = {2, 8};

	memset(&device, 0, sizeof(device));
	strcpy(device.id, "cpu:3");
	strcpy(device.info.name, "A processor");
	strcpy(device.info.arch, "x86_64");
	req = calloc(1, sizeof(*req));
	req->run = calloc(1, sizeof(*req->run));
	req->loop = &loop;
	req->op = op_find("rmsnorm", 7, &req->op_index);
	req->run->job.msg.call.op = req->op_index;
	t = req->run->job.msg.call.tensors;
	cr_assert_eq(tensor_describe(&t[0], "x", DT_FP32, 2, shape, NULL), 0);
	cr_assert_eq(tensor_describe(&t[1], "weight", DT_FP32, 1, shape + 1, NULL), 0);
	cr_assert_eq(op_bind(req->op, &req->run->job.msg.call, NULL), 0);
	req->run->device = 3;
	req->run->bytes_moved = 160;
	strcpy(req->run->done.impl, "cpu:scalar");
	req->run->done.kernel = (struct sample_stats){2, 5, 0.25, 0.5, 0.625, 1, 1.5, 0.125};
	text_init(&req->run->hints, 16 * 1024);
	for (int i = 0; i < T_COUNT; i++)
		req->t[i] = 1000000u + 1000u * (uint64_t)i;
}

static void
end(void)
{
	text_fini(&req->run->stats);
	text_fini(&req->run->stats_quoted);
	text_fini(&req->run->hints);
	free(req->run);
	free(req);
}

/* The plain text as a tree; the quoted one must be the same text, once its quotes are there. */
static cJSON *
both(void)
{
	cJSON *tree, *string;
	char *literal;
	struct err e;
	size_t n;

	cr_assert_eq(request_stats(req, &e), 0, "%s", e.msg);
	n = req->run->stats_quoted.len;
	literal = malloc(n + 3);
	cr_assert_not_null(literal);
	literal[0] = '"';
	memcpy(literal + 1, req->run->stats_quoted.p, n);
	memcpy(literal + 1 + n, "\"", 2);
	string = cJSON_Parse(literal);
	cr_assert(cJSON_IsString(string), "%s", literal);
	cr_expect_str_eq(string->valuestring, req->run->stats.p);
	cr_expect_eq(strlen(req->run->stats.p), req->run->stats.len);
	tree = cJSON_Parse(req->run->stats.p);
	cr_assert_not_null(tree, "%s", req->run->stats.p);
	cJSON_Delete(string);
	free(literal);
	return tree;
}

/* "timing_ms.queue" */
static const cJSON *
at(const cJSON *tree, const char *path)
{
	char name[40];

	while (*path) {
		size_t n = strcspn(path, ".");

		memcpy(name, path, n);
		name[n] = '\0';
		tree = cJSON_GetObjectItemCaseSensitive(tree, name);
		cr_assert_not_null(tree, "there is no %s", name);
		path += n + (path[n] == '.');
	}
	return tree;
}

static double
number(const cJSON *tree, const char *path)
{
	const cJSON *v = at(tree, path);

	cr_assert(cJSON_IsNumber(v), "%s", path);
	return v->valuedouble;
}

/* The header's text has encode and total, and is otherwise the same. */
static void
finish(cJSON *tree)
{
	const char *text = request_stats_finish(req);
	cJSON *whole = cJSON_Parse(text), *timing;

	cr_assert_not_null(whole, "%s", text);
	timing = cJSON_GetObjectItemCaseSensitive(whole, "timing_ms");
	cr_expect_float_eq(number(whole, "timing_ms.encode"), 0.001, 1e-9);
	cr_expect_float_eq(number(whole, "timing_ms.total"), 0.006, 1e-9);
	cJSON_DeleteItemFromObjectCaseSensitive(timing, "encode");
	cJSON_DeleteItemFromObjectCaseSensitive(timing, "total");
	cr_expect(cJSON_Compare(tree, whole, true), "%s", text);
	cJSON_Delete(whole);
}

Test(request_stats, numbers)
{
	/* Times are told in nanoseconds, as far as they make sense; what does not is told, too. */
	static const double times[] = {0,	4e-7,	    6e-7, 0.000001,	  0.0123456, 0.9999996, 1,  9.9999994,
				       12.3456, 123456.789, 1e11, 999999999999.0, 1e12,	     1.5e300,	-1, -0.001};
	cJSON *tree;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		double v = times[i];

		begin();
		req->run->done.wait_ms = req->run->done.kernel.max = v;
		tree = both();
		cr_expect_float_eq(number(tree, "timing_ms.queue"), v, 5.1e-7 + fabs(v) * 1e-15, "%g", v);
		cr_expect_float_eq(number(tree, "kernel_ms.max"), v, 5.1e-7 + fabs(v) * 1e-15, "%g", v);
		cr_expect_eq(number(tree, "kernel_ms.warmup"), 2);
		cr_expect_eq(number(tree, "kernel_ms.median"), 0.5);
		cr_expect_eq(number(tree, "rates.flop"), 64);
		cr_expect_eq(number(tree, "rates.bytes_moved"), 160);
		cr_expect_float_eq(number(tree, "rates.gb_per_s"), 160 / 0.5 / 1e6, 5.1e-5);
		finish(tree);
		cJSON_Delete(tree);
		end();
	}
}

Test(request_stats, every_number_at_its_longest)
{
	struct memory_stats *m;
	double *d;
	cJSON *tree;

	begin();
	m = &req->run->done.memory;
	memset(m, 0xff, sizeof(*m));
	strcpy(req->run->done.baseline_impl, "cpu:naive");
	d = &req->run->done.kernel.min;
	for (int i = 0; i < 6; i++)
		d[i] = -1.2345678901234567e-300;
	d = &req->run->done.baseline.min;
	for (int i = 0; i < 6; i++)
		d[i] = i % 2 ? NAN : -INFINITY;
	req->run->done.upload_ms = req->run->done.download_ms = req->run->done.wait_ms = -1.2345678901234567e+300;
	req->run->done.baseline_max_abs_diff = INFINITY;
	req->run->bytes_moved = 1.2345678901234567e+300;
	device.info.timing_meaningless = 1;
	tree = both();
	cr_expect_str_eq(at(tree, "baseline.kernel_ms.min")->valuestring, "-Infinity");
	cr_expect_str_eq(at(tree, "baseline.kernel_ms.median")->valuestring, "NaN");
	cr_expect_str_eq(at(tree, "baseline.max_abs_diff")->valuestring, "Infinity");
	cr_expect_eq(number(tree, "timing_ms.queue"), -1.2345678901234567e+300);
	cr_expect_eq(number(tree, "kernel_ms.p95"), -1.2345678901234567e-300);
	cr_expect(cJSON_IsTrue(at(tree, "device.timing_meaningless")));
	cr_expect_eq(number(tree, "memory.peak"), 18446744073709551615.0);
	/* far from what is reserved for them (3072, which overflows inside the struct would not show) */
	cr_expect_lt(req->run->stats.len, 2048);
	cr_expect_lt(req->run->stats_quoted.len, 2048);
	finish(tree);
	request_server_timing(req);
	cr_expect(strstr(req->reply.timing,
			 "receive;dur=0.001000, decode;dur=0.001000, reserve;dur=0.000000, queue;dur=-1.23"),
		  "%s", req->reply.timing);
	cr_expect(strstr(req->reply.timing, ", encode;dur=0.001000, total;dur=0.006000"), "%s", req->reply.timing);
	cJSON_Delete(tree);
	end();
}

/* Whatever a device calls itself. */
Test(request_stats, strings)
{
	cJSON *tree;

	for (int c = 1; c < 256; c++) {
		begin();
		memset(device.id, c, sizeof(device.id) - 1);
		memset(device.info.name, c, sizeof(device.info.name) - 1);
		memset(device.info.arch, c, sizeof(device.info.arch) - 1);
		memset(req->run->done.impl, c, sizeof(req->run->done.impl) - 1);
		memset(req->run->done.baseline_impl, c, sizeof(req->run->done.baseline_impl) - 1);
		tree = both();
		if (c < 128)
			cr_expect_str_eq(at(tree, "device.name")->valuestring, device.info.name);
		cr_expect_str_eq(at(tree, "op")->valuestring, "rmsnorm");
		cJSON_Delete(tree);
		end();
	}
}

/* In the field only where they fit; in the body always. */
Test(request_stats, hints)
{
	for (size_t n = 1; n < 8000; n += 997) {
		cJSON *tree, *whole;
		size_t full;

		begin();
		text_add(&req->run->hints, "[\"a \\\"quoted\\\" one\",\"");
		for (size_t i = 0; i < n; i++)
			text_add(&req->run->hints, "h");
		text_add(&req->run->hints, "\"]");
		tree = both();
		cr_expect_eq(cJSON_GetArraySize(at(tree, "hints")), 2);
		cr_expect_str_eq(at(tree, "hints")->child->valuestring, "a \"quoted\" one");
		full = req->run->stats.len + strlen(",\"encode\":0.001000,\"total\":0.006000");
		whole = cJSON_Parse(request_stats_finish(req));
		cr_assert_not_null(whole);
		cr_expect_eq(cJSON_GetArraySize(at(whole, "hints")), full > 4096 ? 0 : 2, "%zu", full);
		cr_expect_leq(strlen(req->run->stats.p), 4096);
		cJSON_Delete(whole);
		cJSON_Delete(tree);
		end();
	}
}
