/*
 * decoder.h: a body decoder eats a body in pieces of any size, as it arrives, and fills an intake.
 *
 * Two ways in. `feed` takes bytes that lie in some buffer. But once a decoder knows where the next bytes
 * belong (inside a tensor), it offers a window: the socket is then read, or the stream inflated, straight
 * into the tensor, and `advance` tells how much came. Nothing is copied twice.
 *
 *     while bytes come:
 *         n = window(&dst)          n > 0: put up to n bytes at dst, advance(that many)
 *                                   n = 0: feed(buffer, len)
 *     finish()                      the body has ended: complete? nothing left over?
 *
 * feed always consumes everything or fails. feed may also be used when a window is open.
 * After a failure only `free` may be called.
 */
#ifndef AITERD_DECODER_H
#define AITERD_DECODER_H

#include "intake.h"

struct decoder;

struct decoder_ops {
	const char *name; /* "safetensors" */
	int (*feed)(struct decoder *d, const unsigned char *p, size_t n, struct err *e);
	size_t (*window)(struct decoder *d, unsigned char **dst);
	int (*advance)(struct decoder *d, size_t n, struct err *e);
	int (*finish)(struct decoder *d, struct err *e);
	/* NULL, or: bytes that finish will have to chew through (JSON): large ones belong on a helper thread. */
	uint64_t (*pending)(const struct decoder *d);
	/* NULL, or: how many bytes the file certainly still has, as far as known; 0: complete. Files that tell
	 * their own length (npy, safetensors) can be parts of another body. */
	uint64_t (*want)(const struct decoder *d);
	void (*free)(struct decoder *d);
};

struct decoder { /* first member of each decoder's struct */
	const struct decoder_ops *ops;
	struct intake *in;
};

/* NULL only when out of memory. */
struct decoder *decoder_safetensors_new(struct intake *in);
/* boundary as in the Content-Type, unquoted, 1..70 characters. */
struct decoder *decoder_multipart_new(struct intake *in, const char *boundary, size_t len);
/* application/x-www-form-urlencoded: parameters only; an empty body, too. */
struct decoder *decoder_form_new(struct intake *in);
/* The native JSON body. */
struct decoder *decoder_json_new(struct intake *in);
/* Open Inference Protocol: header_len < 0: all JSON; otherwise Inference-Header-Content-Length, with the
 * binary tensors after it (0: the raw body of the operator's only input). */
struct decoder *decoder_oip_new(struct intake *in, int64_t header_len);
/* One .npy file as the input `name` (multipart uses it for its parts). */
struct decoder *decoder_npy_new(struct intake *in, const char *name);

/* A body that is one tensor, in a form as told or, with TENSOR_ANY, as its first bytes show. Its name is that in the
 * safetensors file, else TENSOR_BODY_NAME. That a safetensors file holds no more than one is for the caller to see. */
enum tensor_form { TENSOR_ANY, TENSOR_NPY, TENSOR_SAFETENSORS, TENSOR_JSON };
#define TENSOR_BODY_NAME "tensor"
struct decoder *decoder_tensor_new(struct intake *in, enum tensor_form form);

void decoder_free(struct decoder **d);

/*
 * decode.h's other half: the content coding around a decoder. Bytes of a (possibly compressed) body go in,
 * the decoder is driven: identity offers the decoder's own window, the others inflate into it.
 */
enum coding { CODING_IDENTITY, CODING_GZIP, CODING_DEFLATE, CODING_ZSTD };

/* "gzip", "x-gzip", "deflate", "zstd", "identity", "" (any case); -1 when unknown. */
int coding_find(const char *name, size_t len);
const char *coding_name(enum coding c);

struct inflater;

struct inflate_limits {
	uint64_t max_out;   /* decoded bytes: ERR_BOMB (identity: ERR_TOO_LARGE) beyond; 0: any */
	uint32_t max_ratio; /* decoded to encoded, judged once more than 1 MiB came out; 0: any */
};

/* d stays the caller's. */
struct inflater *inflater_new(enum coding c, struct decoder *d, const struct inflate_limits *limits, struct err *e);
int inflater_feed(struct inflater *f, const unsigned char *p, size_t n, struct err *e);
/* identity only: the decoder's window, so that the socket can be read straight into it; else 0. */
size_t inflater_window(struct inflater *f, unsigned char **dst);
int inflater_advance(struct inflater *f, size_t n, struct err *e);
/* The body has ended: refuses a truncated stream; then the decoder's finish. */
int inflater_finish(struct inflater *f, struct err *e);
/* Bytes in and out so far. */
void inflater_counts(const struct inflater *f, uint64_t *in, uint64_t *out);
void inflater_free(struct inflater **f);

#endif
