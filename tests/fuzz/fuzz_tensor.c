/* fuzz_tensor.c: any bytes as a body that is one tensor, of a form that they show themselves, in any pieces
 * (fuzz_decoder.h). */
#include "fuzz/fuzz_decoder.h"

static struct decoder *
make(struct intake *in)
{
	return decoder_tensor_new(in, TENSOR_ANY);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(make, data, size);
}
