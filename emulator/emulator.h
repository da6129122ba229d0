/*
 * emulator.h: what the emulator offers beyond HIP's own functions: what was executed, for programs that print
 * instruction tables, and the settings. Everything is counted over all threads and devices of the process.
 */
#ifndef EMU_EMULATOR_H
#define EMU_EMULATOR_H

#include <stdint.h>

/* Classes of instructions; `slow` are the vector instructions that run at a quarter of the rate. */
enum emu_class {
	EMU_MFMA,
	EMU_VALU,
	EMU_SLOW,
	EMU_SALU,
	EMU_SMEM,
	EMU_LDS,
	EMU_VMEM,
	EMU_BRANCH,
	EMU_WAIT,
	EMU_BARRIER,
	EMU_OTHER,
	EMU_CLASSES
};

/*
 * Wave instructions by class and how long they keep their unit busy at published CDNA3 rates: cycles of one SIMD
 * for mfma, valu and slow, cycles of the CU for lds (128 bytes each), units of 64 bytes for vmem.
 */
struct emu_mix {
	uint64_t count[EMU_CLASSES];
	uint64_t cycles[EMU_CLASSES];
};

struct emu_stats {
	uint64_t launches, workgroups, waves, instructions, mfma;
	double seconds;	    /* the host's, spent in kernels */
	struct emu_mix mix; /* of the launches that were counted by class, see emu_count_classes */
};

/* Everything since the process started or emu_stats_reset was called. */
void emu_stats_get(struct emu_stats *out);
void emu_stats_reset(void);

/* The mix of the last launch that ended; zeros if it was not counted by class. */
void emu_stats_last_mix(struct emu_mix *out);

/* Count the following launches by class, as EMUHIP_LOG=2 and EMUHIP_STATS=2 do; costs some speed. */
void emu_stats_count_classes(int on);

/* "mfma", "valu", ... */
const char *emu_stats_class_name(enum emu_class c);

/* The share of the matrix peak that the mix alone allows, if nothing overlaps and if everything does. */
void emu_stats_mfma_share(const struct emu_mix *mix, double *no_overlap, double *full_overlap);

/* Reads the environment again (README.md lists the names); done once when the program starts. */
void emu_settings_read(void);

/* The PCI device id of the chip that is played: 0x74a1, an MI300X, unless the environment says otherwise. */
unsigned emu_chip_id(void);

/* The variant of the executor in use: "avx512", "avx2" or "base". */
const char *emu_isa_name(void);

#endif
