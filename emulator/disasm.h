/*
 * disasm.h: libLLVM's disassembler, loaded at run time. codeobj.c decodes with it, faults and traces name
 * instructions with it.
 */
#ifndef EMU_DISASM_H
#define EMU_DISASM_H

#include "emulator/codeobj.h"

/* 0, or -1 and *why if there is no usable libLLVM. */
int emu_disasm_init(struct emu_fault *why);

/* The text of the instruction at p and its length in bytes; 0 if it is none. */
size_t emu_disasm_one(const u8 *p, size_t n, char *out, size_t cap);

/* The same for a word of a code object, with blanks for tabs; empty if it is none. */
void emu_disasm_at(const struct codeobj *co, u32 word, char *out, size_t cap);

#endif
