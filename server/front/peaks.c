/*
 * peaks.c: devices' peak rates. Figures are the makers' own, for dense operands (no structured sparsity), named with each row.
 * There are none for processors: what a core sustains depends on clocks and on how many units it has, which no interface
 * tells reliably.
 *
 * AMD, CDNA 3 (gfx942): "AMD CDNA 3 Architecture" white paper and the data sheets of MI300X and MI300A: FLOP per clock and
 * compute unit, matrix cores: fp16 and bf16 2048, fp32 256. MI300X: 304 compute units at 2100 MHz are 1307.4 and 163.4
 * TFLOP/s; MI300A: 228 are 980.6 and 122.6. CDNA 4 (gfx950): "AMD CDNA 4 Architecture" white paper, data sheets of MI350X and
 * MI355X: fp16 and bf16 4096, fp32 256; 256 compute units at 2200 and 2400 MHz are 2.3 and 2.5 PFLOP/s.
 *
 * NVIDIA, sm_90: data sheets "NVIDIA H100 Tensor Core GPU" and "NVIDIA H200 Tensor Core GPU", the figures without sparsity. Our
 * fp32 attention there multiplies in TF32 pieces on the tensor cores, so TF32's rate bounds it, not that of the fp32 cores.
 */
#include "front/peaks.h"

#include <string.h>

enum unit { UNIT_HALF, UNIT_FP32, UNITS };

struct row {
	const char *arch;
	const char *name; /* in the device's own name; the first row that fits */
	uint32_t units;	  /* compute units of the whole device: a partition of it has fewer; 0: any */
	double tflops[UNITS], gb_per_s;
	const char *source;
};

#define CDNA3 "AMD CDNA 3 Architecture white paper, data sheet of "
#define CDNA4 "AMD CDNA 4 Architecture white paper, data sheet of "
#define HOPPER "data sheet of NVIDIA "

static const struct row rows[] = {
	{"gfx942", "MI300X", 304, {1307.4, 163.4}, 5300, CDNA3 "MI300X"},
	{"gfx942", "MI325X", 304, {1307.4, 163.4}, 6000, CDNA3 "MI325X"},
	{"gfx942", "MI300A", 228, {980.6, 122.6}, 5300, CDNA3 "MI300A"},
	{"gfx950", "MI350X", 256, {2306.9, 144.2}, 8000, CDNA4 "MI350X"},
	{"gfx950", "MI355X", 256, {2516.6, 157.3}, 8000, CDNA4 "MI355X"},
	{"sm_90", "H200", 132, {989.4, 494.7}, 4800, HOPPER "H200"},
	{"sm_90", "GH200", 132, {989.4, 494.7}, 0, HOPPER "GH200"},
	{"sm_90", "H100 PCIe", 114, {756, 378}, 2000, HOPPER "H100 PCIe"},
	{"sm_90", "H100 NVL", 132, {835, 417.5}, 3900, HOPPER "H100 NVL"},
	{"sm_90", "H100", 132, {989.4, 494.7}, 3350, HOPPER "H100 SXM"},
};

/* Of an architecture: for MI308X, partitions, and what else has no row; with the device's own units and clock. */
struct per_clock {
	const char *arch;
	double flop[UNITS]; /* a clock and compute unit */
	const char *source;
};

static const struct per_clock clocks[] = {
	{"gfx942",
	 {2048, 256},
	 "AMD CDNA 3 Architecture white paper: FLOP per clock and compute unit, times the device's own"},
	{"gfx950",
	 {4096, 256},
	 "AMD CDNA 4 Architecture white paper: FLOP per clock and compute unit, times the device's own"},
};

static const char *
words(const char *arch, enum dtype dt)
{
	bool amd = strncmp(arch, "gfx", 3) == 0;

	switch (dt) {
	case DT_FP16:
		return amd ? "fp16, matrix cores, dense" : "fp16, tensor cores, dense";
	case DT_BF16:
		return amd ? "bf16, matrix cores, dense" : "bf16, tensor cores, dense";
	default:
		return amd ? "fp32, matrix cores, dense" : "TF32, tensor cores, dense";
	}
}

static const struct row *
row_of(const struct device_info *info)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];

		if (strcmp(info->arch, r->arch) == 0 && strstr(info->name, r->name) != NULL)
			return info->compute_units == r->units ? r : NULL;
	}
	return NULL;
}

bool
peaks_find(const struct device_info *info, enum dtype dt, struct peaks *p)
{
	enum unit unit = dt == DT_FP32 ? UNIT_FP32 : UNIT_HALF;
	const struct row *r = row_of(info);

	memset(p, 0, sizeof(*p));
	if ((dt != DT_FP32 && dt != DT_FP16 && dt != DT_BF16) || info->timing_meaningless)
		return false;
	if (r != NULL) {
		p->tflops = r->tflops[unit];
		p->gb_per_s = r->gb_per_s;
		p->source = r->source;
	}
	for (size_t i = 0; r == NULL && i < sizeof(clocks) / sizeof(clocks[0]); i++)
		if (strcmp(info->arch, clocks[i].arch) == 0 && info->clock_mhz > 0) {
			p->tflops = clocks[i].flop[unit] * info->compute_units * info->clock_mhz / 1e6;
			p->source = clocks[i].source;
		}
	if (p->tflops > 0)
		p->tflops_of = words(info->arch, dt);
	return p->source != NULL;
}
