/*
 * maps.c: maps slabs once and finds jobs' tensors in them. The front is the same build and checked the request
 * already; what is checked here is what would make this process read or write where it must not.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "worker/maps.h"

#define NOWHERE 4096 /* never mapped; aligned like device memory */

struct map {
	unsigned char *data; /* NULL: none */
	uint64_t bytes;
	uint32_t generation;
};

struct maps {
	struct device *d;
	struct map slabs[ARENA_SLABS_MAX];
};

struct maps *
maps_new(struct device *d)
{
	struct maps *m = xcalloc(1, sizeof(*m));

	m->d = d;
	return m;
}

static void
unmap(struct maps *m, struct map *s)
{
	if (!s->data)
		return;
	dev_host_unpin(m->d, s->data, s->bytes);
	munmap(s->data, s->bytes);
	s->data = NULL;
}

/* Generations go round: a is newer than b when it is less than half the circle ahead. */
static bool
newer(uint32_t a, uint32_t b)
{
	return a != b && a - b < UINT32_C(1) << 31;
}

int
maps_add(struct maps *m, const struct msg_map *map, int fd, struct err *e)
{
	struct map *s;
	struct stat st;
	void *p;
	int rc = -1;

	if (fd == -1 || map->slab >= ARENA_SLABS_MAX || map->bytes == 0) {
		err_set(e, ERR_INTERNAL, "MAP of slab %" PRIu32 ", %" PRIu64 " bytes, with%s a descriptor", map->slab,
			map->bytes, fd == -1 ? "out" : "");
		goto out;
	}
	s = &m->slabs[map->slab];
	if (s->data && !newer(map->generation, s->generation)) {
		rc = 0;
		goto out;
	}
	if (fstat(fd, &st) == -1 || (uint64_t)st.st_size != map->bytes) {
		err_set(e, ERR_INTERNAL, "slab %" PRIu32 " has %lld bytes, %" PRIu64 " were announced", map->slab,
			(long long)st.st_size, map->bytes);
		goto out;
	}
	if ((fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
		err_set(e, ERR_INTERNAL, "slab %" PRIu32 " is not sealed", map->slab);
		goto out;
	}
	p = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		err_set(e, ERR_OUT_OF_MEMORY, "cannot map slab %" PRIu32 " of %" PRIu64 " bytes: %s", map->slab,
			map->bytes, strerror(errno));
		goto out;
	}
	unmap(m, s);
	(void)madvise(p, map->bytes, MADV_DONTDUMP); /* clients' data is not for core files */
	(void)madvise(p, map->bytes, MADV_HUGEPAGE);
	s->data = p;
	s->bytes = map->bytes;
	s->generation = map->generation;
	dev_host_pin(m->d, p, map->bytes);
	rc = 0;
out:
	if (fd != -1)
		close(fd);
	return rc;
}

void
maps_remove(struct maps *m, const struct msg_map *map)
{
	if (map->slab < ARENA_SLABS_MAX && m->slabs[map->slab].generation == map->generation)
		unmap(m, &m->slabs[map->slab]);
}

/* Where a dry job's tensors will lie nobody knows: planners want an address, and do not follow it. */
static int
tensor_place(const struct maps *m, struct tensor *t, const char *name, bool dry, struct err *e)
{
	const struct dtype_info *info;
	const struct map *s;
	uint64_t bytes;

	if (t->dtype >= DT_COUNT || t->rank > TENSOR_RANK_MAX)
		return err_set(e, ERR_INTERNAL, "%s: dtype %u, rank %u", name, t->dtype, t->rank);
	info = dtype_info((enum dtype)t->dtype);
	bytes = info->size;
	for (int i = 0; i < t->rank; i++)
		if (t->shape[i] < 0 || __builtin_mul_overflow(bytes, (uint64_t)t->shape[i], &bytes))
			return err_set(e, ERR_INTERNAL, "%s: length %lld", name, (long long)t->shape[i]);
	if (bytes != t->bytes)
		return err_set(e, ERR_INTERNAL, "%s: %" PRIu64 " bytes, its shape makes %" PRIu64, name, t->bytes,
			       bytes);
	if (dry) {
		t->data = (void *)(uintptr_t)NOWHERE;
		return 0;
	}
	if (t->slab >= ARENA_SLABS_MAX || !m->slabs[t->slab].data)
		return err_set(e, ERR_INTERNAL, "%s: slab %" PRIu32 " is not mapped", name, t->slab);
	s = &m->slabs[t->slab];
	if (t->offset > s->bytes || t->bytes > s->bytes - t->offset || t->offset % 64 != 0)
		return err_set(e, ERR_INTERNAL, "%s: bytes %" PRIu64 " + %" PRIu64 " of a slab of %" PRIu64, name,
			       t->offset, t->bytes, s->bytes);
	t->data = s->data + t->offset;
	return 0;
}

/* Where a bench job notes its times. */
static int
samples_place(const struct maps *m, struct msg_job *job, struct err *e)
{
	struct tensor *t = &job->samples;
	int64_t rows = job->baseline != IMPL_AUTO ? 2 : 1;

	t->data = NULL;
	if (job->bench > BENCH_WARM || (job->bench == BENCH_NONE && t->dtype != DT_NONE))
		return err_set(e, ERR_INTERNAL, "bench %" PRIu32 " with samples of dtype %u", job->bench, t->dtype);
	if (t->dtype == DT_NONE)
		return 0;
	if (t->dtype != DT_FP64 || t->rank != 2 || t->shape[0] != rows || t->shape[1] != (int64_t)job->iters)
		return err_set(e, ERR_INTERNAL, "samples: dtype %u, rank %u", t->dtype, t->rank);
	return tensor_place(m, t, "samples", false, e);
}

int
maps_job(const struct maps *m, struct msg_job *job, struct err *e)
{
	const struct op *op;
	bool ended = false;

	if (job->call.op >= op_count())
		return err_set(e, ERR_INTERNAL, "operator %" PRIu32 " of %" PRIu32, job->call.op, op_count());
	op = op_get(job->call.op);
	if (job->impl >= IMPL_COUNT || job->baseline >= IMPL_COUNT || job->iters == 0)
		return err_set(e, ERR_INTERNAL, "%s: impl %" PRIu32 ", baseline %" PRIu32 ", %" PRIu32 " runs",
			       op->name, job->impl, job->baseline, job->iters);
	for (int i = 0; i < OP_TENSORS_MAX; i++) {
		struct tensor *t = &job->call.tensors[i];

		ended = ended || !op->tensors[i].name;
		t->data = NULL;
		if (t->dtype == DT_NONE) {
			if (!ended && !op->tensors[i].optional)
				return err_set(e, ERR_INTERNAL, "%s: no tensor %s", op->name, op->tensors[i].name);
			continue;
		}
		if (ended)
			return err_set(e, ERR_INTERNAL, "%s: a tensor number %d, which it does not have", op->name, i);
		if (tensor_place(m, t, op->tensors[i].name, job->dry != 0, e) == -1)
			return -1;
	}
	return samples_place(m, job, e);
}
