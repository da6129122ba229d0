/* decode_oip.h: between the two halves of the Open Inference Protocol's decoder. */
#ifndef AITERD_DECODE_OIP_H
#define AITERD_DECODE_OIP_H

#include "codec/intake.h"

struct cJSON;

/* The request's "parameters": into the intake's, but for names that belong to the protocol. */
int oip_parameters(struct intake *in, const struct cJSON *object, struct err *e);
/* One of the request's "outputs". */
int oip_output(struct intake *in, const struct cJSON *object, struct err *e);
/* Refuse a shared_memory_* parameter of this tensor. */
int oip_shared_memory(const char *name, struct err *e);
bool oip_starts(const char *s, const char *prefix);

#endif
