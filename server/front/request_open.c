/*
 * request_open.c: what a request's head decides, before its body is read: may it come in, how is its body coded, in
 * which form will the reply go, how much memory to borrow.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "front/http.h"
#include "front/request.h"
#include "front/routes.h"
#include "text.h"

/* One element of a comma-separated header: [*p, end), trimmed; moves *p on. False at the end. */
static bool
next_element(const char **p, const char **elem, size_t *len)
{
	const char *s = *p, *stop;

	while (*s == ' ' || *s == '\t' || *s == ',')
		s++;
	if (*s == '\0')
		return false;
	stop = s + strcspn(s, ",");
	*p = stop;
	while (stop > s && (stop[-1] == ' ' || stop[-1] == '\t'))
		stop--;
	*elem = s;
	*len = (size_t)(stop - s);
	return true;
}

/* The element without its parameters, and its q value (1 when none is given) in thousandths. */
static int
quality(const char *elem, size_t *len)
{
	const char *semi = memchr(elem, ';', *len), *p;
	size_t n = *len;
	double q = 1;

	if (semi == NULL)
		return 1000;
	for (p = semi; p != NULL && p < elem + n; p = memchr(p + 1, ';', (size_t)(elem + n - p - 1))) {
		while (p + 1 < elem + n && (p[1] == ' ' || p[1] == '\t'))
			p++;
		if (p + 2 < elem + n && (p[1] == 'q' || p[1] == 'Q') && p[2] == '=')
			q = strtod(p + 3, NULL);
	}
	for (n = (size_t)(semi - elem); n > 0 && (elem[n - 1] == ' ' || elem[n - 1] == '\t'); n--)
		;
	*len = n;
	return q >= 0 && q <= 1 ? (int)(q * 1000) : 0;
}

static bool
is(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && strncasecmp(s, word, len) == 0;
}

/* The best coding the client accepts that we have; identity unless it asks for another by name. */
static enum coding
accept_coding(const char *header)
{
	const char *elem;
	size_t len;
	int best = 0, q, rank, best_rank = -1, c;
	enum coding chosen = CODING_IDENTITY;

	while (header != NULL && next_element(&header, &elem, &len)) {
		q = quality(elem, &len);
		c = coding_find(elem, len);
		if (c <= CODING_IDENTITY || q == 0)
			continue;
		/* At equal wishes: zstd, then gzip (ISA-L makes it fast), then deflate. */
		rank = c == CODING_ZSTD ? 2 : c == CODING_GZIP ? 1 : 0;
		if (q > best || (q == best && rank > best_rank)) {
			best = q;
			best_rank = rank;
			chosen = (enum coding)c;
		}
	}
	return chosen;
}

/* FORM_NONE: nothing specific is asked for; -2: only things we cannot make. */
static int
accept_form(const char *header)
{
	const char *elem;
	size_t len;
	int best = 0, q, form, chosen = FORM_NONE;
	bool specific = false, any = false;

	while (header != NULL && next_element(&header, &elem, &len)) {
		q = quality(elem, &len);
		form = is(elem, len, "application/x-safetensors") || is(elem, len, "application/vnd.safetensors")
			       ? FORM_SAFETENSORS
		       : is(elem, len, "application/json")					? FORM_JSON
		       : is(elem, len, "application/x-npy") || is(elem, len, "application/npy") ? FORM_NPY
												: FORM_NONE;
		if (q > 0 && (is(elem, len, "*/*") || is(elem, len, "application/*") ||
			      is(elem, len, "application/octet-stream")))
			any = true;
		else
			specific = true;
		if (form != FORM_NONE && q > best) {
			best = q;
			chosen = form;
		}
	}
	return chosen != FORM_NONE ? chosen : specific && !any ? -2 : FORM_NONE;
}

/* The media type without parameters; the value of one parameter in *value when it is there. */
static size_t
media_type(const char *header, const char *param, const char **value, size_t *value_len)
{
	size_t type = strcspn(header, ";"), n = strlen(param);
	const char *p = header + type;

	*value = NULL;
	*value_len = 0;
	while (type > 0 && (header[type - 1] == ' ' || header[type - 1] == '\t'))
		type--;
	while (*p == ';') {
		p++;
		p += strspn(p, " \t");
		if (strncasecmp(p, param, n) == 0 && p[n] == '=') {
			p += n + 1;
			if (*p == '"') {
				*value = ++p;
				*value_len = strcspn(p, "\"");
			} else {
				*value = p;
				*value_len = strcspn(p, "; \t");
			}
			return type;
		}
		p += strcspn(p, ";");
	}
	return type;
}

size_t
request_media_type(const char *header)
{
	const char *value;
	size_t value_len;

	return media_type(header, "", &value, &value_len);
}

bool
request_media_is(const char *header, size_t len, const char *type)
{
	return is(header, len, type);
}

/* Admission: what can be refused without reading the body is refused now. */
static int
admit(struct request *req, struct err *e)
{
	struct service *svc = req->loop->svc;
	const struct http_head *h = &req->conn->head;
	char found[32], wanted[64];

	if (atomic_load(&svc->draining))
		return err_set(e, ERR_DRAINING, "the server is shutting down and takes no new work");
	if (h->has_length && h->content_length > svc->opt->max_body) {
		snprintf(found, sizeof(found), "%llu bytes", (unsigned long long)h->content_length);
		snprintf(wanted, sizeof(wanted), "at most %llu bytes", (unsigned long long)svc->opt->max_body);
		return err_param(e, ERR_TOO_LARGE, "Content-Length", found, wanted,
				 "the body has %s; this server takes %s (GET /v1/limits)", found, wanted);
	}
	if (atomic_load(&svc->requests) >= (uint32_t)svc->opt->queue)
		return err_set(e, ERR_OVERLOADED, "%lld requests are being worked on; no more are taken at the moment",
			       (long long)svc->opt->queue);
	return 0;
}

/* The fields that say how to read the body; NULL: not there. */
struct body_fields {
	const char *type, *encoding, *oip_header_length;
};

/* They have one value: of two, each program would believe another one. */
static int
get_single(struct request *req, const char *name, const char **value, struct err *e)
{
	*value = http_header(req, name);
	if (*value != NULL && http_header_count(req, name) > 1)
		return err_param(e, ERR_MALFORMED_REQUEST, name, "two", "one", "%s is there twice", name);
	return 0;
}

static int
get_fields(struct request *req, struct body_fields *f, struct err *e)
{
	if (get_single(req, "Content-Type", &f->type, e) == -1 ||
	    get_single(req, "Content-Encoding", &f->encoding, e) == -1)
		return -1;
	return get_single(req, "Inference-Header-Content-Length", &f->oip_header_length, e);
}

static int
choose_coding(const char *h, enum coding *c, struct err *e)
{
	int found = h == NULL ? CODING_IDENTITY : coding_find(h, strlen(h));

	if (found == -1)
		return err_param(e, ERR_UNSUPPORTED_ENCODING, "Content-Encoding", h, "gzip, deflate, zstd or identity",
				 "Content-Encoding: %.80s is not understood; send gzip, deflate, zstd or identity", h);
	*c = (enum coding)found;
	return 0;
}

static struct decoder *
open_oip(struct request *req, struct intake *in, const char *h, struct err *e)
{
	int64_t len = -1;
	size_t n;

	if (h != NULL) {
		n = strspn(h, "0123456789");
		if (n == 0 || n > 15 || h[n] != '\0') {
			err_param(e, ERR_MALFORMED_BODY, "Inference-Header-Content-Length", h, "a number of bytes",
				  "Inference-Header-Content-Length: %.80s is not a number of bytes", h);
			return NULL;
		}
		len = strtoll(h, NULL, 10);
	}
	req->form = FORM_OIP;
	return decoder_oip_new(in, len);
}

static struct decoder *
open_native(struct request *req, struct intake *in, const char *h, struct err *e)
{
	const char *boundary;
	size_t type, boundary_len;

	if (h == NULL) {
		if (conn_has_body(req->conn)) {
			err_param(e, ERR_UNSUPPORTED_MEDIA_TYPE, "Content-Type", "none",
				  "multipart/form-data, application/x-safetensors or application/json",
				  "the body has no Content-Type; send multipart/form-data, application/x-safetensors or "
				  "application/json");
			return NULL;
		}
		/* Inputs may be told in the query string alone, or not at all. */
		if (req->route->streams || intake_param_find(in, "inputs") != NULL) {
			req->form = FORM_NPY;
			return decoder_form_new(in);
		}
		err_set(e, ERR_MALFORMED_BODY,
			"the request has no body; send %s's inputs as multipart/form-data (curl -F %s=@%s.npy ...), "
			"application/x-safetensors or application/json",
			req->op->name, req->op->tensors[0].name, req->op->tensors[0].name);
		return NULL;
	}
	type = media_type(h, "boundary", &boundary, &boundary_len);
	if (is(h, type, "application/x-safetensors") || is(h, type, "application/vnd.safetensors")) {
		req->form = FORM_SAFETENSORS;
		return decoder_safetensors_new(in);
	}
	if (is(h, type, "application/json")) {
		req->form = FORM_JSON;
		return decoder_json_new(in);
	}
	if (is(h, type, "multipart/form-data")) {
		if (boundary == NULL || boundary_len == 0 || boundary_len > 70) {
			err_param(e, ERR_MALFORMED_BODY, "Content-Type", h, "a boundary of 1 to 70 characters",
				  "Content-Type: multipart/form-data needs a boundary of 1 to 70 characters");
			return NULL;
		}
		req->form = FORM_NPY; /* request_form() makes it safetensors where that does not fit */
		return decoder_multipart_new(in, boundary, boundary_len);
	}
	if (is(h, type, "application/x-www-form-urlencoded")) {
		req->form = FORM_NPY;
		return decoder_form_new(in);
	}
	err_param(
		e, ERR_UNSUPPORTED_MEDIA_TYPE, "Content-Type", h,
		"multipart/form-data, application/x-safetensors or application/json",
		"Content-Type: %.80s is not understood; send multipart/form-data (curl -F), application/x-safetensors or "
		"application/json",
		h);
	return NULL;
}

/* Fresh memory for the body: made on a helper thread, before the body is read. */
static void
reserve_work(struct helper_task *t)
{
	struct request *req = request_of_task(t);

	mem_expect(&req->run->mem, req->conn->head.content_length, &req->err);
}

static void
reserve_done(struct request *req)
{
	req->run->reserve_ns = clock_ns() - req->t[T_BEGIN];
	if (req->err.code != ERR_NONE)
		request_begin_failed(req);
	else
		request_take_body(req);
}

/* Several of a name, joined; most clients send none of these. */
static const char *
list_of(const struct request *req, const char *name, struct text *joined)
{
	return http_header(req, name) != NULL ? http_header_list(req, name, joined) : NULL;
}

/* Lines of JSON, or the same as events; neither is compressed: each shall arrive when it is made. */
static int
choose_stream(struct request *req, const char *accept, struct err *e)
{
	static const char *const lines[] = {"application/x-ndjson", "application/ndjson", "application/jsonl",
					    "application/json",	    "application/*",	  "*/*"};
	const char *elem, *p = accept;
	int best_lines = -1, best_events = -1, q;
	size_t len;

	while (p != NULL && next_element(&p, &elem, &len)) {
		q = quality(elem, &len);
		for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
			if (is(elem, len, lines[i]) && q > best_lines)
				best_lines = q;
		if ((is(elem, len, "text/event-stream") || is(elem, len, "text/*")) && q > best_events)
			best_events = q;
	}
	req->events = best_events > 0 && best_events >= best_lines;
	if (accept != NULL && *accept != '\0' && best_lines <= 0 && !req->events)
		return err_param(e, ERR_NOT_ACCEPTABLE, "Accept", accept, "application/x-ndjson or text/event-stream",
				 "none of the forms in Accept can be made; there are application/x-ndjson and "
				 "text/event-stream");
	return 0;
}

int
request_choose_reply(struct request *req, struct err *e)
{
	struct text accept, encoding;
	const char *h;
	int form, rc = -1;

	text_init(&accept, 64 * 1024);
	text_init(&encoding, 64 * 1024);
	if (req->route->streams) {
		rc = choose_stream(req, list_of(req, "Accept", &accept), e);
		goto out;
	}
	if (!req->oip) {
		h = list_of(req, "Accept", &accept);
		form = accept_form(h);
		if (form == -2 && intake_param_find(&req->run->in, "format") == NULL) {
			err_param(e, ERR_NOT_ACCEPTABLE, "Accept", h,
				  "application/x-safetensors, application/json or application/x-npy",
				  "none of the forms in Accept can be made; there are application/x-safetensors, "
				  "application/json and, for exactly one output, application/x-npy");
			goto out;
		}
		if (form == FORM_NPY && req->route->judges && intake_param_find(&req->run->in, "format") == NULL) {
			err_param(e, ERR_NOT_ACCEPTABLE, "Accept", h, "application/json or application/x-safetensors",
				  "a verdict is no array: there are application/json and, as a case file, "
				  "application/x-safetensors");
			goto out;
		}
		if (form >= 0)
			req->form = (enum form)form;
		else if (req->route->judges)
			req->form = FORM_JSON;
		req->npy_asked = form == FORM_NPY;
	}
	req->reply_coding = accept_coding(list_of(req, "Accept-Encoding", &encoding));
	rc = 0;
out:
	text_fini(&accept);
	text_fini(&encoding);
	return rc;
}

int
request_prepare(struct request *req, struct err *e)
{
	struct service *svc = req->loop->svc;
	struct intake_limits limits = {.json_bytes = svc->opt->max_json,
				       .json_depth = (uint32_t)svc->opt->max_json_depth,
				       .tensor_bytes = svc->opt->max_body};
	struct compute_request *run;
	const char *query;

	if (admit(req, e) == -1)
		return -1;
	if ((run = req->run = request_compute_new(req)) == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for a request");
	req->counted = true;
	atomic_fetch_add(&svc->requests, 1);
	text_init(&run->hints, 16 * 1024);
	mem_init(&run->mem, svc->pool, 0);
	intake_init(&run->in, req->op, &run->mem, &limits);
	run->in.takes_expected = req->route->judges;
	run->in.kept = request_kept_find;
	run->in.kept_cls = run;
	run->store = svc->store;
	run->owner = request_owner(req);
	/* The Open Inference Protocol's clients may put anything into a query string: it means nothing there. */
	if (!req->oip && (query = strchr(req->conn->target, '?')) != NULL)
		return intake_query(&run->in, query + 1, e);
	return 0;
}

static struct decoder *
open_decoder(struct request *req, const struct body_fields *fields, struct err *e)
{
	struct intake *in = &req->run->in;

	if (req->route->open != NULL)
		return req->route->open(req, fields->type, e);
	return req->oip ? open_oip(req, in, fields->oip_header_length, e) : open_native(req, in, fields->type, e);
}

int
request_open(struct request *req, struct err *e)
{
	const struct options *o = req->loop->svc->opt;
	struct inflate_limits caps = {.max_out = o->max_body, .max_ratio = (uint32_t)o->max_expansion};
	const struct http_head *h = &req->conn->head;
	struct compute_request *run;
	struct body_fields fields;

	if (get_fields(req, &fields, e) == -1 || request_prepare(req, e) == -1)
		return -1;
	run = req->run;
	if (choose_coding(fields.encoding, &run->coding, e) == -1)
		return -1;
	run->decoder = open_decoder(req, &fields, e);
	if (run->decoder == NULL)
		return e->code != ERR_NONE ? -1 : err_set(e, ERR_OUT_OF_MEMORY, "no memory for a request");
	if (req->route->open == NULL && request_choose_reply(req, e) == -1)
		return -1;
	if ((run->inflater = inflater_new(run->coding, run->decoder, &caps, e)) == NULL)
		return -1;
	if (!h->has_length || run->coding != CODING_IDENTITY)
		return 0;
	if (mem_would_grow(&run->mem, h->content_length)) {
		request_help(req, reserve_work, reserve_done);
		return 1;
	}
	return mem_expect(&run->mem, h->content_length, e);
}
