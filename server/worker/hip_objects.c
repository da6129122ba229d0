/*
 * hip_objects.c: code objects, files in a folder per architecture (gfx942, sm_90), loaded through HIP's module API and kept; and the
 * kernels in them by name. Called by dev_hip.c, which owns the one instance.
 */
#include "worker/dev_hip.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_LENGTH_MAX 768
#define OBJECT_BYTES_MAX ((long)256 << 20)

struct object {
	char *name;
	hipModule_t module;
};

struct kernel {
	size_t object;
	char *symbol;
	hipFunction_t function;
};

struct hip_objects {
	char dir[PATH_LENGTH_MAX];
	struct object *objects;
	struct kernel *kernels;
	size_t n_objects, n_kernels;
};

/* kernels/<arch> beside the executable (the build tree) or else where they are installed. */
struct hip_objects *
hip_objects_new(const char *arch, struct err *e)
{
	struct hip_objects *o = calloc(1, sizeof(*o));
	char here[512] = "";
	ssize_t n = readlink("/proc/self/exe", here, sizeof(here) - 1);
	const char *const dirs[] = {here, PKGDATADIR};
	char *slash;

	if (!o) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for the list of code objects");
		return NULL;
	}
	here[n > 0 ? n : 0] = '\0';
	slash = strrchr(here, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		snprintf(o->dir, sizeof(o->dir), "%s/kernels/%s", dirs[i], arch);
		if (dirs[i][0] != '\0' && access(o->dir, R_OK | X_OK) == 0)
			return o;
	}
	free(o);
	err_set(e, ERR_DEVICE_UNAVAILABLE, "this build has no kernels for %s: there is no folder kernels/%s in %s or %s",
		arch, arch, here, PKGDATADIR);
	return NULL;
}

void
hip_objects_free(struct hip_objects **op)
{
	struct hip_objects *o = *op;

	if (!o)
		return;
	for (size_t i = 0; i < o->n_objects; i++) {
		(void)hipModuleUnload(o->objects[i].module);
		free(o->objects[i].name);
	}
	for (size_t i = 0; i < o->n_kernels; i++)
		free(o->kernels[i].symbol);
	free(o->objects);
	free(o->kernels);
	free(o);
	*op = NULL;
}

static void *
file_read(const char *path, struct err *e)
{
	FILE *f = fopen(path, "re");
	void *data = NULL;
	long size = 0;

	if (!f) {
		err_set(e, ERR_UNAVAILABLE_IMPL, "the code object %s cannot be opened: %s", path, strerror(errno));
		return NULL;
	}
	if (fseek(f, 0, SEEK_END) == -1 || (size = ftell(f)) <= 0 || size > OBJECT_BYTES_MAX ||
	    fseek(f, 0, SEEK_SET) == -1 || !(data = malloc((size_t)size)) ||
	    fread(data, 1, (size_t)size, f) != (size_t)size) {
		err_set(e, ERR_UNAVAILABLE_IMPL, "the code object %s cannot be read: %ld bytes", path, size);
		free(data);
		data = NULL;
	}
	fclose(f);
	return data;
}

/* The list with room for one more at its end; NULL: out of memory, it stays as it is. */
static void *
grown(void *list, size_t n, size_t size, struct err *e)
{
	void *p = realloc(list, (n + 1) * size);

	if (!p)
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for the list of code objects");
	return p;
}

static int
object_load(struct hip_objects *o, struct device *d, const char *name, const void *given, size_t *index, struct err *e)
{
	char path[PATH_LENGTH_MAX + LAUNCH_SYMBOL_MAX], what[PATH_LENGTH_MAX + 2 * LAUNCH_SYMBOL_MAX];
	struct object added = {0}, *objects;
	void *image = NULL; /* read from its file, unless given */
	int rc = -1;

	for (size_t i = 0; i < o->n_objects; i++)
		if (strcmp(o->objects[i].name, name) == 0) {
			*index = i;
			return 0;
		}
	snprintf(path, sizeof(path), "%s/%.63s", o->dir, name);
	snprintf(what, sizeof(what), "loading the code object %s", given ? name : path);
	objects = grown(o->objects, o->n_objects, sizeof(*objects), e);
	if (!objects)
		return -1;
	o->objects = objects;
	if (!given)
		given = image = file_read(path, e);
	if (!given || hip_check(d, hipModuleLoadData(&added.module, given), what, e) == -1)
		goto out;
	added.name = strdup(name);
	if (!added.name) {
		(void)hipModuleUnload(added.module);
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for the name of a code object");
		goto out;
	}
	*index = o->n_objects;
	o->objects[o->n_objects++] = added;
	rc = 0;
out:
	free(image);
	return rc;
}

/* Code objects are called so: ELF files both, AMD's .co and NVIDIA's .cubin. */
static bool
is_object(const char *name, size_t len)
{
	return (len > 3 && strcmp(name + len - 3, ".co") == 0) || (len > 6 && strcmp(name + len - 6, ".cubin") == 0);
}

/* The smallest, as loading takes a while. */
int
hip_objects_probe(struct hip_objects *o, struct device *d, struct err *e)
{
	char smallest[LAUNCH_SYMBOL_MAX] = "";
	DIR *dir = opendir(o->dir);
	off_t bytes = 0;
	struct dirent *f;
	struct stat st;
	size_t index;

	while (dir && (f = readdir(dir))) {
		size_t len = strlen(f->d_name);

		if (len >= sizeof(smallest) || !is_object(f->d_name, len) ||
		    fstatat(dirfd(dir), f->d_name, &st, 0) == -1 || (*smallest && st.st_size >= bytes))
			continue;
		memcpy(smallest, f->d_name, len + 1);
		bytes = st.st_size;
	}
	if (dir)
		closedir(dir);
	if (!*smallest)
		return err_set(e, ERR_UNAVAILABLE_IMPL, "there are no code objects in %s", o->dir);
	return object_load(o, d, smallest, NULL, &index, e);
}

int
hip_objects_kernel(struct hip_objects *o, struct device *d, const struct launch *l, hipFunction_t *f, struct err *e)
{
	struct kernel added, *kernels;
	char what[256];

	for (size_t i = 0; i < o->n_kernels; i++)
		if (strcmp(o->kernels[i].symbol, l->symbol) == 0 &&
		    strcmp(o->objects[o->kernels[i].object].name, l->object) == 0) {
			*f = o->kernels[i].function;
			return 0;
		}
	if (object_load(o, d, l->object, l->image, &added.object, e) == -1)
		return -1;
	snprintf(what, sizeof(what), "looking for the kernel %s in the code object %.63s", l->symbol, l->object);
	if (hip_check(d, hipModuleGetFunction(&added.function, o->objects[added.object].module, l->symbol), what, e) ==
	    -1)
		return -1;
	kernels = grown(o->kernels, o->n_kernels, sizeof(*kernels), e);
	if (!kernels)
		return -1;
	o->kernels = kernels;
	added.symbol = strdup(l->symbol);
	if (!added.symbol)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the name of a kernel");
	o->kernels[o->n_kernels++] = added;
	*f = added.function;
	return 0;
}
