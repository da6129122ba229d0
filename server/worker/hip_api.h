/*
 * hip_api.h: the HIP runtime for dev_hip*.c: AMD's headers (5.2, as in Debian 12, and later), the emulator's, or CUDA under
 * HIP's names (hip_cuda.h, which holds all that is used). That is little:
 *
 *   device	hipInit hipGetDeviceCount hipSetDevice hipGetDeviceProperties hipDeviceGetAttribute hipDeviceGetPCIBusId hipRuntimeGetVersion
 *		hipDriverGetVersion hipMemGetInfo; of hipDeviceProp_t: name gcnArchName multiProcessorCount
 *		totalGlobalMem; attributes ClockRate, L2CacheSize, MemoryPoolsSupported
 *   memory	hipMalloc hipFree hipMallocAsync hipFreeAsync hipHostRegister hipHostUnregister
 *		hipHostGetDevicePointer hipMemcpyAsync hipMemsetAsync
 *   pool	hipDeviceGetDefaultMemPool hipMemPoolSetAttribute hipMemPoolGetAttribute hipMemPoolTrimTo
 *   stream	hipStreamCreateWithFlags hipStreamDestroy hipStreamSynchronize
 *   event	hipEventCreate hipEventDestroy hipEventRecord hipEventSynchronize hipEventElapsedTime
 *   module	hipModuleLoadData hipModuleUnload hipModuleGetFunction hipModuleLaunchKernel
 *   error	hipGetErrorName hipGetErrorString hipGetLastError
 *
 * And what differs between them: HIP_KIND of device, HIP_WORD for people, the family of kernels, where the kernel's driver
 * tells its version (HIP_DRIVER_FILE, only AMD's drivers that come with ROCm have it), and how versions are counted.
 */
#ifndef AITERD_HIP_API_H
#define AITERD_HIP_API_H

#ifdef DEVICE_EMULATED
#include "emulator/emulator.h"
#include "emulator/hip_api.h"
#define HIP_KIND "emulated"
#elif defined(DEVICE_CUDA)
#include "worker/hip_cuda.h"
#define HIP_KIND "cuda"
#define HIP_WORD "CUDA"
#define HIP_FAMILY LAUNCH_SM90
#define HIP_DRIVER "nvidia"
#define HIP_DRIVER_FILE "/sys/module/nvidia/version"
#define HIP_VERSION_FORMAT "CUDA %d.%d"
#define HIP_VERSION_PARTS(v) (v) / 1000, (v) / 10 % 100
#else
#ifndef __HIP_PLATFORM_AMD__
#define __HIP_PLATFORM_AMD__ 1
#endif
/* AMD's headers do not hold to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#include <hip/hip_runtime_api.h>
#pragma GCC diagnostic pop
#define HIP_KIND "hip"
#endif

#ifndef DEVICE_CUDA
/* Planners make no maps for AMD's devices. */
#define hip_maps_make(launch, arg) ((void)(launch), (void)(arg), hipSuccess)
#define HIP_WORD "HIP"
#define HIP_FAMILY LAUNCH_CDNA
#define HIP_DRIVER "amdgpu"
#define HIP_DRIVER_FILE "/sys/module/amdgpu/version"
#define HIP_VERSION_FORMAT "HIP %d.%d.%d" /* 60342131 is 6.3.42131; from 5 on HIP counts so */
#define HIP_VERSION_PARTS(v) (v) / 10000000, (v) / 100000 % 100, (v) % 100000
#endif

#endif
