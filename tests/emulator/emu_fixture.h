/*
 * emu_fixture.h: what the emulator's tests share: kernels compiled by clang-19 when a test needs them, device memory,
 * launches, random numbers. A test that needs kernels is skipped, and says so, where there is no clang-19.
 */
#ifndef EMU_FIXTURE_H
#define EMU_FIXTURE_H

#include "emulator/hip_api.h"

#include <criterion/criterion.h>
#include <stdint.h>

#define HIP(call)                                                                                                      \
	do {                                                                                                           \
		hipError_t e_ = (call);                                                                                \
		cr_assert_eq(e_, hipSuccess, "%s: %s", #call, hipGetErrorName(e_));                                    \
	} while (0)

/* Compiles tests/emulator/<name>.hip, once for all tests, and loads it. */
hipModule_t emu_fixture_module(const char *name);
/* Loads a code object that is there already. */
hipModule_t emu_fixture_load(const char *path);
hipFunction_t emu_fixture_kernel(hipModule_t m, const char *name);

/* Has the executor's variant used that is named; skips the test where the processor lacks it. Before anything else. */
void emu_fixture_isa(const char *name);

/* For TestSuite's .fini: gives back modules and device memory, so that what else is left is seen as a leak. */
void emu_fixture_end(void);

/* n bytes on the device, filled from src if it is not NULL. */
void *emu_fixture_device(const void *src, size_t n);
void emu_fixture_read(void *to, const void *device, size_t n);

/* One-dimensional launch, synchronised; params ends where the kernel's arguments do. */
hipError_t emu_fixture_try(hipFunction_t f, unsigned blocks, unsigned threads, void **params);
void emu_fixture_run(hipFunction_t f, unsigned blocks, unsigned threads, void **params);

/* A fixed sequence in each test; [-1, 1) for the float. */
uint32_t emu_fixture_random(void);
float emu_fixture_random_float(void);

/* fp16, bf16 and the 8-bit floats by arithmetic, independent of the emulator's conversions. */
double emu_fixture_from_half(uint16_t bits);
double emu_fixture_from_bf16(uint16_t bits);
double emu_fixture_from_fp8(uint8_t bits, int digits, int bias);

#endif
