/*
 * file.c: .npy and .safetensors files, mapped into memory, and tensors' small functions. The mapping is the file's; tensors
 * point into it. What cannot be mapped (a pipe) is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib.h"

#define READ_FIRST ((size_t)1 << 16)

struct aiterd_file {
	unsigned char *p;
	size_t n;
	bool mapped;
	struct lib_tensors tensors;
};

/* A pipe's bytes to its end. */
static int
read_all(struct aiterd_file *f, int fd)
{
	size_t cap = 0;

	for (;;) {
		ssize_t got;

		if (f->n == cap) {
			unsigned char *p = realloc(f->p, cap ? cap * 2 : READ_FIRST);

			if (!p)
				return -1;
			f->p = p;
			cap = cap ? cap * 2 : READ_FIRST;
		}
		got = read(fd, f->p + f->n, cap - f->n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return (int)got;
		f->n += (size_t)got;
	}
}

static int
load(struct aiterd_file *f, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	if (S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		return -1;
	}
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return read_all(f, fd);
	f->p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (f->p == MAP_FAILED) {
		f->p = NULL;
		return read_all(f, fd);
	}
	f->mapped = true;
	f->n = (size_t)st.st_size;
	madvise(f->p, f->n, MADV_SEQUENTIAL);
	return 0;
}

enum aiterd_status
aiterd_file_open(struct aiterd *s, const char *path, struct aiterd_file **file)
{
	struct aiterd_file *f = calloc(1, sizeof(*f));
	const char *shown = strcmp(path, "-") == 0 ? "standard input" : path;
	int fd = shown == path ? open(path, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO), rc;
	enum aiterd_status status = AITERD_OK;
	struct err e = {.code = ERR_NONE};

	*file = NULL;
	if (!f) {
		status = lib_no_memory(s);
	} else if (fd < 0 || load(f, fd) < 0) {
		status = lib_fail(s, AITERD_BAD_FILE, "%s cannot be read: %s", shown, strerror(errno));
	} else {
		rc = lib_is_npy(f->p, f->n) ? lib_npy_read(&f->tensors, path, f->p, f->n, &e)
					    : lib_safetensors_read(&f->tensors, f->p, f->n, &e);
		if (rc < 0)
			status = lib_fail(s, AITERD_BAD_FILE, "%s is no .npy or .safetensors file that can be used: %s",
					  shown, e.msg);
	}
	if (fd >= 0)
		close(fd);
	if (status == AITERD_OK)
		*file = f;
	else
		aiterd_file_close(f);
	return status;
}

void
aiterd_file_close(struct aiterd_file *f)
{
	if (!f)
		return;
	lib_tensors_fini(&f->tensors);
	if (f->mapped)
		munmap(f->p, f->n);
	else
		free(f->p);
	free(f);
}

int
aiterd_file_count(const struct aiterd_file *f)
{
	return f->tensors.n;
}

enum aiterd_status
aiterd_file_tensor(const struct aiterd_file *f, int i, struct aiterd_tensor *t)
{
	if (i < 0 || i >= f->tensors.n)
		return AITERD_BAD_ARGUMENT;
	*t = f->tensors.t[i];
	return AITERD_OK;
}

enum aiterd_status
aiterd_file_find(const struct aiterd_file *f, const char *name, struct aiterd_tensor *t)
{
	return aiterd_file_tensor(f, lib_tensors_find(&f->tensors, name), t);
}

const char *
aiterd_file_metadata(const struct aiterd_file *f, const char *name)
{
	return lib_metadata(&f->tensors, name);
}

/* ---- tensors ---- */

#define SAME(a, b) _Static_assert((int)(a) == (int)(b), "the header's dtypes are the server's")
SAME(AITERD_FP32, DT_FP32);
SAME(AITERD_FP16, DT_FP16);
SAME(AITERD_BF16, DT_BF16);
SAME(AITERD_FP64, DT_FP64);
SAME(AITERD_INT8, DT_INT8);
SAME(AITERD_UINT8, DT_UINT8);
SAME(AITERD_INT32, DT_INT32);
SAME(AITERD_INT64, DT_INT64);
SAME(AITERD_BOOL, DT_BOOL);
SAME(AITERD_FP8_E4M3, DT_FP8_E4M3);
SAME(AITERD_FP8_E4M3FNUZ, DT_FP8_E4M3FNUZ);
SAME(AITERD_FP8_E5M2, DT_FP8_E5M2);
SAME(AITERD_RANK_MAX, TENSOR_RANK_MAX);

bool
lib_tensor(const struct aiterd_tensor *from, struct tensor *to, struct err *e)
{
	const char *name = from->name ? from->name : "";

	if (from->rank < 0 || from->rank > AITERD_RANK_MAX || !aiterd_dtype_size(from->dtype)) {
		err_set(e, ERR_INVALID_DTYPE, "the tensor '%.40s' has no known dtype, or a rank outside 0 to 8", name);
		return false;
	}
	if (tensor_describe(to, name, (enum dtype)from->dtype, from->rank, from->shape, e) < 0)
		return false;
	if (to->bytes != from->bytes || (!from->data && from->bytes)) {
		err_set(e, ERR_INVALID_SHAPE, "the tensor '%.40s' has %llu bytes; its dtype and shape make %llu", name,
			(unsigned long long)(from->data ? from->bytes : 0), (unsigned long long)to->bytes);
		return false;
	}
	return true;
}

const char *
aiterd_dtype_name(enum aiterd_dtype dtype)
{
	return dtype_info((enum dtype)dtype)->name;
}

enum aiterd_dtype
aiterd_dtype_find(const char *name)
{
	return (enum aiterd_dtype)dtype_find(name, strlen(name));
}

size_t
aiterd_dtype_size(enum aiterd_dtype dtype)
{
	return dtype_info((enum dtype)dtype)->size;
}

enum aiterd_status
aiterd_tensor_describe(struct aiterd_tensor *t, enum aiterd_dtype dtype, int rank, const int64_t *shape)
{
	struct tensor described;

	if (!aiterd_dtype_size(dtype) || rank < 0 || rank > AITERD_RANK_MAX ||
	    tensor_describe(&described, "", (enum dtype)dtype, rank, shape, NULL) < 0)
		return AITERD_BAD_ARGUMENT;
	t->dtype = dtype;
	t->rank = rank;
	memcpy(t->shape, described.shape, sizeof(t->shape));
	t->bytes = described.bytes;
	return AITERD_OK;
}

double
aiterd_tensor_at(const struct aiterd_tensor *t, int64_t i)
{
	size_t size = aiterd_dtype_size(t->dtype);
	uint64_t element = 0; /* alone, where any dtype is aligned */
	struct tensor one = {.dtype = (uint8_t)t->dtype, .bytes = size, .data = &element};

	if (!size)
		return 0;
	memcpy(&element, (const unsigned char *)t->data + (uint64_t)i * size, size);
	return tensor_get(&one, 0);
}
