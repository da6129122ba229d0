/*
 * out.c: what aiterctl says: errors with their exit status, values, tables. Everything for people goes through here, so
 * that what a server or a file name holds cannot steer the terminal.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/json.h"
#include "ctl.h"

#define JSON_DEPTH 64

int table_wrap_at;

/* How many bytes of UTF-8 at s are one character that only shows itself; 0: what stands there may steer a terminal (C0, C1,
 * marks that turn the direction of text), or is no UTF-8. */
static size_t
harmless(const unsigned char *s)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = *s < 0x80 ? 1 : *s < 0xc2 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : *s < 0xf5 ? 4 : 0;
	uint32_t c = n < 2 ? *s : *s & (0x7fu >> n);

	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (n == 0 || c < least[n] || c < ' ' || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
	    (c >= 0x2066 && c <= 0x2069))
		return 0;
	return n;
}

void
print_clean(FILE *to, const char *s)
{
	size_t n;

	for (s = s ? s : "?"; *s; s += n ? n : 1) {
		n = harmless((const unsigned char *)s);
		if (n)
			fwrite(s, 1, n, to);
		else
			putc('?', to);
	}
}

void
say(FILE *to, const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	print_clean(to, line);
	fputc('\n', to);
}

void
print_json(const char *text)
{
	size_t n = strlen(text);

	while (n && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
		n--;
	print_bytes(stdout, text, n);
	putchar('\n');
}

int
get_and_show(struct ctl *c, const char *path, void (*show)(const struct cJSON *json))
{
	enum aiterd_status status;
	struct cJSON *json;
	char *text;

	status = aiterd_get(c->server, path, &text);
	if (status != AITERD_OK)
		return fail(c, status);
	json = json_of(text);
	if (c->o.json)
		print_json(text);
	else
		show(json);
	cJSON_Delete(json);
	free(text);
	return 0;
}

void
print_bytes(FILE *to, const char *text, size_t n)
{
	if (!isatty(fileno(to))) {
		fwrite(text, 1, n, to);
		return;
	}
	while (n) {
		size_t line = 0;
		char *copy;

		while (line < n && text[line] != '\n' && text[line])
			line++;
		copy = strndup(text, line);
		print_clean(to, copy);
		free(copy);
		if (line < n)
			putc(text[line] ? '\n' : '?', to);
		line += line < n;
		text += line;
		n -= line;
	}
}

int
fail_usage(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	progress_clear();
	fputs("aiterctl: ", stderr);
	print_clean(stderr, line);
	fputc('\n', stderr);
	return EXIT_USAGE;
}

int
exit_of_http(int status)
{
	return status >= 500 ? EXIT_SERVER : EXIT_REFUSED;
}

static int
exit_of(enum aiterd_status status)
{
	switch (status) {
	case AITERD_OK:
		return EXIT_OK;
	case AITERD_BAD_ARGUMENT:
	case AITERD_BAD_FILE:
		return EXIT_USAGE;
	case AITERD_REFUSED:
		return EXIT_REFUSED;
	case AITERD_UNREACHABLE:
		return EXIT_UNREACHABLE;
	case AITERD_NO_MEMORY:
		return EXIT_LOCAL;
	case AITERD_FAILED:
	case AITERD_BAD_REPLY:
	case AITERD_CANCELLED:
		break;
	}
	return EXIT_SERVER;
}

int
fail(const struct ctl *c, enum aiterd_status status)
{
	const struct aiterd_problem *p = aiterd_problem(c->server);

	progress_clear();
	fputs("aiterctl: ", stderr);
	if (p->status && *p->detail) {
		print_clean(stderr, p->detail);
		if (*p->found && !strstr(p->detail, p->found)) {
			fputs("\n  found:  ", stderr);
			print_clean(stderr, p->found);
		}
		if (*p->wanted && !strstr(p->detail, p->wanted)) {
			fputs("\n  wanted: ", stderr);
			print_clean(stderr, p->wanted);
		}
		fprintf(stderr, "\n  HTTP status %d", p->status);
		if (*p->request_id) {
			fputs(", request ", stderr);
			print_clean(stderr, p->request_id);
		}
		if (p->retry_after_s)
			fprintf(stderr, ", the server asks for patience of %d s", p->retry_after_s);
	} else {
		print_clean(stderr, aiterd_error(c->server));
	}
	fputc('\n', stderr);
	return exit_of(status);
}

int
finish_output(int status)
{
	int bad = fflush(stdout), why = errno;

	if (!bad && !ferror(stdout))
		return status;
	if (why == EPIPE) {
		/* As if the signal had come: what shells expect of a command before `head`. */
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	fprintf(stderr, "aiterctl: standard output cannot be written: %s\n", strerror(why));
	return status ? status : EXIT_LOCAL;
}

/* ---- JSON ---- */

struct cJSON *
json_of(const char *text)
{
	return json_parse(text, strlen(text), JSON_DEPTH, NULL);
}

const struct cJSON *
json_at(const struct cJSON *o, const char *path)
{
	char name[64];

	while (o && *path) {
		size_t n = strcspn(path, ".");

		if (n >= sizeof(name))
			return NULL;
		memcpy(name, path, n);
		name[n] = '\0';
		o = cJSON_GetObjectItemCaseSensitive(o, name);
		path += n + (path[n] == '.');
	}
	return o;
}

const char *
json_str(const struct cJSON *o, const char *path, const char *fallback)
{
	const cJSON *item = json_at(o, path);

	return cJSON_IsString(item) ? item->valuestring : fallback;
}

/* NaN and the infinities are strings in replies. */
double
json_num(const struct cJSON *o, const char *path, double fallback)
{
	const cJSON *item = json_at(o, path);

	if (cJSON_IsNumber(item))
		return item->valuedouble;
	if (cJSON_IsString(item) && strcmp(item->valuestring, "NaN") == 0)
		return NAN;
	if (cJSON_IsString(item) && strcmp(item->valuestring, "Infinity") == 0)
		return INFINITY;
	if (cJSON_IsString(item) && strcmp(item->valuestring, "-Infinity") == 0)
		return -INFINITY;
	return fallback;
}

bool
json_has(const struct cJSON *o, const char *path)
{
	const cJSON *item = json_at(o, path);

	return item && !cJSON_IsNull(item);
}

const char *
json_show(const struct cJSON *o, char *buf, size_t size)
{
	char *text;

	if (!o || cJSON_IsNull(o)) {
		snprintf(buf, size, "-");
	} else if (cJSON_IsString(o)) {
		snprintf(buf, size, "%s", o->valuestring);
	} else if (cJSON_IsNumber(o) && o->valuestring && strlen(o->valuestring) < 12) {
		snprintf(buf, size, "%s", o->valuestring);
	} else if (cJSON_IsNumber(o)) {
		show_number(o->valuedouble, buf, size);
	} else {
		text = cJSON_PrintUnformatted(o);
		snprintf(buf, size, "%s", text ? text : "?");
		free(text);
	}
	return buf;
}

/* ---- values ---- */

const char *
show_bytes(double n, char *buf, size_t size)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	int unit = 0;

	if (!(n >= 0))
		return snprintf(buf, size, "-"), buf;
	while (n >= 1024 && unit < 4) {
		n /= 1024;
		unit++;
	}
	snprintf(buf, size, unit && n < 100 ? "%.1f %s" : "%.0f %s", n, units[unit]);
	return buf;
}

const char *
show_number(double v, char *buf, size_t size)
{
	double a = fabs(v);

	if (isnan(v))
		snprintf(buf, size, "NaN");
	else if (isinf(v))
		snprintf(buf, size, v < 0 ? "-Inf" : "Inf");
	else if (v != 0 && (a < 1e-3 || a >= 1e7))
		snprintf(buf, size, "%.3g", v);
	else
		snprintf(buf, size, "%.*f", v == 0 ? 0 : a < 0.01 ? 5 : a < 0.1 ? 4 : a < 10 ? 3 : a < 1000 ? 2 : 0, v);
	return buf;
}

const char *
show_shape(const struct cJSON *shape, char *buf, size_t size)
{
	const cJSON *dim;
	struct text t;

	text_init_in(&t, buf, size, size - 1);
	text_add(&t, "[");
	cJSON_ArrayForEach(dim, shape)
	{
		if (cJSON_IsString(dim))
			text_addf(&t, "%s%s", dim == shape->child ? "" : ", ", dim->valuestring);
		else
			text_addf(&t, "%s%.0f", dim == shape->child ? "" : ", ", dim->valuedouble);
	}
	text_add(&t, "]");
	if (text_failed(&t))
		snprintf(buf, size, "[...]");
	text_fini(&t);
	return buf;
}

/* ---- tables ---- */

void
table_init(struct table *t, int columns, unsigned left)
{
	*t = (struct table){.columns = columns < TABLE_COLUMNS ? columns : TABLE_COLUMNS, .left = left};
}

void
table_add(struct table *t, const char *cell)
{
	if (t->n == t->cap) {
		int cap = t->cap ? 2 * t->cap : 64;
		char **grown = realloc(t->cells, (size_t)cap * sizeof(*grown));

		if (!grown)
			return;
		t->cells = grown;
		t->cap = cap;
	}
	t->cells[t->n++] = strdup(cell ? cell : "");
}

static const char *
cell(const struct table *t, int i)
{
	return t->cells[i] ? t->cells[i] : "";
}

/* Characters, not bytes: names may be UTF-8. */
static int
width(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* The last cell of a row, from column `at` on, broken between words where the terminal is too narrow for it. */
static void
print_wrapped(FILE *to, const char *s, int at)
{
	int room = table_wrap_at - at, left = room;

	if (room < 20 || to != stdout) {
		print_clean(to, s);
		return;
	}
	while (*s) {
		size_t n = strcspn(s, " ");
		char word[64];

		if (n >= sizeof(word)) {
			print_clean(to, s);
			return;
		}
		memcpy(word, s, n);
		word[n] = '\0';
		if (left < room) { /* not the first of its line */
			bool fits = width(word) < left;

			if (fits)
				fputc(' ', to);
			else
				fprintf(to, "\n%*s", at, "");
			left = fits ? left - 1 : room;
		}
		print_clean(to, word);
		left -= width(word);
		s += n + (s[n] == ' ');
	}
}

void
table_print(const struct table *t, FILE *to, int indent)
{
	int widths[TABLE_COLUMNS] = {0}, at = 0;

	for (int i = 0; i < t->n; i++)
		if (width(cell(t, i)) > widths[i % t->columns])
			widths[i % t->columns] = width(cell(t, i));
	for (int i = 0; i < t->n; i++) {
		int column = i % t->columns, pad = widths[column] - width(cell(t, i));
		bool last = column == t->columns - 1 || i == t->n - 1, left = t->left >> column & 1;

		fprintf(to, "%*s", column ? 2 : indent, "");
		at = column ? at + 2 : indent;
		if (!left)
			fprintf(to, "%*s", pad, "");
		if (left && column == t->columns - 1)
			print_wrapped(to, cell(t, i), at);
		else
			print_clean(to, cell(t, i));
		at += widths[column];
		if (left && !last)
			fprintf(to, "%*s", pad, "");
		if (last)
			fputc('\n', to);
	}
}

void
table_free(struct table *t)
{
	for (int i = 0; i < t->n; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){.cells = NULL};
}
