/*
 * launch.c: a kernel's grid on host threads, one workgroup at a time each. Within a workgroup the waves take turns
 * of EMUHIP_QUANTUM instructions, which is what shows missing barriers. A fault ends the launch: the first one's
 * message is kept.
 */
#include "emulator/launch.h"

#include "emulator/disasm.h"
#include "emulator/exec.h"
#include "emulator/range.h"
#include "emulator/settings.h"
#include "emulator/stats.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __x86_64__
#include <xmmintrin.h>
#endif

#define THREADS_FIRST 64 /* started at once at most */
#define THREADS_MAX 512	 /* with those for workgroups that wait for later ones */
#define LDS_MAX 65536
/* After so many instructions a wave may be waiting for a workgroup that has not started. */
#define LONG_RUN ((u64)1 << 19)

struct launch {
	struct kernel *kernel;
	const struct launch_size *size;
	u32 lds_size, scratch_size;
	void *kernarg;
	u64 next, total; /* workgroups */
	struct emu_fault *fault;
	u64 executed, mfma, *hist;
	pthread_mutex_t lock; /* of hist and threads */
	pthread_t threads[THREADS_MAX];
	int nthreads;
	u32 packet[16]; /* the dispatch packet, which kernels may read */
};

/* Fields of the kernel descriptor. */
struct descriptor {
	i64 entry;
	u32 rsrc1, rsrc2, rsrc3;
	u16 properties, preload;
};

static void
read_descriptor(const struct kernel *k, struct descriptor *d)
{
	const u8 *p = (const u8 *)k->descriptor;

	memcpy(&d->entry, p + 16, 8);
	memcpy(&d->rsrc3, p + 44, 4);
	memcpy(&d->rsrc1, p + 48, 4);
	memcpy(&d->rsrc2, p + 52, 4);
	memcpy(&d->properties, p + 56, 2);
	memcpy(&d->preload, p + 58, 2);
}

void
emu_wave_fault(struct wave *w, int code, const char *fmt, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	const struct workgroup *g = w->wg;
	struct emu_fault *f = g->fault;
	u32 pc = w->current != NULL ? (u32)(w->current - w->co->ops) : w->pc;
	char text[256], what[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	emu_disasm_at(w->co, pc, text, sizeof text);
	pthread_mutex_lock(&lock);
	if (f->code == 0) {
		f->code = code;
		snprintf(f->msg, sizeof f->msg,
			 "%.200s: %.460s\n  at text+0x%x:%.200s  (workgroup %u,%u,%u wave %u exec %016llx)",
			 g->kernel->name, what, pc * 4, text, g->id[0], g->id[1], g->id[2], w->id,
			 (unsigned long long)EXEC(w));
	}
	pthread_mutex_unlock(&lock);
	longjmp(w->wg->leave, 1);
}

static void
put_pair(struct wave *w, u32 *at, u64 x)
{
	w->s[*at] = (u32)x;
	w->s[*at + 1] = (u32)(x >> 32);
	*at += 2;
}

/* The registers a wave starts with, as the descriptor asks for them. */
static void
start_registers(struct launch *l, const struct descriptor *d, struct wave *w, u32 threads)
{
	const struct workgroup *g = w->wg;
	const u32 *block = l->size->block;
	u64 packet = (u64)l->packet, kernarg = (u64)l->kernarg;
	u32 at = 0, count = d->preload & 127, left = threads - w->id * LANES;

	memset(w->s, 0, sizeof w->s);
	EXEC(w) = left >= LANES ? ~(u64)0 : ((u64)1 << left) - 1;
	if (d->properties & 1) /* private segment buffer */
		at += 4;
	if (d->properties & 2)
		put_pair(w, &at, packet);
	if (d->properties & 4) /* queue: there is none to look at */
		put_pair(w, &at, packet);
	if (d->properties & 8)
		put_pair(w, &at, kernarg);
	if (d->properties & 16) /* dispatch id */
		put_pair(w, &at, 0);
	if (d->properties & 32) /* flat scratch */
		put_pair(w, &at, 0);
	if (d->properties & 64)
		w->s[at++] = l->scratch_size;
	if (count != 0)
		memcpy(&w->s[at], (u8 *)l->kernarg + 4 * (d->preload >> 7), 4 * (size_t)count);
	at = d->rsrc2 >> 1 & 31; /* user registers end here */
	for (int k = 0; k < 3; k++)
		if (d->rsrc2 >> (7 + k) & 1)
			w->s[at++] = g->id[k];
	if (d->rsrc2 >> 10 & 1) /* workgroup info */
		w->s[at++] = 0;
	if (d->rsrc2 & 1) /* scratch wave offset */
		w->s[at++] = 0;
	for (u32 lane = 0; lane < LANES; lane++) {
		u32 t = w->id * LANES + lane;

		w->v[0][lane] = t % block[0] | t / block[0] % block[1] << 10 | t / block[0] / block[1] << 20;
	}
}

static void
start_wave(struct launch *l, const struct descriptor *d, struct wave *w, u32 threads)
{
	const struct codeobj *co = l->kernel->co;
	u32 all = ((d->rsrc1 & 63) + 1) * 8, vgprs = ((d->rsrc3 & 63) + 1) * 4, agprs;

	if (emu_settings.check) { /* registers start undefined */
		vgprs = vgprs < all ? vgprs : all;
		agprs = all - vgprs;
		memset(w->v, 0xc7, (vgprs < REG_ACC ? vgprs : REG_ACC) * sizeof w->v[0]);
		memset(w->v + REG_ACC, 0xc7, (agprs < VREGS - REG_ACC ? agprs : VREGS - REG_ACC) * sizeof w->v[0]);
		if (w->scratch != NULL)
			memset(w->scratch, 0xa5, (size_t)LANES * w->scratch_size);
	}
	w->scc = w->done = w->at_barrier = w->gpr_index = w->vskip = 0;
	w->executed = w->mfma = 0;
	w->current = NULL;
	w->pc = (u32)((l->kernel->descriptor + (u64)d->entry - (u64)co->base - co->text) / 4);
	if ((d->preload & 127) != 0) /* the first 256 bytes load the arguments where hardware can't preload */
		w->pc += 64;
	start_registers(l, d, w, threads);
}

static void *worker(void *arg);

/* A workgroup may be spinning on one that has not started: give the next one a thread. */
static void
add_thread(struct launch *l)
{
	pthread_mutex_lock(&l->lock);
	if (l->nthreads < THREADS_MAX && __atomic_load_n(&l->next, __ATOMIC_RELAXED) < l->total &&
	    pthread_create(&l->threads[l->nthreads], NULL, worker, l) == 0)
		l->nthreads++;
	pthread_mutex_unlock(&l->lock);
}

/* All waves to their ends, in turns. 0, or -1 after a fault. */
static int
run_workgroup(struct launch *l, struct workgroup *g, struct wave *waves, u32 nwaves)
{
	const struct emu_isa *isa = emu_isa();
	u64 quantum = nwaves == 1 || emu_settings.quantum <= 0 ? LONG_RUN : (u64)emu_settings.quantum;
	u64 helped = LONG_RUN;

	if (setjmp(g->leave) != 0)
		return -1;
	for (;;) {
		u32 live = 0, waiting = 0;

		for (u32 i = 0; i < nwaves; i++) {
			struct wave *w = &waves[i];

			if (w->done)
				continue;
			if (!w->at_barrier)
				isa->run(w, quantum);
			if (w->done)
				continue;
			live++;
			waiting += w->at_barrier;
			if (__builtin_expect(w->executed > helped, 0)) {
				helped = w->executed + LONG_RUN;
				add_thread(l);
			}
		}
		if (live == 0)
			return 0;
		if (waiting == live)
			for (u32 i = 0; i < nwaves; i++)
				waves[i].at_barrier = 0;
	}
}

static void
run_workgroups(struct launch *l, struct wave *waves, u32 nwaves, u32 threads, u8 *lds)
{
	const u32 *grid = l->size->grid;
	struct descriptor d;
	struct workgroup g;
	u64 executed = 0, mfma = 0;

	read_descriptor(l->kernel, &d);
	memset(&g, 0, sizeof g);
	g.lds = lds;
	g.lds_size = l->lds_size;
	g.kernel = l->kernel;
	g.fault = l->fault;
	for (int k = 0; k < 2; k++)
		g.seen[k].lo = ~(u64)0;
	for (;;) {
		u64 id = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);

		if (id >= l->total || __atomic_load_n(&l->fault->code, __ATOMIC_RELAXED) != 0)
			break;
		g.id[0] = (u32)(id % grid[0]);
		g.id[1] = (u32)(id / grid[0] % grid[1]);
		g.id[2] = (u32)(id / grid[0] / grid[1]);
		memset(lds, 0xa5, l->lds_size); /* LDS starts undefined */
		for (u32 i = 0; i < nwaves; i++) {
			waves[i].wg = &g;
			start_wave(l, &d, &waves[i], threads);
		}
		if (run_workgroup(l, &g, waves, nwaves) != 0)
			break;
		for (u32 i = 0; i < nwaves; i++) {
			executed += waves[i].executed;
			mfma += waves[i].mfma;
		}
	}
	__atomic_fetch_add(&l->executed, executed, __ATOMIC_RELAXED);
	__atomic_fetch_add(&l->mfma, mfma, __ATOMIC_RELAXED);
}

/* FLOAT_MODE's fp32 denormal bits; returns what to set back. */
static u32
set_denormals(const struct kernel *k)
{
#ifdef __x86_64__
	u32 old = _mm_getcsr();
	struct descriptor d;

	read_descriptor(k, &d);
	if ((d.rsrc1 >> 16 & 3) == 0)
		_mm_setcsr(old | 0x8040);
	return old;
#else
	(void)k;
	return 0;
#endif
}

static void
reset_denormals(u32 old)
{
#ifdef __x86_64__
	_mm_setcsr(old);
#else
	(void)old;
#endif
}

static void *
worker(void *arg)
{
	struct launch *l = arg;
	const struct codeobj *co = l->kernel->co;
	u32 threads = l->size->block[0] * l->size->block[1] * l->size->block[2];
	u32 nwaves = (threads + LANES - 1) / LANES, old;
	size_t scratch = (size_t)l->scratch_size * LANES;
	struct wave *waves = aligned_alloc(64, sizeof *waves * nwaves);
	u8 *lds = aligned_alloc(64, LDS_MAX), *all_scratch = scratch != 0 ? malloc(scratch * nwaves) : NULL;
	u64 *hist = l->hist != NULL ? calloc(co->nops + 1, sizeof *hist) : NULL;

	if (waves == NULL || lds == NULL || (scratch != 0 && all_scratch == NULL) || (l->hist != NULL && hist == NULL))
		abort();
	memset(waves, 0, sizeof *waves * nwaves);
	for (u32 i = 0; i < nwaves; i++) {
		struct wave *w = &waves[i];

		w->id = i;
		w->co = l->kernel->co;
		w->hist = hist;
		w->scratch_size = l->scratch_size;
		w->scratch = all_scratch != NULL ? all_scratch + i * scratch : NULL;
	}
	old = set_denormals(l->kernel);
	run_workgroups(l, waves, nwaves, threads, lds);
	reset_denormals(old);
	if (hist != NULL) {
		pthread_mutex_lock(&l->lock);
		for (u32 i = 0; i < co->nops; i++)
			l->hist[i] += hist[i];
		pthread_mutex_unlock(&l->lock);
	}
	free(hist);
	free(waves);
	free(lds);
	free(all_scratch);
	return NULL;
}

/* The packet that hardware queues hold; kernels read the workgroup's and the grid's size from it. */
static void
fill_packet(struct launch *l, u32 private_size, u32 group_size)
{
	const struct launch_size *z = l->size;
	u16 *half = (u16 *)(void *)l->packet;
	u64 kernarg = (u64)l->kernarg;

	half[0] = 2;
	half[1] = 3;
	for (int k = 0; k < 3; k++) {
		half[2 + k] = (u16)z->block[k];
		l->packet[3 + k] = z->grid[k] * z->block[k];
	}
	l->packet[6] = private_size;
	l->packet[7] = group_size + z->dynamic_lds;
	memcpy(&l->packet[10], &kernarg, sizeof kernarg);
}

static int
check_size(struct launch *l, u64 threads, u32 lds)
{
	const struct kernel *k = l->kernel;
	const u32 *g = l->size->grid, *b = l->size->block;

	if (l->total != 0 && threads != 0 && threads <= 1024 && lds <= LDS_MAX &&
	    (k->max_threads == 0 || threads <= (u64)k->max_threads))
		return 0;
	l->fault->code = 1; /* hipErrorInvalidValue */
	snprintf(l->fault->msg, sizeof l->fault->msg,
		 "%.200s: bad launch: grid %u,%u,%u block %u,%u,%u (kernel allows %d threads), LDS %u of %u bytes",
		 k->name, g[0], g[1], g[2], b[0], b[1], b[2], k->max_threads, lds, LDS_MAX);
	return -1;
}

static void
run(struct launch *l)
{
	int n = emu_settings.threads, joined = 0;

	n = n > THREADS_FIRST ? THREADS_FIRST : n;
	n = (u64)n > l->total ? (int)l->total : n;
	pthread_mutex_lock(&l->lock);
	while (l->nthreads < n - 1 && pthread_create(&l->threads[l->nthreads], NULL, worker, l) == 0)
		l->nthreads++;
	pthread_mutex_unlock(&l->lock);
	worker(l);
	for (;;) { /* add_thread may add some meanwhile */
		int started;

		pthread_mutex_lock(&l->lock);
		started = l->nthreads;
		pthread_mutex_unlock(&l->lock);
		if (joined == started)
			break;
		pthread_join(l->threads[joined++], NULL);
	}
}

int
emu_launch(struct kernel *k, const struct launch_size *size, void *kernarg, struct emu_fault *why)
{
	u64 threads = (u64)size->block[0] * size->block[1] * size->block[2];
	struct emu_stats done = {0};
	u32 group_size, private_size;
	double start = emu_stats_now();
	struct launch *l;

	memset(why, 0, sizeof *why);
	l = calloc(1, sizeof *l);
	if (l == NULL)
		abort();
	l->kernel = k;
	l->size = size;
	l->kernarg = kernarg;
	l->fault = why;
	l->total = (u64)size->grid[0] * size->grid[1] * size->grid[2];
	memcpy(&group_size, (const u8 *)k->descriptor, 4);
	memcpy(&private_size, (const u8 *)k->descriptor + 4, 4);
	if (group_size < (u32)k->group_size)
		group_size = (u32)k->group_size;
	if (check_size(l, threads, group_size + size->dynamic_lds) != 0) {
		free(l);
		return -1;
	}
	l->scratch_size = (private_size + 15) & ~15u;
	l->lds_size = (group_size + size->dynamic_lds + 511) & ~511u;
	fill_packet(l, private_size, group_size);
	pthread_mutex_init(&l->lock, NULL);
	if (emu_settings.count_classes >= 2)
		l->hist = calloc(k->co->nops + 1, sizeof *l->hist);
	emu_range_add(l->packet, sizeof l->packet, "dispatch packet");
	emu_range_hold();
	run(l);
	emu_range_release();
	emu_range_remove(l->packet);
	done.workgroups = l->total;
	done.waves = l->total * ((threads + LANES - 1) / LANES);
	done.instructions = l->executed;
	done.mfma = l->mfma;
	done.seconds = emu_stats_now() - start;
	emu_stats_add(k, &done, l->hist);
	pthread_mutex_destroy(&l->lock);
	free(l->hist);
	free(l);
	return why->code != 0 ? -1 : 0;
}
