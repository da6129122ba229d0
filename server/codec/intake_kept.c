/*
 * intake_kept.c: inputs that the server has kept from before (intake.h). Called by whatever reads {"tensor": "w1"}; the
 * tensor is read where it lies, and stays alive by the intake's reference.
 */
#include <string.h>

#include "codec/intake.h"
#include "text.h"

int
intake_kept(struct intake *in, const char *name, size_t name_len, const char *what, size_t what_len, struct err *e)
{
	struct intake_tensor *it;
	char input[TENSOR_NAME_MAX], shown[100];
	struct kept *kept = NULL;
	struct tensor t;
	uint64_t uid = 0;

	text_clip(shown, sizeof(shown), what, what_len);
	text_clip(input, sizeof(input), name, name_len);
	if (in->store)
		kept = in->store->find(in->store->cls, what, what_len, &t, &uid);
	if (!kept)
		return err_input(e, ERR_UNKNOWN_TENSOR, input, shown, "one that GET /v1/tensors lists",
				 "input %s: no tensor '%s' is kept here (any more); PUT /v1/tensors/NAME sends one, GET "
				 "/v1/tensors lists them",
				 input, shown);
	it = intake_tensor_at(in, name, name_len, &t, e);
	if (!it) {
		in->store->drop(in->store->cls, kept);
		return -1;
	}
	it->kept = kept;
	it->uid = uid;
	return 0;
}
