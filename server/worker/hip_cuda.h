/*
 * hip_cuda.h: the little of HIP that dev_hip*.c use (hip_api.h lists it), mapped to CUDA's driver API. Included by hip_api.h in
 * aiterd-worker-cuda; hip_cuda.c opens libcuda.so.1 at run time, so that a machine needs no driver to build the worker, and
 * the worker can say what is missing.
 */
#ifndef AITERD_HIP_CUDA_H
#define AITERD_HIP_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include <cuda.h>

#include "launch.h"

/* What is called, each by the name of the version that cuda.h means. */
#define CUDA_CALLS(X)                                                                                                  \
	X(cuCtxGetDevice)                                                                                              \
	X(cuCtxSetCurrent)                                                                                             \
	X(cuCtxSynchronize)                                                                                            \
	X(cuDeviceGet)                                                                                                 \
	X(cuDeviceGetAttribute)                                                                                        \
	X(cuDeviceGetCount)                                                                                            \
	X(cuDeviceGetDefaultMemPool)                                                                                   \
	X(cuDeviceGetName)                                                                                             \
	X(cuDevicePrimaryCtxRetain)                                                                                    \
	X(cuDeviceTotalMem)                                                                                            \
	X(cuDriverGetVersion)                                                                                          \
	X(cuEventCreate)                                                                                               \
	X(cuEventDestroy)                                                                                              \
	X(cuEventElapsedTime)                                                                                          \
	X(cuEventRecord)                                                                                               \
	X(cuEventSynchronize)                                                                                          \
	X(cuFuncGetAttribute)                                                                                          \
	X(cuFuncSetAttribute)                                                                                          \
	X(cuGetErrorName)                                                                                              \
	X(cuGetErrorString)                                                                                            \
	X(cuInit)                                                                                                      \
	X(cuLaunchKernel)                                                                                              \
	X(cuMemAlloc)                                                                                                  \
	X(cuMemAllocAsync)                                                                                             \
	X(cuMemFree)                                                                                                   \
	X(cuMemFreeAsync)                                                                                              \
	X(cuMemGetInfo)                                                                                                \
	X(cuMemHostGetDevicePointer)                                                                                   \
	X(cuMemHostRegister)                                                                                           \
	X(cuMemHostUnregister)                                                                                         \
	X(cuMemPoolGetAttribute)                                                                                       \
	X(cuMemPoolSetAttribute)                                                                                       \
	X(cuMemPoolTrimTo)                                                                                             \
	X(cuMemcpyDtoDAsync)                                                                                           \
	X(cuMemcpyDtoH)                                                                                                \
	X(cuMemcpyDtoHAsync)                                                                                           \
	X(cuMemcpyHtoD)                                                                                                \
	X(cuMemcpyHtoDAsync)                                                                                           \
	X(cuMemsetD8Async)                                                                                             \
	X(cuModuleGetFunction)                                                                                         \
	X(cuModuleLoad)                                                                                                \
	X(cuModuleLoadData)                                                                                            \
	X(cuModuleUnload)                                                                                              \
	X(cuStreamCreate)                                                                                              \
	X(cuStreamDestroy)                                                                                             \
	X(cuStreamSynchronize)                                                                                         \
	X(cuStreamWaitEvent)                                                                                           \
	X(cuTensorMapEncodeTiled)

/* libcuda's functions; hipInit fills it. */
struct cuda_calls {
#define X(name) __typeof__(&(name)) name;
	CUDA_CALLS(X)
#undef X
};
extern struct cuda_calls cuda;

typedef CUresult hipError_t;
typedef CUstream hipStream_t;
typedef CUevent hipEvent_t;
typedef CUmodule hipModule_t;
typedef CUfunction hipFunction_t;
typedef CUmemoryPool hipMemPool_t;

#define hipSuccess CUDA_SUCCESS
#define hipErrorInvalidValue CUDA_ERROR_INVALID_VALUE
#define hipErrorOutOfMemory CUDA_ERROR_OUT_OF_MEMORY
#define hipStreamNonBlocking CU_STREAM_NON_BLOCKING
#define hipHostRegisterDefault (CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP)
#define hipEventDisableTiming CU_EVENT_DISABLE_TIMING
#define hipDeviceAttributeClockRate CU_DEVICE_ATTRIBUTE_CLOCK_RATE
#define hipDeviceAttributeL2CacheSize CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE
#define hipDeviceAttributeMultiprocessorCount CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
#define hipDeviceAttributeMemoryPoolsSupported CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
#define hipMemPoolAttrReleaseThreshold CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
#define hipMemPoolAttrUsedMemCurrent CU_MEMPOOL_ATTR_USED_MEM_CURRENT
#define hipMemPoolAttrUsedMemHigh CU_MEMPOOL_ATTR_USED_MEM_HIGH
#define hipMemPoolAttrReservedMemCurrent CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT
#define HIP_LAUNCH_PARAM_BUFFER_POINTER CU_LAUNCH_PARAM_BUFFER_POINTER
#define HIP_LAUNCH_PARAM_BUFFER_SIZE CU_LAUNCH_PARAM_BUFFER_SIZE
#define HIP_LAUNCH_PARAM_END CU_LAUNCH_PARAM_END

enum hip_copy_kind { hipMemcpyHostToDevice = 1, hipMemcpyDeviceToHost = 2, hipMemcpyDeviceToDevice = 3 };

#define hipDeviceProp_t struct cuda_properties
struct cuda_properties {
	char name[256];
	char gcnArchName[32]; /* sm_90 */
	int multiProcessorCount;
	size_t totalGlobalMem;
};

/* Opens libcuda.so.1; when that fails, hipGetErrorString tells why. */
hipError_t hipInit(unsigned flags);
const char *hipGetErrorName(hipError_t rc);
const char *hipGetErrorString(hipError_t rc);
/* Makes the device's primary context current. */
hipError_t hipSetDevice(int ordinal);
hipError_t hipGetDeviceProperties(hipDeviceProp_t *p, int ordinal);
/* With all the shared memory that the device lets a block ask for, beside what the kernel declares. */
hipError_t hipModuleGetFunction(hipFunction_t *f, hipModule_t m, const char *name);

static inline hipError_t
hipGetDeviceCount(int *n)
{
	return cuda.cuDeviceGetCount(n);
}

static inline hipError_t
hipDeviceGetAttribute(int *value, CUdevice_attribute attribute, int ordinal)
{
	return cuda.cuDeviceGetAttribute(value, attribute, ordinal);
}

/* The API's version is the driver's; there is no runtime of another one. */
static inline hipError_t
hipRuntimeGetVersion(int *version)
{
	return cuda.cuDriverGetVersion(version);
}

static inline hipError_t
hipDriverGetVersion(int *version)
{
	return cuda.cuDriverGetVersion(version);
}

static inline hipError_t
hipMemGetInfo(size_t *available, size_t *total)
{
	return cuda.cuMemGetInfo(available, total);
}

static inline hipError_t
hipMalloc(void **p, size_t bytes)
{
	CUdeviceptr at = 0;
	hipError_t rc = cuda.cuMemAlloc(&at, bytes);

	*p = (void *)(uintptr_t)at;
	return rc;
}

static inline hipError_t
hipFree(void *p)
{
	return cuda.cuMemFree((CUdeviceptr)(uintptr_t)p);
}

static inline hipError_t
hipMallocAsync(void **p, size_t bytes, hipStream_t stream)
{
	CUdeviceptr at = 0;
	hipError_t rc = cuda.cuMemAllocAsync(&at, bytes, stream);

	*p = (void *)(uintptr_t)at;
	return rc;
}

static inline hipError_t
hipFreeAsync(void *p, hipStream_t stream)
{
	return cuda.cuMemFreeAsync((CUdeviceptr)(uintptr_t)p, stream);
}

static inline hipError_t
hipHostRegister(void *p, size_t bytes, unsigned flags)
{
	return cuda.cuMemHostRegister(p, bytes, flags);
}

static inline hipError_t
hipHostUnregister(void *p)
{
	return cuda.cuMemHostUnregister(p);
}

static inline hipError_t
hipHostGetDevicePointer(void **device, void *p, unsigned flags)
{
	CUdeviceptr at = 0;
	hipError_t rc = cuda.cuMemHostGetDevicePointer(&at, p, flags);

	*device = (void *)(uintptr_t)at;
	return rc;
}

static inline hipError_t
hipMemcpyAsync(void *to, const void *from, size_t bytes, enum hip_copy_kind kind, hipStream_t stream)
{
	if (kind == hipMemcpyDeviceToDevice)
		return cuda.cuMemcpyDtoDAsync((CUdeviceptr)(uintptr_t)to, (CUdeviceptr)(uintptr_t)from, bytes, stream);
	return kind == hipMemcpyHostToDevice ? cuda.cuMemcpyHtoDAsync((CUdeviceptr)(uintptr_t)to, from, bytes, stream)
					     : cuda.cuMemcpyDtoHAsync(to, (CUdeviceptr)(uintptr_t)from, bytes, stream);
}

static inline hipError_t
hipMemsetAsync(void *p, int byte, size_t bytes, hipStream_t stream)
{
	return cuda.cuMemsetD8Async((CUdeviceptr)(uintptr_t)p, (unsigned char)byte, bytes, stream);
}

static inline hipError_t
hipDeviceGetDefaultMemPool(hipMemPool_t *pool, int ordinal)
{
	return cuda.cuDeviceGetDefaultMemPool(pool, ordinal);
}

static inline hipError_t
hipMemPoolSetAttribute(hipMemPool_t pool, CUmemPool_attribute attribute, void *value)
{
	return cuda.cuMemPoolSetAttribute(pool, attribute, value);
}

static inline hipError_t
hipMemPoolGetAttribute(hipMemPool_t pool, CUmemPool_attribute attribute, void *value)
{
	return cuda.cuMemPoolGetAttribute(pool, attribute, value);
}

static inline hipError_t
hipMemPoolTrimTo(hipMemPool_t pool, size_t bytes)
{
	return cuda.cuMemPoolTrimTo(pool, bytes);
}

static inline hipError_t
hipStreamCreateWithFlags(hipStream_t *stream, unsigned flags)
{
	return cuda.cuStreamCreate(stream, flags);
}

static inline hipError_t
hipStreamDestroy(hipStream_t stream)
{
	return cuda.cuStreamDestroy(stream);
}

static inline hipError_t
hipStreamSynchronize(hipStream_t stream)
{
	return cuda.cuStreamSynchronize(stream);
}

static inline hipError_t
hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned flags)
{
	return cuda.cuStreamWaitEvent(stream, event, flags);
}

static inline hipError_t
hipEventCreate(hipEvent_t *event)
{
	return cuda.cuEventCreate(event, CU_EVENT_DEFAULT);
}

static inline hipError_t
hipEventDestroy(hipEvent_t event)
{
	return cuda.cuEventDestroy(event);
}

static inline hipError_t
hipEventRecord(hipEvent_t event, hipStream_t stream)
{
	return cuda.cuEventRecord(event, stream);
}

static inline hipError_t
hipEventSynchronize(hipEvent_t event)
{
	return cuda.cuEventSynchronize(event);
}

static inline hipError_t
hipEventElapsedTime(float *ms, hipEvent_t from, hipEvent_t to)
{
	return cuda.cuEventElapsedTime(ms, from, to);
}

static inline hipError_t
hipModuleLoadData(hipModule_t *m, const void *image)
{
	return cuda.cuModuleLoadData(m, image);
}

static inline hipError_t
hipModuleUnload(hipModule_t m)
{
	return cuda.cuModuleUnload(m);
}

static inline hipError_t
hipModuleLaunchKernel(hipFunction_t f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
		      unsigned block_y, unsigned block_z, unsigned shared, hipStream_t stream, void **args, void **extra)
{
	/*
	 * Kernels of ours have one parameter, a struct, which `extra` holds (hip_api.h). Given as a parameter it goes where the kernel
	 * wants it: one with an alignment of 64 bytes does not begin where a buffer of parameters does.
	 */
	if (extra)
		args = &extra[1];
	return cuda.cuLaunchKernel(f, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, args, NULL);
}

/* The launch's maps, into its arguments. */
hipError_t hip_maps_make(const struct launch *l, uint8_t *arg);

/* These only the kernels' tests use. */
static inline hipError_t
hipMemcpy(void *to, const void *from, size_t bytes, enum hip_copy_kind kind)
{
	return kind == hipMemcpyHostToDevice ? cuda.cuMemcpyHtoD((CUdeviceptr)(uintptr_t)to, from, bytes)
					     : cuda.cuMemcpyDtoH(to, (CUdeviceptr)(uintptr_t)from, bytes);
}

static inline hipError_t
hipModuleLoad(hipModule_t *m, const char *path)
{
	return cuda.cuModuleLoad(m, path);
}

static inline hipError_t
hipDeviceSynchronize(void)
{
	return cuda.cuCtxSynchronize();
}

/* CUDA's driver keeps no last error. */
static inline hipError_t
hipGetLastError(void)
{
	return CUDA_SUCCESS;
}

#endif
