/*
 * fuzz_http_chunked.c: any bytes as a chunked body. Payload and verdict must not depend on how they are cut, nor on
 * whether payload is taken through the window.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "front/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	char *payload;
	size_t len, used;
	int rc;
	enum err_code code;
};

static void
must(int condition)
{
	if (!condition)
		abort();
}

static void
decode(const uint8_t *data, size_t len, size_t step, int windows, struct result *r)
{
	struct http_chunked c;
	struct err e = {0};

	memset(r, 0, sizeof(*r));
	r->payload = malloc(len + 1);
	must(r->payload != NULL);
	http_chunked_init(&c);
	while (r->used < len && !c.done && r->rc == 0) {
		size_t n = len - r->used < step ? len - r->used : step, i = 0;
		uint64_t w = http_chunked_window(&c);
		char *copy;

		if (windows && w > 0) {
			n = n < w ? n : (size_t)w;
			memcpy(r->payload + r->len, data + r->used, n);
			r->len += n;
			r->used += n;
			http_chunked_take(&c, n);
			continue;
		}
		copy = malloc(n);
		must(copy != NULL);
		memcpy(copy, data + r->used, n);
		while (i < n && !c.done) {
			const char *p;
			size_t m;
			long k = http_chunked_next(&c, copy + i, n - i, &p, &m, &e);

			if (k < 0) {
				r->rc = -1;
				break;
			}
			must(k > 0 && (size_t)k <= n - i && (m == 0 || (p >= copy + i && p + m == copy + i + k)));
			if (m > 0)
				memcpy(r->payload + r->len, p, m);
			r->len += m;
			i += (size_t)k;
		}
		free(copy);
		r->used += i;
	}
	r->code = e.code;
	if (r->rc < 0)
		r->used = 0;
	else
		r->rc = c.done;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct result a, b;

	if (size < 2)
		return 0;
	decode(data + 1, size - 1, size, 0, &a);
	decode(data + 1, size - 1, 1u + data[0] % 32, data[0] >> 7, &b);
	must(a.rc == b.rc && a.code == b.code && a.used == b.used && a.len == b.len);
	must(memcmp(a.payload, b.payload, a.len) == 0 && (a.rc < 0) == (a.code != ERR_NONE));
	free(a.payload);
	free(b.payload);
	return 0;
}
