/* prefer.h: the Prefer field of a request (RFC 7240), as far as it means anything here. A pure function. */
#ifndef AITERD_PREFER_H
#define AITERD_PREFER_H

#include <stdbool.h>
#include <stdint.h>

struct prefer {
	bool respond_async;
	bool wait_given;
	uint32_t wait_s; /* "wait=N" */
};

/* The field's value, several of them joined by commas; NULL: not there. What is unknown or makes no sense is passed over, as
 * the RFC asks; of a preference that stands there twice the first counts. */
void prefer_parse(const char *value, struct prefer *p);

#endif
