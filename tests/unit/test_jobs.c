/*
 * test_jobs.c: the table of jobs: ids, states, limits of number, time and bytes, cancelling, and that each work is freed
 * exactly once, when nobody has it any more. Works are small integers here, dressed as pointers.
 */
#include <criterion/criterion.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "front/jobs.h"

#define WORKS 4096

static int freed[WORKS];
static char works[WORKS];
static struct job_look look_says;
static struct job_place look_at;
static struct loop loop;
static int cancels;

static struct request *
work(int i)
{
	return (struct request *)(void *)&works[i];
}

static void
free_work(struct request *w)
{
	__atomic_fetch_add(&freed[(char *)(void *)w - works], 1, __ATOMIC_RELAXED);
}

static void
look(void *cls, const struct job_place *p, struct job_look *out)
{
	cr_assert_eq(cls, &look_says);
	look_at = *p;
	*out = look_says;
}

static void
cancel(struct loop_task *t)
{
	(void)t;
	cancels++;
}

/* In place of the loop's own, which would bring the whole front along. */
void
loop_post(struct loop *l, struct loop_task *t)
{
	t->next = NULL;
	*l->box_tail = t;
	l->box_tail = &t->next;
}

static struct jobs *
table(uint32_t max, double ttl, uint64_t quota)
{
	struct jobs_config c = {.max = max,
				.ttl_s = ttl,
				.quota = quota,
				.cancel = cancel,
				.free_work = free_work,
				.look = look,
				.cls = &look_says};
	struct err e = {0};
	struct jobs *j = jobs_new(&c, &e);

	cr_assert_not_null(j, "%s", e.msg);
	loop.box_tail = &loop.box_head;
	return j;
}

/* A new one, of which only the table has a reference. */
static struct job *
add(struct jobs *j, int i, char *id)
{
	struct err e = {0};
	struct job *job = jobs_add(j, &loop, work(i), "rmsnorm", "run", &e), *ref = job;

	cr_assert_not_null(job, "%d: %s", i, e.msg);
	if (id != NULL)
		memcpy(id, job->id, JOB_ID_SIZE);
	jobs_unref(j, &ref);
	return job;
}

static struct job_view seen;

static void
see(void *cls, const struct job *job, const struct job_view *v)
{
	if (cls != NULL)
		memcpy(cls, job->id, JOB_ID_SIZE);
	seen = *v;
}

static enum err_code
why_not(struct jobs *j, const char *id, const char *words)
{
	struct err e = {0};

	cr_assert_eq(jobs_look(j, id, see, NULL, &e), -1, "%s is there", id);
	cr_expect_not_null(strstr(e.msg, words), "'%s' says nothing of '%s'", e.msg, words);
	return e.code;
}

Test(jobs, ids)
{
	struct jobs *j = table(WORKS, 1, 1);
	static char ids[WORKS][JOB_ID_SIZE];
	struct err e = {0};

	for (int i = 0; i < WORKS; i++) {
		struct job *job = add(j, i, ids[i]);

		cr_assert_eq(strlen(ids[i]), 32);
		cr_assert_eq(strspn(ids[i], "0123456789abcdef"), 32);
		cr_assert(strncmp(job->path, "/v1/jobs/", 9) == 0 && strcmp(job->path + 9, ids[i]) == 0);
	}
	/* No two alike, not even in half of their digits. */
	for (int i = 0; i < WORKS; i++)
		for (int k = 0; k < i; k++)
			cr_assert(memcmp(ids[i], ids[k], 16) != 0 && memcmp(ids[i] + 16, ids[k] + 16, 16) != 0);
	for (int i = 0; i < WORKS; i++) {
		char got[JOB_ID_SIZE];

		cr_assert_eq(jobs_look(j, ids[i], see, got, &e), 0);
		cr_assert_str_eq(got, ids[i]);
	}
	cr_expect_eq(why_not(j, "", "there is no job"), ERR_UNKNOWN_JOB);
	cr_expect_eq(why_not(j, "0123456789abcdef0123456789abcde", "there is no job"), ERR_UNKNOWN_JOB);
	cr_expect_eq(why_not(j, "0123456789abcdef0123456789abcdef", "there is no job"), ERR_UNKNOWN_JOB);
	cr_expect_eq(why_not(j, "0123456789abcdef0123456789abcdef0", "there is no job"), ERR_UNKNOWN_JOB);
	cr_expect_eq(why_not(j, "0123456789ABCDEF0123456789ABCDEF", "there is no job"), ERR_UNKNOWN_JOB);
	jobs_free(&j);
	for (int i = 0; i < WORKS; i++)
		cr_assert_eq(freed[i], 1, "work %d was freed %d times", i, freed[i]);
}

Test(jobs, states)
{
	struct jobs *j = table(4, 600, 1000);
	struct job_place p = {.device = 2, .loop = 5, .id = 77, .ticket = 9};
	char id[JOB_ID_SIZE];
	struct job *job = add(j, 1, id), *ref = NULL;
	struct err e = {0};

	/* Not with a device yet: nobody is asked. */
	look_says = (struct job_look){.running = true};
	cr_assert_eq(jobs_look(j, id, see, NULL, &e), 0);
	cr_expect(seen.state == JOB_QUEUED && seen.position == 0 && !seen.finished && seen.of == 0);
	cr_expect_eq(jobs_take(j, id, &ref, &e), 0);
	cr_expect_null(ref);

	look_says = (struct job_look){.before = 3};
	jobs_submitted(j, job, &p, 12);
	cr_assert_eq(jobs_look(j, id, see, NULL, &e), 0);
	cr_expect(seen.state == JOB_QUEUED && seen.position == 3 && seen.done == 0 && seen.of == 12);
	cr_expect_eq(memcmp(&look_at, &p, sizeof(p)), 0);
	cr_expect_str_eq(seen.unit, "iterations");

	look_says = (struct job_look){.running = true, .runs = 7, .of = 12};
	cr_assert_eq(jobs_look(j, id, see, NULL, &e), 0);
	cr_expect(seen.state == JOB_RUNNING && seen.position == -1 && seen.done == 7 && seen.of == 12);
	/* Between two jobs of the device it is still running. */
	look_says = (struct job_look){.before = 1};
	cr_assert_eq(jobs_look(j, id, see, NULL, &e), 0);
	cr_expect(seen.state == JOB_RUNNING && seen.position == -1 && seen.done == 7);

	jobs_progress(j, job, 2, 5, "cases");
	look_says = (struct job_look){.running = true, .runs = 9, .of = 12};
	cr_assert_eq(jobs_look(j, id, see, NULL, &e), 0);
	cr_expect(seen.done == 2 && seen.of == 5);
	cr_expect_str_eq(seen.unit, "cases");

	jobs_finish(j, job, JOB_DONE, 10);
	cr_assert_eq(jobs_look(j, id, see, NULL, &e), 0);
	cr_expect(seen.state == JOB_DONE && seen.finished && seen.done == 5 && seen.expires_in_s > 590);
	cr_assert_eq(jobs_take(j, id, &ref, &e), 1);
	cr_expect_eq(ref, job);
	cr_expect_eq(jobs_delete(j, id, &e), 1);
	cr_expect_eq(freed[1], 0, "it is still being sent");
	jobs_unref(j, &ref);
	cr_expect_eq(freed[1], 1);
	cr_expect_eq(why_not(j, id, "deleted"), ERR_JOB_GONE);
	cr_expect_eq(jobs_delete(j, id, &e), -1);
	jobs_free(&j);
	cr_expect_eq(freed[1], 1);
}

/* A second job of the device: the first has run. */
Test(jobs, second_submission)
{
	struct jobs *j = table(4, 600, 1000);
	struct job_place p = {.id = 1};
	char id[JOB_ID_SIZE];
	struct job *job = add(j, 1, id);
	struct err e = {0};

	look_says = (struct job_look){.before = 3};
	jobs_submitted(j, job, &p, 12);
	jobs_submitted(j, job, &p, 30);
	cr_assert_eq(jobs_look(j, id, see, NULL, &e), 0);
	cr_expect(seen.state == JOB_RUNNING && seen.done == 0 && seen.of == 30);
	jobs_finish(j, job, JOB_FAILED, 10);
	cr_assert_eq(jobs_look(j, id, see, NULL, &e), 0);
	cr_expect(seen.state == JOB_FAILED && seen.done == 0);
	jobs_free(&j);
}

Test(jobs, number)
{
	struct jobs *j = table(3, 600, 1000);
	char id[5][JOB_ID_SIZE];
	struct job *job[5];
	struct err e = {0};
	struct jobs_stats s;

	for (int i = 0; i < 3; i++)
		job[i] = add(j, i, id[i]);
	cr_expect_null(jobs_add(j, &loop, work(3), "rmsnorm", "run", &e));
	cr_expect_eq(e.code, ERR_OVERLOADED);
	cr_expect_eq(freed[3], 0, "it is the caller's");
	/* The one that finished first goes first, not the one that began first. */
	jobs_finish(j, job[1], JOB_DONE, 1);
	jobs_finish(j, job[0], JOB_FAILED, 1);
	job[3] = add(j, 3, id[3]);
	cr_expect_eq(freed[1], 1);
	cr_expect_eq(why_not(j, id[1], "room for newer"), ERR_JOB_GONE);
	job[4] = add(j, 4, id[4]);
	cr_expect_eq(freed[0], 1);
	jobs_stats(j, &s);
	cr_expect(s.count == 3 && s.max == 3 && s.bytes == 0);
	jobs_free(&j);
	for (int i = 0; i < 5; i++)
		cr_expect_eq(freed[i], 1);
}

Test(jobs, bytes)
{
	struct jobs *j = table(100, 600, 1000);
	char id[10][JOB_ID_SIZE];
	struct job *job[10];
	struct jobs_stats s;
	struct err e = {0};

	for (int i = 0; i < 10; i++)
		job[i] = add(j, i, id[i]);
	for (int i = 0; i < 5; i++)
		jobs_finish(j, job[i], JOB_DONE, 200);
	jobs_stats(j, &s);
	cr_expect(s.bytes == 1000 && s.count == 10);
	/* Three of 200 must go for 450 to fit. */
	jobs_finish(j, job[5], JOB_DONE, 450);
	jobs_stats(j, &s);
	cr_expect(s.bytes == 850 && s.count == 7, "%llu bytes, %u", (unsigned long long)s.bytes, s.count);
	for (int i = 0; i < 10; i++)
		cr_expect_eq(freed[i], i < 3, "%d", i);
	/* All others must go, and itself it stays. */
	jobs_finish(j, job[6], JOB_DONE, 1000);
	jobs_stats(j, &s);
	cr_expect(s.bytes == 1000 && s.count == 4);
	cr_expect_eq(jobs_look(j, id[6], see, NULL, &e), 0);
	cr_expect_eq(jobs_delete(j, id[6], &e), 1);
	jobs_stats(j, &s);
	cr_expect(s.bytes == 0 && s.count == 3);
	jobs_free(&j);
}

Test(jobs, time)
{
	struct jobs *j = table(100, 10, 1000);
	char id[3][JOB_ID_SIZE];
	struct job *job[3];
	struct err e = {0};
	uint64_t now;

	for (int i = 0; i < 3; i++)
		job[i] = add(j, i, id[i]);
	jobs_finish(j, job[2], JOB_DONE, 1);
	jobs_finish(j, job[0], JOB_DONE, 1);
	now = clock_ns();
	jobs_expire(j, now);
	cr_expect_eq(jobs_look(j, id[0], see, NULL, &e), 0);
	cr_expect(seen.expires_in_s > 9 && seen.expires_in_s <= 10);
	jobs_expire(j, now + 10 * UINT64_C(1000000000));
	cr_expect(freed[0] == 1 && freed[1] == 0 && freed[2] == 1, "the unfinished one stays");
	cr_expect_eq(why_not(j, id[0], "time to live"), ERR_JOB_GONE);
	jobs_free(&j);
}

Test(jobs, cancelled)
{
	struct jobs *j = table(100, 10, 1000);
	char id[4][JOB_ID_SIZE];
	struct job *job[4];
	struct err e = {0};

	for (int i = 0; i < 4; i++)
		job[i] = add(j, i, id[i]);
	cr_expect_eq(jobs_delete(j, id[0], &e), 0);
	cr_expect_eq(jobs_delete(j, id[0], &e), 0, "twice is once");
	cr_assert_eq(loop.box_head, &job[0]->cancel_task);
	cr_expect_null(loop.box_head->next);
	loop.box_head->run(loop.box_head);
	loop.box_head = NULL;
	loop.box_tail = &loop.box_head;
	cr_expect_eq(cancels, 1);
	cr_assert_eq(jobs_look(j, id[0], see, NULL, &e), 0);
	cr_expect(seen.state == JOB_CANCELLED && !seen.finished);
	jobs_finish(j, job[0], JOB_CANCELLED, 1);
	cr_expect_eq(why_not(j, id[0], "cancelled"), ERR_JOB_GONE);
	cr_expect_eq(freed[0], 0, "the task that cancels it has it");
	jobs_unref(j, &job[0]);
	cr_expect_eq(freed[0], 1);
	/* Done before it heard of it: forgotten as well. */
	cr_expect_eq(jobs_delete(j, id[1], &e), 0);
	jobs_finish(j, job[1], JOB_DONE, 1);
	cr_expect_eq(why_not(j, id[1], "cancelled"), ERR_JOB_GONE);
	jobs_unref(j, &job[1]);
	/* Its client waited after all: as if it had never been. */
	jobs_withdraw(j, job[2]);
	cr_expect_eq(freed[2], 1);
	cr_expect_eq(why_not(j, id[2], "there is no job"), ERR_UNKNOWN_JOB);
	jobs_free(&j);
	cr_expect(freed[1] == 1 && freed[3] == 1);
}

/* What became of a job is remembered for a while, not for ever. */
Test(jobs, gone)
{
	struct jobs *j = table(WORKS, 10, 1000);
	static char id[2000][JOB_ID_SIZE];
	struct err e = {0};

	for (int i = 0; i < 2000; i++) {
		jobs_finish(j, add(j, i, id[i]), JOB_DONE, 0);
		cr_assert_eq(jobs_delete(j, id[i], &e), 1);
	}
	cr_expect_eq(why_not(j, id[1999], "deleted"), ERR_JOB_GONE);
	cr_expect_eq(why_not(j, id[2000 - 1024], "deleted"), ERR_JOB_GONE);
	cr_expect_eq(why_not(j, id[2000 - 1025], "there is no job"), ERR_UNKNOWN_JOB);
	jobs_free(&j);
}

static struct jobs *shared;
static char shared_ids[64][JOB_ID_SIZE];

static void *
ask(void *arg)
{
	unsigned x = (unsigned)(uintptr_t)arg;
	struct err e = {0};

	for (int i = 0; i < 20000; i++) {
		const char *id = shared_ids[(x = x * 1103515245 + 12345) >> 16 & 63];
		struct job *job = NULL;

		switch (x >> 24 & 7) {
		case 0:
			(void)jobs_delete(shared, id, &e);
			break;
		case 1:
			jobs_expire(shared, clock_ns());
			break;
		case 2:
			jobs_each(shared, see, NULL);
			break;
		default:
			if (jobs_take(shared, id, &job, &e) == 1)
				jobs_unref(shared, &job);
		}
	}
	return NULL;
}

Test(jobs, threads)
{
	pthread_t t[4];

	shared = table(64, 1000, 1000000);
	for (int i = 0; i < 64; i++)
		jobs_finish(shared, add(shared, i, shared_ids[i]), JOB_DONE, 100);
	for (uintptr_t i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, ask, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	jobs_free(&shared);
	for (int i = 0; i < 64; i++)
		cr_expect_eq(freed[i], 1);
}
