/*
 * hip_cuda.c: what of hip_cuda.h is more than another name: opening libcuda.so.1, devices' contexts and properties. Called by
 * dev_hip.c; main thread only.
 */
#include "worker/hip_cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define TEXT(x) TEXT_(x)
#define TEXT_(x) #x

struct cuda_calls cuda;
static char missing[256]; /* why there is no driver */

static int
calls_find(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!lib) {
		snprintf(missing, sizeof(missing), "%s (it comes with NVIDIA's driver)", dlerror());
		return -1;
	}
	/* TEXT gives the name after cuda.h's #define of the current version: cuMemAlloc_v2. */
#define X(name)                                                                                                        \
	if (!(cuda.name = (__typeof__(cuda.name))dlsym(lib, TEXT(name)))) {                                            \
		snprintf(missing, sizeof(missing),                                                                     \
			 "the NVIDIA driver is too old for this build: its libcuda.so.1 "                              \
			 "has no %s, CUDA %d.%d is wanted",                                                            \
			 TEXT(name), CUDA_VERSION / 1000, CUDA_VERSION / 10 % 100);                                    \
		dlclose(lib);                                                                                          \
		return -1;                                                                                             \
	}
	CUDA_CALLS(X)
#undef X
	return 0;
}

hipError_t
hipInit(unsigned flags)
{
	if (!cuda.cuInit && calls_find() == -1) {
		cuda.cuInit = NULL;
		return CUDA_ERROR_STUB_LIBRARY;
	}
	return cuda.cuInit(flags);
}

const char *
hipGetErrorName(hipError_t rc)
{
	const char *name = NULL;

	return cuda.cuInit && cuda.cuGetErrorName(rc, &name) == CUDA_SUCCESS && name ? name : "unknown error";
}

const char *
hipGetErrorString(hipError_t rc)
{
	const char *text = NULL;

	if (!cuda.cuInit)
		return missing;
	return cuda.cuGetErrorString(rc, &text) == CUDA_SUCCESS && text ? text : "unknown error";
}

hipError_t
hipSetDevice(int ordinal)
{
	CUdevice device;
	CUcontext context;
	hipError_t rc = cuda.cuDeviceGet(&device, ordinal);

	if (rc == CUDA_SUCCESS)
		rc = cuda.cuDevicePrimaryCtxRetain(&context, device);
	return rc == CUDA_SUCCESS ? cuda.cuCtxSetCurrent(context) : rc;
}

hipError_t
hipGetDeviceProperties(hipDeviceProp_t *p, int ordinal)
{
	int major = 0, minor = 0;
	CUdevice device;
	hipError_t rc = cuda.cuDeviceGet(&device, ordinal);

	if (rc == CUDA_SUCCESS)
		rc = cuda.cuDeviceGetName(p->name, sizeof(p->name), device);
	if (rc == CUDA_SUCCESS)
		rc = cuda.cuDeviceTotalMem(&p->totalGlobalMem, device);
	if (rc == CUDA_SUCCESS)
		rc = cuda.cuDeviceGetAttribute(&p->multiProcessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
					       device);
	if (rc == CUDA_SUCCESS)
		rc = cuda.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
	if (rc == CUDA_SUCCESS)
		rc = cuda.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
	snprintf(p->gcnArchName, sizeof(p->gcnArchName), "sm_%d%d", major, minor);
	return rc;
}

hipError_t
hipModuleGetFunction(hipFunction_t *f, hipModule_t m, const char *name)
{
	int allowed = 0, declared = 0;
	CUdevice device = 0;
	hipError_t rc = cuda.cuModuleGetFunction(f, m, name);

	if (rc == CUDA_SUCCESS)
		rc = cuda.cuCtxGetDevice(&device);
	if (rc == CUDA_SUCCESS)
		rc = cuda.cuDeviceGetAttribute(&allowed, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, device);
	if (rc == CUDA_SUCCESS)
		rc = cuda.cuFuncGetAttribute(&declared, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, *f);
	if (rc == CUDA_SUCCESS && declared < allowed)
		rc = cuda.cuFuncSetAttribute(*f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, allowed - declared);
	return rc;
}

hipError_t
hip_maps_make(const struct launch *l, uint8_t *arg)
{
	static const cuuint32_t dense[4] = {1, 1, 1, 1};

	_Static_assert(sizeof(CUtensorMap) == LAUNCH_MAP_BYTES, "a map's size");
	for (uint32_t i = 0; i < l->map_count; i++) {
		const struct launch_map *m = &l->map[i];
		cuuint64_t dim[4], stride[3];
		hipError_t rc;
		CUtensorMap map;

		for (int j = 0; j < 4; j++)
			dim[j] = m->dim[j];
		for (int j = 0; j < 3; j++)
			stride[j] = m->stride[j];
		rc = cuda.cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, (void *)(uintptr_t)m->data,
						 dim, stride, m->box, dense, CU_TENSOR_MAP_INTERLEAVE_NONE,
						 CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
						 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
		if (rc != CUDA_SUCCESS)
			return rc;
		memcpy(arg + m->at, &map, sizeof(map));
	}
	return CUDA_SUCCESS;
}
