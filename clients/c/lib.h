/*
 * lib.h: what the parts of libaiterd share: the server's insides, errors, one HTTP exchange, files. Not installed.
 */
#ifndef AITERD_LIB_H
#define AITERD_LIB_H

#define AITERD_BUILDING 1

#include <curl/curl.h>
#include <stdbool.h>

#include "aiterd.h"
#include "err.h"
#include "tensor.h"
#include "text.h"

struct cJSON;

/* Depth and size of JSON that is read from servers and files. */
#define LIB_JSON_DEPTH 64
#define LIB_TEXT_MAX ((size_t)1 << 30)

enum lib_coding { LIB_PLAIN, LIB_GZIP, LIB_ZSTD };

struct aiterd {
	CURL *curl; /* NULL: it could not be opened, and only has an error */
	char *base; /* "http://host:port/prefix", without a slash at its end */
	char *unix_path;
	char *key;
	long connect_ms, request_ms;
	int retries, retry_s;
	enum lib_coding coding;
	aiterd_progress_f *progress;
	void *progress_user;
	char error[1400];
	struct aiterd_problem problem;
	struct cJSON *problem_json; /* has problem's strings */
};

/* ---- handle.c ---- */

/* Set the error and return `status`; s may be NULL. */
enum aiterd_status lib_fail(struct aiterd *s, enum aiterd_status status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
enum aiterd_status lib_no_memory(struct aiterd *s);
/* From a reply that is no success; the body may be a problem, an error of /v2, or anything. */
enum aiterd_status lib_problem(struct aiterd *s, long http_status, const char *body, size_t len, int retry_after_s);
void lib_clear(struct aiterd *s);

/* ---- url.c ---- */

struct lib_url {
	char *base, *unix_path; /* both to be freed; unix_path may be NULL */
};

/* 0; -1: bad, and `why` says how; -2: no memory. */
int lib_url_parse(const char *text, struct lib_url *url, char *why, size_t size);

/* ---- body.c ---- */

struct lib_piece {
	const void *p;
	uint64_t n;
};

/* Pieces one after the other, compressed while they are read if asked. */
struct lib_body {
	const struct lib_piece *pieces;
	int n, at;
	uint64_t off; /* in the piece */
	enum lib_coding coding;
	void *z;
	bool ended, failed;
};

uint64_t lib_body_bytes(const struct lib_piece *pieces, int n);
void lib_body_begin(struct lib_body *b, const struct lib_piece *pieces, int n, enum lib_coding coding);
/* Fill up to n bytes at dst; 0 at the end. False: compressing failed. */
bool lib_body_read(struct lib_body *b, unsigned char *dst, size_t n, size_t *got);
void lib_body_end(struct lib_body *b);

/* ---- http.c ---- */

struct http_request {
	const char *method;
	const char *path; /* and query */
	const char *type; /* Content-Type; NULL: no body */
	const char *accept;
	const char *prefer; /* RFC 7240, or NULL */
	const struct lib_piece *pieces;
	int n_pieces;
	bool repeatable;     /* sending it again after 429 or 503 does no harm */
	bool absent_is_fine; /* 404 is no error */
	aiterd_line_f *line; /* a 200's body goes here, line by line */
	void *user;
};

struct http_reply {
	long status;
	int retry_after_s;
	char *type, *stats, *etag;
	unsigned char *p; /* always followed by a NUL */
	size_t n, cap;
};

/* AITERD_OK: a status of 2xx (or 404 where that is fine), the body in r. Else nothing is left in r. */
enum aiterd_status http_do(struct aiterd *s, const struct http_request *q, struct http_reply *r);
void http_reply_fini(struct http_reply *r);
int http_global(void);

/* ---- file.c, npy_read.c, safetensors.c ---- */

struct lib_tensors { /* of a .npy or .safetensors body somewhere in memory */
	struct aiterd_tensor *t;
	int n;
	struct cJSON *header; /* of safetensors */
	uint64_t data_at;
};

bool lib_is_npy(const void *p, size_t n);
/* The tensors' data point into the bytes. */
int lib_npy_read(struct lib_tensors *ts, const char *name, const unsigned char *p, uint64_t n, struct err *e);
int lib_safetensors_read(struct lib_tensors *ts, const unsigned char *p, uint64_t n, struct err *e);
void lib_tensors_fini(struct lib_tensors *ts);
const char *lib_metadata(const struct lib_tensors *ts, const char *name);
int lib_tensors_find(const struct lib_tensors *ts, const char *name);

/* The header of a safetensors file with these tensors: its length's 8 bytes, the JSON, blanks up to a multiple of 64.
 * metadata: a JSON object, or NULL. */
int lib_safetensors_head(struct text *head, const struct aiterd_tensor *tensors, int n, const char *metadata);

/* Server's descriptor of a tensor: for dtype functions. False: its fields contradict each other. */
bool lib_tensor(const struct aiterd_tensor *from, struct tensor *to, struct err *e);

/* ---- reply.c ---- */

/* Takes r's contents. */
enum aiterd_status lib_reply_new(struct aiterd *s, struct http_reply *r, struct aiterd_reply **reply);

/* ---- call.c ---- */

struct lib_param {
	char *name, *json; /* the value as JSON */
};

struct aiterd_call {
	struct aiterd *server;
	char *op;
	struct aiterd_tensor *tensors; /* names are the call's */
	int n_tensors;
	struct lib_param *params, *sources;
	int n_params, n_sources;
	bool keeps;
};

#endif
