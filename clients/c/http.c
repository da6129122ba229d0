/*
 * http.c: one exchange with the server: a request whose body is pieces of memory, a reply into memory or line by line,
 * sent again where the server asks for patience and that does no harm. The only file that knows libcurl's transfers.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lib.h"

#define UPLOAD_BUFFER (1L << 20)
#define DOWNLOAD_BUFFER (512L << 10)
#define RESERVE_MAX ((curl_off_t)1 << 30) /* what a Content-Length alone is believed */
#define LINE_MAX_BYTES ((size_t)256 << 20)
#define PAUSE_MS 100

struct exchange {
	struct aiterd *s;
	const struct http_request *q;
	struct http_reply *r;
	struct lib_body body;
	bool no_memory, cancelled, body_failed, too_long;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int global_rc = -1;

static void
global_init(void)
{
	global_rc = curl_global_init(CURL_GLOBAL_ALL) ? -1 : 0;
}

int
http_global(void)
{
	pthread_once(&once, global_init);
	return global_rc;
}

void
http_reply_fini(struct http_reply *r)
{
	free(r->type);
	free(r->stats);
	free(r->etag);
	free(r->p);
	*r = (struct http_reply){.p = NULL};
}

/* ---- what curl calls ---- */

static size_t
read_body(char *dst, size_t size, size_t n, void *user)
{
	struct exchange *x = user;
	size_t got;

	if (lib_body_read(&x->body, (unsigned char *)dst, size * n, &got))
		return got;
	x->body_failed = true;
	return CURL_READFUNC_ABORT;
}

/* curl wants the body again when a kept connection turned out to be dead. */
static int
seek_body(void *user, curl_off_t offset, int origin)
{
	struct exchange *x = user;

	if (offset != 0 || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	lib_body_end(&x->body);
	lib_body_begin(&x->body, x->q->pieces, x->q->n_pieces, x->s->coding);
	return CURL_SEEKFUNC_OK;
}

static bool
reply_room(struct http_reply *r, size_t n)
{
	size_t cap = r->cap ? r->cap : 4096;
	unsigned char *p;

	if (n >= SIZE_MAX - r->n - 1)
		return false;
	while (cap < r->n + n + 1)
		cap = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
	if (cap == r->cap)
		return true;
	p = realloc(r->p, cap);
	if (!p)
		return false;
	r->p = p;
	r->cap = cap;
	return true;
}

static bool
reply_add(struct http_reply *r, const void *p, size_t n)
{
	if (!reply_room(r, n))
		return false;
	memcpy(r->p + r->n, p, n);
	r->n += n;
	r->p[r->n] = '\0';
	return true;
}

static bool
give_line(struct exchange *x, size_t begin, size_t end)
{
	struct http_reply *r = x->r;

	while (end > begin && (r->p[end - 1] == '\r' || r->p[end - 1] == ' '))
		end--;
	r->p[end] = '\0';
	if (end > begin && x->q->line(x->q->user, (char *)r->p + begin, end - begin)) {
		x->cancelled = true;
		return false;
	}
	return true;
}

/* Whole lines go to the caller; the rest stays for the next piece. */
static bool
give_lines(struct exchange *x, size_t looked_at)
{
	struct http_reply *r = x->r;
	size_t begin = 0;
	unsigned char *nl;

	while ((nl = memchr(r->p + looked_at, '\n', r->n - looked_at))) {
		size_t end = (size_t)(nl - r->p);

		if (!give_line(x, begin, end))
			return false;
		begin = looked_at = end + 1;
	}
	r->n -= begin;
	memmove(r->p, r->p + begin, r->n + 1);
	x->too_long = r->n > LINE_MAX_BYTES;
	return !x->too_long;
}

static size_t
write_body(char *p, size_t size, size_t n, void *user)
{
	struct exchange *x = user;
	struct http_reply *r = x->r;
	size_t before = r->n;
	curl_off_t whole = 0;
	long status = 0;

	n *= size;
	if (!r->p && !x->q->line && !curl_easy_getinfo(x->s->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &whole) &&
	    whole > 0)
		reply_room(r, (size_t)(whole < RESERVE_MAX ? whole : RESERVE_MAX));
	if (!reply_add(r, p, n)) {
		x->no_memory = true;
		return 0;
	}
	if (!x->q->line)
		return n;
	curl_easy_getinfo(x->s->curl, CURLINFO_RESPONSE_CODE, &status);
	return status != 200 || give_lines(x, before) ? n : 0;
}

static void
take_field(char **to, const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
		end--;
	free(*to);
	*to = strndup(p, (size_t)(end - p));
}

static size_t
take_header(char *p, size_t size, size_t n, void *user)
{
	struct exchange *x = user;
	struct http_reply *r = x->r;
	const char *end = p + size * n, *colon = memchr(p, ':', size * n);
	char *after = NULL;
	size_t len;

	if (!colon)
		return size * n; /* a status line: of a 100, or the real one */
	len = (size_t)(colon - p);
	if (len == 12 && !strncasecmp(p, "Content-Type", len))
		take_field(&r->type, colon + 1, end);
	else if (len == 12 && !strncasecmp(p, "Aiterd-Stats", len))
		take_field(&r->stats, colon + 1, end);
	else if (len == 4 && !strncasecmp(p, "ETag", len))
		take_field(&r->etag, colon + 1, end);
	else if (len == 11 && !strncasecmp(p, "Retry-After", len))
		take_field(&after, colon + 1, end);
	if (after) {
		long v = strtol(after, NULL, 10);

		r->retry_after_s = v < 0 || v > 86400 ? 86400 : (int)v;
		free(after);
	}
	return size * n;
}

static int
progress(void *user, curl_off_t to_receive, curl_off_t received, curl_off_t to_send, curl_off_t sent)
{
	struct exchange *x = user;

	if (!to_send && x->q->type)
		to_send = (curl_off_t)(x->s->coding == LIB_PLAIN ? lib_body_bytes(x->q->pieces, x->q->n_pieces) : 0);
	if (!x->s->progress(x->s->progress_user, (uint64_t)sent, (uint64_t)to_send, (uint64_t)received,
			    (uint64_t)to_receive))
		return 0;
	x->cancelled = true;
	return 1;
}

/* ---- one exchange ---- */

static bool
add_header(struct curl_slist **list, const char *name, const char *value)
{
	char *line = NULL;
	struct curl_slist *grown;

	if (asprintf(&line, "%s: %s", name, value) < 0)
		return false;
	grown = curl_slist_append(*list, line);
	free(line);
	if (grown)
		*list = grown;
	return grown != NULL;
}

static bool
headers(const struct aiterd *s, const struct http_request *q, struct curl_slist **list)
{
	bool ok = add_header(list, "User-Agent", "aiterd-client/" PACKAGE_VERSION);
	char *bearer = NULL;

	if (q->type)
		ok = ok && add_header(list, "Content-Type", q->type);
	if (q->type && s->coding != LIB_PLAIN)
		ok = ok && add_header(list, "Content-Encoding", s->coding == LIB_GZIP ? "gzip" : "zstd") &&
		     add_header(list, "Transfer-Encoding", "chunked");
	if (q->accept)
		ok = ok && add_header(list, "Accept", q->accept);
	if (q->prefer)
		ok = ok && add_header(list, "Prefer", q->prefer);
	if (s->key && ok) {
		ok = asprintf(&bearer, "Bearer %s", s->key) >= 0 && add_header(list, "Authorization", bearer);
		free(bearer);
	}
	return ok;
}

static void
set_up(struct exchange *x, const char *url, struct curl_slist *list, char *why)
{
	struct aiterd *s = x->s;
	const struct http_request *q = x->q;
	CURL *c = s->curl;

	curl_easy_reset(c);
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, DOWNLOAD_BUFFER);
	curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, s->connect_ms);
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, s->request_ms);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, write_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
	if (s->unix_path) {
		curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, s->unix_path);
		curl_easy_setopt(c, CURLOPT_PROXY, "");
	}
	if (s->coding != LIB_PLAIN)
		curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "");
	if (s->progress) {
		curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, progress);
		curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
	}
	if (q->type) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, read_body);
		curl_easy_setopt(c, CURLOPT_READDATA, x);
		curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, seek_body);
		curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
		if (s->coding == LIB_PLAIN)
			curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE,
					 (curl_off_t)lib_body_bytes(q->pieces, q->n_pieces));
	}
	if (strcmp(q->method, "HEAD") == 0)
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	else if (strcmp(q->method, "GET") != 0)
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

static enum aiterd_status
no_reply(struct exchange *x, CURLcode code, const char *why)
{
	struct aiterd *s = x->s;
	const char *where = aiterd_url(s);

	if (x->cancelled)
		return lib_fail(s, AITERD_CANCELLED, "cancelled");
	if (x->no_memory || code == CURLE_OUT_OF_MEMORY)
		return lib_no_memory(s);
	if (x->body_failed)
		return lib_fail(s, AITERD_NO_MEMORY, "the request's body could not be compressed");
	if (x->too_long)
		return lib_fail(s, AITERD_BAD_REPLY, "the server sent a line of more than %zu bytes", LINE_MAX_BYTES);
	if (code == CURLE_COULDNT_CONNECT)
		return lib_fail(s, AITERD_UNREACHABLE, "no server at %s: %s", where, why);
	if (code == CURLE_BAD_CONTENT_ENCODING || code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_UNSUPPORTED_PROTOCOL)
		return lib_fail(s, AITERD_BAD_REPLY, "the server at %s sent something that is no HTTP reply: %s", where,
				why);
	return lib_fail(s, AITERD_UNREACHABLE, "no reply from %s: %s", where, *why ? why : curl_easy_strerror(code));
}

static enum aiterd_status
exchange_once(struct exchange *x, const char *url, struct curl_slist *list)
{
	char why[CURL_ERROR_SIZE] = "";
	CURLcode code;

	lib_body_begin(&x->body, x->q->pieces, x->q->n_pieces, x->q->type ? x->s->coding : LIB_PLAIN);
	set_up(x, url, list, why);
	code = curl_easy_perform(x->s->curl);
	lib_body_end(&x->body);
	curl_easy_getinfo(x->s->curl, CURLINFO_RESPONSE_CODE, &x->r->status);
	/* A reply that came before the whole body was sent is a reply all the same. */
	if (code == CURLE_SEND_ERROR && x->r->status >= 400 && x->r->n)
		code = CURLE_OK;
	if (!code && x->q->line && x->r->status == 200 && x->r->n && !give_line(x, 0, x->r->n))
		code = CURLE_ABORTED_BY_CALLBACK;
	return code ? no_reply(x, code, why) : AITERD_OK;
}

/* False: cancelled. */
static bool
wait_a_while(struct aiterd *s, int seconds)
{
	struct timespec pause = {0, PAUSE_MS * 1000000L};

	for (int i = 0; i < seconds * 1000 / PAUSE_MS; i++) {
		nanosleep(&pause, NULL);
		if (s->progress && s->progress(s->progress_user, 0, 0, 0, 0))
			return false;
	}
	return true;
}

enum aiterd_status
http_do(struct aiterd *s, const struct http_request *q, struct http_reply *r)
{
	struct exchange x = {.s = s, .q = q, .r = r};
	struct curl_slist *list = NULL;
	enum aiterd_status status;
	char *url = NULL;
	int waited = 0;

	*r = (struct http_reply){.p = NULL};
	if (!s->curl)
		return AITERD_BAD_ARGUMENT; /* with the error of aiterd_open() */
	lib_clear(s);
	if (asprintf(&url, "%s%s", s->base, q->path) < 0)
		url = NULL;
	if (!url || !headers(s, q, &list)) {
		status = lib_no_memory(s);
		goto out;
	}
	for (int tries = 0;; tries++) {
		int after;

		http_reply_fini(r);
		status = exchange_once(&x, url, list);
		after = r->retry_after_s;
		if (status != AITERD_OK || (r->status != 429 && r->status != 503) || !q->repeatable || !after ||
		    tries >= s->retries || after > s->retry_s - waited)
			break;
		waited += after;
		if (!wait_a_while(s, after)) {
			status = lib_fail(s, AITERD_CANCELLED, "cancelled");
			break;
		}
	}
	if (status == AITERD_OK && !r->p && !reply_add(r, "", 0))
		status = lib_no_memory(s);
	if (status == AITERD_OK && (r->status < 200 || r->status >= 300) && !(r->status == 404 && q->absent_is_fine))
		status = lib_problem(s, r->status, (const char *)r->p, r->n, r->retry_after_s);
out:
	if (status != AITERD_OK)
		http_reply_fini(r);
	curl_slist_free_all(list);
	free(url);
	return status;
}
