/*
 * compute.c: a worker's thread pool, its counted scratch memory, and the choice of instruction set. One
 * `struct compute` belongs to a worker's main thread, which is also thread 0 of every compute_for; the
 * other threads live as long as it does and sleep between calls.
 */
#include "worker/compute.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define ALIGNMENT 64
#define SPIN_NS 20000		      /* how long a thread looks for work, or for the others' end, before it sleeps */
#define KEEP_BYTES ((size_t)32 << 20) /* scratch kept between jobs, so that small jobs don't pay for page faults */
#define THREADS_MAX 1024
#define WATCH_ITEMS 16

/* Under AddressSanitizer each allocation stands alone, so that going past its end is seen. */
#if defined(__SANITIZE_ADDRESS__)
#define CHUNK_BYTES ((size_t)0)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHUNK_BYTES ((size_t)0)
#endif
#endif
#ifndef CHUNK_BYTES
#define CHUNK_BYTES ((size_t)1 << 20)
#endif

/*
 * Scratch is cut from chunks, in the order of their making, so that a job's later runs, which ask for the same, get the
 * same memory as the first. The largest one that is not too large outlives its job.
 */
struct chunk {
	struct chunk *next;
	size_t size, used; /* of the bytes that follow the header */
	_Alignas(ALIGNMENT) unsigned char data[];
};

struct helper {
	struct compute *c;
	pthread_t thread;
	int index;
};

struct compute {
	int threads, started; /* `started` helpers exist, threads - 1 in the end */
	struct helper *helpers;
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	atomic_uint round; /* counts calls of compute_for; changed under the lock */
	atomic_int active; /* helpers that have joined this round and not left yet; raised under the lock */
	bool open, stop;   /* a round may be joined; the helpers shall end */
	int sleepers;	   /* helpers waiting for `work` */
	compute_item_f fn;
	void *arg;
	int64_t items;
	_Alignas(ALIGNMENT) _Atomic int64_t next;
	_Alignas(ALIGNMENT) struct chunk *chunks, *current; /* the first, and the one being cut from */
	size_t job_bytes;
	const char *variant;
	bool (*watch)(void *cls); /* compute_watch */
	void *watch_cls;
	bool stopped; /* the main thread's */
};

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline void
relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Cores that a cgroup's cpu quota grants, rounded up; 0: no quota. */
static int
quota_cores(void)
{
	long long quota = 0, period = 0;
	FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
	int n;

	if (f == NULL)
		return 0;
	n = fscanf(f, "%lld %lld", &quota, &period); /* "max 100000" reads nothing */
	fclose(f);
	if (n != 2 || quota <= 0 || period <= 0 || quota / period >= THREADS_MAX)
		return 0;
	return (int)((quota + period - 1) / period);
}

static int
usable_cores(void)
{
	cpu_set_t set;
	int cores = 1, quota = quota_cores();

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		cores = CPU_COUNT(&set);
	if (quota > 0 && quota < cores)
		cores = quota;
	return cores < 1 ? 1 : cores;
}

/* Items are worth more than this question, but some only a little. */
static bool
is_unwanted(struct compute *c, unsigned n)
{
	if (n % WATCH_ITEMS == 0 && c->watch != NULL && c->watch(c->watch_cls))
		c->stopped = true;
	return c->stopped;
}

static void
take_items(struct compute *c, int thread)
{
	for (unsigned n = 1;; n++) {
		int64_t item = atomic_fetch_add_explicit(&c->next, 1, memory_order_relaxed);

		if (item >= c->items)
			return;
		c->fn(c->arg, item, thread);
		if (thread == 0 && is_unwanted(c, n))
			atomic_store(&c->next, c->items); /* nobody finds more */
	}
}

static void *
helper_main(void *arg)
{
	struct helper *h = arg;
	struct compute *c = h->c;
	unsigned seen = 0;

	for (;;) {
		/* A little patience first: an operator often has several passes in a row. */
		if (seen != 0) {
			int64_t until = now_ns() + SPIN_NS;

			while (atomic_load_explicit(&c->round, memory_order_relaxed) == seen && now_ns() < until)
				relax();
		}
		pthread_mutex_lock(&c->lock);
		while (!c->stop && (!c->open || atomic_load(&c->round) == seen)) {
			c->sleepers++;
			pthread_cond_wait(&c->work, &c->lock);
			c->sleepers--;
		}
		if (c->stop) {
			pthread_mutex_unlock(&c->lock);
			return NULL;
		}
		seen = atomic_load(&c->round);
		atomic_fetch_add(&c->active, 1);
		pthread_mutex_unlock(&c->lock);

		take_items(c, h->index);

		pthread_mutex_lock(&c->lock);
		if (atomic_fetch_sub(&c->active, 1) == 1)
			pthread_cond_signal(&c->done);
		pthread_mutex_unlock(&c->lock);
	}
}

struct compute *
compute_new(int threads)
{
	struct compute *c;
	sigset_t quiet, before;

	assert(threads >= 0);
	if (threads == 0)
		threads = usable_cores();
	if (threads > THREADS_MAX)
		threads = THREADS_MAX;
	c = aligned_alloc(ALIGNMENT, sizeof(*c));
	if (c == NULL)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->threads = threads;
	c->variant = "";
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->done, NULL);
	c->helpers = calloc((size_t)threads, sizeof(*c->helpers));
	if (c->helpers == NULL) {
		compute_free(&c);
		return NULL;
	}
	/* Signals meant for the process are the main thread's business; a fault stays where it happens. */
	sigfillset(&quiet);
	sigdelset(&quiet, SIGSEGV);
	sigdelset(&quiet, SIGBUS);
	sigdelset(&quiet, SIGFPE);
	sigdelset(&quiet, SIGILL);
	pthread_sigmask(SIG_SETMASK, &quiet, &before);
	while (c->started < threads - 1) {
		struct helper *h = &c->helpers[c->started];

		h->c = c;
		h->index = c->started + 1;
		if (pthread_create(&h->thread, NULL, helper_main, h) != 0)
			break;
		c->started++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (c->started < threads - 1)
		compute_free(&c);
	return c;
}

void
compute_free(struct compute **cp)
{
	struct compute *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->work);
	pthread_mutex_unlock(&c->lock);
	for (int i = 0; i < c->started; i++)
		pthread_join(c->helpers[i].thread, NULL);
	while (c->chunks != NULL) {
		struct chunk *next = c->chunks->next;

		free(c->chunks);
		c->chunks = next;
	}
	pthread_cond_destroy(&c->done);
	pthread_cond_destroy(&c->work);
	pthread_mutex_destroy(&c->lock);
	free(c->helpers);
	free(c);
}

int
compute_threads(const struct compute *c)
{
	return c->threads;
}

void
compute_for(struct compute *c, int64_t items, compute_item_f fn, void *arg)
{
	int64_t until;

	if (c->stopped)
		return;
	if (items <= 1 || c->started == 0) {
		for (int64_t i = 0; i < items; i++) {
			fn(arg, i, 0);
			if (is_unwanted(c, (unsigned)i + 1))
				return;
		}
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->fn = fn;
	c->arg = arg;
	c->items = items;
	atomic_store(&c->next, 0);
	c->open = true;
	atomic_fetch_add(&c->round, 1);
	if (atomic_load(&c->round) == 0) /* 0 means "none seen yet" to a helper */
		atomic_store(&c->round, 1);
	if (items - 1 >= c->sleepers) {
		pthread_cond_broadcast(&c->work);
	} else {
		for (int64_t i = 0; i < items - 1; i++)
			pthread_cond_signal(&c->work);
	}
	pthread_mutex_unlock(&c->lock);

	take_items(c, 0);

	/* Helpers that have not come by now are not waited for: on a busy machine they may be long in coming. */
	pthread_mutex_lock(&c->lock);
	c->open = false;
	pthread_mutex_unlock(&c->lock);
	until = now_ns() + SPIN_NS;
	while (atomic_load(&c->active) > 0 && now_ns() < until)
		relax();
	pthread_mutex_lock(&c->lock);
	while (atomic_load(&c->active) > 0)
		pthread_cond_wait(&c->done, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void *
compute_alloc(struct compute *c, size_t bytes, struct err *e)
{
	struct chunk *k = c->current ? c->current : c->chunks, **end = &c->chunks;
	size_t want, size;

	if (bytes > SIZE_MAX / 2) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for %zu bytes of workspace", bytes);
		return NULL;
	}
	want = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (CHUNK_BYTES == 0)
		want = bytes;
	while (k != NULL && (CHUNK_BYTES == 0 || k->size - k->used < want))
		k = k->next;
	if (k == NULL) {
		size = want > CHUNK_BYTES ? want : CHUNK_BYTES;
		k = aligned_alloc(ALIGNMENT, (sizeof(*k) + size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
		if (k == NULL) {
			err_set(e, ERR_OUT_OF_MEMORY, "no memory for %zu bytes of workspace", bytes);
			return NULL;
		}
		k->size = size;
		k->used = 0;
		k->next = NULL;
		while (*end != NULL)
			end = &(*end)->next;
		*end = k;
	}
	c->current = k;
	k->used += want;
	c->job_bytes += bytes;
	return k->data + (k->used - want);
}

void
compute_variant(struct compute *c, const char *variant)
{
	c->variant = variant;
}

const char *
compute_variant_get(const struct compute *c)
{
	return c->variant;
}

void
compute_job_begin(struct compute *c)
{
	c->job_bytes = 0;
	c->variant = "";
	c->stopped = false;
}

void
compute_watch(struct compute *c, bool (*stop)(void *cls), void *cls)
{
	c->watch = stop;
	c->watch_cls = cls;
}

bool
compute_stopped(const struct compute *c)
{
	return c->stopped;
}

size_t
compute_run_end(struct compute *c)
{
	size_t bytes = c->job_bytes;

	if (CHUNK_BYTES == 0)
		return compute_job_end(c);
	for (struct chunk *k = c->chunks; k != NULL; k = k->next)
		k->used = 0;
	c->current = NULL;
	c->job_bytes = 0;
	return bytes;
}

size_t
compute_job_end(struct compute *c)
{
	struct chunk *keep = NULL, *next;
	size_t bytes = c->job_bytes;

	for (struct chunk *k = c->chunks; k != NULL; k = next) {
		next = k->next;
		if (CHUNK_BYTES != 0 && k->size <= KEEP_BYTES && (keep == NULL || k->size > keep->size)) {
			free(keep);
			keep = k;
		} else {
			free(k);
		}
	}
	if (keep != NULL) {
		keep->next = NULL;
		keep->used = 0;
	}
	c->chunks = keep;
	c->current = NULL;
	c->job_bytes = 0;
	return bytes;
}

/* What the operating system and the processor have, as far as the avx2 and avx512 files use it. */
static enum cpu_isa
isa_present(void)
{
#if defined(__x86_64__)
	unsigned eax, ebx, ecx, edx;

	__builtin_cpu_init();
	/* f16c by hand: clang's __builtin_cpu_supports does not know it. Support by the system is avx2's. */
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
	    !__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_F16C))
		return CPU_SCALAR;
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
		return CPU_AVX512;
	return CPU_AVX2;
#else
	return CPU_SCALAR;
#endif
}

enum cpu_isa
cpu_isa(void)
{
	/* Asked once: in a virtual machine each CPUID costs a trip to the hypervisor, tens of microseconds. */
	static atomic_int known = -1;
	const char *text = getenv("AITERD_CPU_ISA");
	enum cpu_isa isa, asked = CPU_AVX512;

	if (atomic_load_explicit(&known, memory_order_relaxed) == -1)
		atomic_store_explicit(&known, (int)isa_present(), memory_order_relaxed);
	isa = (enum cpu_isa)atomic_load_explicit(&known, memory_order_relaxed);
	if (text != NULL && strcmp(text, "scalar") == 0)
		asked = CPU_SCALAR;
	else if (text != NULL && strcmp(text, "avx2") == 0)
		asked = CPU_AVX2;
	return asked < isa ? asked : isa;
}
