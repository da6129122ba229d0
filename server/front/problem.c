/* problem.c: see problem.h. */
#include "front/problem.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "front/request.h"

void
problem_body(struct text *t, const struct err *e, const char *op, const char *request_id, bool oip)
{
	const struct err_info *info = err_info(e->code);

	if (oip) {
		text_add(t, "{\"error\":");
		text_json(t, e->msg);
		text_add(t, "}");
		return;
	}
	text_addf(t, "{\"type\":\"/problems/%s\",\"title\":", info->slug);
	text_json(t, info->title);
	text_addf(t, ",\"status\":%d,\"detail\":", info->status);
	text_json(t, e->msg);
	if (op != NULL) {
		text_add(t, ",\"op\":");
		text_json(t, op);
	}
	if (e->input[0] != '\0') {
		text_add(t, ",\"input\":");
		text_json(t, e->input);
	}
	if (e->param[0] != '\0') {
		text_add(t, ",\"param\":");
		text_json(t, e->param);
	}
	if (e->found[0] != '\0') {
		text_add(t, ",\"found\":");
		text_json(t, e->found);
	}
	if (e->wanted[0] != '\0') {
		text_add(t, ",\"wanted\":");
		text_json(t, e->wanted);
	}
	if (request_id != NULL) {
		text_add(t, ",\"request_id\":");
		text_json(t, request_id);
	}
	text_add(t, "}");
}

void
problem_request_id(struct service *svc, char out[17])
{
	/* A counter through an invertible mix: unique in this process, and unlike that of the last one. */
	uint64_t x = atomic_fetch_add(&svc->request_ids, 1) + svc->started_ns;
	int i;

	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	x ^= x >> 31;
	for (i = 0; i < 16; i++, x <<= 4)
		out[i] = "0123456789abcdef"[x >> 60];
	out[16] = '\0';
}

const char *
problem_reason(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 406:
		return "Not Acceptable";
	case 408:
		return "Request Timeout";
	case 409:
		return "Conflict";
	case 410:
		return "Gone";
	case 412:
		return "Precondition Failed";
	case 413:
		return "Content Too Large";
	case 414:
		return "URI Too Long";
	case 415:
		return "Unsupported Media Type";
	case 417:
		return "Expectation Failed";
	case 422:
		return "Unprocessable Content";
	case 431:
		return "Request Header Fields Too Large";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	case 505:
		return "HTTP Version Not Supported";
	case 507:
		return "Insufficient Storage";
	default:
		return "Error";
	}
}

uint32_t
problem_retry_after(const struct err *e)
{
	if (e->retry_after_s > 0 || err_info(e->code)->status != 503)
		return e->retry_after_s;
	return e->code == ERR_DRAINING ? 5 : 1;
}

void
problem_raw(struct text *t, struct service *svc, const struct err *e, const struct request *req)
{
	int status = err_info(e->code)->status;
	bool oip = req != NULL && req->oip;
	const char *request_id;
	char fresh[17];
	struct text body;

	if (req == NULL)
		problem_request_id(svc, fresh);
	request_id = req != NULL ? req->id : fresh;
	text_init(&body, 16 * 1024);
	problem_body(&body, e, req != NULL && req->op != NULL ? req->op->name : NULL, request_id, oip);
	text_add(&body, "\n");
	text_addf(t, "HTTP/1.1 %d %s\r\nContent-Type: application/%s\r\nContent-Length: %zu\r\n", status,
		  problem_reason(status), oip ? "json" : "problem+json", body.len);
	if (problem_retry_after(e) > 0)
		text_addf(t, "Retry-After: %u\r\n", problem_retry_after(e));
	if (req != NULL && req->reply.allow != NULL)
		text_addf(t, "Allow: %s\r\n", req->reply.allow);
	text_addf(t, "X-Request-Id: %s\r\nConnection: close\r\n\r\n", request_id);
	if (req == NULL || !req->head_only)
		text_addn(t, body.p, body.len);
	text_fini(&body);
}

int
problem_page(struct text *t, const char *slug)
{
	enum err_code code = err_find(slug);
	const struct err_info *info;

	if (code == ERR_NONE)
		return -1;
	info = err_info(code);
	text_addf(t, "%s\n\nHTTP status %d, type /problems/%s\n\n%s\n", info->title, info->status, info->slug,
		  info->help);
	return 0;
}
