/*
 * api_copy.c: copies and memsets. The device's side must lie in known memory, as on a GPU; that a copy runs past an
 * allocation is an error here and not only there.
 */
#include "emulator/api.h"

#include "emulator/settings.h"

#include <stdio.h>
#include <stdlib.h>

static hipError_t
bad_range(const char *what, size_t n, const void *p)
{
	fprintf(stderr, "emuhip: %s of %zu bytes at %p is not inside a device allocation\n", what, n, p);
	if (emu_settings.abort)
		abort();
	return emu_api_error(hipErrorInvalidValue);
}

/* rows of n bytes each. */
static hipError_t
copy(void *d, size_t dst_pitch, const void *s, size_t src_pitch, size_t n, size_t rows, hipMemcpyKind k, hipStream_t st,
     int synchronous)
{
	struct command c = {.kind = COMMAND_COPY,
			    .dst = d,
			    .src = s,
			    .n = n,
			    .rows = rows,
			    .dst_pitch = dst_pitch,
			    .src_pitch = src_pitch};
	int to_device = k == hipMemcpyHostToDevice || k == hipMemcpyDeviceToDevice;
	int from_device = k == hipMemcpyDeviceToHost || k == hipMemcpyDeviceToDevice;
	hipError_t r, drained;

	if (n == 0 || rows == 0)
		return hipSuccess;
	REQUIRE(d != NULL && s != NULL && (rows == 1 || (dst_pitch >= n && src_pitch >= n)));
	if ((unsigned)k > hipMemcpyDefault)
		return emu_api_error(hipErrorInvalidMemcpyDirection);
	if (to_device && !emu_memory_is_known(d, (rows - 1) * dst_pitch + n))
		return bad_range("copy to", (rows - 1) * dst_pitch + n, d);
	if (from_device && !emu_memory_is_known(s, (rows - 1) * src_pitch + n))
		return bad_range("copy from", (rows - 1) * src_pitch + n, s);
	/* pageable memory is staged at once: the caller may change it when the call returns */
	if (emu_settings.lazy && !synchronous && k == hipMemcpyHostToDevice && rows == 1 && !emu_memory_is_host(s)) {
		c.staged = malloc(n);
		if (c.staged == NULL)
			return emu_api_error(hipErrorOutOfMemory);
		memcpy(c.staged, s, n);
	}
	r = emu_stream_submit(st, c);
	if (synchronous) {
		drained = emu_stream_drain(st);
		if (drained != hipSuccess)
			r = drained;
	}
	return r;
}

hipError_t
hipMemcpy(void *d, const void *s, size_t n, hipMemcpyKind k)
{
	return copy(d, 0, s, 0, n, 1, k, NULL, 1);
}

hipError_t
hipMemcpyAsync(void *d, const void *s, size_t n, hipMemcpyKind k, hipStream_t st)
{
	return copy(d, 0, s, 0, n, 1, k, st, 0);
}

hipError_t
hipMemcpyWithStream(void *d, const void *s, size_t n, hipMemcpyKind k, hipStream_t st)
{
	return copy(d, 0, s, 0, n, 1, k, st, 1);
}

hipError_t
hipMemcpyHtoD(hipDeviceptr_t d, void *s, size_t n)
{
	return hipMemcpy(d, s, n, hipMemcpyHostToDevice);
}

hipError_t
hipMemcpyDtoH(void *d, hipDeviceptr_t s, size_t n)
{
	return hipMemcpy(d, s, n, hipMemcpyDeviceToHost);
}

hipError_t
hipMemcpyDtoD(hipDeviceptr_t d, hipDeviceptr_t s, size_t n)
{
	return hipMemcpy(d, s, n, hipMemcpyDeviceToDevice);
}

hipError_t
hipMemcpyHtoDAsync(hipDeviceptr_t d, void *s, size_t n, hipStream_t st)
{
	return hipMemcpyAsync(d, s, n, hipMemcpyHostToDevice, st);
}

hipError_t
hipMemcpyDtoHAsync(void *d, hipDeviceptr_t s, size_t n, hipStream_t st)
{
	return hipMemcpyAsync(d, s, n, hipMemcpyDeviceToHost, st);
}

hipError_t
hipMemcpyDtoDAsync(hipDeviceptr_t d, hipDeviceptr_t s, size_t n, hipStream_t st)
{
	return hipMemcpyAsync(d, s, n, hipMemcpyDeviceToDevice, st);
}

hipError_t
hipMemcpyPeer(void *d, int ddev, const void *s, int sdev, size_t n)
{
	(void)ddev;
	(void)sdev;
	return hipMemcpy(d, s, n, hipMemcpyDeviceToDevice);
}

hipError_t
hipMemcpyPeerAsync(void *d, int ddev, const void *s, int sdev, size_t n, hipStream_t st)
{
	(void)ddev;
	(void)sdev;
	return hipMemcpyAsync(d, s, n, hipMemcpyDeviceToDevice, st);
}

hipError_t
hipMemcpy2D(void *d, size_t dpitch, const void *s, size_t spitch, size_t w, size_t h, hipMemcpyKind k)
{
	return copy(d, dpitch, s, spitch, w, h, k, NULL, 1);
}

hipError_t
hipMemcpy2DAsync(void *d, size_t dpitch, const void *s, size_t spitch, size_t w, size_t h, hipMemcpyKind k,
		 hipStream_t st)
{
	return copy(d, dpitch, s, spitch, w, h, k, st, 0);
}

static hipError_t
set(void *d, u32 value, int width, size_t n, hipStream_t s)
{
	struct command c = {.kind = COMMAND_SET, .dst = d, .value = value, .width = width, .n = n, .rows = 1};

	if (n == 0)
		return hipSuccess;
	if (n > SIZE_MAX / 4 || !emu_memory_is_known(d, n * (size_t)width))
		return bad_range("memset", n * (size_t)width, d);
	return emu_stream_submit(s, c);
}

hipError_t
hipMemset(void *d, int v, size_t n)
{
	return set(d, (u32)v, 1, n, NULL);
}

hipError_t
hipMemsetAsync(void *d, int v, size_t n, hipStream_t s)
{
	return set(d, (u32)v, 1, n, s);
}

hipError_t
hipMemsetD8(hipDeviceptr_t d, unsigned char v, size_t n)
{
	return set(d, v, 1, n, NULL);
}

hipError_t
hipMemsetD8Async(hipDeviceptr_t d, unsigned char v, size_t n, hipStream_t s)
{
	return set(d, v, 1, n, s);
}

hipError_t
hipMemsetD16(hipDeviceptr_t d, unsigned short v, size_t n)
{
	return set(d, v, 2, n, NULL);
}

hipError_t
hipMemsetD16Async(hipDeviceptr_t d, unsigned short v, size_t n, hipStream_t s)
{
	return set(d, v, 2, n, s);
}

hipError_t
hipMemsetD32(hipDeviceptr_t d, int v, size_t n)
{
	return set(d, (u32)v, 4, n, NULL);
}

hipError_t
hipMemsetD32Async(hipDeviceptr_t d, int v, size_t n, hipStream_t s)
{
	return set(d, (u32)v, 4, n, s);
}

hipError_t
hipMemset2DAsync(void *d, size_t pitch, int v, size_t w, size_t h, hipStream_t s)
{
	struct command c = {
		.kind = COMMAND_SET, .dst = d, .value = (u32)v, .width = 1, .n = w, .rows = h, .dst_pitch = pitch};

	if (w == 0 || h == 0)
		return hipSuccess;
	REQUIRE(pitch >= w && h <= SIZE_MAX / pitch);
	if (!emu_memory_is_known(d, (h - 1) * pitch + w))
		return bad_range("memset", (h - 1) * pitch + w, d);
	return emu_stream_submit(s, c);
}
