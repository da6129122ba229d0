/* fuzz_safetensors.c: any bytes as a safetensors file, in any pieces (fuzz_decoder.h). */
#include "fuzz/fuzz_decoder.h"

static struct decoder *
make(struct intake *in)
{
	return decoder_safetensors_new(in);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(make, data, size);
}
