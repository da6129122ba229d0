/*
 * cmd_top.c: aiterctl top: devices, queue and operators, drawn again every few seconds until it is ended.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"

#define OPS_MAX 64

struct sample {
	double t;
	double busy[16];		       /* ms, by device */
	double count[OPS_MAX], infer[OPS_MAX]; /* by operator, in the server's order */
};

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
add(struct table *t, double v, int digits)
{
	char text[40];

	snprintf(text, sizeof(text), "%.*f", digits, v);
	table_add(t, text);
}

static void
draw_devices(const struct cJSON *info, const struct sample *before, struct sample *s)
{
	const cJSON *device;
	char a[24], b[24], text[60];
	struct table t;
	int i = 0;

	table_init(&t, 7, 0x07);
	for (const char *const *h = (const char *const[]){"device", "state", "what", "busy %", "memory used", "jobs",
							  "restarts", NULL};
	     *h; h++)
		table_add(&t, *h);
	cJSON_ArrayForEach(device, json_at(info, "devices"))
	{
		double busy = json_num(device, "busy_ms", 0), total = json_num(device, "memory.total", 0);

		table_add(&t, json_str(device, "id", "?"));
		table_add(&t, json_str(device, "state", "?"));
		table_add(&t, json_str(device, "name", "?"));
		if (before->t > 0 && i < 16)
			/* counted when a run ends, so a long one's time may fall into a shorter view */
			add(&t, fmin(100, 100 * (busy - before->busy[i]) / 1000 / (s->t - before->t)), 0);
		else
			table_add(&t, "-");
		snprintf(text, sizeof(text), "%s of %s",
			 show_bytes(json_num(device, "memory.allocated", -1), a, sizeof(a)),
			 show_bytes(total, b, sizeof(b)));
		table_add(&t, text);
		add(&t, json_num(device, "jobs_finished", 0), 0);
		add(&t, json_num(device, "restarts", 0), 0);
		if (i < 16)
			s->busy[i++] = busy;
	}
	table_print(&t, stdout, 0);
	table_free(&t);
}

static void
draw_ops(const struct cJSON *stats, const struct sample *before, struct sample *s)
{
	const cJSON *op;
	struct table t;
	int i = 0;

	table_init(&t, 7, 1);
	for (const char *const *h = (const char *const[]){"operator", "done", "failed", "per s", "ms each", "queue ms",
							  "device ms", NULL};
	     *h; h++)
		table_add(&t, *h);
	cJSON_ArrayForEach(op, json_at(stats, "model_stats"))
	{
		double count = json_num(op, "inference_stats.success.count", 0);
		double ns = json_num(op, "inference_stats.success.ns", 0);

		table_add(&t, json_str(op, "name", "?"));
		add(&t, count, 0);
		add(&t, json_num(op, "inference_stats.fail.count", 0), 0);
		if (before->t > 0 && i < OPS_MAX)
			add(&t, (count - before->count[i]) / (s->t - before->t), 1);
		else
			table_add(&t, "-");
		add(&t, count > 0 ? ns / count / 1e6 : 0, 2);
		add(&t, count > 0 ? json_num(op, "inference_stats.queue.ns", 0) / count / 1e6 : 0, 2);
		add(&t, count > 0 ? json_num(op, "inference_stats.compute_infer.ns", 0) / count / 1e6 : 0, 2);
		if (i < OPS_MAX)
			s->count[i++] = count;
	}
	table_print(&t, stdout, 0);
	table_free(&t);
}

static int
view(struct ctl *c, struct sample *before)
{
	struct sample s = {.t = now()};
	char *info_text = NULL, *stats_text = NULL, a[24], b[24];
	struct cJSON *info, *stats;
	enum aiterd_status status = aiterd_get(c->server, "/v1/info", &info_text);

	if (status == AITERD_OK)
		status = aiterd_get(c->server, "/v2/models/stats", &stats_text);
	if (status != AITERD_OK) {
		free(info_text);
		return fail(c, status);
	}
	if (c->o.json) {
		printf("{\"info\":");
		print_bytes(stdout, info_text, strcspn(info_text, "\n"));
		printf(",\"stats\":");
		print_bytes(stdout, stats_text, strcspn(stats_text, "\n"));
		printf("}\n");
	} else {
		info = json_of(info_text);
		stats = json_of(stats_text);
		if (c->tty_out)
			printf("\033[H\033[2J");
		say(stdout, "%s %s at %s, up %.0f s: %.0f connections, %.0f requests under way%s",
		    json_str(info, "server.name", "?"), json_str(info, "server.version", "?"), aiterd_url(c->server),
		    json_num(info, "server.uptime_s", 0), json_num(info, "server.connections", 0),
		    json_num(info, "server.requests", 0),
		    cJSON_IsTrue(json_at(info, "server.draining")) ? ", shutting down" : "");
		printf("memory of requests: %s of %s\n\n",
		       show_bytes(json_num(info, "arena.borrowed", -1), a, sizeof(a)),
		       show_bytes(json_num(info, "arena.limit", -1), b, sizeof(b)));
		draw_devices(info, before, &s);
		printf("\n");
		draw_ops(stats, before, &s);
		cJSON_Delete(info);
		cJSON_Delete(stats);
	}
	*before = s;
	free(info_text);
	free(stats_text);
	return 0;
}

int
cmd_top(struct ctl *c)
{
	struct sample before = {.t = 0};
	struct timespec pause = {(time_t)c->o.interval_s,
				 (long)((c->o.interval_s - (double)(time_t)c->o.interval_s) * 1e9)};
	int rc = 0;

	if (c->o.n_args)
		return fail_usage("aiterctl top takes no argument");
	if (c->o.interval_s < 0.1)
		return fail_usage("--interval is 0.1 seconds at least");
	for (long i = 0; !rc && (!c->o.count || i < c->o.count); i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		rc = view(c, &before);
		if (fflush(stdout) || ferror(stdout))
			break;
		if (!c->o.json && !c->tty_out && (!c->o.count || i + 1 < c->o.count))
			printf("\n");
	}
	return rc;
}
