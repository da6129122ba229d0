/*
 * hip_api.h: the HIP runtime for dev_hip*.c: AMD's headers (5.2, as in Debian 12, and later), or the emulator's. What is
 * used is little, so that a header which maps it to another vendor's runtime stays short:
 *
 *   device	hipInit hipGetDeviceCount hipSetDevice hipGetDeviceProperties hipDeviceGetAttribute hipDeviceGetPCIBusId hipRuntimeGetVersion
 *		hipDriverGetVersion hipMemGetInfo; of hipDeviceProp_t: name gcnArchName multiProcessorCount
 *		totalGlobalMem l2CacheSize; attributes ClockRate, MemoryPoolsSupported
 *   memory	hipMalloc hipFree hipMallocAsync hipFreeAsync hipHostRegister hipHostUnregister
 *		hipMemcpyAsync hipMemsetAsync
 *   pool	hipDeviceGetDefaultMemPool hipMemPoolSetAttribute hipMemPoolGetAttribute hipMemPoolTrimTo
 *   stream	hipStreamCreateWithFlags hipStreamDestroy hipStreamSynchronize
 *   event	hipEventCreate hipEventDestroy hipEventRecord hipEventSynchronize hipEventElapsedTime
 *   module	hipModuleLoadData hipModuleUnload hipModuleGetFunction hipModuleLaunchKernel
 *   error	hipGetErrorName hipGetErrorString hipGetLastError
 */
#ifndef AITERD_HIP_API_H
#define AITERD_HIP_API_H

#ifdef DEVICE_EMULATED
#include "emulator/emulator.h"
#include "emulator/hip_api.h"
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
#endif

#endif
