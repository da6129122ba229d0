/*
 * main.c: aiterd, the front. Reads like a table of contents: options, memory, workers, loops, serve, drain. The main
 * thread is the workers' supervisor; connections live on the loops' threads (front/loop.c).
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "clock.h"
#include "front/conn.h"
#include "front/helpers.h"
#include "front/jobs.h"
#include "front/listen.h"
#include "front/loop.h"
#include "front/peers.h"
#include "front/request.h"
#include "front/spawn.h"
#include "front/store.h"
#include "log.h"
#include "options.h"

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

static struct service service;
static volatile sig_atomic_t terms;

static void
on_term(int sig)
{
	int saved = errno;

	(void)sig;
	terms++;
	supervisor_wake(service.sup);
	errno = saved;
}

static void
notify(const char *state)
{
#ifdef HAVE_SYSTEMD
	sd_notify(0, state);
#else
	(void)state;
#endif
}

bool
service_ready(struct service *svc)
{
	struct device_state d;
	unsigned i;

	if (atomic_load(&svc->draining))
		return false;
	for (i = 0; i < supervisor_devices(svc->sup); i++) {
		supervisor_device(svc->sup, i, &d);
		if (d.state == W_READY)
			return true;
	}
	return false;
}

static int
cores(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

static int
setup_log(const struct options *o, struct err *e)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	int i;

	for (i = 0; i < 4 && strcmp(o->log_level, names[i]) != 0; i++)
		;
	if (i == 4)
		return err_param(e, ERR_INVALID_PARAMETER, "--log-level", o->log_level, "error, warn, info or debug",
				 "--log-level: found '%.100s', wanted error, warn, info or debug", o->log_level);
	if (strcmp(o->log_format, "text") != 0 && strcmp(o->log_format, "json") != 0)
		return err_param(e, ERR_INVALID_PARAMETER, "--log-format", o->log_format, "text or json",
				 "--log-format: found '%.100s', wanted text or json", o->log_format);
	log_setup("aiterd", (enum log_level)i, strcmp(o->log_format, "json") == 0);
	return 0;
}

static void
setup_signals(void)
{
	struct sigaction sa = {.sa_handler = on_term};

	sigemptyset(&sa.sa_mask);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void
start(struct service *svc, const struct options *o)
{
	struct err e = {0};
	uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	struct supervisor_config sc = {.devices = o->device,
				       .worker_dir = o->worker_dir[0] != '\0' ? o->worker_dir : NULL,
				       .aiter_dir = svc->aiter_dir[0] != '\0' ? svc->aiter_dir : NULL,
				       .cpu_threads = (int)o->threads,
				       .start_timeout_s = 60,
				       .ping_s = 10};
	uint64_t arena = o->arena > 0 ? o->arena : ram / 2;
	struct store_config tensors = {.quota = o->tensors_quota > 0 ? o->tensors_quota : arena / 4,
				       .ttl_ns = (uint64_t)(o->tensors_ttl * 1e9),
				       .now = clock_ns};
	int i;

	if (arena > ram)
		fatal("--arena: found %llu bytes, wanted at most this machine's %llu", (unsigned long long)arena,
		      (unsigned long long)ram);
	if (tensors.quota > arena)
		fatal("--tensors-quota: found %llu bytes, wanted at most the %llu of --arena, of which it is a part",
		      (unsigned long long)tensors.quota, (unsigned long long)arena);
	if (o->prefault > arena)
		log_warn("--prefault is more than --arena: %llu bytes are made at start", (unsigned long long)arena);
	svc->opt = o;
	svc->started_ns = clock_ns();
	svc->n_loops = o->loops > 0 ? (int)o->loops : cores() < 8 ? cores() : 8;
	if (conn_setup(svc, &e) == -1 || (svc->pool = arena_pool_new(arena, o->prefault, &e)) == NULL ||
	    (svc->helpers = helpers_new(svc->n_loops, &e)) == NULL || (svc->jobs = request_jobs_new(svc, &e)) == NULL)
		fatal("%s", e.msg);
	tensors.pool = svc->pool;
	if ((svc->store = store_new(&tensors)) == NULL)
		fatal("no memory for kept tensors");
	for (i = 0; i < svc->n_loops; i++)
		if ((svc->loops[i] = loop_new(svc, i, &e)) == NULL)
			fatal("%s", e.msg);
	sc.loops = svc->n_loops;
	sc.pool = svc->pool;
	sc.events.cls = svc;
	sc.events.up = loop_link_up;
	sc.events.gone = loop_link_gone;
	if ((svc->sup = supervisor_new(&sc, &e)) == NULL)
		fatal("%s", e.msg);
}

/* Until a worker is up and every device has shown whether it starts; -1: one never will, or none does. */
static int
wait_for_devices(struct service *svc)
{
	struct device_state d = {.id = ""};
	unsigned i, n = supervisor_devices(svc->sup), lost = 0, starting;

	while (terms == 0 && lost < n) {
		for (i = lost = starting = 0; i < n; i++) {
			supervisor_device(svc->sup, i, &d);
			if (d.state == W_FAILED) {
				log_error("the device %s cannot be started: %s", d.id, d.obituary.msg);
				return -1;
			}
			lost += d.state == W_LOST;
			starting += d.state == W_STARTING;
		}
		if (starting == 0 && service_ready(svc))
			return 0;
		supervisor_run(svc->sup, 1000);
	}
	if (terms > 0)
		return 0;
	log_error("no device could be started; %s: %s", d.id, d.obituary.msg);
	return -1;
}

/* What runs finishes; a second signal or the time limit ends it. Returns the exit status. */
static int
drain(struct service *svc)
{
	uint64_t until = clock_ns() + (uint64_t)(svc->opt->drain_timeout * 1e9);

	notify("STOPPING=1");
	atomic_store(&svc->draining, true);
	log_info("draining: %u requests are being worked on", atomic_load(&svc->requests));
	while (atomic_load(&svc->requests) > 0) {
		if (terms > 1 || clock_ns() >= until) {
			log_warn("leaving with %u requests unfinished", atomic_load(&svc->requests));
			return 1;
		}
		supervisor_run(svc->sup, 20);
	}
	return 0;
}

static void
serve(struct service *svc)
{
	uint64_t next_trim = 0, now;

	while (terms == 0) {
		supervisor_run(svc->sup, 1000);
		if ((now = clock_ns()) >= next_trim) {
			store_sweep(svc->store);
			arena_pool_trim(svc->pool, (unsigned)svc->opt->arena_idle);
			jobs_expire(svc->jobs, now);
			next_trim = now + 1000000000u;
		}
	}
}

static void
finish(struct service *svc)
{
	int i;

	/* One more signal must not wake a supervisor that is gone. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	for (i = 0; i < svc->n_loops; i++)
		loop_stop(svc->loops[i]);
	for (i = 0; i < svc->n_loops; i++)
		loop_join(svc->loops[i]);
	listen_close(svc);
	supervisor_free(&svc->sup);
	for (i = 0; i < svc->n_loops; i++)
		loop_close(svc->loops[i]);
	jobs_free(&svc->jobs);
	for (i = 0; i < svc->n_loops; i++)
		loop_free(&svc->loops[i]);
	helpers_free(&svc->helpers);
	store_free(&svc->store);
	peers_free(&svc->peers);
	arena_pool_free(&svc->pool);
}

int
main(int argc, char **argv)
{
	static struct options opt; /* loops may still run while the process exits */
	struct text lines;
	struct err e = {0};
	enum options_verdict verdict = options_parse(&opt, argc, argv, &e);
	int i, status;

	if (verdict == OPTIONS_EXIT)
		return 0;
	if (verdict == OPTIONS_BAD || setup_log(&opt, &e) == -1 || listen_check(opt.listen, &e) == -1 ||
	    supervisor_check(opt.device, &e) == -1 ||
	    spawn_aiter_dir(opt.aiter_dir, service.aiter_dir, sizeof(service.aiter_dir), &e) == -1) {
		fprintf(stderr, "aiterd: %s\nTry aiterd --help.\n", e.msg);
		return 2;
	}
	start(&service, &opt);
	setup_signals();
	text_init(&lines, 64 * 1024);
	if (listen_open(&service, &lines, &e) == -1)
		fatal("%s", e.msg);
	for (i = 0; i < service.n_loops; i++)
		if (loop_start(service.loops[i], &e) == -1)
			fatal("%s", e.msg);
	if (wait_for_devices(&service) == -1) {
		listen_close(&service); /* clients may have come already: what they asked for ends with the process */
		text_fini(&lines);
		return 1;
	}
	if (terms == 0) { /* not ended while it waited */
		fputs(lines.p, stdout);
		fflush(stdout);
		notify("READY=1");
	}
	text_fini(&lines);
	serve(&service);
	status = drain(&service);
	if (status == 0)
		finish(&service);
	else
		listen_close(&service);
	log_info("bye");
	return status;
}
