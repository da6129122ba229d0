/*
 * api_error.c: HIP's error names, the last error of a thread, and the fault that stays.
 */
#include "emulator/api.h"

static __thread hipError_t last;
static hipError_t sticky;

static const struct {
	hipError_t e;
	const char *name, *text;
} errors[] = {
	{hipSuccess, "hipSuccess", "no error"},
	{hipErrorInvalidValue, "hipErrorInvalidValue", "invalid argument"},
	{hipErrorOutOfMemory, "hipErrorOutOfMemory", "out of memory"},
	{hipErrorNotInitialized, "hipErrorNotInitialized", "initialization error"},
	{hipErrorDeinitialized, "hipErrorDeinitialized", "driver shutting down"},
	{hipErrorInvalidDevicePointer, "hipErrorInvalidDevicePointer", "invalid device pointer"},
	{hipErrorInvalidMemcpyDirection, "hipErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
	{hipErrorNoDevice, "hipErrorNoDevice", "no ROCm-capable device is detected"},
	{hipErrorInvalidDevice, "hipErrorInvalidDevice", "invalid device ordinal"},
	{hipErrorInvalidImage, "hipErrorInvalidImage", "device kernel image is invalid"},
	{hipErrorInvalidContext, "hipErrorInvalidContext", "invalid device context"},
	{hipErrorNoBinaryForGpu, "hipErrorNoBinaryForGpu", "no kernel image is available for execution on the device"},
	{hipErrorInvalidKernelFile, "hipErrorInvalidKernelFile", "invalid kernel file"},
	{hipErrorInvalidSource, "hipErrorInvalidSource", "device kernel image is invalid"},
	{hipErrorFileNotFound, "hipErrorFileNotFound", "file not found"},
	{hipErrorInvalidHandle, "hipErrorInvalidHandle", "invalid resource handle"},
	{hipErrorIllegalState, "hipErrorIllegalState", "the operation cannot be performed in the present state"},
	{hipErrorNotFound, "hipErrorNotFound", "named symbol not found"},
	{hipErrorNotReady, "hipErrorNotReady", "device not ready"},
	{hipErrorIllegalAddress, "hipErrorIllegalAddress", "an illegal memory access was encountered"},
	{hipErrorLaunchOutOfResources, "hipErrorLaunchOutOfResources", "out of resources for the launch"},
	{hipErrorLaunchTimeOut, "hipErrorLaunchTimeOut", "the launch timed out and was terminated"},
	{hipErrorAssert, "hipErrorAssert", "device-side assert triggered"},
	{hipErrorHostMemoryAlreadyRegistered, "hipErrorHostMemoryAlreadyRegistered",
	 "host memory is already registered"},
	{hipErrorHostMemoryNotRegistered, "hipErrorHostMemoryNotRegistered", "host memory is not registered"},
	{hipErrorLaunchFailure, "hipErrorLaunchFailure", "unspecified launch failure"},
	{hipErrorNotSupported, "hipErrorNotSupported", "operation not supported"},
};

hipError_t
emu_api_error(hipError_t e)
{
	if (e != hipSuccess)
		last = e;
	return e;
}

void
emu_api_set_sticky(hipError_t e)
{
	sticky = e;
}

hipError_t
emu_api_sticky(void)
{
	return sticky;
}

const char *
hipGetErrorName(hipError_t e)
{
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].e == e)
			return errors[i].name;
	return "hipErrorUnknown";
}

const char *
hipGetErrorString(hipError_t e)
{
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].e == e)
			return errors[i].text;
	return "unknown error";
}

hipError_t
hipDrvGetErrorName(hipError_t e, const char **s)
{
	REQUIRE(s != NULL);
	*s = hipGetErrorName(e);
	return hipSuccess;
}

hipError_t
hipDrvGetErrorString(hipError_t e, const char **s)
{
	REQUIRE(s != NULL);
	*s = hipGetErrorString(e);
	return hipSuccess;
}

hipError_t
hipGetLastError(void)
{
	hipError_t e = last;

	last = hipSuccess;
	return sticky != hipSuccess ? sticky : e;
}

hipError_t
hipPeekAtLastError(void)
{
	return sticky != hipSuccess ? sticky : last;
}
