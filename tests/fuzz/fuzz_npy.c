/* fuzz_npy.c: any bytes as a .npy file, in any pieces (fuzz_decoder.h). */
#include "fuzz/fuzz_decoder.h"

static struct decoder *
make(struct intake *in)
{
	return decoder_npy_new(in, "q");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(make, data, size);
}
