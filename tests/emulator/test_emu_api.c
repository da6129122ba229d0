/*
 * test_emu_api.c: HIP's functions as the emulator provides them: modules and arguments, faults, streams and events,
 * memory, pools, host registration, what devices report, counts.
 */
#include "emulator/emu_fixture.h"
#include "emulator/emulator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
setting(const char *name, const char *value)
{
	setenv(name, value, 1);
	emu_settings_read();
}

/* What is written to stderr between begin and end. */
static int saved_stderr;
static FILE *captured;

static void
capture_begin(void)
{
	captured = tmpfile();
	cr_assert_not_null(captured);
	fflush(stderr);
	saved_stderr = dup(2);
	dup2(fileno(captured), 2);
}

static void
capture_end(char *out, size_t cap)
{
	size_t n;

	fflush(stderr);
	dup2(saved_stderr, 2);
	close(saved_stderr);
	rewind(captured);
	n = fread(out, 1, cap - 1, captured);
	out[n] = '\0';
	fclose(captured);
}

struct by_value {
	uint8_t a;
	double d;
	uint16_t h[3];
};

static void
check_arguments(const double *out)
{
	static const double want[9] = {200, 3 + 0.5 + 10 + 20 + 30, -1.5, 40000, 0x1p40, 3 * 64, 64, 3, 64};

	for (int i = 0; i < 9; i++)
		cr_assert_eq(out[i], want[i], "argument %d is %g, not %g", i, out[i], want[i]);
}

TestSuite(emu_api, .fini = emu_fixture_end);

Test(emu_api, arguments)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	hipFunction_t f = emu_fixture_kernel(m, "k_arguments");
	struct by_value v = {3, 0.5, {10, 20, 30}};
	struct {
		void *out;
		uint8_t b;
		struct by_value v;
		float f;
		uint16_t h;
		uint64_t l;
	} all = {NULL, 200, v, -1.5f, 40000, (uint64_t)1 << 40};
	void *params[] = {&all.out, &all.b, &all.v, &all.f, &all.h, &all.l};
	void *missing[] = {&all.out, NULL};
	size_t size = sizeof all;
	void *extra[] = {HIP_LAUNCH_PARAM_BUFFER_POINTER, &all, HIP_LAUNCH_PARAM_BUFFER_SIZE, &size,
			 HIP_LAUNCH_PARAM_END};
	char said[1000];
	double out[9];

	all.out = emu_fixture_device(NULL, sizeof out);
	emu_fixture_run(f, 3, 64, params);
	emu_fixture_read(out, all.out, sizeof out);
	check_arguments(out);
	HIP(hipMemset(all.out, 0, sizeof out));
	HIP(hipModuleLaunchKernel(f, 3, 1, 1, 64, 1, 1, 0, NULL, NULL, extra));
	emu_fixture_read(out, all.out, sizeof out);
	check_arguments(out);
	cr_assert_eq(hipModuleLaunchKernel(f, 3, 1, 1, 64, 1, 1, 0, NULL, params, extra), hipErrorInvalidValue);
	capture_begin();
	cr_expect_eq(hipModuleLaunchKernel(f, 3, 1, 1, 64, 1, 1, 0, NULL, missing, NULL), hipErrorInvalidValue);
	capture_end(said, sizeof said);
	cr_assert_not_null(strstr(said, "k_arguments: argument 1 is missing"), "%s", said);
}

Test(emu_api, modules)
{
	static const uint8_t zeros[4096];
	hipModule_t m = emu_fixture_module("kernels_exec"), none;
	hipFunction_t f = emu_fixture_kernel(m, "k_neighbour"), g;
	char said[2000];
	int v;

	HIP(hipFuncGetAttribute(&v, HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, f));
	cr_assert_eq(v, 1024);
	HIP(hipFuncGetAttribute(&v, HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
	cr_assert_eq(v, 1024);
	HIP(hipFuncGetAttribute(&v, HIP_FUNC_ATTRIBUTE_NUM_REGS, f));
	cr_assert(v > 0 && v <= 512);
	HIP(hipFuncGetAttribute(&v, HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, f));
	cr_assert_eq(v, 0);
	cr_assert_eq(hipModuleGetFunction(&g, m, "k_none"), hipErrorNotFound);
	capture_begin();
	cr_expect_eq(hipModuleLoad(&none, "/nonexistent.co"), hipErrorFileNotFound);
	cr_expect_neq(hipModuleLoadData(&none, zeros), hipSuccess);
	capture_end(said, sizeof said);
	cr_assert_not_null(strstr(said, "not an AMDGPU ELF"), "%s", said);
}

/* A code object cut short, or with a byte changed, is refused or loads; it never makes the loader read elsewhere. */
Test(emu_api, damaged_modules)
{
	char path[] = "/tmp/emu_damaged_XXXXXX", said[100];
	const char *build = getenv("AITERD_BUILDDIR");
	char object[500];
	static uint8_t file[1 << 20];
	size_t n;
	FILE *f;
	int fd;

	emu_fixture_module("kernels_exec");
	if (build != NULL)
		snprintf(object, sizeof object, "%s/tests/emulator/kernels_exec.co", build);
	else
		snprintf(object, sizeof object, "/tmp/emu_%u_kernels_exec.co", (unsigned)getuid());
	f = fopen(object, "rb");
	cr_assert_not_null(f);
	n = fread(file, 1, sizeof file, f);
	fclose(f);
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	capture_begin();
	for (int i = 0; i < 40; i++) {
		size_t cut = i < 10 ? (size_t)i * 13 : n * (size_t)i / 40, at = emu_fixture_random() % 4096;
		uint8_t old = file[at];
		hipModule_t m;

		file[at] ^= (uint8_t)(1u << i % 8);
		cr_expect_eq(pwrite(fd, file, i % 2 ? n : cut, 0), (ssize_t)(i % 2 ? n : cut));
		cr_expect_eq(ftruncate(fd, (off_t)(i % 2 ? n : cut)), 0);
		if (hipModuleLoad(&m, path) == hipSuccess)
			hipModuleUnload(m);
		file[at] = old;
	}
	capture_end(said, sizeof said);
	close(fd);
	unlink(path);
}

Test(emu_api, fault_names_what_happened)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	uint32_t *p = emu_fixture_device(NULL, 4 * 64), at = 1;
	void *params[] = {&p, &at};
	char said[2000];

	capture_begin();
	cr_expect_eq(emu_fixture_try(emu_fixture_kernel(m, "k_store"), 1, 64, params), hipErrorIllegalAddress);
	capture_end(said, sizeof said);
	cr_assert_not_null(strstr(said, "k_store: illegal address"), "%s", said);
	cr_assert_not_null(strstr(said, "4 bytes, lane 63; nearest below: device memory"), "%s", said);
	cr_assert_not_null(strstr(said, "+0x4 past its end"), "%s", said);
	cr_assert_not_null(strstr(said, "global_store_dword"), "%s", said);
	cr_assert_eq(hipDeviceSynchronize(), hipErrorIllegalAddress, "a fault stays");
	cr_assert_eq(hipGetLastError(), hipErrorIllegalAddress);
}

Test(emu_api, host_memory_is_out_of_reach)
{
	static uint32_t host[64];
	hipModule_t m = emu_fixture_module("kernels_exec");
	uint32_t *p = host, at = 0;
	void *params[] = {&p, &at};

	HIP(hipHostRegister(host, sizeof host, hipHostRegisterDefault));
	emu_fixture_run(emu_fixture_kernel(m, "k_store"), 1, 64, params);
	cr_assert_eq(host[63], 63);
	HIP(hipHostUnregister(host));
	capture_begin();
	cr_expect_eq(emu_fixture_try(emu_fixture_kernel(m, "k_store"), 1, 64, params), hipErrorIllegalAddress);
	capture_end((char[100]){0}, 100);
}

Test(emu_api, runaway_and_trap)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	uint32_t zero = 0;
	void *p = emu_fixture_device(&zero, sizeof zero), *params[] = {&p};
	char said[2000];

	cr_assert_eq(emu_fixture_try(emu_fixture_kernel(m, "k_trap"), 1, 1025, params), hipErrorInvalidValue);
	HIP(hipDeviceSynchronize()); /* a launch that was refused is no fault */
	setting("EMUHIP_MAXINST", "100000");
	capture_begin();
	cr_expect_eq(emu_fixture_try(emu_fixture_kernel(m, "k_forever"), 1, 64, params), hipErrorLaunchTimeOut);
	capture_end(said, sizeof said);
	cr_assert_not_null(strstr(said, "k_forever: more than 100000 instructions"), "%s", said);
}

Test(emu_api, trap)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	uint32_t in[64] = {[5] = 1};
	void *p = emu_fixture_device(in, sizeof in), *params[] = {&p};
	char said[2000];

	capture_begin();
	cr_expect_eq(emu_fixture_try(emu_fixture_kernel(m, "k_trap"), 1, 64, params), hipErrorLaunchFailure);
	capture_end(said, sizeof said);
	cr_assert_not_null(strstr(said, "s_trap"), "%s", said);
}

static uint64_t
pool_value(hipMemPool_t pool, hipMemPoolAttr a)
{
	uint64_t v = UINT64_MAX;

	HIP(hipMemPoolGetAttribute(pool, a, &v));
	return v;
}

Test(emu_api, pool_statistics)
{
	uint64_t zero = 0, keep = 1 << 20, other = 5;
	size_t before, after, total;
	hipMemPool_t pool;
	hipStream_t s;
	void *a, *b;

	HIP(hipStreamCreateWithFlags(&s, hipStreamNonBlocking));
	HIP(hipDeviceGetDefaultMemPool(&pool, 0));
	HIP(hipMemGetInfo(&before, &total));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrUsedMemCurrent), 0);
	HIP(hipMallocAsync(&a, 1 << 20, s));
	HIP(hipMallocAsync(&b, 3 << 20, s));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrUsedMemCurrent), 4 << 20);
	HIP(hipFreeAsync(a, s));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrUsedMemCurrent), 3 << 20);
	cr_assert_eq(pool_value(pool, hipMemPoolAttrUsedMemHigh), 4 << 20);
	cr_assert_eq(pool_value(pool, hipMemPoolAttrReservedMemCurrent), 4 << 20,
		     "freed memory is kept until a synchronisation");
	HIP(hipStreamSynchronize(s));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrReservedMemCurrent), 3 << 20);
	HIP(hipMemPoolSetAttribute(pool, hipMemPoolAttrUsedMemHigh, &zero));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrUsedMemHigh), 3 << 20, "the mark is set back to what is used now");
	cr_assert_eq(hipMemPoolSetAttribute(pool, hipMemPoolAttrUsedMemHigh, &other), hipErrorInvalidValue);
	cr_assert_eq(hipMemPoolSetAttribute(pool, hipMemPoolAttrUsedMemCurrent, &zero), hipErrorInvalidValue);
	HIP(hipMemGetInfo(&after, &total));
	cr_assert_eq(before - after, 3 << 20);

	HIP(hipMemPoolSetAttribute(pool, hipMemPoolAttrReleaseThreshold, &keep));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrReleaseThreshold), keep);
	HIP(hipFreeAsync(b, s));
	HIP(hipStreamSynchronize(s));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrReservedMemCurrent), keep);
	HIP(hipMemPoolTrimTo(pool, 0));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrReservedMemCurrent), 0);
	cr_assert_eq(pool_value(pool, hipMemPoolAttrReservedMemHigh), 4 << 20);
	HIP(hipMemGetInfo(&after, &total));
	cr_assert_eq(before, after);
	HIP(hipStreamDestroy(s));
}

Test(emu_api, own_pool)
{
	hipMemPoolProps props = {.allocType = hipMemAllocationTypePinned, .location = {hipMemLocationTypeDevice, 0}};
	hipMemPool_t pool, standard;
	void *p;

	HIP(hipMemPoolCreate(&pool, &props));
	HIP(hipDeviceGetDefaultMemPool(&standard, 0));
	HIP(hipMallocFromPoolAsync(&p, 1000, pool, NULL));
	cr_assert_eq(pool_value(pool, hipMemPoolAttrUsedMemCurrent), 1024);
	cr_assert_eq(pool_value(standard, hipMemPoolAttrUsedMemCurrent), 0);
	cr_assert_eq(hipMemPoolDestroy(pool), hipErrorInvalidValue, "memory of it is in use");
	HIP(hipFreeAsync(p, NULL));
	HIP(hipMemPoolDestroy(pool));
}

Test(emu_api, memory_runs_out)
{
	size_t available, total;
	void *p, *q;

	setting("EMUHIP_MEM", "0.5");
	HIP(hipMemGetInfo(&available, &total));
	cr_assert_eq(total, (size_t)1 << 29);
	HIP(hipMalloc(&p, total / 2));
	cr_assert_eq(hipMalloc(&q, total / 2 + 1), hipErrorOutOfMemory);
	cr_assert_null(q);
	cr_assert_eq(hipMallocAsync(&q, total, NULL), hipErrorOutOfMemory);
	HIP(hipMallocAsync(&q, total / 2, NULL));
	HIP(hipFreeAsync(q, NULL)); /* the pool keeps it, but gives it back when the device needs it */
	HIP(hipMalloc(&q, total / 2));
	HIP(hipMemGetInfo(&available, &total));
	cr_assert_eq(available, 0);
	HIP(hipFree(p));
	HIP(hipFree(q));
	HIP(hipMemGetInfo(&available, &total));
	cr_assert_eq(available, total);
}

Test(emu_api, host_registration)
{
	static uint8_t host[8192];
	hipPointerAttribute_t at;
	void *p, *d;

	cr_assert_eq(hipHostGetDevicePointer(&d, host, 0), hipErrorInvalidValue);
	HIP(hipHostRegister(host + 100, 5000, hipHostRegisterMapped));
	cr_assert_eq(hipHostRegister(host, 200, 0), hipErrorHostMemoryAlreadyRegistered, "it overlaps");
	HIP(hipHostGetDevicePointer(&d, host + 4000, 0));
	cr_assert_eq(d, host + 4000);
	HIP(hipPointerGetAttributes(&at, host + 200));
	cr_assert_eq(at.memoryType, hipMemoryTypeHost);
	cr_assert_eq(hipHostUnregister(host), hipErrorHostMemoryNotRegistered);
	HIP(hipHostUnregister(host + 100));
	cr_assert_eq(hipHostUnregister(host + 100), hipErrorHostMemoryNotRegistered);

	HIP(hipHostMalloc(&p, 1000, hipHostMallocDefault));
	HIP(hipHostGetDevicePointer(&d, p, 0));
	cr_assert_eq(d, p);
	cr_assert_eq(hipFree(p), hipErrorInvalidValue);
	HIP(hipHostFree(p));
}

Test(emu_api, copies)
{
	uint8_t in[100], out[100];
	uint8_t *d = emu_fixture_device(NULL, 100);
	uint16_t halves[50];

	for (int i = 0; i < 100; i++)
		in[i] = (uint8_t)(3 * i);
	emu_fixture_read(out, d, 100);
	cr_assert(out[0] != 0 && out[99] != 0, "fresh memory must not be zero");
	HIP(hipMemcpy2D(d, 10, in, 20, 10, 5, hipMemcpyHostToDevice));
	emu_fixture_read(out, d, 50);
	for (int i = 0; i < 50; i++)
		cr_assert_eq(out[i], in[i / 10 * 20 + i % 10]);
	HIP(hipMemsetD16(d, 0x1234, 50));
	emu_fixture_read(halves, d, 100);
	cr_assert_eq(halves[49], 0x1234);
	HIP(hipMemset2DAsync(d, 20, 0x77, 10, 5, NULL));
	emu_fixture_read(out, d, 100);
	for (int i = 0; i < 100; i++)
		cr_assert_eq(out[i], i % 20 < 10 ? 0x77 : i % 2 ? 0x12 : 0x34);
	capture_begin();
	cr_expect_eq(hipMemcpy(d, in, 101, hipMemcpyHostToDevice), hipErrorInvalidValue);
	cr_expect_eq(hipMemcpy(out, d + 1, 100, hipMemcpyDeviceToHost), hipErrorInvalidValue);
	cr_expect_eq(hipMemset(d, 0, 101), hipErrorInvalidValue);
	capture_end((char[100]){0}, 100);
}

Test(emu_api, streams_and_events)
{
	hipStream_t a, b;
	hipEvent_t start, stop, quiet;
	uint32_t *pinned, *d, got = 0;
	float ms = -1;

	HIP(hipStreamCreateWithFlags(&a, hipStreamNonBlocking));
	HIP(hipStreamCreateWithFlags(&b, hipStreamNonBlocking));
	HIP(hipEventCreate(&start));
	HIP(hipEventCreate(&stop));
	HIP(hipEventCreateWithFlags(&quiet, hipEventDisableTiming));
	cr_assert_eq(hipEventElapsedTime(&ms, start, stop), hipErrorInvalidHandle, "nothing was recorded");
	HIP(hipEventRecord(start, a));
	HIP(hipEventRecord(stop, a));
	HIP(hipEventRecord(quiet, a));
	HIP(hipEventSynchronize(stop));
	HIP(hipEventElapsedTime(&ms, start, stop));
	cr_assert(ms >= 0);
	cr_assert_eq(hipEventElapsedTime(&ms, start, quiet), hipErrorInvalidHandle);

	/* lazily: nothing happens before something synchronises, and waiting for an event orders two streams */
	setting("EMUHIP_LAZY", "1");
	HIP(hipHostMalloc((void **)&pinned, 4, 0));
	HIP(hipMalloc((void **)&d, 4));
	*pinned = 1;
	HIP(hipMemcpyAsync(d, pinned, 4, hipMemcpyHostToDevice, a));
	HIP(hipEventRecord(stop, a));
	cr_assert_eq(hipEventElapsedTime(&ms, start, stop), hipErrorNotReady);
	HIP(hipStreamWaitEvent(b, stop, 0));
	HIP(hipMemcpyAsync(&got, d, 4, hipMemcpyDeviceToHost, b));
	*pinned = 2; /* too early: the copy has not been made */
	HIP(hipStreamSynchronize(b));
	cr_assert_eq(got, 2);
	got = 3;
	HIP(hipMemcpyAsync(d, &got, 4, hipMemcpyHostToDevice, a));
	got = 4; /* pageable memory was copied at once */
	HIP(hipMemcpyAsync(pinned, d, 4, hipMemcpyDeviceToHost, a));
	HIP(hipFreeAsync(d, a));
	HIP(hipDeviceSynchronize());
	cr_assert_eq(*pinned, 3);
	HIP(hipEventDestroy(start));
	HIP(hipEventDestroy(stop));
	HIP(hipEventDestroy(quiet));
	HIP(hipStreamDestroy(a));
	HIP(hipStreamDestroy(b));
	HIP(hipHostFree(pinned));
}

Test(emu_api, devices)
{
	hipDeviceProp_t p;
	int n, v;

	setting("EMUHIP_DEVICES", "2");
	HIP(hipInit(0));
	HIP(hipGetDeviceCount(&n));
	cr_assert_eq(n, 2);
	HIP(hipGetDeviceProperties(&p, 1));
	cr_assert_str_eq(p.name, "AMD Instinct MI300X (emulated)");
	cr_assert_eq(strncmp(p.gcnArchName, "gfx942", 6), 0);
	HIP(hipDeviceGetAttribute(&v, hipDeviceAttributeMultiprocessorCount, 0));
	cr_assert_eq(v, 304);
	cr_assert_eq(p.multiProcessorCount, 304);
	HIP(hipDeviceGetAttribute(&v, hipDeviceAttributeClockRate, 0));
	cr_assert_eq(v, p.clockRate);
	HIP(hipRuntimeGetVersion(&v));
	cr_assert_eq(v, HIP_VERSION);
	cr_assert_eq(hipSetDevice(2), hipErrorInvalidDevice);
	HIP(hipSetDevice(1));
	HIP(hipGetDevice(&n));
	cr_assert_eq(n, 1);
	cr_assert_str_eq(hipGetErrorName(hipErrorOutOfMemory), "hipErrorOutOfMemory");
	cr_assert_str_eq(hipGetErrorString(hipErrorOutOfMemory), "out of memory");
	setting("EMUHIP_DEVICES", "0");
	cr_assert_eq(hipGetDeviceCount(&n), hipErrorNoDevice);
}

Test(emu_api, instruction_counts)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	hipFunction_t f = emu_fixture_kernel(m, "k_v_mfma_f32_16x16x16_f16");
	struct emu_stats total;
	struct emu_mix mix;
	double none, full;
	uint64_t sum = 0;
	void *p[4], *params[] = {&p[0], &p[1], &p[2], &p[3]};

	for (int i = 0; i < 4; i++)
		p[i] = emu_fixture_device(NULL, 64 * 16);
	emu_stats_reset();
	emu_stats_count_classes(1);
	emu_fixture_run(f, 5, 64, params);
	emu_stats_last_mix(&mix);
	emu_stats_get(&total);
	cr_assert_eq(mix.count[EMU_MFMA], 5);
	cr_assert_eq(mix.cycles[EMU_MFMA], 5 * 16);
	cr_assert_eq(mix.count[EMU_VMEM], 5 * 4, "three loads and a store");
	cr_assert_eq(mix.count[EMU_BARRIER], 0);
	for (int c = 0; c < EMU_CLASSES; c++)
		sum += mix.count[c];
	cr_assert_eq(total.instructions, sum);
	cr_assert(total.launches == 1 && total.workgroups == 5 && total.waves == 5 && total.mfma == 5);
	emu_stats_mfma_share(&mix, &none, &full);
	cr_assert(none > 0 && none < 1 && full >= none && full <= 1);
	cr_assert_str_eq(emu_stats_class_name(EMU_LDS), "lds");
}
