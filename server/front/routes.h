/* routes.h: which path and method lead where. */
#ifndef AITERD_ROUTES_H
#define AITERD_ROUTES_H

#include <stdbool.h>

#include "err.h"

struct decoder;
struct op_param;
struct request;

struct route {
	const char *methods; /* "GET,HEAD": also the Allow header, unless `allow` is */
	const char *path;    /* "/v1/ops/{op}": {op} is any one segment */
	const char *allow;   /* the methods of all rows of this path; or NULL */
	bool oip;	     /* the Open Inference Protocol's forms and errors */
	/* How its body is read, if not as an operator's inputs; NULL + e: it is refused. */
	struct decoder *(*open)(struct request *req, const char *content_type, struct err *e);
	/* One of the two: */
	void (*answer)(struct request *req); /* a page: makes the reply at once, or asks for a helper's time */
	void (*start)(struct request *req);  /* takes a body: request_open() and on; called when it is decoded */
	bool fills;   /* start makes generated inputs itself, when it has seen that the rest is right */
	bool judges;  /* takes candidates' outputs (expected.*); replies in JSON unless safetensors is asked for */
	bool streams; /* the reply is lines as they come (stream.h): NDJSON or SSE; a request without tensors is fine */
	const char *action;		/* what its job is called: Prefer: respond-async is honoured; or NULL */
	const char *summary;		/* for GET / */
	const struct op_param *options; /* that only this route has, beside run_options.c's; or NULL */
};

/* Sets req->route, op_name, op, oip; 404 and 405 otherwise. */
int routes_find(struct request *req, const char *method, const char *target, struct err *e);

/* The table, ended by a NULL path; in the order of GET /. */
extern const struct route routes[];

#endif
