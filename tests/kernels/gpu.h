/*
 * gpu.h: what the kernel tests and bench/gpu_kernels.c share: a device through the HIP module API, and running a launch plan on it.
 */
#ifndef AITERD_TESTS_GPU_H
#define AITERD_TESTS_GPU_H

#include "launch.h"
#include "worker/hip_api.h"

#define GPU_OBJECTS 8

struct gpu {
	const char *dir; /* of code objects */
	struct launch_device facts;
	struct {
		const char *name;
		hipModule_t module;
	} objects[GPU_OBJECTS];
	int count;
};

/* Each ends the program with a line on stderr if HIP says no. */
void gpu_check(hipError_t rc, const char *what);
void gpu_open(struct gpu *g, const char *dir);
void gpu_close(struct gpu *g);
void *gpu_alloc(size_t bytes);
void *gpu_upload(const void *data, size_t bytes);
void gpu_download(void *to, const void *from, size_t bytes);
void gpu_free(void *p);
/* gpu_run waits until all is done. */
void gpu_launch(struct gpu *g, const struct launch_plan *plan);
void gpu_run(struct gpu *g, const struct launch_plan *plan);

#endif
