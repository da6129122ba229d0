/*
 * emu_fixture.c: see emu_fixture.h. Compiled kernels are kept in the build folder's tests/emulator, or in /tmp without
 * one, and made again when their source is newer.
 */
#include "emulator/emu_fixture.h"

#include "emulator/emulator.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT_MAX 4096

static void *memory[KEPT_MAX];
static hipModule_t modules[KEPT_MAX];
static size_t nmemory, nmodules;

static const char *
compiler(void)
{
	const char *cc = getenv("AITERD_CLANG");

	return cc != NULL && *cc != '\0' ? cc : "clang-19";
}

static int
is_older(const char *path, const char *source)
{
	struct stat a, b;

	return stat(path, &a) != 0 || stat(source, &b) != 0 || a.st_mtime < b.st_mtime;
}

static void
compile(const char *source, const char *object, const char *folder)
{
	char command[2048], temporary[600];
	int r;

	snprintf(command, sizeof command, "%s --version >/dev/null 2>&1", compiler());
	if (system(command) != 0)
		cr_skip_test("%s is not installed: gfx942 kernels cannot be compiled", compiler());
	snprintf(temporary, sizeof temporary, "%s.%d", object, (int)getpid());
	snprintf(command, sizeof command,
		 "%s -x hip --offload-arch=gfx942 --cuda-device-only --no-gpu-bundle-output -nogpulib -nogpuinc -O3 "
		 "-I'%s' '%s' -o '%s'",
		 compiler(), folder, source, temporary);
	r = system(command);
	cr_assert_eq(r, 0, "%s does not compile", source);
	cr_assert_eq(rename(temporary, object), 0);
}

hipModule_t
emu_fixture_load(const char *path)
{
	hipModule_t m;

	HIP(hipModuleLoad(&m, path));
	cr_assert_lt(nmodules, KEPT_MAX);
	modules[nmodules++] = m;
	return m;
}

hipModule_t
emu_fixture_module(const char *name)
{
	const char *src = getenv("AITERD_SRCDIR"), *build = getenv("AITERD_BUILDDIR");
	char folder[400], source[500], ops[500], object[500];

	snprintf(folder, sizeof folder, "%s/tests/emulator", src != NULL ? src : ".");
	snprintf(source, sizeof source, "%s/%s.hip", folder, name);
	snprintf(ops, sizeof ops, "%s/ops.def", folder);
	if (build != NULL)
		snprintf(object, sizeof object, "%s/tests/emulator/%s.co", build, name);
	else
		snprintf(object, sizeof object, "/tmp/emu_%u_%s.co", (unsigned)getuid(), name);
	if (is_older(object, source) || is_older(object, ops))
		compile(source, object, folder);
	return emu_fixture_load(object);
}

hipFunction_t
emu_fixture_kernel(hipModule_t m, const char *name)
{
	hipFunction_t f = NULL;
	hipError_t e = hipModuleGetFunction(&f, m, name);

	cr_assert_eq(e, hipSuccess, "%s: %s", name, hipGetErrorName(e));
	return f;
}

void
emu_fixture_isa(const char *name)
{
	setenv("EMUHIP_ISA", name, 1);
	emu_settings_read();
	if (strcmp(emu_isa_name(), name) != 0)
		cr_skip_test("this processor does not have %s", name);
}

void
emu_fixture_end(void)
{
	while (nmemory > 0)
		hipFree(memory[--nmemory]);
	while (nmodules > 0)
		hipModuleUnload(modules[--nmodules]);
}

void *
emu_fixture_device(const void *src, size_t n)
{
	void *p;

	HIP(hipMalloc(&p, n));
	cr_assert_lt(nmemory, KEPT_MAX);
	memory[nmemory++] = p;
	if (src != NULL)
		HIP(hipMemcpy(p, src, n, hipMemcpyHostToDevice));
	return p;
}

void
emu_fixture_read(void *to, const void *device, size_t n)
{
	HIP(hipMemcpy(to, device, n, hipMemcpyDeviceToHost));
}

hipError_t
emu_fixture_try(hipFunction_t f, unsigned blocks, unsigned threads, void **params)
{
	hipError_t e = hipModuleLaunchKernel(f, blocks, 1, 1, threads, 1, 1, 0, NULL, params, NULL);

	return e != hipSuccess ? e : hipDeviceSynchronize();
}

void
emu_fixture_run(hipFunction_t f, unsigned blocks, unsigned threads, void **params)
{
	HIP(emu_fixture_try(f, blocks, threads, params));
}

uint32_t
emu_fixture_random(void)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 32);
}

float
emu_fixture_random_float(void)
{
	return (float)(int32_t)emu_fixture_random() * 0x1p-31f;
}

static double
decode(unsigned bits, int digits, int exponent_bits, int bias)
{
	int e = (int)(bits >> digits) & ((1 << exponent_bits) - 1), m = (int)bits & ((1 << digits) - 1);
	double v = e != 0 ? ldexp(m + (1 << digits), e - bias - digits) : ldexp(m, 1 - bias - digits);

	return bits >> (digits + exponent_bits) & 1 ? -v : v;
}

double
emu_fixture_from_half(uint16_t bits)
{
	if ((bits & 0x7c00) == 0x7c00)
		return bits & 0x3ff ? NAN : bits & 0x8000 ? -INFINITY : INFINITY;
	return decode(bits, 10, 5, 15);
}

double
emu_fixture_from_bf16(uint16_t bits)
{
	if ((bits & 0x7f80) == 0x7f80)
		return bits & 0x7f ? NAN : bits & 0x8000 ? -INFINITY : INFINITY;
	return decode(bits, 7, 8, 127);
}

double
emu_fixture_from_fp8(uint8_t bits, int digits, int bias)
{
	return bits == 0x80 ? NAN : decode(bits, digits, 7 - digits, bias);
}
