/*
 * fuzz_client.c: what the C client reads of others: files and replies (.npy, .safetensors), problems, addresses, and sources as
 * they are typed. The first byte chooses; the rest lies in memory of its own size, so that nothing is read beyond it unseen.
 */
#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "lib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

/* Every element of every tensor lies in the file. */
static void
read_tensors(const unsigned char *p, size_t n)
{
	struct lib_tensors ts = {.t = NULL};
	struct err e = {.code = ERR_NONE};
	int rc = lib_is_npy(p, n) ? lib_npy_read(&ts, "x", p, n, &e) : lib_safetensors_read(&ts, p, n, &e);
	uint64_t sum = 0;

	must(rc == 0 || (e.code != ERR_NONE && e.msg[0]));
	for (int i = 0; rc == 0 && i < ts.n; i++) {
		const struct aiterd_tensor *t = &ts.t[i];
		struct tensor described;

		must(lib_tensor(t, &described, &e));
		must(t->bytes == 0 ||
		     ((const unsigned char *)t->data >= p && (const unsigned char *)t->data + t->bytes <= p + n));
		sum += t->bytes;
		must(lib_tensors_find(&ts, t->name) == i);
	}
	must(rc < 0 || sum <= n);
	lib_metadata(&ts, "params");
	lib_tensors_fini(&ts);
}

static void
read_source(const char *text)
{
	struct source s;
	char why[64];
	int rc = source_parse(text, &s, why, sizeof(why));
	struct cJSON *json;

	must(rc == 0 ? s.text != NULL : why[0] && !s.text);
	if (rc == 0 && s.kind == SOURCE_JSON && *text != '{') {
		json = json_of(s.text); /* what is made of it is always JSON */
		must(json != NULL);
		cJSON_Delete(json);
	}
	free(s.text);
}

static void
read_problem(const unsigned char *p, size_t n)
{
	static struct aiterd server;

	lib_problem(&server, 422, (const char *)p, n, 0);
	must(server.error[0] && memchr(server.error, '\0', sizeof(server.error)));
	lib_clear(&server);
}

static void
read_url(const char *text)
{
	struct lib_url url;
	char why[100];

	if (lib_url_parse(text, &url, why, sizeof(why)) == 0) {
		must(url.base != NULL && !strpbrk(url.base, " \r\n"));
		free(url.base);
		free(url.unix_path);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *p;
	char *text;

	if (size == 0)
		return 0;
	p = malloc(size > 1 ? size - 1 : 1);
	text = malloc(size);
	must(p && text);
	memcpy(p, data + 1, size - 1);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (data[0] % 4) {
	case 0:
		read_tensors(p, size - 1);
		break;
	case 1:
		read_source(text);
		break;
	case 2:
		read_problem(p, size - 1);
		break;
	default:
		read_url(text);
	}
	free(p);
	free(text);
	return 0;
}
