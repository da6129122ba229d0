/*
 * tensors.c: see tensors.h. What touches data (hashing it for its id, writing it as JSON, compressing it) goes to a helper
 * thread when there is much of it; all the rest is looking up.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "front/http.h"
#include "front/tensors_internal.h"

#define LIST_INLINE_MAX 500 /* names that may be listed there */
#define COMPRESS_MIN 1024

enum { GET_FORMAT, GET_JSON, GET_OPTIONS };

const struct op_param tensors_get_options[] = {
	[GET_FORMAT] = {.name = "format",
			.type = OP_ENUM,
			.fallback = NULL,
			.choices = "npy|safetensors|json",
			.help = "The reply's form; before the Accept header. npy unless asked for."},
	[GET_JSON] = {.name = "json",
		      .type = OP_ENUM,
		      .fallback = "list",
		      .choices = "list|base64",
		      .help = "In JSON: the data as a list of numbers, or base64 of its bytes."},
	{.name = NULL},
};

void
tensors_request_free(struct request *req)
{
	struct tensor_request *q = req->run->tensor;

	if (q == NULL)
		return;
	store_unref(store_of(req), &q->kept);
	free(q->if_match);
	free(q->if_none_match);
	text_fini(&q->about);
	free(q);
	req->run->tensor = NULL;
}

/* A list field, joined; NULL: not there. */
static int
copy_field(struct request *req, const char *name, char **copy, struct err *e)
{
	struct text joined;
	const char *value;

	text_init(&joined, 64 * 1024);
	value = http_header_list(req, name, &joined);
	*copy = value != NULL ? strdup(value) : NULL;
	text_fini(&joined);
	if (*copy == NULL && http_header(req, name) != NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for a request");
	return 0;
}

int
tensors_begin(struct request *req, struct err *e)
{
	struct tensor_request *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for a request");
	req->run->tensor = q;
	text_init(&q->about, 4096);
	if (copy_field(req, "If-Match", &q->if_match, e) == -1)
		return -1;
	return copy_field(req, "If-None-Match", &q->if_none_match, e);
}

/* The same for what takes no body: only options of its route may stand in the query string. */
static int
begin_page(struct request *req, struct err *e)
{
	return request_prepare(req, e) == -1 ? -1 : tensors_begin(req, e);
}

int
tensors_check_params(const struct request *req, struct err *e)
{
	const struct intake *in = &req->run->in;
	const struct op_param *known = req->route->options;

	for (int i = 0; i < in->n_params; i++)
		if (option_find(known, in->params[i].name, strlen(in->params[i].name)) == -1)
			return err_param(e, ERR_UNKNOWN_PARAMETER, in->params[i].name, in->params[i].name,
					 known == NULL		 ? "none"
					 : known[1].name != NULL ? "format, json"
								 : known[0].name,
					 "there is no parameter '%.80s' here", in->params[i].name);
	return 0;
}

int
tensors_not_kept(const struct request *req, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "no tensor '%.130s' is kept here (any more); GET /v1/tensors lists what is",
		       req->op_name);
}

/* ---------------------------------------------------------------- conditions */

/* Does a list of entity tags ("*" is any) hold this one? `weak` marks are ignored where they may be, else do not fit. */
static bool
tags_have(const char *list, const char *id, bool weak)
{
	size_t n = strlen(id);

	while (*list != '\0') {
		bool marked;
		const char *stop;

		list += strspn(list, " \t,");
		if (*list == '*')
			return true;
		marked = strncmp(list, "W/", 2) == 0;
		list += marked ? 2 : 0;
		if (*list != '"') { /* no tag: what it is nobody knows */
			list += strcspn(list, ",");
			continue;
		}
		stop = strchr(++list, '"');
		if (stop == NULL)
			return false;
		if ((weak || !marked) && (size_t)(stop - list) == n && memcmp(list, id, n) == 0)
			return true;
		list = stop + 1;
	}
	return false;
}

static bool
names_tags(const char *list)
{
	return list != NULL && strchr(list, '"') != NULL;
}

bool
tensors_want_id(const struct tensor_request *q)
{
	return names_tags(q->if_match) || names_tags(q->if_none_match);
}

void
tensors_set_etag(struct request *req, const char *id)
{
	struct tensor_request *q = req->run->tensor;

	snprintf(q->etag, sizeof(q->etag), "\"%s\"", id);
	req->reply.etag = q->etag;
}

int
tensors_judge(struct request *req, struct kept *now, bool reading, struct err *e)
{
	const struct tensor_request *q = req->run->tensor;
	const char *id = now == NULL ? NULL : tensors_want_id(q) ? store_id(store_of(req), now) : kept_id_known(now);
	const char *field = NULL;

	if (q->if_match != NULL && (now == NULL || !tags_have(q->if_match, id != NULL ? id : "", false)))
		field = "If-Match";
	else if (q->if_none_match != NULL && now != NULL && tags_have(q->if_none_match, id != NULL ? id : "", true))
		field = "If-None-Match";
	if (field == NULL)
		return 0;
	if (id != NULL)
		tensors_set_etag(req, id);
	if (reading && field[3] == 'N')
		return 1;
	return err_param(e, ERR_PRECONDITION_FAILED, field,
			 now == NULL  ? "nothing"
			 : id != NULL ? id
				      : "a tensor",
			 field[3] == 'N' ? "something else, or nothing" : "the tensor it names",
			 "%s does not hold: '%.130s' is %s", field, req->op_name,
			 now == NULL  ? "not kept here"
			 : id != NULL ? id
				      : "kept here");
}

/* ---------------------------------------------------------------- telling of a tensor */

/* "2026-11-22T17:45:00Z" */
static void
add_time(struct text *t, uint64_t ago_ns)
{
	struct timespec now;
	struct tm tm;
	char buf[32];

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec -= (time_t)(ago_ns / 1000000000u);
	if (gmtime_r(&now.tv_sec, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm);
	text_addf(t, "\"%s\"", buf);
}

static void
add_entry(struct text *t, const struct store_entry *entry)
{
	text_add(t, "{\"name\":");
	text_json(t, entry->name);
	text_addf(t, ",\"dtype\":\"%s\",\"shape\":[", dtype_info((enum dtype)entry->t->dtype)->name);
	for (int i = 0; i < entry->t->rank; i++) {
		text_add(t, i > 0 ? "," : "");
		text_u64(t, (uint64_t)entry->t->shape[i]);
	}
	text_addf(t, "],\"bytes\":%llu,\"id\":", (unsigned long long)entry->t->bytes);
	text_json(t, entry->id);
	text_addf(t, ",\"ttl_s\":");
	text_number(t, (double)entry->ttl_ns / 1e9);
	text_addf(t, ",\"expires_in_s\":%llu,\"used_at\":", (unsigned long long)(entry->left_ns / 1000000000u));
	add_time(t, entry->unused_ns);
	text_addf(t, ",\"in_use\":%s}", entry->in_use ? "true" : "false");
}

void
tensors_tell(struct request *req, struct text *t)
{
	struct tensor_request *q = req->run->tensor;
	char room[STORE_NAME_MAX + 1];
	struct store_entry entry;
	size_t len = strlen(req->op_name);

	store_entry(store_of(req), q->kept, req->op_name, len < sizeof(room) ? len : sizeof(room) - 1, &entry, room);
	add_entry(t, &entry);
}

/* ---------------------------------------------------------------- GET, HEAD */

static void
get_work(struct helper_task *task)
{
	struct request *req = request_of_task(task);
	struct tensor_request *q = req->run->tensor;
	struct encode_job *job = &req->run->encode;
	struct body *b = &req->reply.body;
	struct err *e = &req->err;

	tensors_set_etag(req, store_id(store_of(req), q->kept));
	req->reply.status = 200;
	switch (tensors_judge(req, q->kept, true, e)) {
	case -1:
		return;
	case 1: /* the body is not sent, but its length is told */
		req->reply.status = 304;
		break;
	}
	tensors_tell(req, &q->about);
	req->reply.tensor = q->about.failed ? NULL : q->about.p;
	if (encode_body(job, &req->run->mem, b, e) == 0 && req->reply_coding != CODING_IDENTITY &&
	    b->bytes >= COMPRESS_MIN && body_compress(b, req->reply_coding, &req->run->mem, e) == 0)
		req->reply.encoding = coding_name(req->reply_coding);
}

static void
get_done(struct request *req)
{
	if (req->err.code != ERR_NONE)
		request_reply_error(req);
	else
		request_ready(req);
}

/* The form, and what else encode_body() wants to know. */
static int
describe(struct request *req, struct err *e)
{
	static const enum form forms[] = {FORM_NPY, FORM_SAFETENSORS, FORM_JSON};
	struct compute_request *run = req->run;
	struct op_value v[GET_OPTIONS + 1];

	if (tensors_check_params(req, e) == -1 || option_values(tensors_get_options, v, &run->in, e) == -1)
		return -1;
	req->form = FORM_NPY;
	if (request_choose_reply(req, e) == -1)
		return -1;
	if (v[GET_FORMAT].given)
		req->form = forms[v[GET_FORMAT].i[0]];
	run->encode = (struct encode_job){.form = req->form,
					  .mode = DATA_ALL,
					  .base64 = v[GET_JSON].i[0] == 1,
					  .bare = true,
					  .n = 1,
					  .tensors = {{.name = req->op_name, .t = kept_tensor(run->tensor->kept)}},
					  .room = run->head_room,
					  .room_size = sizeof(run->head_room)};
	return 0;
}

void
tensors_get(struct request *req)
{
	struct compute_request *run;
	struct tensor_request *q;
	uint64_t cost;

	if (begin_page(req, &req->err) == -1) {
		request_reply_error(req);
		return;
	}
	run = req->run;
	q = run->tensor;
	q->kept = store_find(store_of(req), request_owner(req), req->op_name, strlen(req->op_name));
	if ((q->kept == NULL ? tensors_not_kept(req, &req->err) : describe(req, &req->err)) == -1) {
		request_reply_error(req);
		return;
	}
	cost = encode_cost(&run->encode) + (kept_id_known(q->kept) == NULL ? kept_tensor(q->kept)->bytes : 0) +
	       (req->reply_coding != CODING_IDENTITY ? kept_tensor(q->kept)->bytes : 0);
	if (cost > TENSORS_INLINE_MAX) {
		request_help(req, get_work, get_done);
		return;
	}
	get_work(&req->task);
	get_done(req);
}

/* ---------------------------------------------------------------- DELETE */

static void
delete_work(struct helper_task *task)
{
	struct request *req = request_of_task(task);
	struct tensor_request *q = req->run->tensor;
	struct store *s = store_of(req);
	struct err *e = &req->err;
	size_t len = strlen(req->op_name);
	enum store_verdict verdict;

	do {
		struct store_expect expect;
		struct kept *now = store_find(s, request_owner(req), req->op_name, len);
		bool conditional = q->if_match != NULL || q->if_none_match != NULL;
		int rc = now == NULL ? tensors_not_kept(req, e) : tensors_judge(req, now, false, e);

		expect.current = now;
		if (rc == 0)
			verdict = store_forget(s, request_owner(req), req->op_name, len, conditional ? &expect : NULL);
		else
			verdict = STORE_NO_MEMORY;
		store_unref(s, &now);
	} while (verdict == STORE_CHANGED);
}

static void
delete_done(struct request *req)
{
	struct text t;

	if (req->err.code != ERR_NONE) {
		request_reply_error(req);
		return;
	}
	text_init(&t, 16);
	request_reply_text(req, 204, NULL, &t);
}

void
tensors_delete(struct request *req)
{
	if (begin_page(req, &req->err) == -1 || tensors_check_params(req, &req->err) == -1)
		request_reply_error(req);
	else if (tensors_want_id(req->run->tensor))
		request_help(req, delete_work, delete_done);
	else {
		delete_work(&req->task);
		delete_done(req);
	}
}

/* ---------------------------------------------------------------- the list */

static void
list_entry(void *cls, const struct store_entry *entry)
{
	struct text *t = cls;

	text_add(t, t->p[t->len - 1] == '[' ? "" : ",");
	add_entry(t, entry);
}

static void
list_work(struct helper_task *task)
{
	struct request *req = request_of_task(task);
	struct text *t = &req->run->tensor->about;
	struct store_stats st;

	text_fini(t);
	text_init(t, 256 << 20);
	text_add(t, "{\"tensors\":[");
	if (!t->failed)
		store_list(store_of(req), request_owner(req), list_entry, t);
	store_stats(store_of(req), &st);
	text_addf(t, "],\"count\":%llu,\"bytes\":%llu,\"in_use_bytes\":%llu,\"quota_bytes\":%llu}",
		  (unsigned long long)st.names, (unsigned long long)st.bytes, (unsigned long long)st.in_use,
		  (unsigned long long)st.quota);
}

static void
list_done(struct request *req)
{
	request_reply_text(req, 200, "application/json", &req->run->tensor->about);
}

void
tensors_list(struct request *req)
{
	struct store_stats st;

	if (begin_page(req, &req->err) == -1 || tensors_check_params(req, &req->err) == -1) {
		request_reply_error(req);
		return;
	}
	store_stats(store_of(req), &st);
	if (st.names > LIST_INLINE_MAX) {
		request_help(req, list_work, list_done);
		return;
	}
	list_work(&req->task);
	list_done(req);
}
