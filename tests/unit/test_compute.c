/*
 * test_compute.c: the thread pool runs every item exactly once, scratch is aligned, counted and usable to its
 * last byte, and the environment lowers the instruction set.
 */
#include <criterion/criterion.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "worker/compute.h"

#define ITEMS_MAX 3000
#define THREADS 7

/* Under AddressSanitizer each allocation is a new one. */
#if defined(__SANITIZE_ADDRESS__)
#define ALONE true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ALONE true
#endif
#endif
#ifndef ALONE
#define ALONE false
#endif

struct seen {
	atomic_int times[ITEMS_MAX];
	atomic_int wrong;
	int64_t per_thread[THREADS]; /* not atomic: a thread's index is its own during a call */
	int threads;
	long spin;
};

static void
note_item(void *arg, int64_t item, int thread)
{
	struct seen *s = arg;

	if (item < 0 || item >= ITEMS_MAX || thread < 0 || thread >= s->threads) {
		atomic_fetch_add(&s->wrong, 1);
		return;
	}
	for (volatile long i = 0; i < s->spin; i++)
		;
	atomic_fetch_add(&s->times[item], 1);
	s->per_thread[thread]++;
}

Test(compute, every_item_once)
{
	static const int64_t counts[] = {0, 1, 2, 3, 7, 8, 100, ITEMS_MAX};

	for (int threads = 1; threads <= THREADS; threads += 2) {
		struct compute *c = compute_new(threads);

		cr_assert_not_null(c);
		cr_expect_eq(compute_threads(c), threads);
		for (size_t n = 0; n < sizeof(counts) / sizeof(counts[0]); n++) {
			struct seen *s = calloc(1, sizeof(*s));
			int64_t sum = 0;

			s->threads = threads;
			s->spin = n % 2 ? 1000 : 0;
			compute_for(c, counts[n], note_item, s);
			for (int64_t i = 0; i < ITEMS_MAX; i++)
				cr_assert_eq(atomic_load(&s->times[i]), i < counts[n] ? 1 : 0);
			for (int t = 0; t < THREADS; t++)
				sum += s->per_thread[t];
			cr_expect_eq(sum, counts[n]);
			cr_expect_eq(atomic_load(&s->wrong), 0);
			free(s);
		}
		compute_free(&c);
		cr_expect_null(c);
	}
}

/* Rounds right behind each other, and after pauses long enough for everybody to have gone to sleep. */
Test(compute, many_rounds)
{
	struct compute *c = compute_new(4);
	struct seen *s = calloc(1, sizeof(*s));
	const int rounds = 20000, slow = 20;

	s->threads = 4;
	for (int r = 0; r < rounds; r++)
		compute_for(c, 2 + r % 5, note_item, s);
	for (int r = 0; r < slow; r++) {
		usleep(2000);
		compute_for(c, 2, note_item, s);
	}
	cr_expect_eq(atomic_load(&s->times[0]), rounds + slow);
	cr_expect_eq(atomic_load(&s->times[1]), rounds + slow);
	cr_expect_eq(atomic_load(&s->times[5]), rounds / 5);
	cr_expect_eq(atomic_load(&s->times[6]), 0);
	compute_free(&c);
	free(s);
}

struct both {
	atomic_int here;
	atomic_int met;
};

static void
meet(void *arg, int64_t item, int thread)
{
	struct both *b = arg;

	(void)item;
	(void)thread;
	atomic_fetch_add(&b->here, 1);
	for (int i = 0; i < 5000 && atomic_load(&b->here) < 2; i++)
		usleep(1000);
	if (atomic_load(&b->here) == 2)
		atomic_fetch_add(&b->met, 1);
}

/* Two items that wait for each other can only both end when two threads really run at a time. */
Test(compute, runs_at_the_same_time)
{
	struct compute *c = compute_new(2);
	struct both b = {0};

	compute_for(c, 2, meet, &b);
	cr_expect_eq(atomic_load(&b.met), 2);
	compute_free(&c);
}

struct watched {
	_Atomic int64_t ran;
	int asked, yes_at;
};

static void
count_item(void *arg, int64_t item, int thread)
{
	struct watched *w = arg;

	(void)item;
	(void)thread;
	w->ran++;
}

static bool
enough(void *arg)
{
	struct watched *w = arg;

	return ++w->asked >= w->yes_at;
}

/* Once nobody wants the result, the rest is left out, until the next job. */
Test(compute, stops_when_unwanted)
{
	for (int threads = 1; threads <= 3; threads += 2) {
		struct compute *c = compute_new(threads);
		struct watched w = {.yes_at = 3};
		int64_t ran;

		cr_assert_not_null(c);
		compute_watch(c, enough, &w);
		compute_job_begin(c);
		compute_for(c, 10000000, count_item, &w);
		cr_expect(compute_stopped(c));
		cr_expect_eq(w.asked, 3);
		cr_expect_lt(w.ran, 10000000);
		ran = w.ran;
		compute_for(c, 1000, count_item, &w);
		cr_expect_eq(w.ran, ran, "later loops of the same job are left out");
		compute_job_end(c);

		w = (struct watched){.yes_at = 1000000};
		compute_job_begin(c);
		compute_for(c, 5000, count_item, &w);
		cr_expect(!compute_stopped(c));
		cr_expect_eq(w.ran, 5000);
		cr_expect(threads > 1 || w.asked == 5000 / 16);
		compute_watch(c, NULL, NULL);
		compute_for(c, 5000, count_item, &w);
		cr_expect_eq(w.ran, 10000);
		compute_job_end(c);
		compute_free(&c);
	}
}

Test(compute, as_many_threads_as_cores)
{
	struct compute *c = compute_new(0);

	cr_assert_not_null(c);
	cr_expect_geq(compute_threads(c), 1);
	cr_expect_leq(compute_threads(c), sysconf(_SC_NPROCESSORS_ONLN));
	compute_free(&c);
	compute_free(&c); /* nothing happens */
}

Test(compute, scratch_is_counted)
{
	static const size_t sizes[] = {1, 63, 64, 65, 1000, 100000, 3000000, 40000000};
	struct compute *c = compute_new(1);
	struct err e = {0};

	for (int job = 0; job < 3; job++) {
		unsigned char *p[8];
		size_t sum = 0;

		compute_job_begin(c);
		cr_expect_str_eq(compute_variant_get(c), "");
		for (int i = 0; i < 8; i++) {
			p[i] = compute_alloc(c, sizes[i], &e);
			cr_assert_not_null(p[i]);
			cr_expect_eq((uintptr_t)p[i] % 64, 0);
			memset(p[i], i + 1, sizes[i]);
			sum += sizes[i];
		}
		for (int i = 0; i < 8; i++) {
			cr_expect_eq(p[i][0], i + 1);
			cr_expect_eq(p[i][sizes[i] - 1], i + 1);
		}
		compute_variant(c, "this");
		cr_expect_str_eq(compute_variant_get(c), "this");
		cr_expect_eq(compute_job_end(c), sum);
	}
	compute_job_begin(c);
	cr_expect_eq(compute_job_end(c), 0);
	compute_free(&c);
}

static long
faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt;
}

/* A job's later runs get the first one's memory, touched already, however large; the next job does not get it all. */
Test(compute, scratch_is_kept_between_runs)
{
	static const size_t sizes[] = {100, 50000000, 3000, 40000000, 200000, 70000000, 900000, 900000, 1};
	enum { N = sizeof(sizes) / sizeof(sizes[0]) };
	struct compute *c = compute_new(1);
	unsigned char *first[N], *p;
	struct err e = {0};
	long before = 0;
	size_t sum = 0;

	for (int i = 0; i < N; i++)
		sum += sizes[i];
	for (int job = 0; job < 2; job++) {
		for (int run = 0; run < 4; run++) {
			compute_job_begin(c);
			for (int i = 0; i < N; i++) {
				p = compute_alloc(c, sizes[i], &e);
				cr_assert_not_null(p);
				memset(p, run, sizes[i]);
				if (!ALONE && run > 0)
					cr_expect_eq(p, first[i], "%d of run %d", i, run);
				first[i] = p;
			}
			cr_expect_eq(compute_run_end(c), sum);
			if (run == 0)
				before = faults();
		}
		cr_expect(ALONE || faults() - before < 100, "%ld page faults after the first run", faults() - before);
		/* Another implementation in the same job: other sizes, nothing overlaps. */
		compute_job_begin(c);
		for (int i = 0; i < N; i++) {
			first[i] = compute_alloc(c, sizes[N - 1 - i], &e);
			cr_assert_not_null(first[i]);
			memset(first[i], i, sizes[N - 1 - i]);
		}
		for (int i = 0; i < N; i++) {
			cr_expect_eq(first[i][0], i);
			cr_expect_eq(first[i][sizes[N - 1 - i] - 1], i);
		}
		cr_expect_eq(compute_job_end(c), sum);
		before = faults();
	}
	compute_job_begin(c);
	p = compute_alloc(c, 50000000, &e);
	cr_assert_not_null(p);
	memset(p, 1, 50000000);
	cr_expect_gt(faults(), before, "the job's memory was given back at its end");
	compute_job_end(c);
	compute_free(&c);
}

Test(compute, too_much_scratch_is_an_error)
{
	struct compute *c = compute_new(1);
	struct err e = {0};

	compute_job_begin(c);
	cr_expect_null(compute_alloc(c, SIZE_MAX - 10, &e));
	cr_expect_eq(e.code, ERR_OUT_OF_MEMORY);
	cr_expect_eq(compute_job_end(c), 0);
	compute_free(&c);
}

Test(compute, environment_lowers_the_instruction_set)
{
	enum cpu_isa best;

	unsetenv("AITERD_CPU_ISA");
	best = cpu_isa();
	setenv("AITERD_CPU_ISA", "scalar", 1);
	cr_expect_eq(cpu_isa(), CPU_SCALAR);
	setenv("AITERD_CPU_ISA", "avx2", 1);
	cr_expect_eq(cpu_isa(), best < CPU_AVX2 ? best : CPU_AVX2);
	setenv("AITERD_CPU_ISA", "avx512", 1);
	cr_expect_eq(cpu_isa(), best);
}
