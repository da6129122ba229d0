/*
 * aiter_files.c: reads AITER's table and code objects and checks their sums. Called by hip_aiter.c at a worker's start.
 */
#include "worker/aiter_files.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (1 << 20) /* the largest has 40 KB */
#define TABLE "fmha_v3_fwd/fmha_fwd.csv"
#define PATH_LENGTH_MAX 1024

#define S(path, sum)
#define C(commit) const char aiter_commit[] = commit;
#include "worker/aiter_sums.def"
#undef C
#define C(commit)
#undef S
#define S(path, sum) {path, sum},
const struct aiter_sum aiter_sums[] = {
#include "worker/aiter_sums.def"
	{NULL, NULL}};
#undef S
#undef C

/* The whole file, or NULL and why. */
static void *
file_read(const char *path, size_t *size, char *why, size_t why_size)
{
	/* Not to wait for somebody to write, should it be a pipe. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *data = NULL;
	size_t have = 0;
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1) {
		snprintf(why, why_size, "cannot be opened: %s", strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > FILE_BYTES_MAX) {
		snprintf(why, why_size, "is no file of 1 to %d bytes", FILE_BYTES_MAX);
		goto out;
	}
	data = malloc((size_t)st.st_size);
	errno = 0;
	while (data && have < (size_t)st.st_size) {
		ssize_t n = read(fd, data + have, (size_t)st.st_size - have);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	if (!data || have < (size_t)st.st_size) {
		snprintf(why, why_size, "cannot be read: %s",
			 !data	      ? "no memory"
			 : errno != 0 ? strerror(errno)
				      : "it became shorter");
		free(data);
		data = NULL;
	}
	*size = have;
out:
	if (fd != -1)
		close(fd);
	return data;
}

static void
sum_of(const void *data, size_t size, char hex[65])
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, size, data);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (int i = 0; i < SHA256_DIGEST_SIZE; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* `name` is below the architecture's folder. NULL and why, which begins with the path. */
static void *
checked_read(const char *dir, const char *name, const char *arch, const struct aiter_sum *sums, size_t *size, char *why,
	     size_t why_size)
{
	char path[PATH_LENGTH_MAX], known[160], hex[65], what[160];
	void *data = NULL;

	snprintf(known, sizeof(known), "%s/%s", arch, name);
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, known) >= sizeof(path)) {
		snprintf(why, why_size, "the folder's path is too long");
		return NULL;
	}
	while (sums->path && strcmp(sums->path, known) != 0)
		sums++;
	if (!sums->path) {
		snprintf(why, why_size, "%s is none of the files of AITER's commit %.12s that are used", known,
			 aiter_commit);
		return NULL;
	}
	data = file_read(path, size, what, sizeof(what));
	if (data) {
		sum_of(data, *size, hex);
		if (strcmp(hex, sums->sum) == 0)
			return data;
		snprintf(what, sizeof(what), "differs from AITER's commit %.12s: SHA-256 %.12s..., wanted %.12s...",
			 aiter_commit, hex, sums->sum);
		free(data);
	}
	/* The end of a path tells more than its beginning. */
	snprintf(why, why_size, "%s%.87s %.140s", strlen(path) > 87 ? "..." : "",
		 path + (strlen(path) > 87 ? strlen(path) - 87 : 0), what);
	return NULL;
}

/* A row's object: its bytes, or NULL and why. */
static void *
object_read(const struct aiter_row *r, const char *name, const char *dir, const char *arch,
	    const struct aiter_sum *sums, char *why, size_t why_size)
{
	char kernel[LAUNCH_SYMBOL_MAX + 4];
	size_t size = 0;
	void *image;

	if (strlen(name) - 3 >= sizeof(r->object)) {
		snprintf(why, why_size, "the file name %.60s... is too long", name);
		return NULL;
	}
	image = checked_read(dir, name, arch, sums, &size, why, why_size);
	/* A kernel that is not there would cost the worker its life. */
	snprintf(kernel, sizeof(kernel), "%s.kd", r->symbol);
	if (image && !memmem(image, size, kernel, strlen(kernel) + 1)) {
		snprintf(why, why_size, "%.90s has no kernel %.63s", name, kernel);
		free(image);
		image = NULL;
	}
	return image;
}

static void
read_objects(struct aiter_files *f, const char *dir, const char *arch, const char *folder, const struct aiter_sum *sums)
{
	for (int i = 0; i < f->table.n; i++) {
		struct aiter_row *r = &f->table.rows[i];
		char name[AITER_FILE_MAX + 64], why[sizeof(r->why)] = "";

		snprintf(name, sizeof(name), "fmha_v3_fwd/%s/%s", folder, r->file);
		r->image = f->images[i] = object_read(r, name, dir, arch, sums, why, sizeof(why));
		memcpy(r->why, why, sizeof(r->why));
		if (!r->image)
			continue;
		memcpy(r->object, name, strlen(name) - 3);
		f->usable++;
	}
}

void
aiter_files_give_up(struct aiter_files *f, const char *problem)
{
	f->table.n = f->usable = 0;
	snprintf(f->table.problem, sizeof(f->table.problem), "%s", problem);
	snprintf(f->summary, sizeof(f->summary), "none of AITER's kernels: %s", f->table.problem);
}

static void
summarise(struct aiter_files *f)
{
	char why[sizeof(f->table.rows[0].why)] = "";

	for (int i = f->table.n - 1; i >= 0; i--)
		if (!f->table.rows[i].image)
			memcpy(why, f->table.rows[i].why, sizeof(why));
	if (f->usable == 0) {
		aiter_files_give_up(f, why);
		return;
	}
	if (*why)
		snprintf(f->summary, sizeof(f->summary), "%d of %d kernels of fmha_v3_fwd/%s; %s", f->usable,
			 f->table.n, f->folder, why);
	else
		snprintf(f->summary, sizeof(f->summary), "%d kernels of fmha_v3_fwd/%s", f->usable, f->folder);
}

void
aiter_files_drop(struct aiter_files *f, int row, const char *problem)
{
	struct aiter_row *r = &f->table.rows[row];

	assert(row < f->table.n && r->image);
	r->image = NULL;
	f->usable--;
	snprintf(r->why, sizeof(r->why), "%s", problem);
	summarise(f);
}

struct aiter_files *
aiter_files_load(const char *dir, const char *arch, const char *folder, const struct aiter_sum *sums)
{
	struct aiter_files *f = calloc(1, sizeof(*f));
	char why[240];
	struct err e = {0};
	size_t size = 0;
	void *text;

	if (!f)
		return NULL;
	f->folder = folder;
	if (strcmp(arch, "gfx942") != 0) {
		snprintf(why, sizeof(why), "only those for gfx942 can be run, this device is %.31s", arch);
		aiter_files_give_up(f, why);
		return f;
	}
	text = checked_read(dir, TABLE, arch, sums, &size, why, sizeof(why));
	if (!text) {
		aiter_files_give_up(f, why);
		return f;
	}
	if (aiter_table_parse(&f->table, text, size, &e) == -1) {
		snprintf(why, sizeof(why), "%s: %.200s", TABLE, e.msg);
		aiter_files_give_up(f, why);
	} else {
		read_objects(f, dir, arch, folder, sums);
		summarise(f);
	}
	free(text);
	return f;
}

void
aiter_files_free(struct aiter_files **fp)
{
	struct aiter_files *f = *fp;

	if (!f)
		return;
	for (int i = 0; i < AITER_ROWS_MAX; i++)
		free(f->images[i]);
	free(f);
	*fp = NULL;
}
