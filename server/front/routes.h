/* routes.h: which path and method lead where. */
#ifndef AITERD_ROUTES_H
#define AITERD_ROUTES_H

#include <stdbool.h>

#include "err.h"

struct request;

struct route {
	const char *methods;		     /* "GET,HEAD": also the Allow header */
	const char *path;		     /* "/v1/ops/{op}": {op} is any one segment */
	bool compute;			     /* runs an operator: takes a body, request_open() and on */
	bool oip;			     /* the Open Inference Protocol's forms and errors */
	void (*answer)(struct request *req); /* not compute: must make the reply at once */
	const char *summary;		     /* for GET / */
};

/* Sets req->route, op_name, op, oip; 404 and 405 otherwise. */
int routes_find(struct request *req, const char *method, const char *target, struct err *e);

/* The table, ended by a NULL path; in the order of GET /. */
extern const struct route routes[];

#endif
