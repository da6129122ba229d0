/*
 * encode.c: a reply's body as a list of pieces: headers made here, tensors' data pointed to. npy and safetensors;
 * encode_json.c has the JSON forms. Called by the request, for large JSON on a helper thread. The body owns `owned`,
 * everything else belongs to the request's memory.
 */
#include "codec/encode.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

/* What heads are filled up with, to a multiple of 64. */
static const char spaces[] = "                                                                ";

/* Headers larger than this are a bug. */
#define HEADER_CEILING ((size_t)1 << 20)

void
body_add(struct body *b, const void *p, uint64_t n)
{
	if (n == 0)
		return;
	assert(b->n < BODY_PIECES_MAX);
	b->pieces[b->n++] = (struct body_piece){p, (size_t)n};
	b->bytes += n;
}

static void
head_begin(const struct encode_job *job, struct text *head)
{
	if (job->room)
		text_init_in(head, job->room, job->room_size, HEADER_CEILING);
	else
		text_init(head, HEADER_CEILING);
}

/* The head becomes the body's first piece; it may still be written to, but has its length. */
static int
head_end(struct text *head, struct body *b, struct err *e)
{
	if (head->failed) {
		text_fini(head);
		return err_set(e, ERR_OUT_OF_MEMORY, "there is not enough memory for the reply's header");
	}
	b->owned = head->p == head->lent ? NULL : head->p;
	body_add(b, head->p, head->len);
	return 0;
}

static int
encode_npy(const struct encode_job *job, struct body *b, struct err *e)
{
	const struct tensor *t = job->tensors[0].t;
	unsigned char magic[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 0, 0};
	struct text head;

	if (job->n != 1 || job->mode != DATA_ALL)
		return err_set(e, ERR_NOT_ACCEPTABLE,
			       "npy holds one array, and the reply has %d outputs%s; ask for safetensors or JSON",
			       job->n, job->mode == DATA_ALL ? "" : " without data");
	head_begin(job, &head);
	text_addn(&head, (const char *)magic, sizeof(magic));
	text_addf(&head, "{'descr': '%s', 'fortran_order': False, 'shape': (", dtype_info(t->dtype)->npy);
	for (int i = 0; i < t->rank; i++)
		text_addf(&head, "%s%" PRId64, i ? ", " : "", t->shape[i]);
	text_add(&head, t->rank == 1 ? ",), }" : "), }");
	/* the data begins at a multiple of 64; a newline ends the header */
	text_addn(&head, spaces, 63 - head.len % 64);
	text_add(&head, "\n");
	if (head_end(&head, b, e) < 0)
		return -1;
	head.p[8] = (char)((head.len - sizeof(magic)) & 0xff);
	head.p[9] = (char)((head.len - sizeof(magic)) >> 8);
	b->content_type = "application/x-npy";
	body_add(b, t->data, t->bytes);
	return 0;
}

/* A JSON object as the string that __metadata__ wants. */
static void
add_digest(struct text *head, const struct encode_tensor *et)
{
	struct text digest;
	char name[TENSOR_NAME_MAX + 16];

	snprintf(name, sizeof(name), "digest.%s", et->name);
	text_init(&digest, HEADER_CEILING);
	encode_digest(&digest, &et->digest);
	text_add(head, ",");
	text_json(head, name);
	text_add(head, ":");
	text_json(head, digest.p ? digest.p : "");
	if (digest.failed)
		text_fail(head);
	text_fini(&digest);
}

static void
add_metadata(struct text *head, const struct encode_job *job)
{
	text_add(head, "\"__metadata__\":{\"op\":");
	text_json(head, job->op);
	if (job->stats_quoted) {
		text_add(head, ",\"stats\":\"");
		text_add(head, job->stats_quoted);
		text_add(head, "\"");
	}
	for (int i = 0; i < job->n_meta; i++) {
		text_add(head, ",");
		text_json(head, job->meta[i].name);
		text_add(head, ":");
		text_json(head, job->meta[i].text);
	}
	for (int i = 0; i < job->n && job->mode == DATA_DIGEST; i++)
		add_digest(head, &job->tensors[i]);
	text_add(head, "}");
}

static int
encode_safetensors(const struct encode_job *job, struct body *b, struct err *e)
{
	static const char length[8] = {0};
	const char *sep = "";
	struct text head;
	uint64_t offset = 0;
	size_t n;

	head_begin(job, &head);
	text_addn(&head, length, sizeof(length));
	text_add(&head, "{");
	if (job->op) {
		add_metadata(&head, job);
		sep = ",";
	}
	for (int i = 0; i < job->n && job->mode == DATA_ALL; i++) {
		const struct tensor *t = job->tensors[i].t;

		text_add(&head, sep);
		sep = ",";
		text_json(&head, job->tensors[i].name);
		text_add(&head, ":{\"dtype\":\"");
		text_add(&head, dtype_info(t->dtype)->safetensors);
		text_add(&head, "\",\"shape\":[");
		for (int k = 0; k < t->rank; k++) {
			if (k)
				text_add(&head, ",");
			text_u64(&head, (uint64_t)t->shape[k]);
		}
		text_add(&head, "],\"data_offsets\":[");
		text_u64(&head, offset);
		text_add(&head, ",");
		text_u64(&head, offset + t->bytes);
		text_add(&head, "]}");
		offset += t->bytes;
	}
	text_add(&head, "}");
	text_addn(&head, spaces, (64 - head.len % 64) % 64);
	if (head_end(&head, b, e) < 0)
		return -1;
	n = head.len - sizeof(length);
	for (int i = 0; i < 8; i++)
		head.p[i] = (char)(n >> (8 * i) & 0xff);
	b->content_type = "application/x-safetensors";
	for (int i = 0; i < job->n && job->mode == DATA_ALL; i++)
		body_add(b, job->tensors[i].t->data, job->tensors[i].t->bytes);
	return 0;
}

/* Data that fit behind the head follow it there: a body of one piece is sent without being copied again. */
static void
one_piece(const struct encode_job *job, struct body *b)
{
	char *p;

	if (b->n < 2 || b->bytes > job->room_size || (const char *)b->pieces[0].p != job->room)
		return;
	p = job->room + b->pieces[0].n;
	for (int i = 1; i < b->n; i++) {
		memcpy(p, b->pieces[i].p, b->pieces[i].n);
		p += b->pieces[i].n;
	}
	b->n = 1;
	b->pieces[0].n = (size_t)b->bytes;
}

static int
encode_form(const struct encode_job *job, struct mem *mem, struct body *b, struct err *e)
{
	switch (job->form) {
	case FORM_NPY:
		return encode_npy(job, b, e);
	case FORM_SAFETENSORS:
		return encode_safetensors(job, b, e);
	case FORM_JSON:
		return encode_json_body(job, mem, b, e);
	case FORM_OIP:
		return encode_oip_body(job, mem, b, e);
	case FORM_NONE:
		break;
	}
	return err_set(e, ERR_NOT_ACCEPTABLE, "the reply has no form");
}

int
encode_body(const struct encode_job *job, struct mem *mem, struct body *b, struct err *e)
{
	memset(b, 0, sizeof(*b));
	b->oip_header_len = -1;
	if (encode_form(job, mem, b, e) < 0)
		return -1;
	one_piece(job, b);
	return 0;
}

uint64_t
encode_cost(const struct encode_job *job)
{
	uint64_t cost = 0;

	for (int i = 0; i < job->n; i++) {
		const struct tensor *t = job->tensors[i].t;

		if (job->mode == DATA_DIGEST)
			cost += t->bytes;
		else if (job->mode == DATA_NONE)
			continue;
		else if (job->form == FORM_JSON && job->base64)
			cost += t->bytes;
		else if (job->form == FORM_JSON || (job->form == FORM_OIP && !job->tensors[i].binary))
			cost += (uint64_t)tensor_elements(t) * encode_element_max(t->dtype);
	}
	return cost;
}

void
body_fini(struct body *b)
{
	free(b->owned);
	memset(b, 0, sizeof(*b));
	b->oip_header_len = -1;
}
