/*
 * test_worker.c: the real cpu worker, driven through supervisor and link: results against float64, timings, baseline,
 * memory figures, refusals, malformed messages.
 */
#include "worker_fixture.h"

#include <math.h>
#include <signal.h>

#include "ops/op.h"

static struct test_job jobs[32];

/* rmsnorm of an M x N fp32 matrix: inputs filled, outputs placed. */
static void
rmsnorm(struct fixture *f, struct mem *m, struct test_job *j, int64_t rows, int64_t cols)
{
	int64_t xs[2] = {rows, cols};
	struct op_call *c = &j->job.msg.call;
	const struct op *op = op_find("rmsnorm", 7, &c->op);
	struct err e = {0};

	(void)f;
	cr_assert(op);
	memset(j, 0, sizeof(*j));
	op_find("rmsnorm", 7, &c->op);
	j->job.done = fixture_done;
	j->job.cls = j;
	j->job.msg.iters = 1;
	cr_assert_eq(op_params_finish(op, c, &e), 0, "%s", e.msg);
	for (int i = 0; i < OP_TENSORS_MAX && op->tensors[i].name; i++) {
		struct tensor *t = &c->tensors[i];
		bool weight = strcmp(op->tensors[i].name, "weight") == 0;

		if (op->tensors[i].role != OP_IN || op->tensors[i].optional)
			continue;
		cr_assert_eq(tensor_describe(t, op->tensors[i].name, DT_FP32, weight ? 1 : 2, weight ? &xs[1] : xs, &e),
			     0);
		cr_assert_eq(mem_tensor(m, t, &e), 0, "%s", e.msg);
		for (int64_t k = 0; k < tensor_elements(t); k++)
			((float *)t->data)[k] = weight ? 1.0f + (float)(k % 7) / 8 : (float)(k * 37 % 101) / 16 - 3;
	}
	cr_assert_eq(op_bind(op, c, &e), 0, "%s", e.msg);
	for (int i = 0; i < OP_TENSORS_MAX && op->tensors[i].name; i++)
		if (op->tensors[i].role == OP_OUT && c->tensors[i].dtype != DT_NONE) {
			cr_assert_eq(mem_tensor(m, &c->tensors[i], &e), 0, "%s", e.msg);
			memset(c->tensors[i].data, 0xff, c->tensors[i].bytes);
		}
}

static const struct tensor *
tensor_of(const struct test_job *j, const char *name)
{
	const struct op *op = op_get(j->job.msg.call.op);

	return &j->job.msg.call.tensors[op_tensor_find(op, name, strlen(name))];
}

static const struct tensor *
output_of(const struct test_job *j)
{
	const struct op *op = op_get(j->job.msg.call.op);
	int i = 0;

	while (op->tensors[i].role != OP_OUT)
		i++;
	return &j->job.msg.call.tensors[i];
}

/* What a process has of memory that is not shared. */
static unsigned long long
anonymous_bytes(int pid)
{
	char path[40], line[200];
	unsigned long long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	cr_assert(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "RssAnon: %llu", &kib) != 1)
		continue;
	fclose(f);
	cr_assert_gt(kib, 0);
	return kib << 10;
}

/* Largest deviation from float64 sums made here. */
static double
deviation(const struct test_job *j, double eps)
{
	const struct op *op = op_get(j->job.msg.call.op);
	const struct tensor *x = &j->job.msg.call.tensors[0], *w = tensor_of(j, "weight"), *y = output_of(j);
	int64_t cols = w->shape[0], rows = tensor_elements(x) / cols;
	double worst = 0;

	cr_assert_eq(op->tensors[0].role, OP_IN);
	for (int64_t r = 0; r < rows; r++) {
		const float *xr = (const float *)x->data + r * cols, *yr = (const float *)y->data + r * cols;
		double sum = 0;

		for (int64_t i = 0; i < cols; i++)
			sum += (double)xr[i] * (double)xr[i];
		for (int64_t i = 0; i < cols; i++) {
			double want = (double)xr[i] / sqrt(sum / (double)cols + eps) *
				      (double)((const float *)w->data)[i];
			double d = fabs(want - (double)yr[i]);

			worst = d <= worst ? worst : d;
		}
	}
	return worst;
}

static void
run(struct fixture *f, struct test_job *j)
{
	link_submit(f->links[0], &j->job);
	link_flush(f->links[0]);
	fixture_until_done(f, j, 1);
}

Test(worker, hello_tells_the_truth)
{
	struct fixture f;
	struct device_state st;

	fixture_init(&f, false, NULL, 0, 60);
	fixture_until_state(&f, W_READY);
	st = fixture_state(&f);
	cr_assert_str_eq(st.info.kind, "cpu");
	cr_assert_gt(strlen(st.info.name), 3);
	cr_assert(strchr(st.info.arch, '+'));
	cr_assert_eq(st.info.compute_units, 2);
	cr_assert_gt(st.info.memory_total, st.info.memory_free);
	cr_assert_not(st.info.timing_meaningless);
	for (uint32_t i = 0; i < op_count(); i++) {
		cr_assert(st.info.impls[i] & 1u << IMPL_AUTO);
		cr_assert_not(st.info.impls[i] & 1u << IMPL_AITER);
		cr_assert_eq((st.info.impls[i] & 1u << IMPL_REFERENCE) != 0, op_get(i)->ref != NULL);
		cr_assert_eq((st.info.impls[i] & 1u << IMPL_NAIVE) != 0, op_get(i)->naive != NULL);
	}
	fixture_fini(&f);
}

Test(worker, results_and_figures)
{
	static const struct {
		enum impl impl;
		const char *name;
	} impls[] = {{IMPL_AUTO, "cpu:"}, {IMPL_OWN, "cpu:"}, {IMPL_REFERENCE, "reference"}, {IMPL_NAIVE, "cpu:naive"}};
	struct fixture f;
	struct mem m;

	fixture_init(&f, false, NULL, 0, 60);
	fixture_until_state(&f, W_READY);
	for (unsigned i = 0; i < sizeof(impls) / sizeof(impls[0]); i++) {
		struct test_job *j = &jobs[0];
		const struct msg_done *d = &j->done;
		const struct sample_stats *k = &d->kernel;

		mem_init(&m, f.pool, 0);
		rmsnorm(&f, &m, j, 33, 257);
		if (!(fixture_state(&f).info.impls[j->job.msg.call.op] >> impls[i].impl & 1)) {
			mem_fini(&m);
			continue;
		}
		j->job.msg.impl = impls[i].impl;
		j->job.msg.warmup = 3;
		j->job.msg.iters = 100;
		j->job.msg.flush = i == 0;
		run(&f, j);
		cr_assert_eq(d->err.code, ERR_NONE, "%s", d->err.msg);
		cr_assert_eq(strncmp(d->impl, impls[i].name, strlen(impls[i].name)), 0, "%s", d->impl);
		cr_assert_lt(deviation(j, 1e-6), 1e-4);
		cr_assert_eq(k->warmup, 3);
		cr_assert_eq(k->iters, 100);
		cr_assert(0 <= k->min && k->min <= k->median && k->median <= k->p95 && k->p95 <= k->max);
		cr_assert(k->min <= k->mean && k->mean <= k->max && k->stddev >= 0 && isfinite(k->stddev));
		cr_assert_eq(d->upload_ms, 0);
		cr_assert_eq(d->download_ms, 0);
		cr_assert_geq(d->wait_ms, 0);
		cr_assert_eq(d->memory.inputs, 33 * 257 * 4 + 257 * 4);
		cr_assert_eq(d->memory.outputs, 33 * 257 * 4);
		cr_assert_eq(d->memory.allocated_before, 0);
		cr_assert_eq(d->memory.peak, d->memory.inputs + d->memory.outputs + d->memory.workspace);
		cr_assert_gt(d->memory.device_total, 0);
		cr_assert_str_eq(d->baseline_impl, "");
		mem_fini(&m);
	}
	/* The buffer for clearing caches, at least 64 MiB, is not counted and did not stay. */
	mem_init(&m, f.pool, 0);
	rmsnorm(&f, &m, &jobs[0], 4, 4);
	run(&f, &jobs[0]);
	cr_assert_eq(jobs[0].done.memory.allocated_before, 0);
	cr_assert_eq(fixture_state(&f).allocated, 0);
	cr_assert_geq(fixture_state(&f).peak, jobs[0].done.memory.peak);
	cr_assert_lt(fixture_state(&f).peak, 16u << 20);
	cr_assert_lt(anonymous_bytes((int)fixture_state(&f).pid), 64u << 20);
	/* Nothing to do is done, too. */
	rmsnorm(&f, &m, &jobs[0], 0, 16);
	run(&f, &jobs[0]);
	cr_assert_eq(jobs[0].done.err.code, ERR_NONE, "%s", jobs[0].done.err.msg);
	mem_fini(&m);
	cr_assert_eq(fixture_state(&f).generation, 1);
	fixture_fini(&f);
}

Test(worker, baseline_and_refusals)
{
	struct fixture f;
	struct mem m;
	bool naive;

	fixture_init(&f, false, NULL, 0, 60);
	fixture_until_state(&f, W_READY);
	mem_init(&m, f.pool, 0);
	rmsnorm(&f, &m, &jobs[0], 64, 512);
	naive = op_get(jobs[0].job.msg.call.op)->naive != NULL;
	jobs[0].job.msg.baseline = IMPL_NAIVE;
	jobs[0].job.msg.iters = 5;
	run(&f, &jobs[0]);
	if (naive) {
		cr_assert_eq(jobs[0].done.err.code, ERR_NONE, "%s", jobs[0].done.err.msg);
		cr_assert_str_eq(jobs[0].done.baseline_impl, "cpu:naive");
		cr_assert_eq(jobs[0].done.baseline.iters, 5);
		cr_assert(jobs[0].done.baseline_max_abs_diff >= 0 && jobs[0].done.baseline_max_abs_diff < 1e-4);
		cr_assert_lt(deviation(&jobs[0], 1e-6), 1e-4, "the baseline overwrote the outputs");
		/* The same NaN on both sides is no difference. */
		rmsnorm(&f, &m, &jobs[0], 2, 16);
		((float *)jobs[0].job.msg.call.tensors[0].data)[3] = NAN;
		jobs[0].job.msg.baseline = IMPL_NAIVE;
		run(&f, &jobs[0]);
		cr_assert(jobs[0].done.baseline_max_abs_diff < 1e-4);
	} else {
		cr_assert_eq(jobs[0].done.err.code, ERR_UNAVAILABLE_IMPL);
	}
	rmsnorm(&f, &m, &jobs[0], 64, 512);
	jobs[0].job.msg.impl = IMPL_AITER;
	run(&f, &jobs[0]);
	cr_assert_eq(jobs[0].done.err.code, ERR_UNAVAILABLE_IMPL);
	cr_assert(strstr(jobs[0].done.err.msg, "aiter"), "%s", jobs[0].done.err.msg);
	/* Too many runs for the time: stops by itself, the worker lives. */
	rmsnorm(&f, &m, &jobs[0], 64, 512);
	jobs[0].job.msg.iters = 100000000;
	jobs[0].job.msg.deadline_ns = clock_ns() + 200000000;
	run(&f, &jobs[0]);
	cr_assert_eq(jobs[0].done.err.code, ERR_DEADLINE_EXCEEDED, "%s", jobs[0].done.err.msg);
	cr_assert_eq(fixture_state(&f).generation, 1);
	mem_fini(&m);
	fixture_fini(&f);
}

Test(worker, many_from_two_loops)
{
	struct fixture f;
	struct mem m;

	fixture_init(&f, false, NULL, 0, 60);
	mem_init(&m, f.pool, 0);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 32; i++) {
			rmsnorm(&f, &m, &jobs[i], 3 + i, 64);
			link_submit(f.links[i % 2], &jobs[i].job);
			link_flush(f.links[i % 2]);
		}
		if (round == 10)
			link_cancel(f.links[0], &jobs[30].job);
		if (round == 15) /* mid-way: what waited runs on the next one */
			kill(fixture_state(&f).pid, SIGKILL);
		fixture_until_done(&f, jobs, 32);
		for (int i = 0; i < 32; i++) {
			if (jobs[i].done.err.code == ERR_CLIENT_GONE || jobs[i].done.err.code == ERR_WORKER_CRASHED) {
				cr_assert(round == 10 || round == 15);
				continue;
			}
			cr_assert_eq(jobs[i].done.err.code, ERR_NONE, "%s", jobs[i].done.err.msg);
			cr_assert_lt(deviation(&jobs[i], 1e-6), 1e-4);
		}
		mem_fini(&m);
		if (round % 5 == 4) /* slabs come and go */
			arena_pool_trim(f.pool, 0);
	}
	fixture_fini(&f);
}

/* What a correct front never sends: the worker says so and leaves with status 1. */
Test(worker, cancels_what_runs)
{
	struct fixture f;
	struct mem m;

	fixture_init(&f, false, NULL, 0, 60);
	mem_init(&m, f.pool, 0);
	rmsnorm(&f, &m, &jobs[0], 512, 512);
	jobs[0].job.msg.iters = 100000000;
	link_submit(f.links[0], &jobs[0].job);
	/* Behind it another one, taken out while the first runs: its answer must not get mixed up with the first's. */
	rmsnorm(&f, &m, &jobs[1], 4, 64);
	link_submit(f.links[1], &jobs[1].job);
	link_flush(f.links[0]);
	link_flush(f.links[1]);
	while (fixture_state(&f).running_since_ns == 0)
		fixture_turn(&f);
	link_cancel(f.links[1], &jobs[1].job);
	fixture_until_done(&f, &jobs[1], 1);
	cr_assert_eq(jobs[1].done.err.code, ERR_CLIENT_GONE);
	cr_assert_eq(jobs[0].dones, 0);
	link_cancel(f.links[0], &jobs[0].job);
	fixture_until_done(&f, &jobs[0], 1);
	cr_assert_eq(jobs[0].done.err.code, ERR_CLIENT_GONE);
	cr_assert_eq(fixture_state(&f).restarts, 0, "no worker had to die for it");
	mem_fini(&m);
	fixture_fini(&f);
}

Test(worker, malformed_jobs, .timeout = 120)
{
	for (int c = 0; c < 12; c++) {
		struct fixture f;
		struct tensor *t;
		struct msg_job *job = &jobs[0].job.msg;
		struct mem m;

		fixture_init(&f, false, NULL, 0, 60);
		fixture_until_state(&f, W_READY);
		mem_init(&m, f.pool, 0);
		rmsnorm(&f, &m, &jobs[0], 4, 64);
		t = &job->call.tensors[0];
		switch (c) {
		case 0:
			job->call.op = op_count();
			break;
		case 1:
			job->call.op = UINT32_MAX;
			break;
		case 2:
			t->offset = (uint64_t)1 << 40;
			break;
		case 3:
			t->offset = UINT64_MAX - 63;
			break;
		case 4:
			t->rank = 9;
			break;
		case 5:
			t->dtype = DT_COUNT;
			break;
		case 6:
			t->shape[0] = -4;
			break;
		case 7:
			t->shape[0] = INT64_MAX;
			break;
		case 8:
			t->bytes = 1 << 30;
			break;
		case 9:
			t->dtype = DT_NONE;
			break;
		case 10:
			job->iters = 0;
			break;
		case 11:
			job->impl = IMPL_COUNT;
			break;
		}
		link_submit(f.links[0], &jobs[0].job);
		link_flush(f.links[0]);
		fixture_until_done(&f, jobs, 1);
		cr_assert_eq(jobs[0].done.err.code, ERR_WORKER_CRASHED, "case %d: %s", c, jobs[0].done.err.msg);
		cr_assert(strstr(jobs[0].done.err.msg, "status 1") && strstr(jobs[0].done.err.msg, "malformed"),
			  "case %d: %s", c, jobs[0].done.err.msg);
		mem_fini(&m);
		fixture_fini(&f);
	}
}

/* Whether a process that is not our child still runs (a zombie does not). */
static bool
is_alive(int pid)
{
	char path[64], line[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		*line = '\0';
	fclose(f);
	return *line && !strstr(line, ") Z ") && !strstr(line, ") X ");
}

/* When the front is killed, its worker goes, busy or not. */
Test(worker, leaves_with_the_front)
{
	for (int busy = 0; busy < 2; busy++) {
		struct fixture *f = calloc(1, sizeof(*f));
		char path[128];
		int p[2], pid = 0;
		pid_t front;

		cr_assert_eq(pipe(p), 0);
		front = fork();
		if (front == 0) {
			struct mem m;

			fixture_init(f, false, NULL, 0, 60);
			fixture_until_state(f, W_READY);
			mem_init(&m, f->pool, 0);
			rmsnorm(f, &m, &jobs[0], 512, 512);
			jobs[0].job.msg.iters = 100000000;
			if (busy) {
				link_submit(f->links[0], &jobs[0].job);
				link_flush(f->links[0]);
			}
			while (busy && fixture_state(f).running_since_ns == 0)
				fixture_turn(f);
			pid = fixture_state(f).pid;
			if (write(p[1], &pid, sizeof(pid)) != sizeof(pid) || write(p[1], f->dir, sizeof(f->dir)) < 0)
				_exit(1);
			for (;;)
				pause();
		}
		cr_assert_eq(read(p[0], &pid, sizeof(pid)), (ssize_t)sizeof(pid));
		cr_assert_eq(read(p[0], f->dir, sizeof(f->dir)), (ssize_t)sizeof(f->dir));
		cr_assert(is_alive(pid));
		kill(front, SIGKILL);
		waitpid(front, NULL, 0);
		for (int i = 0; i < 6000 && is_alive(pid); i++)
			usleep(10000);
		cr_assert_not(is_alive(pid));
		snprintf(path, sizeof(path), "%s/aiterd-worker-cpu", f->dir);
		unlink(path);
		rmdir(f->dir);
		free(f);
		close(p[0]);
		close(p[1]);
	}
}
