/*
 * fuzz_json.c: any bytes as a native JSON body, and as JSON. The verdict and the tensors must not depend on how the
 * body is cut; what json_parse takes, a skeleton is made of, too.
 */
#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "unit/intake_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

static void
compare(const struct intake *a, const struct intake *b)
{
	must(a->n_tensors == b->n_tensors && a->n_params == b->n_params);
	for (int i = 0; i < a->n_tensors; i++) {
		const struct tensor *t = &a->tensors[i].t, *u = &b->tensors[i].t;

		must(a->tensors[i].arrived && t->bytes == u->bytes && t->dtype == u->dtype);
		must(t->bytes == 0 || memcmp(t->data, u->data, t->bytes) == 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fixture whole, pieces;
	struct err e = {.code = ERR_NONE}, other = {.code = ERR_NONE}, parse = {.code = ERR_NONE};
	struct json_cut cut = {.max_depth = 16, .member1 = "data", .member2 = "base64", .keep = "params"};
	cJSON *tree;
	char *skeleton;
	int rc;

	fixture_init(&whole, &fixture_op);
	fixture_init(&pieces, &fixture_op);
	rc = fixture_drive(decoder_json_new(&whole.in), data, size, SIZE_MAX, false, &e);
	must(fixture_drive(decoder_json_new(&pieces.in), data, size, 13, true, &other) == rc && e.code == other.code);
	must(rc == 0 || e.msg[0] != '\0');
	if (rc == 0 && intake_finish(&whole.in, &e) == 0) {
		must(intake_finish(&pieces.in, &other) == 0);
		must(fixture_fill(&whole, &e) == 0 && fixture_fill(&pieces, &other) == 0);
		compare(&whole.in, &pieces.in);
	}
	fixture_fini(&whole);
	fixture_fini(&pieces);

	tree = json_parse((const char *)data, size, 16, &parse);
	skeleton = json_skeleton((const char *)data, size, &cut, &other);
	if (tree && size < JSON_SKELETON_MAX && cut.n_spans < JSON_SPANS_MAX - 1)
		must(skeleton || strstr(other.msg, "tensor data"));
	cJSON_Delete(tree);
	free(skeleton);
	return 0;
}
