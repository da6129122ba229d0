/* fuzz_multipart.c: any bytes as a multipart/form-data body with the boundary "XX", in any pieces (fuzz_decoder.h). */
#include "fuzz/fuzz_decoder.h"

static struct decoder *
make(struct intake *in)
{
	return decoder_multipart_new(in, "XX", 2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(make, data, size);
}
