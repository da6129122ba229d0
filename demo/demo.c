/*
 * demo.c: what `./run demo` needs beside curl: makes .npy files, sums up the ones that come back, and
 * prints the Aiterd-Stats header of a reply as a table. A tool of its own, so that the demo needs no Python.
 *
 *   demo make FILE DTYPE SHAPE SEED    normally distributed numbers; DTYPE fp16 or fp32, SHAPE as 1,512,8,64
 *   demo show FILE                     shape, dtype, mean, range and first values of an .npy file
 *   demo stats HEADERS                 HEADERS: what curl wrote with --dump-header
 */
#include <cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tensor.h"

#define NPY_MAGIC "\x93NUMPY\x01"
#define NPY_ALIGN 64
#define FIRST_VALUES 4
#define TEXT_MAX (1 << 16)

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...)
{
	va_list ap;

	fputs("demo: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

/* SplitMix64, then Box-Muller: any fixed stream of plausible numbers does for a demonstration. */
static double
uniform(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return ((double)((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
}

static double
normal(uint64_t *state)
{
	double radius = sqrt(-2.0 * log(uniform(state)));

	return radius * cos(2.0 * M_PI * uniform(state));
}

static void
demo_make(const char *path, const char *dtype, const char *shape, const char *seed)
{
	enum dtype dt = dtype_find(dtype, strlen(dtype));
	uint64_t state = strtoull(seed, NULL, 10), count = 1;
	char dict[200], *end;
	const char *s = shape;
	int len, padding;
	FILE *f;

	if (dt != DT_FP16 && dt != DT_FP32)
		die("dtype %s: fp16 or fp32 is wanted", dtype);
	for (;;) {
		count *= strtoull(s, &end, 10);
		if (end == s || (*end != ',' && *end != '\0') || count > UINT32_MAX)
			die("shape %s: lengths with commas between them are wanted", shape);
		if (*end == '\0')
			break;
		s = end + 1;
	}
	len = snprintf(dict, sizeof(dict), "{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }",
		       dtype_info(dt)->npy, shape, strchr(shape, ',') == NULL ? "," : "");
	if (len < 0 || len >= (int)sizeof(dict))
		die("shape %s is too long", shape);
	padding = NPY_ALIGN - 1 - (10 + len) % NPY_ALIGN;
	f = fopen(path, "wb");
	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	fwrite(NPY_MAGIC, 1, 7, f);
	fputc(0, f);
	fputc((len + padding + 1) & 0xff, f);
	fputc((len + padding + 1) >> 8, f);
	fprintf(f, "%s%*s\n", dict, padding, "");
	for (uint64_t i = 0; i < count; i++) {
		double v = normal(&state);
		uint16_t half = fp16_from_double(v);
		float single = (float)v;

		if (dt == DT_FP16)
			fwrite(&half, sizeof(half), 1, f);
		else
			fwrite(&single, sizeof(single), 1, f);
	}
	if (ferror(f) != 0 || fclose(f) != 0)
		die("%s: cannot write", path);
}

/* The text between `key` and `close` in the header, to buf. */
static void
npy_field(const char *path, const char *head, const char *key, char open, char close, char *buf, size_t size)
{
	const char *p = strstr(head, key), *q;

	p = p == NULL ? NULL : strchr(p + strlen(key), open);
	q = p == NULL ? NULL : strchr(p + 1, close);
	if (q == NULL || (size_t)(q - p) > size)
		die("%s: no .npy file: its header has no %s", path, key);
	memcpy(buf, p + 1, (size_t)(q - p - 1));
	buf[q - p - 1] = '\0';
}

static double
npy_value(enum dtype dt, const unsigned char *p)
{
	uint16_t half;
	float single;

	if (dt == DT_FP32) {
		memcpy(&single, p, sizeof(single));
		return (double)single;
	}
	memcpy(&half, p, sizeof(half));
	return (double)fp16_to_float(half);
}

static void
demo_show(const char *path)
{
	unsigned char start[10], bytes[4];
	char *head, descr[16], shape[100];
	double sum = 0, low = INFINITY, high = -INFINITY, first[FIRST_VALUES], v;
	uint64_t count = 0, bad = 0;
	enum dtype dt;
	size_t len;
	FILE *f = fopen(path, "rb");

	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	if (fread(start, 1, sizeof(start), f) != sizeof(start) || memcmp(start, NPY_MAGIC, 7) != 0)
		die("%s: no .npy file", path);
	len = (size_t)(start[8] | start[9] << 8);
	head = calloc(1, len + 1);
	if (head == NULL || fread(head, 1, len, f) != len)
		die("%s: truncated", path);
	npy_field(path, head, "'descr':", '\'', '\'', descr, sizeof(descr));
	npy_field(path, head, "'shape':", '(', ')', shape, sizeof(shape));
	free(head);
	dt = strcmp(descr, "<f4") == 0 ? DT_FP32 : strcmp(descr, "<f2") == 0 ? DT_FP16 : DT_NONE;
	if (dt == DT_NONE)
		die("%s: dtype %s, <f4 or <f2 was expected", path, descr);
	while (fread(bytes, 1, dtype_info(dt)->size, f) == dtype_info(dt)->size) {
		v = npy_value(dt, bytes);
		if (count < FIRST_VALUES)
			first[count] = v;
		count++;
		if (!isfinite(v)) {
			bad++;
			continue;
		}
		sum += v;
		low = fmin(low, v);
		high = fmax(high, v);
	}
	fclose(f);
	printf("  shape (%s), %s, %" PRIu64 " numbers: mean %.6f, from %.4f to %.4f, %" PRIu64 " not finite\n  first",
	       shape, dtype_info(dt)->name, count, count > bad ? sum / (double)(count - bad) : NAN, low, high, bad);
	for (uint64_t i = 0; i < count && i < FIRST_VALUES; i++)
		printf(" %.6f", first[i]);
	printf(" ...\n");
	if (count == 0 || bad != 0)
		die("%s: finite numbers were expected", path);
}

static void
stats_scalar(const char *group, const cJSON *item)
{
	double v = item->valuedouble;

	if (cJSON_IsString(item)) {
		printf("%s\n", item->valuestring);
	} else if (!cJSON_IsNumber(item)) {
		printf("%s\n", cJSON_IsTrue(item) ? "true" : cJSON_IsFalse(item) ? "false" : "-");
	} else if (strcmp(group, "memory") == 0) {
		printf("%14.0f bytes  (%.1f MiB)\n", v, v / 1048576);
	} else if (strstr(group, "_ms") != NULL && strcmp(item->string, "iters") != 0 &&
		   strcmp(item->string, "warmup") != 0) {
		printf("%14.3f ms\n", v);
	} else if (v == floor(v) && fabs(v) < 1e15) {
		printf("%14.0f\n", v);
	} else {
		printf("%14.4g\n", v);
	}
}

static void
stats_group(const cJSON *group, int indent)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, group)
	{
		if (item->string == NULL) {
			printf("%*s- %s\n", indent, "", cJSON_IsString(item) ? item->valuestring : "?");
		} else if (cJSON_IsObject(item) || (cJSON_IsArray(item) && cJSON_GetArraySize(item) > 0)) {
			printf("%*s%s\n", indent, "", item->string);
			stats_group(item, indent + 2);
		} else if (!cJSON_IsArray(item)) {
			printf("%*s%-*s ", indent, "", 26 - indent, item->string);
			stats_scalar(group->string != NULL ? group->string : "", item);
		}
	}
}

static void
demo_stats(const char *path)
{
	static const char field[] = "Aiterd-Stats:";
	static char line[TEXT_MAX];
	cJSON *stats = NULL;
	FILE *f = fopen(path, "r");

	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	while (stats == NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncasecmp(line, field, strlen(field)) == 0) {
			stats = cJSON_Parse(line + strlen(field));
			if (stats == NULL)
				die("%s: the Aiterd-Stats header is not JSON: %s", path, line);
		}
	fclose(f);
	if (stats == NULL)
		die("%s: the reply has no Aiterd-Stats header", path);
	stats_group(stats, 2);
	cJSON_Delete(stats);
}

int
main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "make") == 0)
		demo_make(argv[2], argv[3], argv[4], argv[5]);
	else if (argc == 3 && strcmp(argv[1], "show") == 0)
		demo_show(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "stats") == 0)
		demo_stats(argv[2]);
	else
		die("usage: demo make FILE DTYPE SHAPE SEED | show FILE | stats HEADERS");
	return 0;
}
