/* routes.h: which path and method lead where. */
#ifndef AITERD_ROUTES_H
#define AITERD_ROUTES_H

#include <stdbool.h>

#include "err.h"

struct op_param;
struct request;

struct route {
	const char *methods; /* "GET,HEAD": also the Allow header */
	const char *path;    /* "/v1/ops/{op}": {op} is any one segment */
	bool oip;	     /* the Open Inference Protocol's forms and errors */
	/* One of the two: */
	void (*answer)(struct request *req); /* a page: must make the reply at once */
	void (*start)(struct request *req);  /* takes a body: request_open() and on; called when it is decoded */
	bool fills;	     /* start makes generated inputs itself, when it has seen that the rest is right */
	const char *summary; /* for GET / */
	const struct op_param *options; /* that only this route has, beside run_options.c's; or NULL */
};

/* Sets req->route, op_name, op, oip; 404 and 405 otherwise. */
int routes_find(struct request *req, const char *method, const char *target, struct err *e);

/* The table, ended by a NULL path; in the order of GET /. */
extern const struct route routes[];

#endif
