/*
 * encode.h: a reply's outputs and statistics into a body: npy, safetensors, JSON, or OIP's JSON + binary,
 * and the content coding around it. Big tensors are not copied: the body is a list of pieces, some of which
 * point into the request's arenas (so the request must live until the reply is sent).
 */
#ifndef AITERD_ENCODE_H
#define AITERD_ENCODE_H

#include "arena.h"
#include "decoder.h"
#include "err.h"
#include "tensor.h"

enum form { FORM_NONE = -1, FORM_NPY, FORM_SAFETENSORS, FORM_JSON, FORM_OIP };

struct digest { /* what outputs=digest tells instead of the data */
	char sha256[65];
	double min, max, mean; /* over what is not NaN; NaN when nothing is */
	uint64_t nan;
};

enum data_mode { DATA_ALL, DATA_NONE, DATA_DIGEST };

struct encode_tensor {
	const char *name;
	const struct tensor *t; /* data readable */
	bool binary;		/* OIP: in the binary part */
	struct digest digest;	/* DATA_DIGEST */
};

struct encode_meta {
	const char *name, *text;
};

struct encode_job {
	enum form form;
	enum data_mode mode;
	bool base64; /* JSON: "base64" instead of "data" (parameter json=base64) */
	bool bare;   /* JSON: the only tensor as it would be sent as an input, with nothing around it */
	int n;
	struct encode_tensor tensors[OP_TENSORS_MAX];
	const char *op;		  /* NULL: of no operator; then there are no statistics, further strings and digests */
	const char *stats_json;	  /* the stats object as JSON text, one line, or NULL */
	const char *stats_quoted; /* the same as it stands between the quotes of a JSON string, or NULL */
	const struct encode_meta *meta; /* safetensors: further strings for __metadata__ */
	int n_meta;
	/* OIP */
	const char *id, *model_version;
	/* Where the head may lie, and a small body: it must live as long as the body. NULL: the heap. */
	char *room;
	size_t room_size;
};

#define BODY_PIECES_MAX (2 * OP_TENSORS_MAX + 2)

struct body_piece {
	const unsigned char *p;
	size_t n;
};

struct body {
	int n;
	struct body_piece pieces[BODY_PIECES_MAX];
	uint64_t bytes;
	const char *content_type;
	int64_t oip_header_len; /* Inference-Header-Content-Length; -1: none */
	char *owned;		/* text and headers, freed with the body; NULL: none */
};

/* Encode (large JSON takes long: belongs on a helper thread; encode_cost tells). The body's pieces point to
 * `owned`, to memory from `mem` and to the tensors' data. */
int encode_body(const struct encode_job *job, struct mem *mem, struct body *b, struct err *e);
/* Bytes of formatting or hashing work; 0 when the tensors are only pointed to. */
uint64_t encode_cost(const struct encode_job *job);

/* Fill a tensor's digest (SHA-256 of its bytes, min, max, mean, NaN count). */
void digest_tensor(const struct tensor *t, struct digest *d);

/* Replace the body's pieces by their compressed form, in memory from `mem`; gzip and deflate by ISA-L where
 * built in, else zlib level 1; zstd level 1. */
int body_compress(struct body *b, enum coding c, struct mem *mem, struct err *e);

void body_fini(struct body *b);
/* Another piece, which the body does not own. */
void body_add(struct body *b, const void *p, uint64_t n);

/* Shortest text that reads back as the same value; returns its length (no NUL).
 * NaN and infinities as "\"NaN\"", "\"Infinity\"", "\"-Infinity\"". buf has at least 32 bytes. */
int format_float(char *buf, float v);
int format_double(char *buf, double v);
/* The same for a value of these types: enough digits to read back as the same fp16 or bf16, fewer than float32's. */
int format_fp16(char *buf, uint16_t h);
int format_bf16(char *buf, uint16_t h);

/* Standard base64 (base64.c): the text's length for n bytes, and the text, which is not terminated. */
size_t base64_size(uint64_t n);
void base64_encode(char *out, const unsigned char *p, size_t n);

/* The JSON forms' bodies (encode_json.c; encode_body calls them). */
struct text;
int encode_json_body(const struct encode_job *job, struct mem *mem, struct body *b, struct err *e);
int encode_oip_body(const struct encode_job *job, struct mem *mem, struct body *b, struct err *e);
/* A digest as a JSON object. */
void encode_digest(struct text *t, const struct digest *d);
/* How long an element's text can be in JSON, its comma included. */
unsigned encode_element_max(enum dtype dt);

#endif
