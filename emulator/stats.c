/*
 * stats.c: counts of what was executed and the instruction mix: by class, with the cycles each unit would be busy
 * at published rates. Printed when the environment asks for it (EMUHIP_LOG, EMUHIP_STATS), and through emulator.h.
 */
#include "emulator/stats.h"

#include "emulator/disasm.h"
#include "emulator/exec.h"
#include "emulator/settings.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct emu_stats total;
static struct emu_mix last;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

double
emu_stats_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

const char *
emu_stats_class_name(enum emu_class c)
{
	static const char *const names[EMU_CLASSES] = {"mfma", "valu",	 "slow", "salu",    "smem", "lds",
						       "vmem", "branch", "wait", "barrier", "other"};

	return c < EMU_CLASSES ? names[c] : "?";
}

static int
begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static int
begins_with_one(const char *s, const char *const *prefixes)
{
	for (; *prefixes != NULL; prefixes++)
		if (begins(s, *prefixes))
			return 1;
	return 0;
}

/* Cycles of a SIMD for v_mfma_<type>_<M>x<N>x<K>[_<blocks>b]_<type>, from the dense peak of a CU. */
static u32
mfma_cycles(const char *name)
{
	unsigned m = 16, n = 16, k = 4, blocks = 1;
	u32 rate = 64, cycles; /* multiply-adds a cycle, times two */

	for (const char *p = name; *p != '\0'; p++)
		if (*p == '_' && sscanf(p, "_%ux%ux%u_%ub", &m, &n, &k, &blocks) >= 3)
			break;
	if (blocks == 0 || blocks > 16) /* the number was part of the type */
		blocks = 1;
	if (strstr(name, "fp8") != NULL || strstr(name, "bf8") != NULL || strstr(name, "i8") != NULL)
		rate = 1024;
	else if (strstr(name, "f16") != NULL)
		rate = 512;
	else if (strstr(name, "xf32") != NULL)
		rate = 256;
	cycles = 2 * m * n * k * blocks / rate;
	return cycles < 8 ? 8 : cycles;
}

static void
classify(struct op *o, const char *name)
{
	static const char *const slow[] = {"v_exp_",	"v_log_",	 "v_rcp_",	  "v_rsq_",
					   "v_sqrt_",	"v_sin_",	 "v_cos_",	  "v_mul_lo_u32",
					   "v_mul_hi_", "v_mad_u64_u32", "v_mad_i64_i32", NULL};
	static const char *const waits[] = {"buffer_wbl2", "buffer_inv", "s_waitcnt", "s_nop",
					    "s_sleep",	   "s_setprio",	 NULL};
	static const char *const vmem[] = {"buffer_", "global_", "flat_", "scratch_", NULL};
	static const char *const smem[] = {"s_load", "s_buffer", "s_store", "s_atomic", "s_dcache", "s_mem", NULL};
	static const char *const branches[] = {"s_branch", "s_cbranch", "s_setpc", "s_call",
					       "s_swappc", "s_endpgm",	NULL};
	u32 cycles = 1, size = o->size != 0 ? o->size : 4;

	o->cls = EMU_OTHER;
	if (begins(name, "v_mfma") || begins(name, "v_smfmac")) {
		o->cls = EMU_MFMA;
		cycles = mfma_cycles(name);
	} else if (begins_with_one(name, slow)) {
		o->cls = EMU_SLOW;
		cycles = 16;
	} else if (begins(name, "v_")) {
		o->cls = EMU_VALU;
		cycles = 4;
	} else if (begins(name, "ds_")) {
		o->cls = EMU_LDS;
		if (strstr(name, "read2") != NULL || strstr(name, "write2") != NULL)
			size *= 2;
		cycles = size / 2;
	} else if (begins_with_one(name, waits)) {
		o->cls = EMU_WAIT;
	} else if (begins_with_one(name, vmem)) {
		o->cls = EMU_VMEM;
		cycles = size;
	} else if (begins_with_one(name, smem)) {
		o->cls = EMU_SMEM;
	} else if (begins(name, "s_barrier")) {
		o->cls = EMU_BARRIER;
	} else if (begins_with_one(name, branches)) {
		o->cls = EMU_BRANCH;
	} else if (begins(name, "s_")) {
		o->cls = EMU_SALU;
	}
	o->cycles = (u8)(cycles < 1 ? 1 : cycles > 255 ? 255 : cycles);
}

struct name_count {
	char name[40];
	u64 count;
};

static int
by_count(const void *a, const void *b)
{
	u64 x = ((const struct name_count *)a)->count, y = ((const struct name_count *)b)->count;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* EMUHIP_LOG=3: every instruction by name. */
static void
print_names(const struct codeobj *co, const u64 *hist)
{
	struct name_count *names = NULL;
	size_t n = 0, cap = 0, at;

	for (u32 i = 0; i < co->nops; i++) {
		char text[300], name[40] = "";

		if (hist[i] == 0)
			continue;
		emu_disasm_at(co, i, text, sizeof text);
		sscanf(text, " %39s", name);
		for (at = 0; at < n && strcmp(names[at].name, name) != 0; at++)
			;
		if (at == n) {
			if (n == cap) {
				cap = cap * 2 + 64;
				names = realloc(names, cap * sizeof *names);
				if (names == NULL)
					abort();
			}
			memcpy(names[n].name, name, sizeof name);
			names[n++].count = 0;
		}
		names[at].count += hist[i];
	}
	if (n > 0)
		qsort(names, n, sizeof *names, by_count);
	for (at = 0; at < n; at++)
		fprintf(stderr, "emuhip:   %12llu %s\n", (unsigned long long)names[at].count, names[at].name);
	free(names);
}

static void
count_mix(const struct codeobj *co, const u64 *hist, struct emu_mix *mix)
{
	for (u32 i = 0; i < co->nops; i++) {
		struct op *o = &co->ops[i];

		if (hist[i] == 0)
			continue;
		if (o->cycles == 0) {
			char text[300], name[64] = "";

			emu_disasm_at(co, i, text, sizeof text);
			sscanf(text, " %63s", name);
			classify(o, name);
		}
		mix->count[o->cls] += hist[i];
		mix->cycles[o->cls] += hist[i] * o->cycles;
	}
}

void
emu_stats_add(const struct kernel *k, const struct emu_stats *launch, const u64 *hist)
{
	pthread_mutex_lock(&lock);
	total.launches++;
	total.workgroups += launch->workgroups;
	total.waves += launch->waves;
	total.instructions += launch->instructions;
	total.mfma += launch->mfma;
	total.seconds += launch->seconds;
	memset(&last, 0, sizeof last);
	if (hist != NULL) {
		count_mix(k->co, hist, &last);
		for (int c = 0; c < EMU_CLASSES; c++) {
			total.mix.count[c] += last.count[c];
			total.mix.cycles[c] += last.cycles[c];
		}
		if (emu_settings.count_classes >= 3)
			print_names(k->co, hist);
	}
	pthread_mutex_unlock(&lock);
}

void
emu_stats_get(struct emu_stats *out)
{
	pthread_mutex_lock(&lock);
	*out = total;
	pthread_mutex_unlock(&lock);
}

void
emu_stats_reset(void)
{
	pthread_mutex_lock(&lock);
	memset(&total, 0, sizeof total);
	memset(&last, 0, sizeof last);
	pthread_mutex_unlock(&lock);
}

void
emu_stats_last_mix(struct emu_mix *out)
{
	pthread_mutex_lock(&lock);
	*out = last;
	pthread_mutex_unlock(&lock);
}

void
emu_stats_count_classes(int on)
{
	emu_settings.count_classes = on ? 2 : 0;
}

void
emu_stats_mfma_share(const struct emu_mix *mix, double *no_overlap, double *full_overlap)
{
	u64 mfma = mix->cycles[EMU_MFMA], valu = mix->cycles[EMU_VALU] + mix->cycles[EMU_SLOW];
	u64 issue = valu + 4 * mix->count[EMU_MFMA], most = mfma > issue ? mfma : issue;

	*no_overlap = mfma > 0 ? (double)mfma / (double)(mfma + valu) : 0;
	*full_overlap = mfma > 0 ? (double)mfma / (double)most : 0;
}

void
emu_stats_print_mix(const struct emu_mix *mix, const char *what)
{
	const uint64_t *y = mix->cycles;
	double none, full;

	emu_stats_mfma_share(mix, &none, &full);
	fprintf(stderr, "emuhip: %s", what);
	for (int c = 0; c < EMU_CLASSES; c++)
		if (mix->count[c] != 0)
			fprintf(stderr, " %s %llu", emu_stats_class_name((enum emu_class)c),
				(unsigned long long)mix->count[c]);
	/* four SIMDs share the CU's LDS */
	fprintf(stderr,
		"; SIMD cycles: mfma %llu, valu %llu (slow %llu), lds %llu; mfma share: %.3f no overlap, %.3f full overlap; "
		"lds kB %llu, vmem kB %llu\n",
		(unsigned long long)y[EMU_MFMA], (unsigned long long)(y[EMU_VALU] + y[EMU_SLOW]),
		(unsigned long long)y[EMU_SLOW], (unsigned long long)(4 * y[EMU_LDS]), none, full,
		(unsigned long long)(y[EMU_LDS] * 128 >> 10), (unsigned long long)(y[EMU_VMEM] * 64 >> 10));
}

__attribute__((destructor)) static void
print_at_exit(void)
{
	if (emu_settings.stats == 0)
		return;
	fprintf(stderr,
		"emuhip: %llu launches, %llu workgroups, %llu waves, %llu wave instructions (%llu mfma), %.3f s in kernels, "
		"%.2f M instructions/s (%s)\n",
		(unsigned long long)total.launches, (unsigned long long)total.workgroups,
		(unsigned long long)total.waves, (unsigned long long)total.instructions, (unsigned long long)total.mfma,
		total.seconds, (double)total.instructions / (total.seconds + 1e-12) / 1e6, emu_isa_name());
	if (emu_settings.stats > 1)
		emu_stats_print_mix(&total.mix, "all");
}
