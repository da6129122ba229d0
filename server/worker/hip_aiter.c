/*
 * hip_aiter.c: AITER's code objects for the HIP device: which folder of them this chip takes, and which of them the runtime
 * takes. Called by dev_hip.c at the worker's start. What is wrong with them goes to the front with the device's facts, and our
 * own kernels do the work.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/aiter_files.h"
#include "worker/dev_hip.h"

/* The PCI device id, 0 if it cannot be learned. HIP's own attribute for it is new and has had two numbers: sysfs. */
static unsigned
chip_id(int ordinal)
{
#ifdef DEVICE_EMULATED
	(void)ordinal;
	return emu_chip_id();
#elif defined(DEVICE_CUDA)
	(void)ordinal;
	return 0; /* none of AMD's: nothing here will be used */
#else
	char id[32] = "", path[96], text[16] = "";
	FILE *f;

	if (hipDeviceGetPCIBusId(id, sizeof(id) - 1, ordinal) != hipSuccess) {
		(void)hipGetLastError();
		return 0;
	}
	for (char *p = id; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", id);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	return (unsigned)strtoul(text, NULL, 16);
#endif
}

/* They are code objects of version 6, which runtimes before ROCm 6.3 refuse. */
static void
probe(struct aiter_files *f)
{
	char why[160];
	hipModule_t module;
	hipError_t rc;

	/* Giving up the last one empties the table. */
	for (int i = 0; i < f->table.n; i++) {
		if (!f->table.rows[i].image)
			continue;
		rc = hipModuleLoadData(&module, f->table.rows[i].image);
		if (rc == hipSuccess) {
			(void)hipModuleUnload(module);
			continue;
		}
		snprintf(why, sizeof(why), "this HIP runtime does not load %.60s: %.60s", f->table.rows[i].object,
			 hipGetErrorString(rc));
		(void)hipGetLastError();
		aiter_files_drop(f, i, why);
	}
}

struct aiter_files *
hip_aiter_new(const char *dir, int ordinal, const char *arch, int compute_units)
{
	struct aiter_files *f;

	if (!dir)
		return NULL;
	f = aiter_files_load(dir, arch, aiter_folder(chip_id(ordinal), compute_units), aiter_sums);
	if (!f)
		return NULL;
	probe(f);
	return f;
}
