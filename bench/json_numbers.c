/*
 * json_numbers.c: a JSON list of a million numbers into a tensor, against Python's json.loads of the same text (run from
 * here, so that both see the same machine), and a million float32 into text, against printf. Prints ratios; medians of
 * interleaved rounds.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "codec/encode.h"
#include "codec/json.h"

#define COUNT 1000000
#define ROUNDS 7

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int
order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), order);
	return v[ROUNDS / 2];
}

static void
die(const char *what)
{
	fprintf(stderr, "json_numbers: %s\n", what);
	exit(1);
}

/* Milliseconds that json.loads takes for the file. */
static double
python(const char *path)
{
	char command[512];
	double ms = 0;
	FILE *p;

	snprintf(command, sizeof(command),
		 "/usr/bin/python3 -c 'import json,time; s=open(\"%s\").read(); a=time.perf_counter(); json.loads(s); "
		 "print((time.perf_counter()-a)*1e3)'",
		 path);
	p = popen(command, "r");
	if (!p || fscanf(p, "%lf", &ms) != 1 || pclose(p) != 0)
		die("python3 could not be run");
	return ms;
}

static double
normal(void)
{
	return sqrt(-2 * log(1 - drand48())) * cos(6.283185307179586 * drand48());
}

static void
parse(const char *label, int digits, enum dtype dt, const float *values)
{
	static const char head[] = "{\"inputs\":{\"q\":{\"data\":[", tail[] = "]}}}";
	char path[] = "/tmp/json-numbers-XXXXXX", *text = malloc(32 * (size_t)COUNT);
	int64_t shape = COUNT;
	struct tensor t = {0};
	struct err e = {0};
	double ours[ROUNDS], theirs[ROUNDS];
	size_t n = sizeof(head) - 1;
	int fd = mkstemp(path);

	if (!text || fd < 0 || tensor_describe(&t, "q", dt, 1, &shape, &e) < 0 || !(t.data = calloc(1, t.bytes)))
		die("no memory");
	memcpy(text, head, n);
	for (int i = 0; i < COUNT; i++) {
		if (digits == 0)
			n += (size_t)sprintf(text + n, "%d, ", (int)(values[i] * 100000));
		else if (digits < 0)
			n += (size_t)sprintf(text + n, "%.*f, ", -digits, (double)values[i]);
		else
			n += (size_t)sprintf(text + n, "%.*g, ", digits, (double)values[i] * 1.0000000123);
	}
	n -= 2;
	memcpy(text + n, tail, sizeof(tail));
	n += sizeof(tail) - 1;
	if (write(fd, text, n) != (ssize_t)n)
		die("cannot write to /tmp");
	close(fd);
	for (int i = 0; i < ROUNDS; i++) {
		struct json_cut cut = {.max_depth = 16, .member1 = "data"};
		double start = now();
		char *skeleton = json_skeleton(text, n, &cut, &e);

		if (!skeleton || json_numbers(cut.spans[0], &t, "q", &e) < 0)
			die(e.msg);
		free(skeleton);
		ours[i] = now() - start;
		theirs[i] = python(path);
	}
	unlink(path);
	printf("parse  %-22s %5.1f MB: %6.1f ms, %4.0f MB/s; json.loads %6.1f ms: x%.1f (goal: x5)\n", label,
	       (double)n / 1e6, median(ours), (double)n / 1e3 / median(ours), median(theirs),
	       median(theirs) / median(ours));
	free(t.data);
	free(text);
}

static void
format(const float *values)
{
	char *text = malloc(32 * (size_t)COUNT);
	double ours[ROUNDS], theirs[ROUNDS];
	size_t n = 0;

	if (!text)
		die("no memory");
	memset(text, 1, 32 * (size_t)COUNT);
	for (int i = 0; i < ROUNDS; i++) {
		double start = now();

		n = 0;
		for (int k = 0; k < COUNT; k++) {
			n += (size_t)format_float(text + n, values[k]);
			text[n++] = ',';
		}
		ours[i] = now() - start;
		start = now();
		n = 0;
		for (int k = 0; k < COUNT; k++)
			n += (size_t)sprintf(text + n, "%.9g,", (double)values[k]);
		theirs[i] = now() - start;
	}
	printf("format fp32, shortest: %6.1f ms; printf(\"%%.9g\") %6.1f ms: x%.1f (goal: x5)\n", median(ours),
	       median(theirs), median(theirs) / median(ours));
	free(text);
}

int
main(void)
{
	float *values = malloc(COUNT * sizeof(*values));

	if (!values)
		die("no memory");
	srand48(1);
	for (int i = 0; i < COUNT; i++)
		values[i] = (float)normal();
	parse("17 digits into fp32", 17, DT_FP32, values);
	parse("17 digits into fp64", 17, DT_FP64, values);
	parse("%.9g into fp32", 9, DT_FP32, values);
	parse("%.7g into fp32", 7, DT_FP32, values);
	parse("%.7g into bf16", 7, DT_BF16, values);
	parse("4 decimals into fp32", -4, DT_FP32, values);
	parse("integers into int64", 0, DT_INT64, values);
	format(values);
	free(values);
	return 0;
}
