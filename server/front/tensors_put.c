/*
 * tensors_put.c: PUT /v1/tensors/{name}: the body as one tensor, hashed on a helper thread unless small, and kept; see
 * tensors.h. What can be refused by the head is, before the body is sent.
 */
#include <stdio.h>
#include <string.h>

#include "front/tensors_internal.h"

#define HEAD_MAX (1u << 20) /* of a .npy or safetensors file's bytes, those that are no data */

enum { PUT_TTL };

const struct op_param tensors_put_options[] = {
	[PUT_TTL] =
		{.name = "ttl",
		 .type = OP_FLOAT,
		 .fallback = NULL,
		 .min = 0.1,
		 .max = 1e8,
		 .help = "Seconds for which nobody may use the tensor before it is forgotten; --tensors-ttl unless given."},
	{.name = NULL},
};

/* Could the quota hold so many bytes, if nothing else were kept? */
static int
fits_quota(const struct request *req, uint64_t bytes, struct err *e)
{
	struct store_stats st;
	char found[64], wanted[64];

	store_stats(store_of(req), &st);
	if (arena_size(bytes) <= st.quota)
		return 0;
	snprintf(found, sizeof(found), "%llu bytes in all", (unsigned long long)st.quota);
	snprintf(wanted, sizeof(wanted), "%llu bytes", (unsigned long long)bytes);
	return err_param(e, ERR_OVER_QUOTA, "tensors-quota", found, wanted,
			 "%llu bytes needed to keep '%.130s'; there are %llu for all kept tensors together",
			 (unsigned long long)bytes, req->op_name, (unsigned long long)st.quota);
}

struct decoder *
tensors_put_open(struct request *req, const char *type, struct err *e)
{
	const struct http_head *h = &req->conn->head;
	struct tensor_request *q;
	enum tensor_form form = TENSOR_ANY;
	struct kept *now;
	size_t n = type != NULL ? request_media_type(type) : 0;
	int rc = 0;

	if (store_name_check(req->op_name, strlen(req->op_name), e) == -1 || tensors_begin(req, e) == -1)
		return NULL;
	if (n > 0 && (request_media_is(type, n, "application/x-npy") || request_media_is(type, n, "application/npy"))) {
		form = TENSOR_NPY;
	} else if (n > 0 && (request_media_is(type, n, "application/x-safetensors") ||
			     request_media_is(type, n, "application/vnd.safetensors"))) {
		form = TENSOR_SAFETENSORS;
	} else if (n > 0 && request_media_is(type, n, "application/json")) {
		form = TENSOR_JSON;
	} else if (n > 0 && !request_media_is(type, n, "application/octet-stream") &&
		   !request_media_is(type, n, "application/x-www-form-urlencoded")) { /* what curl --data-binary says */
		err_param(e, ERR_UNSUPPORTED_MEDIA_TYPE, "Content-Type", type,
			  "application/x-npy, application/x-safetensors or application/json",
			  "Content-Type: %.80s is not understood; send the tensor as application/x-npy, "
			  "application/x-safetensors or application/json, or without saying (curl -T w.npy)",
			  type);
		return NULL;
	}
	/* What is certain already, before the body is sent. */
	q = req->run->tensor;
	if (q->if_match != NULL || q->if_none_match != NULL) {
		now = store_find(store_of(req), request_owner(req), req->op_name, strlen(req->op_name));
		if (now == NULL || kept_id_known(now) != NULL || !tensors_want_id(q))
			rc = tensors_judge(req, now, false, e);
		store_unref(store_of(req), &now);
	}
	/* A file's head is shorter than this. */
	if (rc == 0 && form != TENSOR_JSON && h->has_length && req->run->coding == CODING_IDENTITY &&
	    h->content_length > HEAD_MAX)
		rc = fits_quota(req, h->content_length - HEAD_MAX, e);
	return rc == 0 ? decoder_tensor_new(&req->run->in, form) : NULL;
}

static void
put_work(struct helper_task *task)
{
	struct request *req = request_of_task(task);
	struct tensor_request *q = req->run->tensor;
	const struct intake_tensor *it = &req->run->in.tensors[0];
	bool conditional = q->if_match != NULL || q->if_none_match != NULL;
	size_t len = strlen(req->op_name);
	struct err *e = &req->err;

	/* {"tensor": "other"}: one more name for that, unless it is called another dtype. */
	q->kept = request_kept_of(req->run, &it->t);
	if (q->kept != NULL && kept_tensor(q->kept)->dtype == it->t.dtype)
		store_ref(store_of(req), q->kept);
	else
		q->kept = store_take(store_of(req), request_owner(req), &req->run->mem, &it->t, e);
	request_kept_drop(req->run);
	if (q->kept == NULL)
		return;
	store_id(store_of(req), q->kept);
	do {
		struct store_expect expect = {NULL};
		struct kept *now = NULL;
		int rc = 0;

		if (conditional) {
			expect.current = now = store_find(store_of(req), request_owner(req), req->op_name, len);
			rc = tensors_judge(req, now, false, e);
		}
		if (rc == 0)
			q->verdict = store_name(store_of(req), &q->kept, req->op_name, len, q->ttl_ns,
						conditional ? &expect : NULL);
		store_unref(store_of(req), &now);
		if (rc == -1)
			return;
	} while (q->verdict == STORE_CHANGED);
	(void)store_name_refused(q->verdict, req->op_name, e);
}

static void
put_done(struct request *req)
{
	struct tensor_request *q = req->run->tensor;
	bool created = q->verdict == STORE_CREATED;
	struct text t;

	if (req->err.code != ERR_NONE) {
		request_reply_error(req);
		return;
	}
	text_init(&t, 4096);
	tensors_tell(req, &t);
	tensors_set_etag(req, store_id(store_of(req), q->kept));
	snprintf(q->location, sizeof(q->location), "/v1/tensors/%.*s", STORE_NAME_MAX, req->op_name);
	req->reply.location = created ? q->location : NULL;
	/* Now, not when the connection is done with the reply: what the client does next is the later use. */
	store_unref(store_of(req), &q->kept);
	request_reply_text(req, created ? 201 : 200, "application/json", &t);
}

static int
one_tensor(const struct request *req, struct err *e)
{
	const struct intake *in = &req->run->in;
	char found[160] = "none";
	size_t used = 0;

	if (in->n_tensors == 1)
		return 0;
	for (int i = 0; i < in->n_tensors && used < sizeof(found) - 60; i++)
		used += (size_t)snprintf(found + used, sizeof(found) - used, "%s%.47s", i > 0 ? ", " : "",
					 in->tensors[i].name);
	return err_param(e, ERR_MALFORMED_BODY, "body", found, "one tensor",
			 "the body holds %d tensors (%s); one is wanted, to be kept as '%.130s'", in->n_tensors, found,
			 req->op_name);
}

/* All that is to be kept is there. */
static void
keep(struct request *req)
{
	if (req->err.code != ERR_NONE) {
		request_reply_error(req);
	} else if (req->run->in.tensors[0].t.bytes > TENSORS_INLINE_MAX || tensors_want_id(req->run->tensor)) {
		request_help(req, put_work, put_done);
	} else {
		put_work(&req->task);
		put_done(req);
	}
}

void
tensors_put_start(struct request *req)
{
	struct op_value v[sizeof(tensors_put_options) / sizeof(tensors_put_options[0])];
	const struct intake *in = &req->run->in;
	uint64_t bytes;

	if (tensors_check_params(req, &req->err) == -1 || option_values(tensors_put_options, v, in, &req->err) == -1 ||
	    one_tensor(req, &req->err) == -1) {
		request_reply_error(req);
		return;
	}
	if (v[PUT_TTL].given)
		req->run->tensor->ttl_ns = (uint64_t)(v[PUT_TTL].f * 1e9);
	if (fits_quota(req, in->tensors[0].t.bytes, &req->err) == -1)
		request_reply_error(req);
	else if (intake_unmade(in, &bytes))
		request_fill(req, keep);
	else
		keep(req);
}
