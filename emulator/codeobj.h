/*
 * codeobj.h: a gfx942 code object loaded into host memory: its kernels with their arguments, its symbols and its
 * decoded instructions. api_module.c loads and unloads them, launch.c runs their kernels.
 */
#ifndef EMU_CODEOBJ_H
#define EMU_CODEOBJ_H

#include "emulator/types.h"

struct op;

/* Why something failed: a hipError_t (0 is fine) and words for a person. */
struct emu_fault {
	int code;
	char msg[1024];
};

struct kernel_arg {
	int offset, size;
	char kind[40]; /* the metadata's value kind: "global_buffer", "by_value", "hidden_..." */
};

struct kernel {
	char name[512];
	struct codeobj *co;
	u64 descriptor; /* address of the kernel descriptor in the loaded image, 0 if it has none */
	int nargs;
	struct kernel_arg *args;
	int kernarg_size, group_size, private_size, max_threads, vgprs, agprs, sgprs;
};

struct codeobj {
	u8 *base; /* the loaded image */
	size_t size;
	u64 text, text_size; /* of the code, from base */
	struct op *ops;	     /* one for each word of the code; only an instruction's first word counts */
	u32 nops;
	struct kernel *kernels;
	int nkernels;
	u8 *elf; /* a copy of the file */
	size_t elf_size;
};

/* The image is an ELF file or a bundle with one for gfx942; size 0: as its headers say. NULL and *why if it won't do. */
struct codeobj *emu_codeobj_load(const void *image, size_t size, struct emu_fault *why);
void emu_codeobj_free(struct codeobj *co);

struct kernel *emu_codeobj_kernel(struct codeobj *co, const char *name);
void *emu_codeobj_symbol(struct codeobj *co, const char *name, size_t *size);

/* metadata.c: fills co->kernels from the note's MessagePack. */
void emu_metadata_read(struct codeobj *co, const u8 *p, size_t n);

#endif
