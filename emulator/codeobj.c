/*
 * codeobj.c: loads a code object as the GPU's loader would: segments into memory, relocations, symbols; then decodes
 * all of its code. Everything that is read from the file is checked against its size first.
 */
#include "emulator/codeobj.h"

#include "emulator/disasm.h"
#include "emulator/exec.h"
#include "emulator/range.h"
#include "emulator/settings.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* What <elf.h> of older systems does not name. */
#define MACHINE_AMDGPU 224
#define MACH_MASK 0xff
#define MACH_GFX942 0x4c
#define RELOC_ABS64 3
#define RELOC_RELATIVE64 13
#define NOTE_AMDGPU_METADATA 32
#define PAGE ((u64)4096)
#define SIZE_MAX_IMAGE ((u64)1 << 31)

enum { INVALID_IMAGE = 200, NO_BINARY = 209 }; /* hipErrorInvalidImage, hipErrorNoBinaryForGpu */

static int
fail(struct emu_fault *why, int code, const char *what)
{
	why->code = code;
	snprintf(why->msg, sizeof why->msg, "emuhip: %s", what);
	return -1;
}

/* A bundle, as clang makes it without --no-gpu-bundle-output: finds the gfx942 part. */
static const u8 *
unbundle(const u8 *image, size_t *size)
{
	static const char magic[] = "__CLANG_OFFLOAD_BUNDLE__";
	const u8 *p = image + 32, *found = NULL;
	u64 n, field[3];

	if (memcmp(image, magic, sizeof magic - 1) != 0)
		return image;
	memcpy(&n, image + 24, 8);
	for (u64 i = 0; i < n && i < 64; i++) {
		memcpy(field, p, sizeof field); /* offset, size, length of the name */
		p += sizeof field;
		if (*size != 0 && (field[0] > *size || field[1] > *size - field[0] || p + field[2] > image + *size))
			return NULL;
		if (memmem(p, field[2], "gfx942", 6) != NULL) {
			found = image + field[0];
			*size = field[1];
			break;
		}
		p += field[2];
	}
	return found;
}

/* The file's size from its section headers, for callers who don't know it. */
static u64
elf_size(const u8 *image, const Elf64_Ehdr *h)
{
	u64 size = h->e_shoff + (u64)h->e_shnum * sizeof(Elf64_Shdr);

	for (unsigned i = 0; i < h->e_shnum; i++) {
		Elf64_Shdr s;

		memcpy(&s, image + h->e_shoff + i * sizeof s, sizeof s);
		if (s.sh_type != SHT_NOBITS && s.sh_offset + s.sh_size > size)
			size = s.sh_offset + s.sh_size;
	}
	return size;
}

static int
inside(u64 offset, u64 n, u64 size)
{
	return offset <= size && n <= size - offset;
}

/* The i-th section or program header. */
static void
section(const struct codeobj *co, unsigned i, Elf64_Shdr *s)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)co->elf;

	memcpy(s, co->elf + h->e_shoff + i * sizeof *s, sizeof *s);
}

static void
segment(const struct codeobj *co, unsigned i, Elf64_Phdr *p)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)co->elf;

	memcpy(p, co->elf + h->e_phoff + i * sizeof *p, sizeof *p);
}

/* Checks that all headers and what they name lie within the file; *top is the end of the image in memory. */
static int
check_headers(const struct codeobj *co, u64 *top)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)co->elf;

	*top = 0;
	if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_phentsize != sizeof(Elf64_Phdr) ||
	    !inside(h->e_shoff, (u64)h->e_shnum * sizeof(Elf64_Shdr), co->elf_size) ||
	    !inside(h->e_phoff, (u64)h->e_phnum * sizeof(Elf64_Phdr), co->elf_size) || h->e_shstrndx >= h->e_shnum)
		return -1;
	for (unsigned i = 0; i < h->e_phnum; i++) {
		Elf64_Phdr p;

		segment(co, i, &p);
		if (!inside(p.p_offset, p.p_filesz, co->elf_size))
			return -1;
		if (p.p_type != PT_LOAD)
			continue;
		if (p.p_filesz > p.p_memsz || !inside(p.p_vaddr, p.p_memsz, SIZE_MAX_IMAGE))
			return -1;
		if (p.p_vaddr + p.p_memsz > *top)
			*top = p.p_vaddr + p.p_memsz;
	}
	for (unsigned i = 0; i < h->e_shnum; i++) {
		Elf64_Shdr s;

		section(co, i, &s);
		if (s.sh_type != SHT_NOBITS && !inside(s.sh_offset, s.sh_size, co->elf_size))
			return -1;
	}
	return 0;
}

static void
read_notes(struct codeobj *co, const Elf64_Phdr *ph)
{
	const u8 *p = co->elf + ph->p_offset, *end = p + ph->p_filesz;

	while (end - p >= 12) {
		u32 head[3]; /* length of the name, of the contents, type */
		u64 name, contents;

		memcpy(head, p, sizeof head);
		p += sizeof head;
		name = ((u64)head[0] + 3) & ~(u64)3;
		contents = ((u64)head[1] + 3) & ~(u64)3;
		if (name > (u64)(end - p) || head[1] > (u64)(end - p) - name)
			return;
		if (head[2] == NOTE_AMDGPU_METADATA)
			emu_metadata_read(co, p + name, head[1]);
		if (contents > (u64)(end - p) - name)
			return;
		p += name + contents;
	}
}

static void
load_segments(struct codeobj *co)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)co->elf;

	for (unsigned i = 0; i < h->e_phnum; i++) {
		Elf64_Phdr p;

		segment(co, i, &p);
		if (p.p_type == PT_LOAD)
			memcpy(co->base + p.p_vaddr, co->elf + p.p_offset, p.p_filesz);
		else if (p.p_type == PT_NOTE)
			read_notes(co, &p);
	}
}

/* The n-th symbol of a symbol table; -1 if there is none. */
static int
symbol(const struct codeobj *co, const Elf64_Shdr *table, u64 n, Elf64_Sym *y)
{
	if (n >= table->sh_size / sizeof *y)
		return -1;
	memcpy(y, co->elf + table->sh_offset + n * sizeof *y, sizeof *y);
	return 0;
}

static int
find_symbol(const struct codeobj *co, const char *name, Elf64_Sym *y)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)co->elf;
	size_t len = strlen(name) + 1;

	for (unsigned i = 0; i < h->e_shnum; i++) {
		Elf64_Shdr s, strings;

		section(co, i, &s);
		if ((s.sh_type != SHT_DYNSYM && s.sh_type != SHT_SYMTAB) || s.sh_link >= h->e_shnum)
			continue;
		section(co, s.sh_link, &strings);
		if (strings.sh_type == SHT_NOBITS)
			continue;
		for (u64 j = 0; symbol(co, &s, j, y) == 0; j++)
			if (y->st_shndx != 0 && inside(y->st_name, len, strings.sh_size) &&
			    memcmp(co->elf + strings.sh_offset + y->st_name, name, len) == 0 &&
			    inside(y->st_value, y->st_size, co->size))
				return 0;
	}
	return -1;
}

static void
relocate(struct codeobj *co, const Elf64_Shdr *s)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)co->elf;
	Elf64_Shdr symbols;

	if (s->sh_link >= h->e_shnum)
		return;
	section(co, s->sh_link, &symbols);
	for (u64 i = 0; i < s->sh_size / sizeof(Elf64_Rela); i++) {
		Elf64_Rela r;
		Elf64_Sym y;
		u64 v;

		memcpy(&r, co->elf + s->sh_offset + i * sizeof r, sizeof r);
		if (!inside(r.r_offset, 8, co->size))
			continue;
		v = (u64)co->base + (u64)r.r_addend;
		if (ELF64_R_TYPE(r.r_info) == RELOC_ABS64 && symbol(co, &symbols, ELF64_R_SYM(r.r_info), &y) == 0)
			v += y.st_value;
		else if (ELF64_R_TYPE(r.r_info) != RELOC_RELATIVE64)
			continue;
		memcpy(co->base + r.r_offset, &v, sizeof v);
	}
}

static void
read_sections(struct codeobj *co)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)(const void *)co->elf;
	Elf64_Shdr names;

	section(co, h->e_shstrndx, &names);
	for (unsigned i = 0; i < h->e_shnum; i++) {
		Elf64_Shdr s;

		section(co, i, &s);
		if (names.sh_type != SHT_NOBITS && inside(s.sh_name, 6, names.sh_size) &&
		    memcmp(co->elf + names.sh_offset + s.sh_name, ".text", 6) == 0 &&
		    inside(s.sh_addr, s.sh_size, co->size)) {
			co->text = s.sh_addr;
			co->text_size = s.sh_size;
		}
		if (s.sh_type == SHT_RELA)
			relocate(co, &s);
	}
}

/* Descriptors have 64 bytes and an entry point within the code. */
static void
find_descriptors(struct codeobj *co)
{
	for (int i = 0; i < co->nkernels; i++) {
		struct kernel *k = &co->kernels[i];
		char name[sizeof k->name + 4];
		Elf64_Sym y;
		i64 entry;
		u64 at;

		snprintf(name, sizeof name, "%s.kd", k->name);
		if (find_symbol(co, name, &y) != 0 || !inside(y.st_value, 64, co->size))
			continue;
		memcpy(&entry, co->base + y.st_value + 16, sizeof entry);
		at = y.st_value + (u64)entry;
		if (at < co->text || at - co->text >= co->text_size)
			continue;
		k->descriptor = (u64)co->base + y.st_value;
	}
}

static void
decode_text(struct codeobj *co)
{
	const u8 *text = co->base + co->text;

	co->nops = (u32)(co->text_size / 4);
	co->ops = aligned_alloc(64, ((size_t)(co->nops + 1) * sizeof *co->ops + 63) & ~(size_t)63);
	if (co->ops == NULL)
		abort();
	for (u32 i = 0; i <= co->nops; i++)
		emu_decode(&co->ops[i], NULL, 0, 0);
	for (u32 i = 0; i < co->nops;) {
		char line[300], shown[300];
		size_t n = emu_disasm_one(text + 4 * (u64)i, co->text_size - 4 * (u64)i, line, sizeof line);
		u32 raw[2] = {0, 0};
		struct op *o = &co->ops[i];

		if (n < 4) {
			i++;
			continue;
		}
		memcpy(raw, text + 4 * (u64)i, n < 8 ? 4 : 8);
		memcpy(shown, line, sizeof shown);
		if (emu_decode(o, line, raw[0], raw[1]) != 0) {
			emu_decode(o, NULL, raw[0], raw[1]);
			if (emu_settings.unknown)
				fprintf(stderr, "emuhip: not implemented:%s\n", shown);
		}
		o->words = (u8)(n / 4);
		i += (u32)(n / 4);
	}
}

struct codeobj *
emu_codeobj_load(const void *image, size_t size, struct emu_fault *why)
{
	const u8 *p = image;
	struct codeobj *co;
	Elf64_Ehdr h;
	u64 top;

	if (emu_disasm_init(why) != 0)
		return NULL;
	if (size != 0 && size < sizeof h) {
		fail(why, INVALID_IMAGE, "code object is too short");
		return NULL;
	}
	p = unbundle(p, &size);
	if (p == NULL) {
		fail(why, NO_BINARY, "no gfx942 code in the bundle");
		return NULL;
	}
	if (size != 0 && size < sizeof h) {
		fail(why, INVALID_IMAGE, "code object is too short");
		return NULL;
	}
	memcpy(&h, p, sizeof h);
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
	    h.e_machine != MACHINE_AMDGPU) {
		fail(why, INVALID_IMAGE, "not an AMDGPU ELF file");
		return NULL;
	}
	if ((h.e_flags & MACH_MASK) != MACH_GFX942) {
		fail(why, NO_BINARY, "code object is not for gfx942");
		return NULL;
	}
	if (size == 0)
		size = elf_size(p, &h);
	co = calloc(1, sizeof *co);
	if (co == NULL || (co->elf = malloc(size)) == NULL)
		abort();
	co->elf_size = size;
	memcpy(co->elf, p, size);
	if (check_headers(co, &top) != 0) {
		fail(why, INVALID_IMAGE, "headers of the code object point outside it");
		free(co->elf);
		free(co);
		return NULL;
	}
	/* a page more: instruction fetch and prefetch may look past the end */
	co->size = (top + 2 * PAGE - 1) & ~(PAGE - 1);
	co->base = mmap(NULL, co->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (co->base == MAP_FAILED)
		abort();
	load_segments(co);
	read_sections(co);
	find_descriptors(co);
	decode_text(co);
	emu_range_add(co->base, co->size, "code object");
	return co;
}

void
emu_codeobj_free(struct codeobj *co)
{
	emu_range_remove(co->base);
	munmap(co->base, co->size);
	for (int i = 0; i < co->nkernels; i++)
		free(co->kernels[i].args);
	free(co->kernels);
	free(co->elf);
	free(co->ops);
	free(co);
}

struct kernel *
emu_codeobj_kernel(struct codeobj *co, const char *name)
{
	for (int i = 0; i < co->nkernels; i++)
		if (strcmp(co->kernels[i].name, name) == 0 && co->kernels[i].descriptor != 0)
			return &co->kernels[i];
	return NULL;
}

void *
emu_codeobj_symbol(struct codeobj *co, const char *name, size_t *size)
{
	Elf64_Sym y;

	if (find_symbol(co, name, &y) != 0)
		return NULL;
	if (size != NULL)
		*size = y.st_size;
	return co->base + y.st_value;
}
