/*
 * api_module.c: code objects as modules, their kernels as functions, and launching: the explicit arguments from
 * kernelParams or from a buffer, the hidden ones that the code object's metadata asks for.
 */
#include "emulator/api.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LDS_BYTES 65536
/* Registers of a SIMD's lane, and the most waves it holds. */
#define SIMD_REGISTERS 512
#define SIMD_WAVES 8
#define SIMDS 4

static hipError_t
load(hipModule_t *m, const void *image, size_t size, const char *name)
{
	struct emu_fault why = {0};
	struct codeobj *co = emu_codeobj_load(image, size, &why);

	if (co == NULL) {
		fprintf(stderr, "%s%s%s\n", name, *name != '\0' ? ": " : "", why.msg);
		return emu_api_error((hipError_t)why.code);
	}
	*m = (hipModule_t)co;
	return hipSuccess;
}

hipError_t
hipModuleLoadData(hipModule_t *m, const void *image)
{
	REQUIRE(m != NULL && image != NULL);
	return load(m, image, 0, "");
}

hipError_t
hipModuleLoadDataEx(hipModule_t *m, const void *image, unsigned n, hipJitOption *options, void **values)
{
	(void)n; /* nothing is compiled here */
	(void)options;
	(void)values;
	return hipModuleLoadData(m, image);
}

hipError_t
hipModuleLoad(hipModule_t *m, const char *path)
{
	struct stat st;
	hipError_t r;
	void *p;
	int fd;

	REQUIRE(m != NULL && path != NULL);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return emu_api_error(hipErrorFileNotFound);
	if (fstat(fd, &st) != 0 || st.st_size <= 0) {
		close(fd);
		return emu_api_error(hipErrorInvalidImage);
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return emu_api_error(hipErrorFileNotFound);
	r = load(m, p, (size_t)st.st_size, path);
	munmap(p, (size_t)st.st_size);
	return r;
}

hipError_t
hipModuleUnload(hipModule_t m)
{
	REQUIRE(m != NULL);
	emu_stream_drain_all();
	emu_codeobj_free((struct codeobj *)m);
	return hipSuccess;
}

hipError_t
hipModuleGetFunction(hipFunction_t *f, hipModule_t m, const char *name)
{
	struct kernel *k;

	REQUIRE(f != NULL && m != NULL && name != NULL);
	k = emu_codeobj_kernel((struct codeobj *)m, name);
	if (k == NULL)
		return emu_api_error(hipErrorNotFound);
	*f = (hipFunction_t)k;
	return hipSuccess;
}

hipError_t
hipModuleGetGlobal(hipDeviceptr_t *p, size_t *n, hipModule_t m, const char *name)
{
	size_t size;
	void *at;

	REQUIRE(m != NULL && name != NULL);
	at = emu_codeobj_symbol((struct codeobj *)m, name, &size);
	if (at == NULL)
		return emu_api_error(hipErrorNotFound);
	if (p != NULL)
		*p = at;
	if (n != NULL)
		*n = size;
	return hipSuccess;
}

hipError_t
hipFuncGetAttribute(int *v, hipFunction_attribute a, hipFunction_t f)
{
	const struct kernel *k = (const struct kernel *)f;

	REQUIRE(v != NULL && f != NULL);
	switch (a) {
	case HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
		*v = k->max_threads;
		break;
	case HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
		*v = k->group_size;
		break;
	case HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
		*v = k->private_size;
		break;
	case HIP_FUNC_ATTRIBUTE_NUM_REGS:
		*v = k->vgprs;
		break;
	case HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		*v = LDS_BYTES - k->group_size;
		break;
	case HIP_FUNC_ATTRIBUTE_PTX_VERSION:
	case HIP_FUNC_ATTRIBUTE_BINARY_VERSION:
		*v = 94;
		break;
	case HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
	default:
		*v = 0;
		break;
	}
	return hipSuccess;
}

hipError_t
hipFuncSetAttribute(const void *f, hipFuncAttribute a, int v)
{
	(void)f;
	(void)a;
	(void)v;
	return hipSuccess;
}

hipError_t
hipFuncSetCacheConfig(const void *f, hipFuncCache_t c)
{
	(void)f;
	(void)c;
	return hipSuccess;
}

hipError_t
hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int *n, hipFunction_t f, int threads, size_t lds)
{
	const struct kernel *k = (const struct kernel *)f;
	int registers, waves, by_registers, by_lds = SIMDS * SIMD_WAVES;

	REQUIRE(n != NULL && f != NULL && threads > 0);
	registers = k->vgprs > 0 ? (k->vgprs + 7) & ~7 : 8;
	waves = SIMD_REGISTERS / registers;
	if (waves > SIMD_WAVES)
		waves = SIMD_WAVES;
	by_registers = waves * SIMDS / ((threads + 63) / 64);
	lds += (size_t)k->group_size;
	if (lds > 0)
		by_lds = (int)(LDS_BYTES / lds);
	*n = by_registers < by_lds ? by_registers : by_lds;
	return hipSuccess;
}

static int
is_hidden(const struct kernel_arg *a)
{
	return strncmp(a->kind, "hidden_", 7) == 0;
}

/* Where the explicit arguments end. */
static size_t
explicit_size(const struct kernel *k)
{
	size_t size = 0;

	for (int i = 0; i < k->nargs; i++) {
		size_t end = (size_t)(k->args[i].offset + k->args[i].size);

		if (!is_hidden(&k->args[i]) && end > size)
			size = end;
	}
	return size;
}

static u64
hidden_value(const struct kernel_arg *a, const struct launch_size *z)
{
	const char *s = a->kind + strlen("hidden_");
	size_t len = strlen(s);
	int axis = len > 0 && s[len - 1] >= 'x' && s[len - 1] <= 'z' ? s[len - 1] - 'x' : -1;

	if (axis >= 0 && strncmp(s, "block_count_", 12) == 0)
		return z->grid[axis];
	if (axis >= 0 && strncmp(s, "group_size_", 11) == 0)
		return z->block[axis];
	if (strcmp(s, "grid_dims") == 0)
		return z->grid[2] * z->block[2] > 1 ? 3 : z->grid[1] * z->block[1] > 1 ? 2 : 1;
	if (strcmp(s, "dynamic_lds_size") == 0)
		return z->dynamic_lds;
	if (strcmp(s, "shared_base") == 0)
		return 0x00010000; /* the apertures' high words, see exec.h */
	if (strcmp(s, "private_base") == 0)
		return 0x00020000;
	return 0; /* global offsets, remainders: the grid is always whole */
}

static int
put_params(const struct kernel *k, u8 *kernarg, void **params)
{
	int n = 0;

	for (int i = 0; i < k->nargs; i++) {
		const struct kernel_arg *a = &k->args[i];

		if (is_hidden(a))
			continue;
		if (params == NULL || params[n] == NULL) {
			fprintf(stderr, "emuhip: %s: argument %d is missing\n", k->name, n);
			return -1;
		}
		memcpy(kernarg + a->offset, params[n++], (size_t)a->size);
	}
	return 0;
}

/* What `extra` holds: a buffer and its size. */
static int
read_extra(void **extra, const void **buffer, size_t *size)
{
	for (; *extra != NULL && *extra != HIP_LAUNCH_PARAM_END; extra += 2) {
		if (*extra == HIP_LAUNCH_PARAM_BUFFER_POINTER)
			*buffer = extra[1];
		else if (*extra == HIP_LAUNCH_PARAM_BUFFER_SIZE)
			*size = *(const size_t *)extra[1];
		else
			return -1;
	}
	return 0;
}

hipError_t
hipModuleLaunchKernel(hipFunction_t f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
		      unsigned lds, hipStream_t s, void **params, void **extra)
{
	struct kernel *k = (struct kernel *)f;
	struct command c = {.kind = COMMAND_LAUNCH, .kernel = k, .size = {{gx, gy, gz}, {bx, by, bz}, lds}};
	const void *buffer = NULL;
	size_t size = 0, n, wanted;
	u8 *kernarg;

	REQUIRE(f != NULL && gx && gy && gz && bx && by && bz);
	REQUIRE(params == NULL || extra == NULL);
	if (extra != NULL)
		REQUIRE(read_extra(extra, &buffer, &size) == 0);
	wanted = explicit_size(k);
	n = (size_t)k->kernarg_size;
	n = size > n ? size : n;
	n = wanted > n ? wanted : n;
	for (int i = 0; i < k->nargs; i++) {
		size_t end = (size_t)(k->args[i].offset + k->args[i].size);

		n = end > n ? end : n;
	}
	n = (n + 255) & ~(size_t)255;
	if (n == 0)
		n = 256;
	kernarg = aligned_alloc(256, n);
	if (kernarg == NULL)
		return emu_api_error(hipErrorOutOfMemory);
	memset(kernarg, 0, n);
	if (buffer != NULL) {
		memcpy(kernarg, buffer, size);
		if (size < wanted)
			fprintf(stderr, "emuhip: %s: argument buffer has %zu bytes, its explicit arguments take %zu\n",
				k->name, size, wanted);
	} else if (put_params(k, kernarg, params) != 0) {
		free(kernarg);
		return emu_api_error(hipErrorInvalidValue);
	}
	for (int i = 0; i < k->nargs; i++) {
		const struct kernel_arg *a = &k->args[i];
		u64 v;

		if (!is_hidden(a))
			continue;
		v = hidden_value(a, &c.size);
		memcpy(kernarg + a->offset, &v, (size_t)a->size < sizeof v ? (size_t)a->size : sizeof v);
	}
	c.kernarg = kernarg;
	/* what the kernel may read: the segment that it declares or was given, not the rounding */
	c.kernarg_size = (size_t)k->kernarg_size > size ? (size_t)k->kernarg_size : size;
	if (c.kernarg_size == 0)
		c.kernarg_size = 1;
	return emu_stream_submit(s, c);
}

hipError_t
hipExtModuleLaunchKernel(hipFunction_t f, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx, uint32_t by, uint32_t bz,
			 size_t lds, hipStream_t s, void **params, void **extra, hipEvent_t start, hipEvent_t stop,
			 uint32_t flags)
{
	hipError_t r;

	(void)flags;
	/* the grid counts threads here */
	REQUIRE(bx && by && bz && gx % bx == 0 && gy % by == 0 && gz % bz == 0);
	if (start != NULL)
		hipEventRecord(start, s);
	r = hipModuleLaunchKernel(f, gx / bx, gy / by, gz / bz, bx, by, bz, (unsigned)lds, s, params, extra);
	if (stop != NULL)
		hipEventRecord(stop, s);
	return r;
}

hipError_t
hipModuleLaunchCooperativeKernel(hipFunction_t f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
				 unsigned bz, unsigned lds, hipStream_t s, void **params)
{
	(void)f;
	(void)gx;
	(void)gy;
	(void)gz;
	(void)bx;
	(void)by;
	(void)bz;
	(void)lds;
	(void)s;
	(void)params;
	return emu_api_error(hipErrorNotSupported);
}
