/*
 * save.c: tensors into .npy and .safetensors files. A file is written beside its place and renamed when it is whole, so
 * that nobody finds half of one; what is no regular file (a pipe, /dev/stdout) is written as it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "codec/json.h"
#include "lib.h"

#include <cjson/cJSON.h>

#define WRITE_MAX ((size_t)1 << 30)
#define TRIES 100 /* for a name that nobody has */

static int
write_all(int fd, const void *data, uint64_t n)
{
	const unsigned char *p = data;

	while (n) {
		ssize_t did = write(fd, p, n < WRITE_MAX ? (size_t)n : WRITE_MAX);

		if (did < 0 && errno == EINTR)
			continue;
		if (did < 0)
			return -1;
		p += did;
		n -= (uint64_t)did;
	}
	return 0;
}

static int
write_pieces(int fd, const struct lib_piece *pieces, int n)
{
	for (int i = 0; i < n; i++)
		if (write_all(fd, pieces[i].p, pieces[i].n) < 0)
			return -1;
	return 0;
}

/* A new file in the same folder, with the permissions that open() gives, or those of the file that it will replace. (Not by
 * mkstemp(): that one's permissions would have to be mended by the umask, which can be asked for only by changing it, for
 * all threads.) */
static int
beside(const char *path, const struct stat *replaced, char **temporary)
{
	int fd = -1;

	for (int i = 0; i < TRIES && fd < 0; i++) {
		uint64_t number;

		free(*temporary);
		*temporary = NULL;
		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			return -1;
		if (asprintf(temporary, "%s.%08" PRIx64, path, number & 0xffffffff) < 0) {
			*temporary = NULL;
			errno = ENOMEM;
			return -1;
		}
		fd = open(*temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, replaced ? 0600 : 0666);
		if (fd < 0 && errno != EEXIST)
			break;
	}
	if (fd >= 0 && replaced && fchmod(fd, replaced->st_mode & 0777) < 0) {
		/* not fatal: a file that only its owner can read */
	}
	return fd;
}

static enum aiterd_status
save(struct aiterd *s, const char *path, const struct lib_piece *pieces, int n)
{
	enum aiterd_status status = AITERD_OK;
	char *temporary = NULL, *real;
	struct stat st;
	bool exists;
	int fd, rc;

	if (strcmp(path, "-") == 0) {
		if (write_pieces(STDOUT_FILENO, pieces, n) < 0)
			return lib_fail(s, AITERD_BAD_FILE, "standard output cannot be written: %s", strerror(errno));
		return AITERD_OK;
	}
	/* What a symbolic link leads to is replaced, not the link. */
	real = realpath(path, NULL);
	exists = real && stat(real, &st) == 0;
	if (exists && !S_ISREG(st.st_mode))
		fd = open(real, O_WRONLY | O_CLOEXEC);
	else
		fd = beside(real ? real : path, exists ? &st : NULL, &temporary);
	rc = fd < 0 ? -1 : write_pieces(fd, pieces, n);
	if (fd >= 0 && close(fd) < 0)
		rc = -1;
	if (rc == 0 && temporary && rename(temporary, real ? real : path) < 0)
		rc = -1;
	if (rc < 0) {
		status = lib_fail(s, AITERD_BAD_FILE, "%s cannot be written: %s", path, strerror(errno));
		if (temporary && fd >= 0)
			unlink(temporary);
	}
	free(temporary);
	free(real);
	return status;
}

enum aiterd_status
aiterd_write_bytes(struct aiterd *s, const char *path, const void *bytes, size_t size)
{
	struct lib_piece piece = {bytes, size};

	return save(s, path, &piece, 1);
}

enum aiterd_status
aiterd_write_npy(struct aiterd *s, const char *path, const struct aiterd_tensor *t)
{
	static const char blanks[] = "                                                                ";
	struct lib_piece pieces[2];
	enum aiterd_status status;
	struct tensor described;
	struct text head;
	struct err e;
	size_t len;

	if (!lib_tensor(t, &described, &e))
		return lib_fail(s, AITERD_BAD_ARGUMENT, "%s", e.msg);
	text_init(&head, 4096);
	text_addn(&head, "\x93NUMPY\1\0\0\0", 10);
	text_addf(&head, "{'descr': '%s', 'fortran_order': False, 'shape': (", dtype_info((enum dtype)t->dtype)->npy);
	for (int i = 0; i < t->rank; i++)
		text_addf(&head, "%s%" PRId64, i ? ", " : "", t->shape[i]);
	text_add(&head, t->rank == 1 ? ",), }" : "), }");
	/* the data begin at a multiple of 64; a newline ends the header */
	text_addn(&head, blanks, 63 - head.len % 64);
	text_add(&head, "\n");
	if (text_failed(&head)) {
		text_fini(&head);
		return lib_no_memory(s);
	}
	len = head.len - 10;
	head.p[8] = (char)(len & 0xff);
	head.p[9] = (char)(len >> 8);
	pieces[0] = (struct lib_piece){head.p, head.len};
	pieces[1] = (struct lib_piece){t->data, t->bytes};
	status = save(s, path, pieces, 2);
	text_fini(&head);
	return status;
}

static bool
is_object_of_strings(const char *json)
{
	cJSON *tree = json_parse(json, strlen(json), LIB_JSON_DEPTH, NULL);
	bool good = cJSON_IsObject(tree);
	const cJSON *item;

	cJSON_ArrayForEach(item, tree) good = good && cJSON_IsString(item);
	cJSON_Delete(tree);
	return good;
}

enum aiterd_status
aiterd_write_safetensors(struct aiterd *s, const char *path, const struct aiterd_tensor *tensors, int count,
			 const char *metadata)
{
	struct lib_piece *pieces = calloc((size_t)(count < 0 ? 0 : count) + 1, sizeof(*pieces));
	enum aiterd_status status = AITERD_OK;
	struct tensor described;
	struct text head;
	struct err e;

	text_init(&head, LIB_TEXT_MAX);
	if (count < 0)
		status = lib_fail(s, AITERD_BAD_ARGUMENT, "there cannot be %d tensors", count);
	else if (metadata && !is_object_of_strings(metadata))
		status = lib_fail(s, AITERD_BAD_ARGUMENT, "metadata of a safetensors file is a JSON object of strings");
	for (int i = 0; i < count && status == AITERD_OK; i++)
		if (!tensors[i].name || !lib_tensor(&tensors[i], &described, &e))
			status = lib_fail(s, AITERD_BAD_ARGUMENT, "%s",
					  tensors[i].name ? e.msg : "a tensor has no name");
	if (status == AITERD_OK && (!pieces || lib_safetensors_head(&head, tensors, count, metadata) < 0))
		status = lib_no_memory(s);
	if (status == AITERD_OK) {
		pieces[0] = (struct lib_piece){head.p, head.len};
		for (int i = 0; i < count; i++)
			pieces[i + 1] = (struct lib_piece){tensors[i].data, tensors[i].bytes};
		status = save(s, path, pieces, count + 1);
	}
	text_fini(&head);
	free(pieces);
	return status;
}
