/*
 * fuzz_oip.c: any bytes as an Open Inference Protocol body. The first two bytes say how long the JSON is: 65535 stands
 * for no header. The verdict and the tensors must not depend on how the body is cut.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "unit/intake_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fixture whole, pieces;
	struct err e = {.code = ERR_NONE}, other = {.code = ERR_NONE};
	int64_t header;
	int rc;

	if (size < 2)
		return 0;
	header = data[0] | data[1] << 8;
	if (header == 65535)
		header = -1;
	data += 2;
	size -= 2;
	fixture_init(&whole, &fixture_op);
	fixture_init(&pieces, &fixture_op);
	rc = fixture_drive(decoder_oip_new(&whole.in, header), data, size, SIZE_MAX, false, &e);
	must(fixture_drive(decoder_oip_new(&pieces.in, header), data, size, 11, true, &other) == rc &&
	     e.code == other.code);
	must(rc == 0 || e.msg[0] != '\0');
	if (rc == 0 && intake_finish(&whole.in, &e) == 0) {
		must(intake_finish(&pieces.in, &other) == 0);
		must(fixture_fill(&whole, &e) == 0 && fixture_fill(&pieces, &other) == 0);
		must(whole.in.n_tensors == pieces.in.n_tensors && whole.in.n_outputs == pieces.in.n_outputs);
		for (int i = 0; i < whole.in.n_tensors; i++) {
			const struct tensor *t = &whole.in.tensors[i].t, *u = &pieces.in.tensors[i].t;

			must(whole.in.tensors[i].arrived && t->bytes == u->bytes);
			must(t->bytes == 0 || memcmp(t->data, u->data, t->bytes) == 0);
		}
	}
	fixture_fini(&whole);
	fixture_fini(&pieces);
	return 0;
}
