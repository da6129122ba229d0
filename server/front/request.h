/*
 * request.h: one HTTP request from its head to its reply's last byte. It owns everything that belongs to it:
 * memory, decoders, the call, the reply. It lives on its connection's loop; helper threads get it for single steps.
 *
 *   request_begin()   head is there: route it; answer at once, or set up decoders and take the body
 *   request_body_*()  conn.c brings the body
 *   request_body_end()  decode what is left, then what the route starts: a run binds, plans and submits to the
 *                     device                                                          (request_run.c)
 *   link's done         statistics -> encode                                            (request_reply.c)
 *   request_ready()   libmicrohttpd sends the reply
 *   request_end()     sent, or the client is gone: everything is freed, here and nowhere else
 */
#ifndef AITERD_REQUEST_H
#define AITERD_REQUEST_H

#include "codec/decoder.h"
#include "codec/encode.h"
#include "codec/intake.h"
#include "front/conn.h"
#include "front/helpers.h"
#include "front/link.h"
#include "front/loop.h"
#include "front/store.h"
#include "ops/op.h"

struct check;
struct job;
struct jobs;
struct request;
struct route;

typedef void (*request_done_f)(struct request *req);

enum request_time { T_BEGIN, T_BODY, T_RECEIVED, T_DECODED, T_SUBMITTED, T_DONE, T_ENCODED, T_COUNT };

/* Run options: operator parameters' companions, in the same namespace. See run_options.c for the table. */
struct run_options {
	uint32_t warmup, iters;
	enum impl impl, baseline;
	enum data_mode outputs;
	bool dry_run, flush, base64;
	double timeout_s;
	const char *device; /* borrowed from the intake; "auto" */
	const char *format; /* NULL when not given */
};

struct reply {
	int status;
	struct body body;
	const char *allow;    /* 405 */
	const char *encoding; /* Content-Encoding, NULL: none */
	uint32_t retry_after_s;
	bool close;
	const char *stats;		/* one line of JSON, or NULL */
	const char *etag, *tensor;	/* fields of kept tensors (tensors.c), or NULL */
	const char *location, *applied; /* Location; Preference-Applied; NULL: none */
	char timing[400];		/* Server-Timing, or "" */
};

/* The compute part; made only for requests that run an operator. All zero at first, up to `mem`. */
struct compute_request {
	struct decoder *decoder;
	struct inflater *inflater;
	enum coding coding;
	struct run_options run;
	unsigned device;
	unsigned chosen; /* this device + 1 while it is counted among the device's; 0: it is not */
	struct link_job job;
	request_done_f after;	       /* what follows the reserving, then the job */
	struct keeping *keep;	       /* outputs to be kept (request_keep.c), or NULL */
	struct tensor_request *tensor; /* about a kept tensor (tensors.c), or NULL */
	int n_kept;	     /* of `inputs` below: those that the server had kept, held while the request lives */
	struct check *check; /* request_check.c; NULL: another route's */
	bool submitted;
	bool orphaned;			 /* over while the device still has the job: the job holds a reference */
	struct bench *bench;		 /* NULL: another route's */
	struct text hints;		 /* a JSON list */
	struct text kept;		 /* the same, of outputs that were kept; empty: none */
	struct text stats, stats_quoted; /* request_stats.c: JSON, and the same as inside a JSON string */
	size_t stats_open, stats_hints;	 /* of `stats`: where timing_ms still takes members; where the hints begin */
	struct request_fill *fill;	 /* between its memory's making and its first task: request_fill.c */
	uint64_t reserve_ns;		 /* what making fresh memory took, before the body and for the outputs */
	/* Not cleared: each has its own beginning. */
	struct mem mem;
	struct store *store; /* of kept tensors, */
	uint32_t owner;	     /* and whose are seen */
	struct kept *inputs[INTAKE_TENSORS_MAX];
	struct intake in;
	struct msg_done done;
	struct encode_job encode; /* from here on as request_answer() sets it */
	double bytes_moved;
	char stats_room[4096], stats_quoted_room[4096];
	char head_room[8192]; /* for the reply's head, and all of it when it is small */
};

struct request {
	struct loop *loop;
	struct conn *conn;
	void *mhd; /* struct MHD_Connection */
	const struct route *route;
	char id[65];
	char op_name[STORE_NAME_MAX + 8]; /* from the path, may be of no operator; a kept tensor's name */
	const struct op *op;
	uint32_t op_index;
	bool oip;
	bool head_only; /* HEAD */
	bool begun, suspended, ready, gone;
	bool counted;  /* in service.requests */
	bool held;     /* waits without being suspended; see hold() in http.c */
	uint8_t asked; /* how often it was asked for its reply while held */
	int refs; /* libmicrohttpd's request, the response that points into our memory, a job or helper that goes on alone */
	enum form form; /* the reply's */
	bool events;	/* a streaming reply: SSE, asked for by Accept; else NDJSON */
	bool npy_asked; /* by the Accept header: not ours to change */
	enum coding reply_coding;
	uint64_t t[T_COUNT];
	struct helper_task task;
	request_done_f helped; /* what follows the helper's work; NULL: no helper is at work */
	struct err err;
	struct reply reply;
	struct stream *stream; /* NULL: the reply is made whole */
	struct compute_request *run;
	/* Of a work, which has no connection (conn and mhd are NULL): the job it is for. */
	struct job *job;
	/* Of a connection's request: the job whose result it sends, or is the first to wait for; it has a reference. */
	struct job *asks;
	bool first;
	uint64_t wait_until_ns; /* for a job's end, 0: not */
};

struct request *request_new(struct conn *c, void *mhd);
/* Drop one reference. */
void request_unref(struct request *req);
/* The exchange is over (libmicrohttpd's completed callback), perhaps while device or helper still have the request. */
void request_end(struct request *req);

enum request_turn { TURN_WAIT, TURN_REPLY, TURN_GONE };

/* From libmicrohttpd's handler: the first call begins the request, later ones fetch the reply. */
enum request_turn request_turn(struct request *req);

/* The device has it. */
bool request_is_submitted(const struct request *req);

/* conn.c's news. feed and advance return -1 when the request has failed: the rest of the body does not matter. */
int request_body_feed(struct request *req, const unsigned char *p, size_t n);
/* Feeding this body is work for a helper thread: it must be unwrapped, or memory for it is made as it comes. */
bool request_body_is_work(const struct request *req);
/* It comes in a content coding. */
bool request_body_is_coded(const struct request *req);
size_t request_body_window(struct request *req, unsigned char **dst);
int request_body_advance(struct request *req, size_t n);
/* Bytes that came out of a compressed body so far. */
uint64_t request_body_inflated(const struct request *req);
/* An error found outside (framing, deadline): the first one counts. */
void request_body_error(struct request *req, const struct err *e);
void request_body_end(struct request *req);
/* It failed and the rest of its body is not worth reading: answer and close. */
void request_refuse(struct request *req);
/* The client is gone, or lingering has ended; a work is not wanted any more. */
void request_gone(struct request *req);

/* Every 250 ms while a reply is awaited. */
void request_tick(struct request *req, uint64_t now_ns);
/* Still at the device long after its deadline, behind somebody else's job: the client gets its 504 now. */
void request_overdue(struct request *req, uint64_t now_ns);

/* A reply of a given text; takes the buffer out of t. */
void request_reply_text(struct request *req, int status, const char *content_type, struct text *t);
/* The reply is req->err. */
void request_reply_error(struct request *req);
/* The reply is made. A work must not be touched any more after that. */
void request_ready(struct request *req);

/* The head was accepted: read the body. */
void request_take_body(struct request *req);
/* An error before the body was read: drain a small body so that the connection lives on, else give it up. */
void request_begin_failed(struct request *req);

/* Let a helper thread do `work`, then `done` on the loop; when the client has gone meanwhile the request just ends. */
void request_help(struct request *req, void (*work)(struct helper_task *t), request_done_f done);
struct request *request_of_task(struct helper_task *t);

/* The helpers' work is done, on the loop: what request_help's `done` follows. For work of several tasks. */
void request_helped(struct request *req);

/* NULL: no memory. */
struct compute_request *request_compute_new(struct request *req);

/* request_open.c: choose codings, forms and decoders from the head, before the body. 0: the body may be taken now;
 * 1: it will be, when memory for it has been made; -1: refused. */
int request_open(struct request *req, struct err *e);
/* The part of it that takes no body: admission, memory, the query string; */
int request_prepare(struct request *req, struct err *e);
/* the reply's form, as far as the head tells (req->form stays when it does not), and its coding. */
int request_choose_reply(struct request *req, struct err *e);
/* The Content-Type's media type: its length, in front of parameters. */
size_t request_media_type(const char *header);
bool request_media_is(const char *header, size_t len, const char *type);

/* request_bench.c: the start of a bench request; see front/bench.h. */
void request_bench_start(struct request *req);
/* request_fill.c: make the generated inputs; `then` on the loop, with req->err set if they could not be made. Done before
 * route->start, unless the route does it itself (route->fills). */
void request_fill(struct request *req, request_done_f then);

/* request_run.c: the body is complete: what is left of its decoding, then route->start. */
void request_decode(struct request *req);
/* Route's start: run the operator. Other starts are made of the same steps: */
void request_run_start(struct request *req);
/* what the intake holds into run->job.msg.call and run->run: parameters and options, shapes bound; all inputs have data; */
int request_gather(struct request *req, struct err *e);
/* the first half of it, for which generated inputs need no data yet; */
int request_bind(struct request *req, struct err *e);
/* request_device.c: the device for run->run's device, impl and baseline into run->device; */
int request_device(struct request *req, struct err *e);
/* its job has come back, or will not be sent: the device is not counted as busy with it any more; */
void request_device_done(struct request *req);
/* the other half: what may look at the inputs' data, when all of them have any; */
int request_gather_data(struct request *req, struct err *e);
/* memory for the outputs of run->job.msg.call, then `after`; */
void request_reserve(struct request *req, request_done_f after);
/* run->job to run->device, then `after`, with what came of it in run->done. A request has one job at a time. When the
 * client has gone meanwhile, `after` is not called. */
void request_submit(struct request *req, request_done_f after);
/* The same with run->run's options in the job; a dry run is answered in place of `after`. */
void request_submit_run(struct request *req, request_done_f after);

/* request_dry.c: the device has said what it would run -> reply. */
void request_dry_answer(struct request *req);

/* request_check.c: route's start, to judge a candidate's outputs; the options that only it has; run->check's end. */
void request_check_start(struct request *req);
extern const struct op_param request_check_options[];
void request_check_free(struct check **k);

/* request_job.c: true: the client would rather not wait (Prefer: respond-async), and the request's work goes on as a job,
 * beginning with route->start; the request itself has its reply, or will have. */
bool request_defer(struct request *req);
/* How far a work is, for those who ask; does nothing for a request whose client waits. */
void request_progress(struct request *req, uint64_t done, uint64_t of, const char *unit);
/* A work went to its device; has its reply. */
void request_placed(struct request *work, uint64_t ticket);
void request_settled(struct request *work);
/* The reply is the job's; takes the reference. */
void request_result(struct request *req, struct job *job);
/* The client would wait for a job's end: request_tick() looks after it. False: it would not. */
bool request_wait(struct request *req);
/* The client has left, who alone knew of the job. */
void request_leave(struct request *req);
/* Give back all that the reply does not lie in. */
void request_shed(struct request *req);
/* Any thread. */
void request_free_work(struct request *work);
struct jobs *request_jobs_new(struct service *svc, struct err *e);

/* request_stats.c: run->stats and run->stats_quoted, before the reply is encoded; */
int request_stats(struct request *req, struct err *e);
/* with what encoding took, for the header (NULL: no memory); and the Server-Timing field. */
const char *request_stats_finish(struct request *req);
void request_server_timing(struct request *req);

/* request_keep.c: inputs that the server has kept: the intake's hook, cls is the compute_request; */
int request_kept_find(void *cls, const char *input, const char *name, struct tensor *t, struct err *e);
/* the one whose bytes t points to; NULL: it is none of them. */
struct kept *request_kept_of(const struct compute_request *run, const struct tensor *t);
/* Tells the device which tensors of the job's call are kept ones; request_submit does it. */
void request_kept_mark(struct request *req);
/* They are not needed any more. */
void request_kept_drop(struct compute_request *run);

/* Outputs that stay with the server: the run option keep.<output>=NAME. 1: `name` is such a parameter
 * (and noted), 0: it is none, -1: refused. */
int request_keep_param(struct request *req, const char *name, const char *value, struct err *e);
/* An optional output that is to be kept is asked for; after all parameters are read. */
int request_keep_ask(struct request *req, struct err *e);
/* Would making those that are to be kept mean making a new slab? */
bool request_keep_would_grow(const struct request *req);
/* Where output i is made: as what will be kept, if it is to be. */
int request_keep_reserve(struct request *req, int i, struct err *e);
/* The outputs are there: they get their names, and run->kept tells of them. */
int request_keep(struct request *req, struct err *e);
/* Of both, let go of those in which none of these n places is. */
void request_kept_shed(struct compute_request *run, const void *const *keep, int n);
void request_keep_free(struct request *req);

/* Whose kept tensors this request sees. */
static inline uint32_t
request_owner(const struct request *req)
{
	(void)req;
	return STORE_OWNER_ALL;
}

/* request_reply.c: device done -> reply. */
void request_answer(struct request *req);
/* What a helper made of it is in req->reply.body, or an error in req->err: status, statistics' fields, send. */
void request_encoded(struct request *req);
/* Into the operator's counters: run->done's outcome. request_answer does it, too. */
void request_count(struct request *req);
/* run_options.c */
const struct op_param *run_option_table(void);
int run_option_find(const char *name, size_t len);			     /* index in the table, or -1 */
int option_find(const struct op_param *table, const char *name, size_t len); /* the same, of any table or none */
/* The values of a route's own options (route->options), as the intake has them; of the others, the defaults. */
int option_values(const struct op_param *table, struct op_value *v, const struct intake *in, struct err *e);
double run_option_max(const struct service *svc, int i); /* the limit in force */
int run_options_parse(struct run_options *o, const struct intake *in, const struct service *svc, struct err *e);

#endif
