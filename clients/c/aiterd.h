/*
 * aiterd.h: the C client of aiterd, AITER's operators over HTTP. Link with -laiterd (pkg-config aiterd); see libaiterd(3).
 *
 *     struct aiterd *server;
 *     struct aiterd_call *call;
 *     struct aiterd_reply *reply;
 *     struct aiterd_tensor out;
 *
 *     aiterd_open(&server, NULL);                  // AITERD_URL, else http://127.0.0.1:8000
 *     aiterd_call_new(server, "flash_attn_func", &call);
 *     aiterd_call_tensor(call, &q);                // and k and v: the caller's memory, sent from where it lies
 *     aiterd_call_param(call, "causal", "true");
 *     if (aiterd_run(call, &reply) != AITERD_OK)
 *             fprintf(stderr, "%s\n", aiterd_error(server));
 *     else
 *             aiterd_reply_find(reply, "out", &out);
 *
 * Errors. Functions that can fail return an enum aiterd_status; aiterd_error() has the sentence and aiterd_problem() its
 * parts, both valid until the next call with the same server. What an out-parameter points to is set to NULL on failure.
 *
 * Ownership. What a function returns through a `**` is the caller's, to be freed with the function that is named there;
 * strings that are passed in are copied. A call and a reply do not outlive their server. Tensors' data that are passed in
 * are not copied: they must stay as they are until the call is freed. Data that come out belong to the reply or file
 * they were got from.
 *
 * Tensors are dense, row major (the last index runs fastest), little endian; at most AITERD_RANK_MAX dimensions.
 *
 * Threads. A server and all that was made from it is used by one thread at a time; different servers at the same time by
 * different threads. aiterd_open() is safe to be called from several threads. No signal handlers are touched: with
 * https, ignore SIGPIPE.
 *
 * ABI. Enumerations and structures that the caller fills are fixed; those that the library fills may grow at the end, and
 * the caller only reads them through the pointers it is given (struct aiterd_problem). Only names of this header are exported.
 */
#ifndef AITERD_H
#define AITERD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(AITERD_BUILDING) && defined(__GNUC__)
#define AITERD_API __attribute__((visibility("default")))
#else
#define AITERD_API
#endif

#define AITERD_RANK_MAX 8
#define AITERD_DEFAULT_URL "http://127.0.0.1:8000"
/* "sha256:" and 64 digits, with the NUL. */
#define AITERD_ID_SIZE 72

enum aiterd_status {
	AITERD_OK = 0,
	AITERD_BAD_ARGUMENT = 1, /* what the caller passed makes no sense */
	AITERD_BAD_FILE = 2,	 /* a file cannot be read or written, or is not what it should be */
	AITERD_NO_MEMORY = 3,
	AITERD_REFUSED = 4,	/* the server says no: HTTP status 4xx; aiterd_problem() says why */
	AITERD_UNREACHABLE = 5, /* no connection, or it broke before there was a reply */
	AITERD_FAILED = 6,	/* the server or its device failed: HTTP status 5xx */
	AITERD_BAD_REPLY = 7,	/* the reply is not what this library understands */
	AITERD_CANCELLED = 8	/* by the caller's own callback */
};

enum aiterd_dtype {
	AITERD_NONE = 0,
	AITERD_FP32 = 1,
	AITERD_FP16 = 2,
	AITERD_BF16 = 3,
	AITERD_FP64 = 4,
	AITERD_INT8 = 5,
	AITERD_UINT8 = 6,
	AITERD_INT32 = 7,
	AITERD_INT64 = 8,
	AITERD_BOOL = 9,
	AITERD_FP8_E4M3 = 10,
	AITERD_FP8_E4M3FNUZ = 11,
	AITERD_FP8_E5M2 = 12
};

struct aiterd;	     /* a server, and the connection to it */
struct aiterd_call;  /* a request that is being put together */
struct aiterd_reply; /* an answer */
struct aiterd_file;  /* an opened .npy or .safetensors file */

struct aiterd_tensor {
	const char *name;
	enum aiterd_dtype dtype;
	int rank;
	int64_t shape[AITERD_RANK_MAX];
	uint64_t bytes; /* the product of the shape times the dtype's size */
	const void *data;
};

/* What the server said (RFC 9457). Strings that it did not give are "". */
struct aiterd_problem {
	int status;	  /* of HTTP; 0: there was no reply */
	const char *type; /* "/problems/invalid-shape" */
	const char *title, *detail, *op, *input, *param, *found, *wanted, *request_id;
	int retry_after_s;
};

AITERD_API const char *aiterd_version(void);

/* ---- the server ---- */

/*
 * url: http://HOST[:PORT][/PREFIX], https://..., unix:PATH, or HOST:PORT; NULL: the environment's AITERD_URL, else
 * AITERD_DEFAULT_URL. Nothing is sent yet. The key, if there is one in AITERD_KEY, is taken too.
 * On failure *server is NULL when there is no memory, else a server that only has aiterd_error(), to be closed.
 */
AITERD_API enum aiterd_status aiterd_open(struct aiterd **server, const char *url);
AITERD_API void aiterd_close(struct aiterd *server); /* NULL is fine */

AITERD_API const char *aiterd_error(const struct aiterd *server);
AITERD_API const struct aiterd_problem *aiterd_problem(const struct aiterd *server);
AITERD_API const char *aiterd_url(const struct aiterd *server);

/* Sent as "Authorization: Bearer KEY"; NULL: none. */
AITERD_API enum aiterd_status aiterd_set_key(struct aiterd *server, const char *key);
/* Milliseconds; 0: no limit. Defaults: 10000 to connect, no limit for a request (the server has its own). */
AITERD_API void aiterd_set_timeouts(struct aiterd *server, long connect_ms, long request_ms);
/*
 * A request that the server answers with 429 or 503 and Retry-After is sent again after that time, if sending it twice does no
 * harm (all but those that keep an output): so many times, waiting no longer than so many seconds in all.
 * Default: 3 times, 30 s. 0 times: never.
 */
AITERD_API void aiterd_set_retries(struct aiterd *server, int times, int seconds);
/* Bodies of requests are compressed by "gzip" or "zstd", and replies may be too; NULL or "none": neither (default). */
AITERD_API enum aiterd_status aiterd_set_compression(struct aiterd *server, const char *coding);

/* Called now and then while bytes go out and in; totals are 0 while unknown. Anything but 0 cancels. */
typedef int aiterd_progress_f(void *user, uint64_t sent, uint64_t to_send, uint64_t received, uint64_t to_receive);
AITERD_API void aiterd_set_progress(struct aiterd *server, aiterd_progress_f *progress, void *user);

/*
 * GET or DELETE of a path such as "/v1/info": *text is the body, NUL-terminated; free it with aiterd_free().
 * Characters that may not stand in a path must have been escaped (aiterd_escape()).
 */
AITERD_API enum aiterd_status aiterd_get(struct aiterd *server, const char *path, char **text);
AITERD_API enum aiterd_status aiterd_delete(struct aiterd *server, const char *path, char **text);
/* The same GET, whatever comes: JSON, a .npy or .safetensors body with tensors (a job's result). */
AITERD_API enum aiterd_status aiterd_fetch(struct aiterd *server, const char *path, struct aiterd_reply **reply);
/* A name as it may stand in a path or a query; aiterd_free(). NULL: no memory. */
AITERD_API char *aiterd_escape(const char *name);
AITERD_API void aiterd_free(void *p);

/* ---- calls ---- */

AITERD_API enum aiterd_status aiterd_call_new(struct aiterd *server, const char *op, struct aiterd_call **call);
AITERD_API void aiterd_call_free(struct aiterd_call *call); /* NULL is fine */

/* An input, or "expected.<output>" for a check. The data are not copied. */
AITERD_API enum aiterd_status aiterd_call_tensor(struct aiterd_call *call, const struct aiterd_tensor *tensor);
/* An input that the server makes or has: {"generate":"normal","dtype":"fp16","shape":[2,512,8,64],"seed":7} or {"tensor":"w1"}. */
AITERD_API enum aiterd_status aiterd_call_source(struct aiterd_call *call, const char *name, const char *json);
/* A parameter of the operator, or an option of the run; the value as text. The later one of the same name counts. */
AITERD_API enum aiterd_status aiterd_call_param(struct aiterd_call *call, const char *name, const char *value);
/* The same, several of them, as the text of a JSON object. */
AITERD_API enum aiterd_status aiterd_call_params(struct aiterd_call *call, const char *json);
/* An output is kept on the server under that name. */
AITERD_API enum aiterd_status aiterd_call_keep(struct aiterd_call *call, const char *output, const char *name);

/* Outputs come as tensors of the reply, statistics as aiterd_reply_stats(). Free with aiterd_reply_free(). */
AITERD_API enum aiterd_status aiterd_run(struct aiterd_call *call, struct aiterd_reply **reply);
/*
 * Judge the call's "expected.*" tensors. The verdict is aiterd_reply_json(); *pass (may be NULL) is 1 or 0. With `whole`
 * not 0 the reply also holds inputs and candidate as tensors, to be saved and checked again.
 */
AITERD_API enum aiterd_status aiterd_check(struct aiterd_call *call, int whole, struct aiterd_reply **reply, int *pass);

/* One line of a sweep, as it arrives: JSON, NUL-terminated, without its newline. Anything but 0 ends it (AITERD_CANCELLED). */
typedef int aiterd_line_f(void *user, const char *line, size_t length);
AITERD_API enum aiterd_status aiterd_bench(struct aiterd_call *call, aiterd_line_f *line, void *user);
/* Hand the call to the server as a job: "run", "check" or "bench". *text: the job's state as JSON; aiterd_free(). */
AITERD_API enum aiterd_status aiterd_submit(struct aiterd_call *call, const char *action, char **text);

/* ---- replies ---- */

AITERD_API void aiterd_reply_free(struct aiterd_reply *reply); /* NULL is fine */
AITERD_API int aiterd_reply_count(const struct aiterd_reply *reply);
/* Name and data belong to the reply; data are aligned for their dtype. AITERD_BAD_ARGUMENT: there is none. */
AITERD_API enum aiterd_status aiterd_reply_tensor(const struct aiterd_reply *reply, int i, struct aiterd_tensor *tensor);
AITERD_API enum aiterd_status aiterd_reply_find(const struct aiterd_reply *reply, const char *name,
						struct aiterd_tensor *tensor);
/* JSON texts that belong to the reply, or "": the statistics, and the whole where there is JSON (a verdict, a dry run). */
AITERD_API const char *aiterd_reply_stats(const struct aiterd_reply *reply);
AITERD_API const char *aiterd_reply_json(const struct aiterd_reply *reply);
/* The bytes as they came. */
AITERD_API const void *aiterd_reply_bytes(const struct aiterd_reply *reply, size_t *size);
AITERD_API const char *aiterd_reply_type(const struct aiterd_reply *reply); /* Content-Type */

/* ---- kept tensors ---- */

/* The id of a tensor's content, as the server makes it: "sha256:..." */
AITERD_API enum aiterd_status aiterd_tensor_id(const struct aiterd_tensor *tensor, char id[AITERD_ID_SIZE]);
/* *text: what the server tells of it; may be NULL. ttl_s: seconds, 0: the server's default. */
AITERD_API enum aiterd_status aiterd_tensor_put(struct aiterd *server, const char *name,
						const struct aiterd_tensor *tensor, long ttl_s, char **text);
/* The same for a generated one: the JSON object of aiterd_call_source(). */
AITERD_API enum aiterd_status aiterd_tensor_put_source(struct aiterd *server, const char *name, const char *json,
						       long ttl_s, char **text);
/* Has the server a tensor of this name or id? *has is 1 or 0. */
AITERD_API enum aiterd_status aiterd_tensor_has(struct aiterd *server, const char *name, int *has);
/* The reply holds one tensor. */
AITERD_API enum aiterd_status aiterd_tensor_get(struct aiterd *server, const char *name, struct aiterd_reply **reply);
AITERD_API enum aiterd_status aiterd_tensor_delete(struct aiterd *server, const char *name);
/*
 * Make the server keep the tensor under its content's id, sending it only if it is not there yet, and use it as an input: this
 * in place of aiterd_call_tensor(). *sent (may be NULL): 1 when it had to be sent.
 */
AITERD_API enum aiterd_status aiterd_call_kept(struct aiterd_call *call, const struct aiterd_tensor *tensor, int *sent);

/*
 * Make here what the server makes of {"generate":...}, bit for bit (api/generate.md; `stream` is 0 unless given, where the
 * server takes an input's position in the catalogue). The data are the caller's: aiterd_free((void *)tensor->data). The name is "".
 */
AITERD_API enum aiterd_status aiterd_generate(struct aiterd *server, const char *json, struct aiterd_tensor *tensor);

/* ---- files ---- */

/*
 * A .npy or .safetensors file, told by its content; mapped, not read. bf16 is "V2" in .npy. The server is only for the
 * error's words; it may be NULL. Free with aiterd_file_close(). A .npy file's tensor has the name "".
 */
AITERD_API enum aiterd_status aiterd_file_open(struct aiterd *server, const char *path, struct aiterd_file **file);
AITERD_API void aiterd_file_close(struct aiterd_file *file); /* NULL is fine */
AITERD_API int aiterd_file_count(const struct aiterd_file *file);
/* Data may lie at any address: a .safetensors file does not align them. */
AITERD_API enum aiterd_status aiterd_file_tensor(const struct aiterd_file *file, int i, struct aiterd_tensor *tensor);
AITERD_API enum aiterd_status aiterd_file_find(const struct aiterd_file *file, const char *name,
					       struct aiterd_tensor *tensor);
/* A string of __metadata__, or NULL. */
AITERD_API const char *aiterd_file_metadata(const struct aiterd_file *file, const char *name);

/* Written beside the path and renamed, so that the file is whole or not there; "-" is standard output. */
AITERD_API enum aiterd_status aiterd_write_npy(struct aiterd *server, const char *path,
					       const struct aiterd_tensor *tensor);
/* metadata: JSON object of strings, or NULL. */
AITERD_API enum aiterd_status aiterd_write_safetensors(struct aiterd *server, const char *path,
						       const struct aiterd_tensor *tensors, int count,
						       const char *metadata);
AITERD_API enum aiterd_status aiterd_write_bytes(struct aiterd *server, const char *path, const void *bytes,
						 size_t size);

/* ---- tensors ---- */

AITERD_API const char *aiterd_dtype_name(enum aiterd_dtype dtype);
AITERD_API enum aiterd_dtype aiterd_dtype_find(const char *name); /* also numpy's and torch's; AITERD_NONE: unknown */
AITERD_API size_t aiterd_dtype_size(enum aiterd_dtype dtype);
/* Sets dtype, rank, shape and bytes; name and data stay. */
AITERD_API enum aiterd_status aiterd_tensor_describe(struct aiterd_tensor *tensor, enum aiterd_dtype dtype, int rank,
						     const int64_t *shape);
/* Element i as float64, whatever the dtype. The data need not be aligned. */
AITERD_API double aiterd_tensor_at(const struct aiterd_tensor *tensor, int64_t i);

#ifdef __cplusplus
}
#endif

#endif
