/*
 * fuzz_http_head.c: any bytes as a request head. The verdict must not depend on how they are cut, offsets must lie
 * inside the head, and nothing is read past what has come (each prefix lies in memory of its own size).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "front/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

static int
parse(const uint8_t *data, size_t len, size_t step, const struct http_limits *limits, struct http_head *h, struct err *e)
{
	size_t scanned = 0, n = 0;
	int rc = 0;

	while (rc == 0 && n < len) {
		char *copy;

		n = len - n < step ? len : n + step;
		copy = malloc(n);
		must(copy != NULL);
		memcpy(copy, data, n);
		rc = http_head_parse(copy, n, limits, &scanned, h, e);
		must(scanned <= n);
		free(copy);
	}
	return rc;
}

/* The first byte chooses the step, the second the limits. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_limits limits = {16384, 100, 8192};
	struct http_head a = {0}, b = {0};
	struct err ea = {0}, eb = {0};
	int rc, i;

	if (size < 3)
		return 0;
	if (data[1] & 1)
		limits = (struct http_limits){64u + data[1], 4, 20};
	rc = parse(data + 2, size - 2, size, &limits, &a, &ea);
	must(parse(data + 2, size - 2, 1u + data[0] % 64, &limits, &b, &eb) == rc && ea.code == eb.code);
	must((rc < 0) == (ea.code != ERR_NONE));
	if (rc != 1)
		return 0;
	must(memcmp(&a, &b, sizeof(a)) == 0);
	must(a.length <= size - 2 && a.length <= limits.head_bytes);
	must(memcmp(data + 2 + a.length - 4, "\r\n\r\n", 4) == 0);
	must(a.method_len >= 1 && a.method_len <= 32 && a.target == a.method_len + 1 && a.target_len >= 1);
	must(a.target_len <= limits.target_bytes && a.path >= a.target && a.path_len >= 1);
	must(a.path + a.path_len <= a.target + a.target_len && a.fields <= limits.head_fields);
	must(!(a.chunked && a.has_length) && a.content_length <= INT64_MAX && a.n_framing <= 4);
	for (i = 0; i < a.n_framing; i++)
		must(a.framing[i] < a.length && strchr("CcTtEe", data[2 + a.framing[i]]) != NULL);
	return 0;
}
