/*
 * test_supervisor.c: workers that crash, hang, lie, babble, refuse or never come, with real processes. Whatever they
 * do: jobs end once and with the right error, queued ones survive, and no process, descriptor or memory is left.
 */
#include "worker_fixture.h"

#include <pthread.h>
#include <signal.h>

static struct test_job jobs[64];

static void
await_ok(struct fixture *f)
{
	static struct test_job j;

	fixture_submit(f, 0, &j, FAKE_OK, 0, NULL, 0);
	fixture_until_done(f, &j, 1);
	cr_assert_eq(j.done.err.code, ERR_NONE, "%s", j.done.err.msg);
	cr_assert_str_eq(j.done.impl, "fake");
}

Test(supervisor, states_have_names)
{
	for (int i = W_OFF; i <= W_LOST; i++)
		cr_assert_gt(strlen(worker_state_name((enum worker_state)i)), 2);
}

Test(supervisor, device_lists)
{
	static const struct {
		const char *list, *ids; /* NULL: refused */
	} cases[] = {
		{"cpu", "cpu:0 "},
		{NULL, "cpu:0 "},
		{"", "cpu:0 "},
		{"cpu:0,cpu", "cpu:0 "},
		{"hip:0,hip:1", "hip:0 hip:1 cpu:0 "},
		{"hip , cuda:12,cpu", "hip:0 cuda:12 cpu:0 "},
		{"hip:", NULL},
		{"hip:x", NULL},
		{"hip:-1", NULL},
		{"hip:256", NULL},
		{"../hip", NULL},
		{"HIP", NULL},
		{"averyveryverylongname", NULL},
		{":0", NULL},
		{"hip:0000000001", NULL},
		{"hip:0,hip:1,hip:2,hip:3,hip:4,hip:5,hip:6,hip:7,hip:8,hip:9,cuda:0,cuda:1,cuda:2,cuda:3,emulated,cpu,cpu:1",
		 NULL},
		{"hip:0,hip:1,hip:2,hip:3,hip:4,hip:5,hip:6,hip:7,hip:8,hip:9,cuda:0,cuda:1,cuda:2,cuda:3,emulated,cuda:4",
		 NULL},
	};
	int before = fixture_fds();

	log_setup("test", LOG_ERROR_, 0);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct supervisor_config c = {.devices = cases[i].list, .loops = 1, .worker_dir = "/nowhere"};
		struct err e = {0};
		struct supervisor *s = supervisor_new(&c, &e);
		char ids[256] = "";

		if (!cases[i].ids) {
			cr_assert_null(s, "%s", cases[i].list);
			cr_assert_eq(e.code, ERR_INVALID_PARAMETER);
			cr_assert(strstr(e.msg, "--device: found "), "%s", e.msg);
			/* What supervisor_check cannot see is how many there may be. */
			cr_assert_eq(supervisor_check(cases[i].list, &e), strchr(cases[i].list, ',') ? 0 : -1);
			continue;
		}
		cr_assert_eq(supervisor_check(cases[i].list, &e), 0);
		cr_assert(s, "%s", e.msg);
		for (unsigned d = 0; d < supervisor_devices(s); d++) {
			struct device_state st;

			supervisor_device(s, d, &st);
			cr_assert_eq(st.state, W_FAILED);
			cr_assert(strstr(st.obituary.msg, "/nowhere"), "%s", st.obituary.msg);
			strcat(strcat(ids, st.id), " ");
		}
		cr_assert_str_eq(ids, cases[i].ids);
		supervisor_free(&s);
	}
	cr_assert_eq(fixture_fds(), before);
}

/* What is written as a device but of no kind, and what is not: both name the kinds there are. */
Test(supervisor, device_kinds)
{
	static const struct {
		const char *list, *words;
	} cases[] = {
		{"gpu", "unknown device kind gpu; there are cpu, hip:N, cuda:N, emulated"},
		{"cpu,rocm:1", "unknown device kind rocm; there are cpu, hip:N, cuda:N, emulated"},
		{"mi300", "unknown device kind mi300; there are"},
		{"hi", "unknown device kind hi; there are"},
		{"hip0", "unknown device kind hip0; there are"},
		{"GPU", "found 'GPU', wanted one or more of cpu, hip:N, cuda:N, emulated"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e = {0};

		cr_assert_eq(supervisor_check(cases[i].list, &e), -1, "%s", cases[i].list);
		cr_assert_eq(e.code, ERR_INVALID_PARAMETER);
		cr_assert_str_eq(e.param, "--device");
		cr_assert(strstr(e.msg, cases[i].words), "%s", e.msg);
	}
}

Test(supervisor, ready_and_gone_again)
{
	struct fixture f;
	struct device_state st;

	fixture_init(&f, true, NULL, 0, 60);
	fixture_until_state(&f, W_READY);
	st = fixture_state(&f);
	cr_assert_str_eq(st.id, "cpu:0");
	cr_assert_str_eq(st.info.name, "fake");
	cr_assert_eq(st.generation, 1);
	cr_assert_eq(st.obituary.code, ERR_NONE);
	cr_assert_gt(st.pid, 0);
	cr_assert_eq(f.ups, FIXTURE_LOOPS);
	await_ok(&f);
	cr_assert_eq(fixture_state(&f).finished, 1);
	fixture_fini(&f);
}

/* Misdeeds of a running job: it fails with the last words, the others run on the next worker, once. */
Test(supervisor, misdeeds, .timeout = 120)
{
	static const struct {
		enum fake_order order;
		int64_t arg;
		const char *words;
	} cases[] = {
		{FAKE_ABORT, 0, "about to abort"},  {FAKE_SEGV, 0, "signal 11"},
		{FAKE_EXIT, 3, "status 3"},	    {FAKE_EXIT, 0, "status 0"},
		{FAKE_SHORT, 0, "no answer"},	    {FAKE_TYPE, 0, "no answer"},
		{FAKE_CODE, 0, "no answer"},	    {FAKE_CONTROL, 0, "sent the supervisor something"},
		{FAKE_CLOSE, 0, "without leaving"}, {FAKE_BABBLE, 20000, "line 19999 of much ?? talk"},
	};

	for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct fixture f;
		struct tensor count[21];
		struct mem m;

		fixture_init(&f, true, NULL, 0, 60);
		mem_init(&m, f.pool, 0);
		fixture_until_state(&f, W_READY);
		await_ok(&f);
		for (int i = 0; i < 21; i++)
			fixture_counter(&f, &m, &count[i]);
		/* 10 on either loop behind the bad one: more than the worker is given at a time. */
		fixture_submit(&f, 0, &jobs[0], cases[c].order, cases[c].arg, &count[0], 60000);
		for (int i = 1; i < 21; i++)
			fixture_submit(&f, i % 2, &jobs[i], FAKE_OK, 0, &count[i], 60000);
		fixture_until_done(&f, jobs, 21);
		cr_assert_eq(jobs[0].done.err.code, ERR_WORKER_CRASHED, "case %u: %s", c, jobs[0].done.err.msg);
		cr_assert(strstr(jobs[0].done.err.msg, cases[c].words), "case %u: %s", c, jobs[0].done.err.msg);
		for (int i = 0; i < 21; i++) {
			cr_assert_eq(jobs[i].dones, 1, "case %u, job %d", c, i);
			cr_assert_eq(*(uint32_t *)count[i].data, 1, "case %u, job %d ran %u times", c, i,
				     *(uint32_t *)count[i].data);
			if (i > 0)
				cr_assert_eq(jobs[i].done.err.code, ERR_NONE, "case %u, job %d: %s", c, i,
					     jobs[i].done.err.msg);
		}
		cr_assert_eq(fixture_state(&f).generation, 2);
		cr_assert_eq(fixture_state(&f).restarts, 1);
		cr_assert_eq(f.gones, FIXTURE_LOOPS);
		mem_fini(&m);
		fixture_fini(&f);
	}
}

/* Lies about finished work: the liar goes; what had been answered stays answered. */
Test(supervisor, lies)
{
	static const enum fake_order orders[] = {FAKE_TWICE, FAKE_WRONG_ID, FAKE_ANSWER_EXIT, FAKE_EXIT_IDLE};

	for (unsigned c = 0; c < sizeof(orders) / sizeof(orders[0]); c++) {
		struct fixture f;

		fixture_init(&f, true, NULL, 0, 60);
		fixture_until_state(&f, W_READY);
		fixture_submit(&f, 0, &jobs[0], orders[c], 1, NULL, 60000);
		if (orders[c] == FAKE_TWICE || orders[c] == FAKE_ANSWER_EXIT) {
			fixture_until_done(&f, jobs, 1);
			cr_assert_eq(jobs[0].done.err.code, ERR_NONE);
			while (fixture_state(&f).generation == 1 || fixture_state(&f).state != W_READY)
				fixture_turn(&f);
			await_ok(&f);
		} else if (orders[c] == FAKE_WRONG_ID) {
			/* By then the status page may or may not have been cleared: it fails with this worker or the next. */
			fixture_until_done(&f, jobs, 1);
			cr_assert_eq(jobs[0].done.err.code, ERR_WORKER_CRASHED, "%s", jobs[0].done.err.msg);
			cr_assert_leq(fixture_state(&f).generation, 2);
		} else {
			/* It did not run: it comes to a second worker, and not to a third. */
			fixture_until_done(&f, jobs, 1);
			cr_assert_eq(jobs[0].done.err.code, ERR_WORKER_CRASHED, "%s", jobs[0].done.err.msg);
			cr_assert(strstr(jobs[0].done.err.msg, "twice"), "%s", jobs[0].done.err.msg);
			cr_assert_eq(fixture_state(&f).generation, 2);
		}
		if (jobs[0].done.err.code != ERR_NONE) {
			fixture_until_state(&f, W_READY);
			await_ok(&f);
		}
		cr_assert_eq(jobs[0].dones, 1);
		cr_assert_neq(fixture_state(&f).obituary.code, ERR_NONE);
		fixture_fini(&f);
	}
}

Test(supervisor, deadlines)
{
	struct fixture f;
	struct arena_stats s;
	struct tensor count[4];
	struct mem m;

	fixture_init(&f, true, NULL, 0, 60);
	mem_init(&m, f.pool, 0);
	for (int i = 0; i < 4; i++)
		fixture_counter(&f, &m, &count[i]);
	fixture_until_state(&f, W_READY);
	/* A hang past its deadline is ended; one behind it whose time was up too never ran; one with time left does. */
	fixture_submit(&f, 0, &jobs[0], FAKE_HANG, 0, &count[0], 200);
	fixture_submit(&f, 0, &jobs[1], FAKE_OK, 0, &count[1], 100);
	fixture_submit(&f, 1, &jobs[2], FAKE_OK, 0, &count[2], 100);
	fixture_submit(&f, 1, &jobs[3], FAKE_OK, 0, &count[3], 60000);
	fixture_until_done(&f, jobs, 4);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(jobs[i].done.err.code, ERR_DEADLINE_EXCEEDED, "%d: %s", i, jobs[i].done.err.msg);
		cr_assert_str_eq(jobs[i].done.err.param, "timeout_ms");
		cr_assert_eq(*(uint32_t *)count[i].data, i == 0);
	}
	cr_assert_eq(jobs[3].done.err.code, ERR_NONE);
	cr_assert_eq(*(uint32_t *)count[3].data, 1);
	cr_assert_eq(fixture_state(&f).obituary.code, ERR_DEADLINE_EXCEEDED);
	/* While no worker is there, jobs wait, and time out. */
	fixture_orders(&f, "silent");
	fixture_submit(&f, 0, &jobs[0], FAKE_ABORT, 0, NULL, 60000);
	fixture_until_done(&f, jobs, 1);
	fixture_submit(&f, 0, &jobs[0], FAKE_OK, 0, &count[0], 50);
	fixture_until_done(&f, jobs, 1);
	cr_assert_eq(jobs[0].done.err.code, ERR_DEADLINE_EXCEEDED);
	mem_fini(&m);
	arena_pool_stats(f.pool, &s);
	cr_assert_eq(s.quarantined, 0);
	fixture_fini(&f);
}

Test(supervisor, cancel)
{
	struct fixture f;
	struct tensor count[12];
	struct mem m;

	fixture_init(&f, true, NULL, 0, 60);
	mem_init(&m, f.pool, 0);
	fixture_until_state(&f, W_READY);
	for (int i = 0; i < 12; i++) {
		fixture_counter(&f, &m, &count[i]);
		fixture_submit(&f, 0, &jobs[i], i == 0 ? FAKE_SLEEP : FAKE_OK, 300, &count[i], 0);
	}
	while (*(volatile uint32_t *)count[0].data == 0)
		fixture_turn(&f);
	/* The running one, one that the worker has, one that waits here. */
	link_cancel(f.links[0], &jobs[0].job);
	link_cancel(f.links[0], &jobs[5].job);
	link_cancel(f.links[0], &jobs[11].job);
	cr_assert_eq(jobs[11].dones, 0, "done was called inside link_cancel");
	fixture_until_done(&f, jobs, 12);
	cr_assert_eq(link_queued(f.links[0]), 0);
	for (int i = 0; i < 12; i++) {
		bool cancelled = i == 0 || i == 5 || i == 11;

		cr_assert_eq(jobs[i].dones, 1);
		cr_assert_eq(jobs[i].done.err.code, cancelled ? ERR_CLIENT_GONE : ERR_NONE, "%d: %s", i,
			     jobs[i].done.err.msg);
		cr_assert_eq(*(uint32_t *)count[i].data, i == 0 || !cancelled);
	}
	cr_assert_eq(fixture_state(&f).generation, 1);
	mem_fini(&m);
	fixture_fini(&f);
}

Test(supervisor, stopped_and_lost_jobs, .timeout = 120)
{
	struct fixture f;

	/* Stopped while idle, as by a debugger or a hang outside of any job: pings find out. */
	fixture_init(&f, true, NULL, 1, 60);
	fixture_until_state(&f, W_READY);
	kill(fixture_state(&f).pid, SIGSTOP);
	fixture_submit(&f, 0, &jobs[0], FAKE_OK, 0, NULL, 60000);
	fixture_until_done(&f, jobs, 1);
	cr_assert_eq(jobs[0].done.err.code, ERR_NONE, "%s", jobs[0].done.err.msg);
	cr_assert_eq(fixture_state(&f).generation, 2);
	cr_assert(strstr(fixture_state(&f).obituary.msg, "does not answer"), "%s", fixture_state(&f).obituary.msg);
	/* Pings do not disturb one that is well, or busy for long. */
	fixture_submit(&f, 0, &jobs[0], FAKE_SLEEP, 3500, NULL, 60000);
	fixture_until_done(&f, jobs, 1);
	for (uint64_t until = clock_ns() + 2500000000u; clock_ns() < until;)
		fixture_turn(&f);
	cr_assert_eq(jobs[0].done.err.code, ERR_NONE);
	cr_assert_eq(fixture_state(&f).generation, 2);
	fixture_fini(&f);
	/* A job that is never answered: after its time, and a while, the worker goes. */
	fixture_init(&f, true, NULL, 0, 60);
	fixture_submit(&f, 0, &jobs[0], FAKE_LOSE, 0, NULL, 1000);
	fixture_until_done(&f, jobs, 1);
	cr_assert_eq(jobs[0].done.err.code, ERR_DEADLINE_EXCEEDED, "%s", jobs[0].done.err.msg);
	cr_assert_eq(fixture_state(&f).generation, 1);
	cr_assert(strstr(fixture_state(&f).obituary.msg, "lost a job"), "%s", fixture_state(&f).obituary.msg);
	fixture_fini(&f);
}

Test(supervisor, death_while_idle)
{
	struct fixture f;
	int pid;

	fixture_init(&f, true, NULL, 0, 60);
	for (unsigned i = 1; i <= 3; i++) {
		while (fixture_state(&f).generation != i || fixture_state(&f).state != W_READY)
			fixture_turn(&f);
		pid = fixture_state(&f).pid;
		kill(pid, i == 2 ? SIGABRT : SIGKILL);
		while (f.gones < i * FIXTURE_LOOPS)
			fixture_turn(&f);
		cr_assert_eq(f.running_loop, 0);
		cr_assert_eq(fixture_state(&f).obituary.code, ERR_WORKER_CRASHED);
		cr_assert(strstr(fixture_state(&f).obituary.msg, i == 2 ? "signal 6" : "signal 9"), "%s",
			  fixture_state(&f).obituary.msg);
	}
	await_ok(&f);
	fixture_fini(&f);
}

/* By whom it was killed, when, and only then why that may have been. */
Test(supervisor, killed_in_a_job)
{
	struct fixture f;

	fixture_init(&f, true, NULL, 0, 60);
	fixture_until_state(&f, W_READY);
	fixture_submit(&f, 0, &jobs[0], FAKE_HANG, 0, NULL, 60000);
	while (fixture_state(&f).running_since_ns == 0)
		fixture_turn(&f);
	kill(fixture_state(&f).pid, SIGKILL);
	fixture_until_done(&f, jobs, 1);
	cr_assert_eq(jobs[0].done.err.code, ERR_WORKER_CRASHED);
	cr_assert(strstr(jobs[0].done.err.msg, " while running a job, perhaps because memory ran out"), "%s",
		  jobs[0].done.err.msg);
	fixture_fini(&f);
}

Test(supervisor, bad_starts)
{
	static const struct {
		const char *word, *words;
		enum worker_state state;
	} cases[] = {
		{"exit2", "no such device", W_FAILED},
		{"missing", "there is no executable aiterd-worker-cpu in /tmp/", W_FAILED},
		{"build", "another build", W_FAILED},
		{"kind", "says it is a 'hip' device", W_FAILED},
		{"die", "signal 6", W_DEAD},
		{"silent", "did not get ready in time", W_DEAD},
	};

	for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct fixture f;

		fixture_init(&f, true, cases[c].word, 0, 1);
		fixture_submit(&f, 0, &jobs[0], FAKE_OK, 0, NULL, 60000);
		fixture_until_state(&f, cases[c].state);
		while (fixture_state(&f).obituary.code == ERR_NONE)
			fixture_turn(&f);
		cr_assert(strstr(fixture_state(&f).obituary.msg, cases[c].words), "%s: %s", cases[c].word,
			  fixture_state(&f).obituary.msg);
		if (cases[c].state == W_FAILED) {
			/* Nobody waits for what will not come; nothing is tried again. */
			fixture_until_done(&f, jobs, 1);
			cr_assert_eq(jobs[0].done.err.code, ERR_DEVICE_UNAVAILABLE, "%s", jobs[0].done.err.msg);
			fixture_submit(&f, 1, &jobs[1], FAKE_OK, 0, NULL, 60000);
			fixture_until_done(&f, &jobs[1], 1);
			cr_assert_eq(jobs[1].done.err.code, ERR_DEVICE_UNAVAILABLE);
			for (int i = 0; i < 100; i++)
				fixture_turn(&f);
			cr_assert_eq(fixture_state(&f).generation, 1);
			cr_assert_eq(fixture_state(&f).state, W_FAILED);
		} else {
			/* It is tried again, ever more slowly, and the job waits until it works. */
			while (fixture_state(&f).generation < (strcmp(cases[c].word, "die") == 0 ? 3 : 2))
				fixture_turn(&f);
			fixture_orders(&f, NULL);
			fixture_until_done(&f, jobs, 1);
			cr_assert_eq(jobs[0].done.err.code, ERR_NONE, "%s", jobs[0].done.err.msg);
		}
		fixture_fini(&f);
	}
}

Test(supervisor, babble_at_start_is_no_obstacle)
{
	struct fixture f;

	fixture_init(&f, true, "babble", 0, 60);
	await_ok(&f);
	fixture_fini(&f);
}

/* A worker that survives SIGKILL, as one stuck in a driver does: the device is lost, its memory is kept back. */
Test(supervisor, lost, .timeout = 120)
{
	struct fixture f;
	struct arena_stats s;
	struct tensor t, u;
	struct mem m;
	int tracer;

	fixture_init(&f, true, NULL, 0, 60);
	fixture_until_state(&f, W_READY);
	mem_init(&m, f.pool, 0);
	fixture_counter(&f, &m, &t);
	fixture_submit(&f, 0, &jobs[0], FAKE_UNREAPABLE, 0, &t, 500);
	fixture_submit(&f, 1, &jobs[1], FAKE_OK, 0, NULL, 0);
	while (*(volatile uint32_t *)t.data == 0 && jobs[0].dones == 0)
		fixture_turn(&f);
	tracer = (int)*(uint32_t *)t.data;
	if (tracer <= 0) {
		fixture_until_done(&f, jobs, 1);
		mem_fini(&m);
		fixture_fini(&f);
		cr_skip_test("ptrace is not allowed here");
	}
	fixture_until_done(&f, jobs, 2);
	cr_assert_eq(jobs[0].done.err.code, ERR_DEADLINE_EXCEEDED, "%s", jobs[0].done.err.msg);
	cr_assert_eq(jobs[1].done.err.code, ERR_DEVICE_UNAVAILABLE, "%s", jobs[1].done.err.msg);
	cr_assert_eq(fixture_state(&f).state, W_LOST);
	cr_assert_eq(fixture_state(&f).generation, 1);
	/* The request is over, its memory is not for others. */
	mem_fini(&m);
	arena_pool_stats(f.pool, &s);
	cr_assert_gt(s.quarantined, 0);
	mem_init(&m, f.pool, 0);
	fixture_counter(&f, &m, &u);
	cr_assert_neq(u.slab, t.slab);
	for (int i = 0; i < 50; i++)
		fixture_turn(&f);
	cr_assert_eq(fixture_state(&f).generation, 1, "a second worker was started on a lost device");
	/* At last it goes. */
	kill(tracer, SIGKILL);
	fixture_until_state(&f, W_READY);
	cr_assert_eq(fixture_state(&f).generation, 2);
	arena_pool_stats(f.pool, &s);
	cr_assert_eq(s.quarantined, 0);
	await_ok(&f);
	cr_assert_eq(jobs[0].dones, 1);
	mem_fini(&m);
	fixture_fini(&f);
}

static void *
killer(void *arg)
{
	struct fixture *f = arg;
	struct err why = {.code = ERR_WORKER_CRASHED};

	for (int i = 0; i < 300; i++) {
		struct device_state st;

		supervisor_device(f->sup, 0, &st);
		if (st.state == W_READY && i % 10 == 0)
			supervisor_kill(f->sup, 0, st.generation, &why);
		supervisor_kill(f->sup, 0, st.generation - 1, &why);
		usleep(3000);
	}
	return NULL;
}

Test(supervisor, kills_from_other_threads, .timeout = 120)
{
	struct fixture f;
	struct tensor count;
	struct mem m;
	pthread_t th;
	unsigned ran = 0, n = 0;

	fixture_init(&f, true, NULL, 0, 60);
	mem_init(&m, f.pool, 0);
	fixture_counter(&f, &m, &count);
	pthread_create(&th, NULL, killer, &f);
	for (uint64_t until = clock_ns() + 1500000000u; clock_ns() < until; n++) {
		fixture_submit(&f, (int)(n % 2), &jobs[0], FAKE_OK, 0, &count, 60000);
		fixture_until_done(&f, jobs, 1);
		ran += jobs[0].done.err.code == ERR_NONE;
		cr_assert_eq(jobs[0].dones, 1);
	}
	pthread_join(th, NULL);
	cr_assert_gt(ran, 0);
	cr_assert_geq(*(uint32_t *)count.data, ran);
	cr_assert_leq(*(uint32_t *)count.data, n, "a job ran twice");
	await_ok(&f);
	mem_fini(&m);
	fixture_fini(&f);
}
