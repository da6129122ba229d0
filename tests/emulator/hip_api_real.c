/*
 * hip_api_real.c: the values of hip_api.def by HIP's own header, for test_emu_hip_api.c; none where it is not
 * installed or is of another major version, whose layouts differ.
 */
#include "emulator/hip_api_real.h"

#include <stddef.h>
#include <stdint.h>

#if defined(__has_include)
#if __has_include(<hip/hip_runtime_api.h>)
#define __HIP_PLATFORM_AMD__ 1
#include <hip/hip_runtime_api.h>
#endif
#endif

const struct hip_value hip_api_real[] = {
#if defined(HIP_VERSION_MAJOR) && HIP_VERSION_MAJOR == 5
#define VALUE(x) {#x, (long long)(x)},
#include "emulator/hip_api.def"
#endif
	{NULL, 0}};
