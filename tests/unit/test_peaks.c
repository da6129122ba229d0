/*
 * test_peaks.c: peaks by architecture, name and dtype; none where nothing is known. Expected figures are the data sheets'.
 */
#include <criterion/criterion.h>

#include <stdio.h>

#include "front/peaks.h"

static struct peaks p;

static bool
find(const char *arch, const char *name, uint32_t units, uint32_t mhz, enum dtype dt)
{
	struct device_info info = {.compute_units = units, .clock_mhz = mhz};

	snprintf(info.arch, sizeof(info.arch), "%s", arch);
	snprintf(info.name, sizeof(info.name), "%s", name);
	return peaks_find(&info, dt, &p);
}

Test(peaks, data_sheets)
{
	static const struct {
		const char *arch, *name;
		uint32_t units;
		double half, fp32, gb;
	} rows[] = {
		{"gfx942", "AMD Instinct MI300X", 304, 1307.4, 163.4, 5300},
		{"gfx942", "AMD Instinct MI300A", 228, 980.6, 122.6, 5300},
		{"gfx950", "AMD Instinct MI355X", 256, 2516.6, 157.3, 8000},
		{"sm_90", "NVIDIA H200", 132, 989.4, 494.7, 4800},
		{"sm_90", "NVIDIA H100 80GB HBM3", 132, 989.4, 494.7, 3350},
		{"sm_90", "NVIDIA H100 PCIe", 114, 756, 378, 2000},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_assert(find(rows[i].arch, rows[i].name, rows[i].units, 2100, DT_FP16), "%s", rows[i].name);
		cr_assert_float_eq(p.tflops, rows[i].half, 1e-9);
		cr_assert_float_eq(p.gb_per_s, rows[i].gb, 1e-9);
		cr_assert(p.source && p.tflops_of);
		cr_assert(find(rows[i].arch, rows[i].name, rows[i].units, 2100, DT_BF16));
		cr_assert_float_eq(p.tflops, rows[i].half, 1e-9);
		cr_assert(find(rows[i].arch, rows[i].name, rows[i].units, 2100, DT_FP32));
		cr_assert_float_eq(p.tflops, rows[i].fp32, 1e-9);
	}
}

/* MI308X and partitions of a device: units and clock tell; what their memory gives is not known. */
Test(peaks, by_units_and_clock)
{
	cr_assert(find("gfx942", "AMD Instinct MI308X", 80, 1420, DT_FP16));
	cr_assert_float_eq(p.tflops, 80 * 1420e6 * 2048 / 1e12, 1e-9);
	cr_assert_eq(p.gb_per_s, 0);
	cr_assert(find("gfx942", "AMD Instinct MI300X", 38, 2100, DT_FP32));
	cr_assert_float_eq(p.tflops, 163.4 / 8, 0.05);
	cr_assert_eq(p.gb_per_s, 0);
	/* The table and the formula agree where both speak. */
	cr_assert(find("gfx942", "something", 304, 2100, DT_BF16));
	cr_assert_float_eq(p.tflops, 1307.4, 0.1);
	cr_assert(find("gfx950", "something", 256, 2400, DT_BF16));
	cr_assert_float_eq(p.tflops, 2516.6, 0.1);
}

Test(peaks, unknown)
{
	struct device_info info = {
		.arch = "gfx942", .name = "AMD Instinct MI300X", .compute_units = 304, .clock_mhz = 2100};

	cr_assert_not(find("x86_64+avx512", "AMD EPYC 9654", 96, 2400, DT_FP32));
	cr_assert(p.source == NULL && p.tflops_of == NULL && p.tflops == 0 && p.gb_per_s == 0);
	cr_assert_not(find("gfx942", "AMD Instinct MI300X", 38, 0, DT_FP16));
	cr_assert_not(find("sm_90", "NVIDIA H100 PCIe", 57, 1700, DT_FP16), "half of one");
	cr_assert_not(find("sm_80", "NVIDIA A100", 108, 1400, DT_FP16));
	cr_assert_not(find("gfx942", "AMD Instinct MI300X", 304, 2100, DT_FP64));
	info.timing_meaningless = 1;
	cr_assert_not(peaks_find(&info, DT_FP16, &p));
}
