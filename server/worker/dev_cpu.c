/*
 * dev_cpu.c: the cpu as a device: tensors are used where they lie in the arenas, a run calls the operator's
 * functions. Linked into aiterd-worker-cpu only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "worker/compute.h"
#include "worker/device.h"

#define FLUSH_MAX ((size_t)512 << 20)

static const char *const isa_names[] = {[CPU_SCALAR] = "scalar", [CPU_AVX2] = "avx2", [CPU_AVX512] = "avx512"};

struct cpu {
	struct compute *compute;
	uint64_t cache;
	unsigned char *flush; /* what is written through to clear the caches: from when first wanted to the plan's end */
	size_t flush_bytes;
	char model[96];
	uint32_t mhz;
	uint64_t memory_total, memory_free, memory_asked_ns;
};

static void
cpuinfo_read(struct cpu *cpu)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[512];
	double mhz;

	snprintf(cpu->model, sizeof(cpu->model), "unknown processor");
	while (f && fgets(line, sizeof(line), f) && (cpu->mhz == 0 || strcmp(cpu->model, "unknown processor") == 0)) {
		char *value = strchr(line, ':');

		if (!value)
			continue;
		value += strspn(value, ": \t");
		value[strcspn(value, "\n")] = '\0';
		if (strncmp(line, "model name", 10) == 0)
			snprintf(cpu->model, sizeof(cpu->model), "%.90s", value);
		else if (strncmp(line, "cpu MHz", 7) == 0 && (mhz = strtod(value, NULL)) > 0 && mhz < 1e6)
			cpu->mhz = (uint32_t)(mhz + 0.5);
	}
	if (f)
		fclose(f);
}

/* A line of a file below /sys/devices/system/cpu; "" when there is none. */
static const char *
sysfs_line(unsigned cpu, unsigned index, const char *name, char *line, size_t size)
{
	char path[96];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/cache/index%u/%s", cpu, index, name);
	f = fopen(path, "re");
	if (!f || !fgets(line, (int)size, f))
		line[0] = '\0';
	if (f)
		fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

/* The last-level caches of all processors together: a chip may have several, and this process uses them all. */
static uint64_t
caches_read(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF), level = 0, l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
	uint64_t sum = 0;

	for (unsigned i = 0; i < (unsigned)cpus; i++) {
		char line[256], size[32];

		for (unsigned k = 0; k < 8; k++) {
			long this_level = strtol(sysfs_line(i, k, "level", line, sizeof(line)), NULL, 10);
			char *unit;
			uint64_t bytes;

			if (this_level < level || this_level < 2)
				continue;
			if (this_level > level) /* what was counted so far is not the last */
				sum = 0;
			level = this_level;
			/* Counted with the first processor that shares it. */
			if (strtoul(sysfs_line(i, k, "shared_cpu_list", line, sizeof(line)), NULL, 10) != i)
				continue;
			bytes = strtoull(sysfs_line(i, k, "size", size, sizeof(size)), &unit, 10);
			sum += *unit == 'K' ? bytes << 10 : *unit == 'M' ? bytes << 20 : bytes;
		}
	}
	return sum > 0 ? sum : l3 > 0 ? (uint64_t)l3 : 0;
}

static uint64_t
cpu_cache(struct device *d)
{
	const struct cpu *cpu = d->priv;

	return cpu->cache;
}

static int
cpu_open(struct device *d, int ordinal, int threads, struct err *e)
{
	struct cpu *cpu;

	if (ordinal != 0)
		return err_set(e, ERR_DEVICE_UNAVAILABLE, "there is one cpu device, cpu:0; cpu:%d was asked for",
			       ordinal);
	cpu = calloc(1, sizeof(*cpu));
	if (!cpu || !(cpu->compute = compute_new(threads))) {
		free(cpu);
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory or threads for the cpu device");
	}
	cpuinfo_read(cpu);
	cpu->cache = caches_read();
	cpu->memory_total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	d->priv = cpu;
	return 0;
}

static void *
cpu_alloc(struct device *d, size_t bytes, struct err *e)
{
	void *p = NULL;

	(void)d;
	if (posix_memalign(&p, 4096, bytes ? bytes : 1) != 0) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
		return NULL;
	}
	return p;
}

static void
cpu_free(struct device *d, void *p, size_t bytes)
{
	(void)d;
	(void)bytes;
	free(p);
}

static void
cpu_close(struct device *d)
{
	struct cpu *cpu = d->priv;

	free(cpu->flush);
	compute_free(&cpu->compute);
	free(cpu);
}

static void
cpu_info(struct device *d, struct device_info *info)
{
	const struct cpu *cpu = d->priv;
	const char *machine =
#if defined(__x86_64__)
		"x86_64";
#elif defined(__aarch64__)
		"aarch64";
#else
		"unknown";
#endif

	memcpy(info->name, cpu->model, sizeof(info->name));
	snprintf(info->arch, sizeof(info->arch), "%s+%s", machine, isa_names[cpu_isa()]);
	info->compute_units = (uint32_t)compute_threads(cpu->compute);
	info->clock_mhz = cpu->mhz;
}

static op_run_f
function(const struct op *op, enum impl impl)
{
	switch (impl) {
	case IMPL_AUTO:
		return op->cpu ? op->cpu : op->ref;
	case IMPL_OWN:
		return op->cpu;
	case IMPL_NAIVE:
		return op->naive;
	case IMPL_REFERENCE:
		return op->ref;
	case IMPL_AITER:
	case IMPL_COUNT:
		break;
	}
	return NULL;
}

static uint32_t
cpu_impls(struct device *d, const struct op *op)
{
	uint32_t bits = 0;

	(void)d;
	for (unsigned i = 0; i < IMPL_COUNT; i++)
		if (function(op, (enum impl)i))
			bits |= 1u << i;
	return bits;
}

static int
cpu_plan(struct device *d, struct device_plan *p, struct err *e)
{
	(void)d;
	(void)e;
	if (p->dry)
		snprintf(p->why_not_aiter, sizeof(p->why_not_aiter),
			 "AITER's kernels are gfx942 machine code, which the cpu device cannot run");
	if (p->impl == IMPL_AUTO)
		p->impl = p->op->cpu ? IMPL_OWN : IMPL_REFERENCE;
	snprintf(p->name, sizeof(p->name), "%s%s",
		 p->impl == IMPL_REFERENCE ? "reference"
		 : p->impl == IMPL_NAIVE   ? "cpu:naive"
					   : "cpu:",
		 p->impl == IMPL_OWN ? isa_names[cpu_isa()] : "");
	return 0;
}

static int
cpu_run(struct device *d, struct device_plan *p, struct err *e)
{
	struct cpu *cpu = d->priv;
	const char *variant;
	int rc;

	compute_job_begin(cpu->compute);
	compute_watch(cpu->compute, d->unwanted, d->unwanted_cls);
	rc = function(p->op, p->impl)(p->call, cpu->compute, e);
	if (rc == 0 && compute_stopped(cpu->compute))
		rc = err_set(e, ERR_CLIENT_GONE, "cancelled while it ran");
	variant = compute_variant_get(cpu->compute);
	if (p->impl == IMPL_OWN && variant && *variant)
		snprintf(p->name, sizeof(p->name), "cpu:%s", variant);
	return rc;
}

static size_t
cpu_settle(struct device *d)
{
	struct cpu *cpu = d->priv;

	return compute_run_end(cpu->compute);
}

static void
cpu_unplan(struct device *d, struct device_plan *p)
{
	struct cpu *cpu = d->priv;

	(void)p;
	compute_job_end(cpu->compute);
	free(cpu->flush);
	cpu->flush = NULL;
}

static int
cpu_sync(struct device *d, struct err *e)
{
	(void)d;
	(void)e;
	return 0;
}

/* Free, or as good as that: the kernel's file cache gives way. */
static uint64_t
memory_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && kib == 0 && fgets(line, sizeof(line), f))
		if (strncmp(line, "MemAvailable:", 13) == 0)
			kib = strtoull(line + 13, NULL, 10);
	if (f)
		fclose(f);
	return kib > 0 ? kib << 10 : (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void
cpu_mem_info(struct device *d, uint64_t *available, uint64_t *total)
{
	struct cpu *cpu = d->priv;
	uint64_t now = clock_ns();

	/* Asking the kernel each time would cost small jobs a tenth of their time. */
	if (cpu->memory_asked_ns == 0 || now - cpu->memory_asked_ns > 10000000u) {
		cpu->memory_free = memory_available();
		cpu->memory_asked_ns = now;
	}
	*available = cpu->memory_free;
	*total = cpu->memory_total;
}

struct flush_part {
	unsigned char *p;
	size_t bytes;
};

static void
flush_part(void *arg, int64_t item, int thread)
{
	const struct flush_part *f = arg;
	volatile unsigned char *p = f->p + (size_t)item * f->bytes;

	(void)thread;
	for (size_t i = 0; i < f->bytes; i += 64)
		p[i] = (unsigned char)(p[i] + 1);
}

/*
 * Each thread writes through more than its share of the last level, so that the cores' own caches are cleared too. The
 * memory is no part of what the job needs, so it is not counted.
 */
static int
cpu_flush(struct device *d, struct err *e)
{
	struct cpu *cpu = d->priv;
	struct flush_part part;
	int64_t parts = (int64_t)compute_threads(cpu->compute) * 4;

	if (!cpu->flush) {
		long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
		size_t bytes = (size_t)64 << 20;

		if (l3 > 0 && (size_t)l3 * 2 > bytes)
			bytes = (size_t)l3 * 2;
		if (l2 > 0 && (size_t)l2 * 2 * (size_t)compute_threads(cpu->compute) > bytes)
			bytes = (size_t)l2 * 2 * (size_t)compute_threads(cpu->compute);
		if (bytes > FLUSH_MAX)
			bytes = FLUSH_MAX;
		cpu->flush = cpu_alloc(d, bytes, e);
		if (!cpu->flush)
			return -1;
		cpu->flush_bytes = bytes;
		memset(cpu->flush, 0, bytes);
	}
	part.p = cpu->flush;
	part.bytes = cpu->flush_bytes / (size_t)parts;
	compute_for(cpu->compute, parts, flush_part, &part);
	return 0;
}

const struct device_ops device_backend = {
	.kind = "cpu",
	.unified = true,
	.open = cpu_open,
	.close = cpu_close,
	.info = cpu_info,
	.impls = cpu_impls,
	.alloc = cpu_alloc,
	.free = cpu_free,
	.plan = cpu_plan,
	.unplan = cpu_unplan,
	.run = cpu_run,
	.settle = cpu_settle,
	.sync = cpu_sync,
	.mem_info = cpu_mem_info,
	.cache = cpu_cache,
	.flush = cpu_flush,
};
