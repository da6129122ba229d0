/*
 * gpu.c: a device for the kernel tests, through the HIP module API: a real one, or the emulator.
 */
#include "kernels/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
gpu_check(hipError_t rc, const char *what)
{
	if (rc == hipSuccess)
		return;
	fprintf(stderr, "%s: %s\n", what, hipGetErrorString(rc));
	exit(2);
}

void
gpu_open(struct gpu *g, const char *dir)
{
	int units = 0;

	memset(g, 0, sizeof *g);
	g->dir = dir;
	gpu_check(hipInit(0), "hipInit");
	gpu_check(hipSetDevice(0), "hipSetDevice");
	gpu_check(hipDeviceGetAttribute(&units, hipDeviceAttributeMultiprocessorCount, 0), "compute units");
	g->facts.compute_units = units;
	g->facts.family = HIP_FAMILY;
}

void
gpu_close(struct gpu *g)
{
	while (g->count > 0)
		gpu_check(hipModuleUnload(g->objects[--g->count].module), "hipModuleUnload");
}

void *
gpu_alloc(size_t bytes)
{
	void *p = NULL;

	gpu_check(hipMalloc(&p, bytes ? bytes : 1), "hipMalloc");
	return p;
}

void *
gpu_upload(const void *data, size_t bytes)
{
	void *p = gpu_alloc(bytes);

	if (bytes)
		gpu_check(hipMemcpy(p, data, bytes, hipMemcpyHostToDevice), "hipMemcpy to the device");
	return p;
}

void
gpu_download(void *to, const void *from, size_t bytes)
{
	if (bytes)
		gpu_check(hipMemcpy(to, from, bytes, hipMemcpyDeviceToHost), "hipMemcpy from the device");
}

void
gpu_free(void *p)
{
	gpu_check(hipFree(p), "hipFree");
}

static hipModule_t
module_get(struct gpu *g, const char *name)
{
	char path[1024];
	int i;

	for (i = 0; i < g->count; i++)
		if (!strcmp(g->objects[i].name, name))
			return g->objects[i].module;
	if (i == GPU_OBJECTS) {
		fprintf(stderr, "more than %d code objects\n", GPU_OBJECTS);
		exit(2);
	}
	snprintf(path, sizeof path, "%s/%s", g->dir, name);
	gpu_check(hipModuleLoad(&g->objects[i].module, path), path);
	g->objects[i].name = name;
	g->count++;
	return g->objects[i].module;
}

void
gpu_launch(struct gpu *g, const struct launch_plan *plan)
{
	for (int i = 0; i < plan->count; i++) {
		const struct launch *l = &plan->launch[i];
		uint8_t arg[LAUNCH_ARG_MAX];
		size_t len = l->arg_len;
		void *extra[] = {HIP_LAUNCH_PARAM_BUFFER_POINTER, arg, HIP_LAUNCH_PARAM_BUFFER_SIZE, &len,
				 HIP_LAUNCH_PARAM_END};
		hipFunction_t f;

		memcpy(arg, l->arg, len);
		gpu_check(hip_maps_make(l, arg), "hip_maps_make");
		gpu_check(hipModuleGetFunction(&f, module_get(g, l->object), l->symbol), l->symbol);
		gpu_check(hipModuleLaunchKernel(f, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1],
						l->block[2], l->lds, NULL, NULL, extra),
			  l->symbol);
	}
}

void
gpu_run(struct gpu *g, const struct launch_plan *plan)
{
	gpu_launch(g, plan);
	gpu_check(hipDeviceSynchronize(), plan->count ? plan->launch[0].symbol : "hipDeviceSynchronize");
}
