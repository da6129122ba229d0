/* arena_slab.c: making and unmaking slabs; see arena_slab.h. Any thread, no lock. */
#include "arena_slab.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena_poison.h"
#include "log.h"

static int
slab_map(struct slab *slab, struct err *e)
{
	slab->fd = memfd_create("aiterd-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (slab->fd == -1)
		return err_set(e, ERR_OUT_OF_MEMORY,
			       "no shared memory for an arena of %" PRIu64 " bytes: memfd_create: %s", slab->bytes,
			       strerror(errno));
	if (ftruncate(slab->fd, (off_t)slab->bytes) == -1)
		return err_set(e, ERR_OUT_OF_MEMORY, "no shared memory for an arena of %" PRIu64 " bytes: ftruncate: %s",
			       slab->bytes, strerror(errno));
	slab->data = mmap(NULL, slab->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, slab->fd, 0);
	if (slab->data == MAP_FAILED) {
		slab->data = NULL;
		return err_set(e, ERR_OUT_OF_MEMORY, "cannot map an arena of %" PRIu64 " bytes: %s", slab->bytes,
			       strerror(errno));
	}

	/* Populating before fallocate, which then only fills gaps, is what lets the pages be huge ones:
	 * fallocate does not see the advice. Where populating fails, fallocate tells whether it was for lack of memory. */
	(void)madvise(slab->data, slab->bytes, MADV_HUGEPAGE);
	bool touched = false;
#ifdef MADV_POPULATE_WRITE
	touched = madvise(slab->data, slab->bytes, MADV_POPULATE_WRITE) == 0;
#endif
	while (fallocate(slab->fd, 0, 0, (off_t)slab->bytes) == -1) {
		if (errno == EINTR)
			continue;
		return err_set(
			e, ERR_OUT_OF_MEMORY,
			"the memory for requests (tmpfs, shared memory) is exhausted: reserving an arena of %" PRIu64
			" bytes failed: %s",
			slab->bytes, strerror(errno));
	}
	if (!touched)
		for (uint64_t i = 0; i < slab->bytes; i += 4096)
			((volatile unsigned char *)slab->data)[i] = 0;
	if (fcntl(slab->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
		return err_set(e, ERR_OUT_OF_MEMORY, "cannot seal an arena: %s", strerror(errno));
	return 0;
}

void
slab_free(struct slab *slab)
{
	if (slab->data) {
		unpoison(slab->data, slab->bytes);
		munmap(slab->data, slab->bytes);
	}
	if (slab->fd != -1)
		close(slab->fd);
	free(slab);
}

struct slab *
slab_new(int class, uint64_t arena_bytes, uint64_t bytes, struct err *e)
{
	uint32_t n = (uint32_t)(bytes / arena_bytes);
	struct slab *slab = xcalloc(1, sizeof(*slab) + n * sizeof(slab->arenas[0]));

	slab->fd = -1;
	slab->class = class;
	slab->bytes = bytes;
	slab->arena_bytes = arena_bytes;
	slab->n = n;
	for (uint32_t i = 0; i < n; i++)
		slab->arenas[i].slab = slab;
	if (slab_map(slab, e) == -1) {
		slab_free(slab);
		return NULL;
	}
	poison(slab->data, slab->bytes);
	return slab;
}
