/* problem.h: errors as application/problem+json (RFC 9457), or as OIP's {"error": ...}. */
#ifndef AITERD_PROBLEM_H
#define AITERD_PROBLEM_H

#include <stdbool.h>

#include "err.h"
#include "front/service.h"
#include "text.h"

struct request;

/* The body alone. op and request_id may be NULL. */
void problem_body(struct text *t, const struct err *e, const char *op, const char *request_id, bool oip);
/* A whole reply, head and body, that closes the connection: for conn_refuse. req NULL: its head could not be read. */
void problem_raw(struct text *t, struct service *svc, const struct err *e, const struct request *req);
/* The documentation served at /problems/<slug>: 0, or -1 when there is no such problem. */
int problem_page(struct text *t, const char *slug);
/* A fresh request id, 16 hexadecimal digits. */
void problem_request_id(struct service *svc, char out[17]);
const char *problem_reason(int status);
/* Seconds for Retry-After; 0: none. Every 503 has one. */
uint32_t problem_retry_after(const struct err *e);

#endif
